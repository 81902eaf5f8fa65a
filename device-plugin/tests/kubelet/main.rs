//! The library against a kubelet that speaks the real sockets.

mod allocation;
mod fake;
mod holds;
mod offers;
mod registration;
mod rig;
mod withdrawals;
