//! Trains a table: searches the weights of structural features with which a policy loses least.
//!
//! Theory offers no good value of a GPU's state: dynamic programming over one GPU is selfish, and
//! learning from samples is unstable. What works is to try: a search (CMA-ES) proposes weights, the
//! loss model measures them on the same arrivals, the better ones shape the next proposals. All of it
//! follows from a seed, so that a table that is checked in can be made again.

mod cmaes;
mod goal;
mod recipe;
mod search;

pub use goal::{Aim, Cell, Goal, Scene};
pub use recipe::{Cut, Recipe, RecipeError};
pub use search::{Detail, Progress, Trained, Training, TrainingError};

#[cfg(test)]
mod tests;
