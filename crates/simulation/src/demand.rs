//! What arrives: how often each profile is asked for.

use placement::policy::Mix;
use placement::{Geometry, ProfileId};

use crate::random::{Purpose, Random};

/// The mixes that policies are compared on, after the MFI paper (arXiv 2511.18906), as shares of
/// 7g, 4g, 3g, 2g, 1g with double memory, 1g.
pub const MIXES: [(&str, [u32; 6]); 4] = [
    ("uniform", [1, 1, 1, 1, 1, 1]),
    ("skew-small", [5, 10, 10, 20, 25, 30]),
    ("skew-big", [30, 25, 20, 10, 10, 5]),
    ("bimodal", [30, 15, 5, 5, 15, 30]),
];

/// The same for GPUs with three profiles, as A30: shares of 4g, 2g, 1g. Nobody published such; large
/// and small weigh about as much as in [`MIXES`].
pub const MIXES_OF_THREE: [(&str, [u32; 3]); 4] = [
    ("uniform", [1, 1, 1]),
    ("skew-small", [10, 30, 60]),
    ("skew-big", [50, 30, 20]),
    ("bimodal", [40, 10, 50]),
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

    /// The four mixes with their names: those of [`MIXES_OF_THREE`] for a model with three profiles,
    /// else those of [`MIXES`].
    pub fn mixes(geometry: &Geometry) -> Vec<(&'static str, Self)> {
        let of = |(name, parts): (&'static str, &[u32])| Some((name, Self::new(geometry, parts)?));
        if geometry.profiles().len() == 3 {
            let mixes = MIXES_OF_THREE.iter();
            let mixes = mixes.map(|(name, parts)| (*name, parts.as_slice()));
            return mixes.filter_map(of).collect();
        }
        let mixes = MIXES.iter();
        let mixes = mixes.map(|(name, parts)| (*name, parts.as_slice()));
        mixes.filter_map(of).collect()
    }

    /// So many mixes drawn at random, all mixes equally likely, in percent; the same for the same seed.
    pub fn drawn(geometry: &Geometry, seed: u64, count: usize) -> Vec<Self> {
        let mut random = Random::new(seed, Purpose::Workload);
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let parts = geometry.profiles().iter().map(|_| random.exponential());
            let parts: Vec<f64> = parts.collect();
            let sum: f64 = parts.iter().sum();
            let parts: Vec<u32> = parts.iter().map(|part| percent(part / sum)).collect();
            drawn.extend(Self::new(geometry, &parts));
        }
        drawn
    }

    /// How often each profile is asked for, in parts of their sum, by [`ProfileId`].
    pub fn parts(&self) -> &[u32] {
        &self.parts
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 100"
)]
fn percent(part: f64) -> u32 {
    (100.0 * part).round() as u32
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
    fn gpus_with_three_profiles_have_mixes_of_their_own() {
        let model = mig::GpuModel::known("NVIDIA A30").unwrap();
        let mixes = Demand::mixes(&Geometry::new(&model).unwrap());
        let whole: Vec<f64> = mixes.iter().map(|(_, demand)| demand.shares()[0]).collect();
        let known = [1.0 / 3.0, 0.1, 0.5, 0.4];
        assert!(
            whole
                .iter()
                .zip(known)
                .all(|(is, known)| (is - known).abs() < 1e-12)
        );
    }

    #[test]
    fn mixes_that_are_drawn_follow_from_the_seed() {
        let drawn = Demand::drawn(&a100(), 7, 20);
        assert_eq!(drawn, Demand::drawn(&a100(), 7, 20));
        assert_ne!(drawn, Demand::drawn(&a100(), 8, 20));
        // Each profile is as large a part as any other, in the mean.
        let whole: f64 = drawn.iter().map(|demand| demand.shares()[0]).sum();
        assert!((whole / 20.0 - 1.0 / 6.0).abs() < 0.1, "{whole}");
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
