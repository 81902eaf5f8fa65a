//! How long instances live, with mean 1 for every law so that loads mean the same.

use crate::random::Random;

/// A distribution of lifetimes. The unit of time is the mean lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// Memoryless; variance 1.
    Exponential,
    /// Equally likely between 0 and 2.
    Uniform,
    /// `sigma` is the standard deviation of the logarithm, at least 0; 1.5 is a heavy tail.
    LogNormal {
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// `shape` is the tail's exponent, above 1; at 2 and below the variance is infinite.
    Pareto {
        /// Exponent of the tail.
        shape: f64,
    },
    /// Always 1.
    Deterministic,
}

impl Law {
    /// The laws that results are shown for, with the names of the tables.
    pub const SHOWN: [(&'static str, Self); 5] = [
        ("exponential", Self::Exponential),
        ("uniform", Self::Uniform),
        ("log-normal", Self::LogNormal { sigma: 1.5 }),
        ("pareto", Self::Pareto { shape: 1.5 }),
        ("deterministic", Self::Deterministic),
    ];

    /// A lifetime in mean lifetimes; at least 0.
    pub fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Exponential => random.exponential(),
            Self::Uniform => 2.0 * random.unit(),
            Self::LogNormal { sigma } => libm::exp(sigma * random.normal() - sigma * sigma / 2.0),
            Self::Pareto { shape } => {
                let least = (shape - 1.0) / shape;
                least * libm::exp(random.exponential() / shape)
            }
            Self::Deterministic => 1.0,
        }
    }

    /// What is left of the life of an instance that runs when one begins to look, where instances have come for
    /// ever; in mean lifetimes, at least 0. That its life is among those that are seen is the likelier the
    /// longer it is, and one looks at any moment of it alike.
    pub fn draw_rest(self, random: &mut Random) -> f64 {
        let seen = match self {
            Self::Exponential => random.exponential() + random.exponential(),
            Self::Uniform => 2.0 * libm::sqrt(random.unit()),
            Self::LogNormal { sigma } => libm::exp(sigma * random.normal() + sigma * sigma / 2.0),
            Self::Pareto { shape } => {
                let least = (shape - 1.0) / shape;
                least * libm::exp(random.exponential() / (shape - 1.0))
            }
            Self::Deterministic => 1.0,
        };
        seen * random.unit()
    }

    /// Whether a system that was empty at first is as any other before the warm-up ends, without instances that
    /// are there from the start. With a heavy tail it takes thousands of lifetimes until the long-lived are all there.
    pub(crate) fn forgets_its_start(self) -> bool {
        self == Self::Exponential
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn what_is_left_has_the_mean_of_renewal_theory() {
        // Half of the second moment over the mean.
        let laws = [
            (Law::Exponential, 1.0),
            (Law::Uniform, 2.0 / 3.0),
            (Law::Deterministic, 0.5),
            (Law::LogNormal { sigma: 0.5 }, libm::exp(0.25) / 2.0),
            (
                Law::Pareto { shape: 5.0 },
                (16.0 / 25.0) * (5.0 / 3.0) / 2.0,
            ),
        ];
        for (law, expected) in laws {
            let mut random = Random::new(5, Purpose::Lifetimes);
            let n = 200_000;
            let sum: f64 = (0..n).map(|_| law.draw_rest(&mut random)).sum();
            let mean = sum / f64::from(n);
            assert!(
                (mean - expected).abs() < 0.01,
                "{law:?}: {mean} is not {expected}"
            );
        }
    }

    #[test]
    fn every_law_has_mean_one() {
        let milder = [
            ("log-normal", Law::LogNormal { sigma: 0.5 }),
            ("pareto", Law::Pareto { shape: 3.0 }),
        ];
        // The means of the heavy tails converge too slowly to test them as they are shown.
        let light = Law::SHOWN
            .into_iter()
            .filter(|(name, _)| !["log-normal", "pareto"].contains(name));
        for (name, law) in light.chain(milder) {
            let mut random = Random::new(5, Purpose::Lifetimes);
            let n = 200_000;
            let mean: f64 = (0..n).map(|_| law.draw(&mut random)).sum::<f64>() / f64::from(n);
            assert!((mean - 1.0).abs() < 0.01, "{name}: {mean}");
        }
    }
}
