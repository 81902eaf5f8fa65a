//! What arrives: how often each profile is asked for.

use placement::policy::Mix;
use placement::{Geometry, ProfileId};

/// The mixes that policies are compared on, after the MFI paper (arXiv 2511.18906), as shares of
/// 7g, 4g, 3g, 2g, 1g with double memory, 1g.
pub const MIXES: [(&str, [u32; 6]); 4] = [
    ("uniform", [1, 1, 1, 1, 1, 1]),
    ("skew-small", [5, 10, 10, 20, 25, 30]),
    ("skew-big", [30, 25, 20, 10, 10, 5]),
    ("bimodal", [30, 15, 5, 5, 15, 30]),
];

/// How often each profile of one GPU model is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    parts: Vec<u32>,
    shares: Vec<f64>,
    slices: Vec<f64>,
    gpu: f64,
}

impl Demand {
    /// By [`ProfileId`], in parts of their sum; missing ones are never asked for, ones too many do
    /// not count. `None` if nothing is asked for.
    pub fn new(geometry: &Geometry, parts: &[u32]) -> Option<Self> {
        let mut parts = parts.to_vec();
        parts.resize(geometry.profiles().len(), 0);
        let total: f64 = parts.iter().map(|part| f64::from(*part)).sum();
        let sizes = geometry.profiles().iter();
        (total > 0.0).then(|| Self {
            shares: parts.iter().map(|part| f64::from(*part) / total).collect(),
            slices: sizes.map(|profile| f64::from(profile.size)).collect(),
            gpu: f64::from(geometry.slices()),
            parts,
        })
    }

    /// The four mixes of [`MIXES`] with their names; those of them that ask for something of this
    /// model.
    pub fn mixes(geometry: &Geometry) -> Vec<(&'static str, Self)> {
        let mixes = MIXES.iter();
        mixes
            .filter_map(|(name, parts)| Some((*name, Self::new(geometry, parts)?)))
            .collect()
    }

    /// Shares by [`ProfileId`]; their sum is 1.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The share of a profile; 0 if it is of another model.
    pub fn share(&self, profile: ProfileId) -> f64 {
        self.shares.get(profile.index()).copied().unwrap_or(0.0)
    }

    /// Memory slices by [`ProfileId`].
    pub fn slices(&self) -> &[f64] {
        &self.slices
    }

    /// Memory slices that one arrival asks for in the mean.
    pub fn mean_slices(&self) -> f64 {
        let pairs = self.shares.iter().zip(&self.slices);
        pairs.map(|(share, slices)| share * slices).sum()
    }

    /// Arrivals per mean lifetime that keep `load` times all memory slices of that many GPUs busy,
    /// if all are accepted.
    pub fn rate(&self, load: f64, gpus: u32) -> f64 {
        load * f64::from(gpus) * self.gpu / self.mean_slices()
    }

    /// For the policies that know the mix.
    pub fn known(&self) -> Mix {
        Mix::new(self.parts.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a100;

    #[test]
    fn the_uniform_mix_asks_for_three_and_a_half_slices() {
        let mixes = Demand::mixes(&a100());
        assert_eq!(mixes.len(), 4);
        let (_, uniform) = &mixes[0];
        assert!((uniform.mean_slices() - 3.5).abs() < 1e-12);
        // 70 % of 16 slices.
        assert!((uniform.rate(0.7, 2) - 3.2).abs() < 1e-12);
    }

    #[test]
    fn shares_sum_to_one() {
        for (name, demand) in Demand::mixes(&a100()) {
            let sum: f64 = demand.shares().iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{name}");
        }
        assert_eq!(Demand::new(&a100(), &[]), None);
    }
}
