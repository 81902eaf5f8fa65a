//! Fractions of a GPU, and which slices of which model serve them.
//!
//! A [`Share`] is what somebody asks for, exactly as written; a [`Class`] is what is served. A share
//! rounds up to the next class, and above one GPU only whole numbers are allowed, that many full
//! instances. What a class is made of depends on the GPU:
//!
//! | class | 8-slice GPUs (A100, H100, H200, B200 ...) | 4-slice GPUs (A30, RTX PRO 6000) |
//! |---|---|---|
//! | 0.125 | 1g | 1g |
//! | 0.250 | 2g | 1g |
//! | 0.500 | 3g | 2g |
//! | 1.000 | 7g | 4g |
//!
//! ```
//! use mig::{GpuModel, fraction::{Class, Share}};
//!
//! let share: Share = "0.4".parse()?;
//! assert_eq!(share.class(), Ok((Class::Half, 1)));
//! assert_eq!(Class::Half.resource_name(), "cdmo.clear.ml/fraction-0.500");
//! let a30 = GpuModel::known("NVIDIA A30").unwrap();
//! let (_, profile) = Class::Half.profile(&a30).unwrap();
//! assert_eq!(profile.name.to_string(), "2g.12gb");
//! # Ok::<(), mig::fraction::NoDecimal>(())
//! ```

mod named;
mod share;

use std::fmt;

pub use named::{Meaning, meanings};
pub use share::{MAX_GPUS, NoDecimal, Share, Unservable};

use crate::{Engines, GpuModel, Profile, ProfileIndex};

/// What every resource name of a class starts with.
pub const FRACTION_PREFIX: &str = "cdmo.clear.ml/fraction-";

/// A part of a GPU that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// An eighth.
    Eighth,
    /// A quarter.
    Quarter,
    /// A half.
    Half,
    /// A whole GPU, as one instance.
    Whole,
}

impl Class {
    /// All of them, the smallest first.
    pub const ALL: [Self; 4] = [Self::Eighth, Self::Quarter, Self::Half, Self::Whole];

    /// The part of a GPU that it is called by. What a model gives can be a little more or less: a
    /// quarter of an A30 is the smallest there is, 3g on an A100 has three of seven compute slices.
    pub const fn share(self) -> Share {
        Share::from_nanos(match self {
            Self::Eighth => 125_000_000,
            Self::Quarter => 250_000_000,
            Self::Half => 500_000_000,
            Self::Whole => 1_000_000_000,
        })
    }

    const fn digits(self) -> &'static str {
        match self {
            Self::Eighth => "0.125",
            Self::Quarter => "0.250",
            Self::Half => "0.500",
            Self::Whole => "1.000",
        }
    }

    /// The extended resource of the class: `cdmo.clear.ml/fraction-0.500`.
    pub fn resource_name(self) -> String {
        format!("{FRACTION_PREFIX}{}", self.digits())
    }

    /// The class of an extended resource, if it is one; every class has one spelling.
    pub fn from_resource(resource: &str) -> Option<Self> {
        let digits = resource.strip_prefix(FRACTION_PREFIX)?;
        Self::ALL.into_iter().find(|class| class.digits() == digits)
    }

    /// Compute slices that serve the class on a GPU whose largest instance has `full` of them.
    ///
    /// Where the table above has no column, as on boards of two slices, it is the least number of
    /// slices that reaches the share.
    pub const fn compute_slices(self, full: u8) -> u8 {
        match (self, full) {
            // Seven compute slices stand for eight memory slices; 3g has four of those.
            (Self::Eighth, 7) => 1,
            (Self::Quarter, 7) => 2,
            (Self::Half, 7) => 3,
            (Self::Eighth, _) => full.div_ceil(8),
            (Self::Quarter, _) => full.div_ceil(4),
            (Self::Half, _) => full.div_ceil(2),
            (Self::Whole, _) => full,
        }
    }

    /// The profile that serves the class on GPUs of a model: the plain one, without special engines,
    /// of the slices in the table. Of two such (1g.5gb and 1g.10gb) it is the one with less memory.
    /// Where a model has none of that many slices, the next larger one serves.
    ///
    /// `None` if the model has no plain profile at all.
    pub fn profile(self, model: &GpuModel) -> Option<(ProfileIndex, &Profile)> {
        let plain = || {
            model.indices().filter(|(_, profile)| {
                profile.name.engines() == Engines::Shared && !profile.placements.is_empty()
            })
        };
        let full = plain().map(|(_, p)| p.name.compute_slices()).max()?;
        let wanted = self.compute_slices(full);
        plain()
            .filter(|(_, profile)| profile.name.compute_slices() >= wanted)
            .min_by_key(|(_, profile)| (profile.name.compute_slices(), profile.size()))
    }

    /// Whether an instance of that profile is what serves the class on GPUs of the model.
    pub fn is_served_by(self, model: &GpuModel, profile: ProfileIndex) -> bool {
        self.profile(model)
            .is_some_and(|(index, _)| index == profile)
    }
}

/// The resource names that an instance of a profile can be offered under on GPUs of a model: the
/// profile's own, then those of the classes that it serves there.
///
/// Empty if the model has no such profile.
pub fn exposures(model: &GpuModel, profile: ProfileIndex) -> impl Iterator<Item = String> {
    let own = model.profile(profile).map(|p| p.name.resource_name());
    let classes = Class::ALL
        .into_iter()
        .filter(move |class| class.is_served_by(model, profile));
    own.into_iter().chain(classes.map(Class::resource_name))
}

/// As in the resource name: `0.500`.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits())
    }
}

#[cfg(test)]
mod tests;
