//! The library against a kubelet that speaks the real sockets.

// Helpers of tests are tests, too, but clippy knows only the functions that are marked as such.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admissions;
mod allocation;
mod contests;
mod fake;
mod holds;
mod journal;
mod offers;
mod registration;
mod rig;
mod withdrawals;
