//! Where a GPU instance goes. Pure: no I/O, no clock, no randomness, integers only.
//!
//! A [`Geometry`] lists the placements of a GPU model; the occupied memory slices of a GPU, its
//! mask, are its whole state. A [`ScoreTable`] says for every mask how good each placement is, and
//! its [`Index`] ranks all masks for each profile. A [`Pool`] keeps GPUs in buckets by mask, so
//! that the best placement of the whole pool is the first bucket in rank order that is not empty:
//! a decision takes the same time with ten GPUs and with a hundred thousand.
//!
//! Policies ([`policy`]) are such tables, or rules over the same pool where the order of GPUs or
//! nodes matters. Nothing here depends on the history of a pool: equal states give equal decisions,
//! byte for byte, on every machine.
//!
//! ```
//! use std::sync::Arc;
//! use placement::{Ask, Geometry, GpuPlace, Index, Pool, policy};
//!
//! let model = mig::GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
//! let geometry = Arc::new(Geometry::new(&model)?);
//! let table = policy::fewest_blocked(&geometry);
//! let mut pool = Pool::new(Arc::clone(&geometry), Arc::new(Index::new(&geometry, &table)?));
//! for _ in 0..8 {
//!     pool.add(GpuPlace::default());
//! }
//! let three = geometry.find(&"3g.40gb".parse()?).unwrap();
//! let choice = pool.choose(&Ask::new(three)).unwrap();
//! pool.commit(&choice)?;
//! // The second half of the same GPU: seven GPUs stay whole.
//! let next = pool.choose(&Ask::new(three)).unwrap();
//! assert_eq!(next.gpu, choice.gpu);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod classes;
mod features;
mod geometry;
mod index;
pub mod packable;
pub mod policy;
mod pool;
pub mod portfolio;
mod score;
mod sets;
mod text;

pub use classes::{ClassId, ClassSet};
pub use features::{Features, WeightsError};
pub use geometry::{
    Geometry, GeometryError, MOST_PLACEMENTS, MOST_SLICES, PlacementId, ProfileId, Shape, Spot,
    placements,
};
pub use index::Index;
pub use pool::{
    After, Ask, Choice, Committed, GpuId, GpuPlace, GpuState, Mark, NodeId, Pool, PoolError,
};
pub use score::{INFEASIBLE, ScoreTable, TableError};
pub use text::{Origin, TextError, TextProblem};
