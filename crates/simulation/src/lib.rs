//! Shows how good a placement policy is, without I/O.
//!
//! Every figure that the project publishes about placement is computed here, from a seed, with the
//! same bits on every machine: [`random`] and [`law`] give numbers that never change, [`statistics`]
//! says how sure a difference is, [`trace`] reads what others recorded. Callers hand in readers and
//! hear of progress through a callback.

#![forbid(unsafe_code)]

pub mod adaptive;
#[cfg(test)]
mod bound;
pub mod capacity;
pub mod clairvoyant;
pub mod cluster;
pub mod contest;
pub mod demand;
mod events;
pub mod exact;
pub mod fill;
pub mod law;
pub mod loss;
pub mod queue;
pub mod random;
pub mod sharing;
pub mod statistics;
pub mod sustained;
pub mod trace;
pub mod training;

#[cfg(test)]
mod testing;
