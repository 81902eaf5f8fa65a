//! Who is compared: every policy that we know of, by the names of the tables.

use std::sync::Arc;

use placement::policy::{
    Baskets, ByPhase, ByTable, Das, Dra, FirstFit, Hami, HamiServes, HamiStart, MfiWindows, Nos,
    Policy, RoundRobin, best_fit, expected_capability, fewest_blocked, fragmentation_gradient,
    least_capability_lost, least_fragmentation, longest_run, most_capability, ours, ours_to_fill,
    worst_fit,
};
use placement::{Geometry, ScoreTable, TableError, TextError};

use crate::demand::Demand;

/// Part of the GPUs that the baskets keep for the largest profile.
const BASKET_PERCENT: u8 = 30;

/// Why a contestant cannot take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContestError {
    /// Its table does not go with the geometry.
    #[error("failed to prepare a policy")]
    Table(#[from] TableError),
    /// The table that is checked in is damaged.
    #[error("failed to read our own table")]
    Text(#[from] TextError),
    /// Nobody is called that.
    #[error("there is no policy {name:?}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
}

/// A policy that can take part; each run gets a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// First fit, lowest start.
    FirstFit,
    /// First fit, best index.
    FirstFitBestIndex,
    /// Round robin over GPUs.
    RoundRobin,
    /// Worst fit, best index.
    WorstFit,
    /// Best fit, best index.
    BestFit,
    /// MFI as published.
    Mfi,
    /// MFI that counts all profiles.
    MfiAll,
    /// MFI that counts partly used windows.
    MfiPartly,
    /// The same over all profiles.
    MfiPartlyAll,
    /// FGD on MIG, told the true mix.
    Fgd,
    /// Most configurations afterwards.
    Mcc,
    /// The same weighed with the true mix.
    Mecc,
    /// Fewest configurations lost, weighed with the true mix.
    MeccLost,
    /// `HAMi` as it was.
    Hami,
    /// `HAMi` with pull request 2855.
    Hami2855,
    /// The same, with every profile on its allow list and each asked for by name.
    Hami2855Exact,
    /// The rule of that pull request over all GPUs.
    LongestRun,
    /// `OpenShift`'s slicer.
    Das,
    /// Kubernetes DRA.
    Dra,
    /// nos.
    Nos,
    /// GRMU's two baskets without its migrations; 30 % of the GPUs for the largest profile is a guess.
    Baskets,
    /// Our tables: one for pods that come and go, and one while an empty cluster is filled.
    Ours,
}

impl Contestant {
    /// All of them with the names of the tables; ours last.
    pub const ALL: [(&'static str, Self); 22] = [
        ("FF", Self::FirstFit),
        ("FF-BI", Self::FirstFitBestIndex),
        ("RR", Self::RoundRobin),
        ("WF-BI", Self::WorstFit),
        ("BF-BI", Self::BestFit),
        ("MFI", Self::Mfi),
        ("MFI-all", Self::MfiAll),
        ("MFI-partly", Self::MfiPartly),
        ("MFI-partly-all", Self::MfiPartlyAll),
        ("FGD-MIG", Self::Fgd),
        ("MCC", Self::Mcc),
        ("MECC", Self::Mecc),
        ("MECC-lost", Self::MeccLost),
        ("HAMi", Self::Hami),
        ("HAMi-2855", Self::Hami2855),
        ("HAMi-2855-exact", Self::Hami2855Exact),
        ("longest-run", Self::LongestRun),
        ("DAS", Self::Das),
        ("DRA", Self::Dra),
        ("nos", Self::Nos),
        ("baskets", Self::Baskets),
        ("ours", Self::Ours),
    ];

    /// The contestant of that name.
    ///
    /// # Errors
    /// [`ContestError::Unknown`].
    pub fn find(name: &str) -> Result<Self, ContestError> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, contestant)| *contestant).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(known, _)| *known).collect();
            ContestError::Unknown {
                name: name.chars().take(40).collect(),
                known: known.join(", "),
            }
        })
    }

    /// A fresh policy. The seed matters to those that draw.
    ///
    /// # Errors
    /// If a table is damaged.
    pub fn policy(
        self,
        geometry: &Arc<Geometry>,
        demand: &Demand,
        seed: u64,
    ) -> Result<Box<dyn Policy>, ContestError> {
        let mix = demand.known();
        let table = |table: &ScoreTable| -> Result<Box<dyn Policy>, ContestError> {
            Ok(Box::new(ByTable::new(geometry, table)?))
        };
        let mfi = |windows, only| table(&least_fragmentation(geometry, windows, only));
        let hami = |start, serves| -> Result<Box<dyn Policy>, ContestError> {
            Ok(Box::new(Hami::new(geometry, start, serves)?))
        };
        match self {
            Self::FirstFit => Ok(Box::new(FirstFit::lowest_start(geometry)?)),
            Self::FirstFitBestIndex => Ok(Box::new(FirstFit::best_index(geometry)?)),
            Self::RoundRobin => Ok(Box::new(RoundRobin::new(geometry)?)),
            Self::WorstFit => table(&worst_fit(geometry)),
            Self::BestFit => table(&best_fit(geometry)),
            Self::Mfi => mfi(MfiWindows::Touched, true),
            Self::MfiAll => table(&fewest_blocked(geometry)),
            Self::MfiPartly => mfi(MfiWindows::PartlyTouched, true),
            Self::MfiPartlyAll => mfi(MfiWindows::PartlyTouched, false),
            Self::Fgd => table(&fragmentation_gradient(geometry, &mix)),
            Self::Mcc => table(&most_capability(geometry)),
            Self::Mecc => table(&expected_capability(geometry, &mix)),
            Self::MeccLost => table(&least_capability_lost(geometry, &mix)),
            Self::Hami => hami(HamiStart::ByProfile, HamiServes::AtLeast),
            Self::Hami2855 => hami(HamiStart::LongestRun, HamiServes::AtLeast),
            Self::Hami2855Exact => hami(HamiStart::LongestRun, HamiServes::Exactly),
            Self::LongestRun => table(&longest_run(geometry)),
            Self::Das => Ok(Box::new(Das::new(geometry)?)),
            Self::Dra => Ok(Box::new(Dra::new(geometry, seed)?)),
            Self::Nos => Ok(Box::new(Nos::new(geometry)?)),
            Self::Baskets => Ok(Box::new(Baskets::new(geometry, BASKET_PERCENT)?)),
            Self::Ours => {
                let (always, fill) = (ours(geometry)?, ours_to_fill(geometry)?);
                Ok(Box::new(ByPhase::new(geometry, &always, &fill)?))
            }
        }
    }

    /// As [`Contestant::policy`], but without what is only for the filling of an empty cluster: its choice
    /// depends on the GPUs as they are, where that of the policy does but for that.
    ///
    /// # Errors
    /// If a table is damaged.
    pub fn in_the_long_run(
        self,
        geometry: &Arc<Geometry>,
        demand: &Demand,
        seed: u64,
    ) -> Result<Box<dyn Policy>, ContestError> {
        match self {
            Self::Ours => Ok(Box::new(ByTable::new(geometry, &ours(geometry)?)?)),
            _ => self.policy(geometry, demand, seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a100;

    #[test]
    fn everybody_is_found_by_name_and_places_on_empty_gpus() {
        let geometry = a100();
        let (_, demand) = Demand::mixes(&geometry).remove(0);
        for (name, contestant) in Contestant::ALL {
            assert_eq!(Contestant::find(name), Ok(contestant));
            let mut policy = contestant.policy(&geometry, &demand, 1).unwrap();
            let index = Arc::clone(policy.index());
            let mut pool = placement::Pool::new(Arc::clone(&geometry), index);
            for _ in 0..4 {
                pool.add(placement::GpuPlace::default());
            }
            for profile in geometry.profile_ids() {
                // nos has no set with a small instance of double memory.
                let is_known = contestant != Contestant::Nos || profile.0 != 4;
                assert_eq!(policy.place(&pool, profile).is_some(), is_known, "{name}");
            }
        }
        assert!(
            Contestant::find("best")
                .unwrap_err()
                .to_string()
                .contains("BF-BI")
        );
    }
}
