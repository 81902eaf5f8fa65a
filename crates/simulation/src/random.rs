//! Random numbers that stay the same for ever.
//!
//! A published figure must come out again from its seed, on another machine and with a later
//! version of every library. So the generator is a named algorithm (PCG XSL RR 128/64) with fixed
//! streams, and everything that is made of its bits is made here, by rules that this file fixes:
//! libraries change how they draw a float or shuffle a list, and a processor's own logarithm may
//! differ in the last bit.

use rand_core::Rng;
use rand_pcg::Pcg64;

/// What a stream of numbers is for. Each purpose has its own stream, so that a policy that draws
/// more numbers changes neither the arrivals nor the lifetimes that it is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Times between arrivals, and which pod arrives.
    Arrivals,
    /// How long instances live.
    Lifetimes,
    /// What a policy itself leaves to chance.
    Policy,
    /// Which pods of a trace are drawn, and in which order.
    Workload,
    /// Search for better tables.
    Training,
}

impl Purpose {
    /// Never renumber: the figures depend on it.
    const fn stream(self) -> u128 {
        match self {
            Self::Arrivals => 1,
            Self::Lifetimes => 2,
            Self::Policy => 3,
            Self::Workload => 4,
            Self::Training => 5,
        }
    }
}

/// A generator with a seed and a purpose.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Pcg64,
}

impl Random {
    /// The numbers of `seed` for `purpose`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        // PCG starts near its state: spread small seeds over all of it.
        let state = u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Self {
            generator: Pcg64::new(state, purpose.stream()),
        }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number at least 0 and below 1, a multiple of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number below `bound`, all equally likely; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        let bound = bound as u64;
        // The draws that would make the first numbers likelier than the last are thrown away.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
            let low = wide as u64;
            if low >= unfair {
                #[expect(clippy::cast_possible_truncation, reason = "below `bound`, a usize")]
                return (wide >> 64) as usize;
            }
        }
    }

    /// An exponentially distributed number with mean 1, always finite and at least 0.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// A normally distributed number with mean 0 and variance 1.
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// A Poisson distributed number with this mean, at least 0; takes as long as the number is large.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let mut sum = self.exponential();
        let mut count = 0;
        while sum <= mean {
            count += 1;
            sum += self.exponential();
        }
        count
    }

    /// Brings a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }

    /// An index of `weights`, each as likely as its share of the sum; the last one if rounding
    /// leaves a gap, 0 if there are none. Weights are not negative.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut rest = self.unit() * total;
        for (index, weight) in weights.iter().enumerate() {
            if rest < *weight {
                return index;
            }
            rest -= weight;
        }
        weights.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut random = Random::new(42, Purpose::Arrivals);
        let bits: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            bits,
            [
                0x35de_ff07_5dec_1204,
                0xab06_ff29_2271_6f41,
                0x255a_21d1_01ef_5bdf
            ]
        );
        let floats = format!(
            "{:016x} {:016x}",
            random.exponential().to_bits(),
            random.normal().to_bits()
        );
        assert_eq!(floats, "3feccf1d501bff30 3fe61cb3a40a264d");
    }

    #[test]
    fn two_purposes_of_one_seed_share_nothing() {
        let mut one = Random::new(7, Purpose::Arrivals);
        let mut two = Random::new(7, Purpose::Lifetimes);
        assert!((0..100).all(|_| one.bits() != two.bits()));
    }

    #[test]
    fn means_and_variances_are_those_of_the_distributions() {
        let mut random = Random::new(1, Purpose::Policy);
        let n = 200_000;
        let count = f64::from(n);
        let mut sums = [0.0; 4];
        for _ in 0..n {
            let (e, z) = (random.exponential(), random.normal());
            for (sum, value) in sums.iter_mut().zip([e, e * e, z, z * z]) {
                *sum += value / count;
            }
        }
        for (mean, expected) in sums.iter().zip([1.0, 2.0, 0.0, 1.0]) {
            assert!((mean - expected).abs() < 0.03, "{mean} is not {expected}");
        }
    }

    #[test]
    fn weights_are_shares() {
        let mut random = Random::new(3, Purpose::Policy);
        let mut counts = [0_u32; 3];
        for _ in 0..100_000 {
            counts[random.weighted(&[1.0, 0.0, 3.0])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((24_000..26_000).contains(&counts[0]));
    }

    proptest! {
        #[test]
        fn below_stays_below(seed: u64, bound in 1_usize..1000) {
            let mut random = Random::new(seed, Purpose::Policy);
            prop_assert!((0..50).all(|_| random.below(bound) < bound));
        }

        #[test]
        fn a_shuffle_keeps_every_element(seed: u64, length in 0_usize..40) {
            let mut list: Vec<usize> = (0..length).collect();
            Random::new(seed, Purpose::Workload).shuffle(&mut list);
            list.sort_unstable();
            prop_assert_eq!(list, (0..length).collect::<Vec<_>>());
        }
    }
}
