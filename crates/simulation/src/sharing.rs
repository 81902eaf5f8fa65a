//! Fills a cluster with pods that share GPUs, by the protocol of the FGD paper.
//!
//! Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), compare policies on the openb trace:
//! the pods of a list come in random order, then more drawn from the list until they ask for 130 %
//! of the GPUs; nothing leaves. Their published results are a yardstick that is not ours: a
//! simulator that reproduces them places as theirs does. The rules are written after the
//! descriptions in the paper and in their public simulator (hkust-adsl/kubernetes-scheduler-simulator).
//!
//! Speed comes from two observations: a policy's score depends only on what is left on a machine,
//! and most machines did not change since the last pod of the same kind. So every state of a
//! machine gets a number when it first occurs, and every score is computed once.

mod fill;
mod fragmentation;
mod rule;
mod scores;
mod workload;

pub use fill::{Filled, Filler};
pub use rule::Rule;
pub use workload::{Workload, WorkloadError};

#[cfg(test)]
mod tests;
