//! The best that any policy can do on two GPUs, exactly.
//!
//! With Poisson arrivals and exponential lifetimes two GPUs are a Markov chain with one state for
//! each pair of layouts (523 thousand for an A100 with six profiles). Value iteration over it gives
//! the share of arrivals that the best policy accepts, and that of any policy of ours, between
//! bounds that meet. The distance of a policy to the optimum is the one statement about it that no
//! simulation can give.

mod chain;
mod decisions;

pub use chain::{Chain, Gain, Measure, Refusal};
pub use decisions::Decisions;

#[cfg(test)]
mod tests;
