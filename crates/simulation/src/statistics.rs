//! How sure a figure is: means, standard errors, quantiles, and differences on the same arrivals.
//!
//! Two policies are compared seed by seed on the same arrivals. What the arrivals do to both cancels
//! out, so the standard error of the difference is far smaller than that of either figure.

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Mean of the samples; 0 without any.
    pub mean: f64,
    /// Standard error of the mean, in the same unit; 0 with fewer than two samples.
    pub standard_error: f64,
    /// Number of samples.
    pub samples: usize,
}

/// How many standard errors hold 95 % of Student's distribution, by degrees of freedom from 1 on.
const TWO_SIDED_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The same for any number of samples; beyond the table it is off by less than 0.002.
#[expect(clippy::cast_precision_loss, reason = "nobody runs 2^53 seeds")]
fn errors_of_95(samples: usize) -> f64 {
    let freedom = samples.saturating_sub(1).max(1);
    match TWO_SIDED_95.get(freedom - 1) {
        Some(errors) => *errors,
        None => 1.96 + 2.42 / freedom as f64,
    }
}

impl Estimate {
    /// Of independent samples.
    #[expect(clippy::cast_precision_loss, reason = "nobody runs 2^53 seeds")]
    pub fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        if samples.is_empty() {
            return Self::default();
        }
        let mean = samples.iter().sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|x| (x - mean) * (x - mean)).sum();
        let standard_error = if samples.len() < 2 {
            0.0
        } else {
            (squares / (count - 1.0) / count).sqrt()
        };
        Self {
            mean,
            standard_error,
            samples: samples.len(),
        }
    }

    /// Of `one - other`, sample by sample: both were measured on the same seeds in the same order.
    /// What one has more of is left out.
    pub fn of_difference(one: &[f64], other: &[f64]) -> Self {
        let differences: Vec<f64> = one.iter().zip(other).map(|(a, b)| a - b).collect();
        Self::of(&differences)
    }

    /// Half of the bar that holds the true mean in 95 of 100 repetitions, where samples are normally
    /// distributed.
    pub fn half_bar(self) -> f64 {
        errors_of_95(self.samples) * self.standard_error
    }

    /// Lower and upper end of that bar.
    pub fn bar(self) -> (f64, f64) {
        let half = self.half_bar();
        (self.mean - half, self.mean + half)
    }

    /// Whether that bar lies above 0.
    pub fn is_surely_above_zero(self) -> bool {
        self.samples > 1 && self.mean > self.half_bar()
    }

    /// Whether that bar lies below 0.
    pub fn is_surely_below_zero(self) -> bool {
        self.samples > 1 && self.mean < -self.half_bar()
    }

    /// Whether the mean is above 0 by more than `errors` standard errors (and above 0 at all).
    pub fn is_above_zero(self, errors: f64) -> bool {
        self.mean > 0.0 && self.mean > errors * self.standard_error
    }

    /// Whether the mean is below `-margin` by more than `errors` standard errors.
    pub fn is_worse_than(self, margin: f64, errors: f64) -> bool {
        self.mean < -margin && self.mean < -errors * self.standard_error
    }
}

/// The value below which a share of the samples lies (`share` between 0 and 1), interpolated
/// between neighbours; `None` without samples. Sorts the samples.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank of a slice is small and not negative"
)]
pub fn quantile(samples: &mut [f64], share: f64) -> Option<f64> {
    samples.sort_unstable_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    let rank = share.clamp(0.0, 1.0) * last as f64;
    let below = (rank as usize).min(last);
    let above = (below + 1).min(last);
    let part = rank - below as f64;
    Some(samples[below] + (samples[above] - samples[below]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standard_error_is_that_of_the_textbook() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0]);
        assert!((estimate.mean - 2.5).abs() < 1e-12);
        // Variance 5/3, four samples.
        assert!((estimate.standard_error - (5.0_f64 / 12.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn few_samples_need_longer_bars() {
        let bar = |samples: usize| errors_of_95(samples);
        assert!((bar(4) - 3.182).abs() < 1e-9);
        assert!((bar(20) - 2.093).abs() < 1e-9);
        // Student's table has 2.040 for 31 degrees of freedom, and 1.984 for 100.
        assert!((bar(32) - 2.040).abs() < 0.002, "{}", bar(32));
        assert!((bar(101) - 1.984).abs() < 0.002, "{}", bar(101));
        assert!((0..200).all(|n| bar(n + 1) <= bar(n)));
        let spread = Estimate::of(&[0.0, 1.0, 2.0, 1.2]);
        assert!(!spread.is_surely_above_zero(), "{spread:?}");
        assert!(Estimate::of(&[1.0, 1.1, 0.9, 1.0]).is_surely_above_zero());
        assert!(!Estimate::of(&[1.0]).is_surely_above_zero());
    }

    #[test]
    fn what_both_share_cancels_out_of_a_difference() {
        let one = [10.0, 50.0, 90.0];
        let other = [9.0, 49.0, 89.0];
        let difference = Estimate::of_difference(&one, &other);
        assert!((difference.mean - 1.0).abs() < 1e-12);
        assert!(difference.standard_error < 1e-12);
        assert!(difference.is_above_zero(2.0));
        assert!(!difference.is_worse_than(0.1, 2.0));
    }

    #[test]
    fn one_sample_says_nothing_of_its_error() {
        let estimate = Estimate::of(&[3.0]);
        assert!(estimate.standard_error.abs() < f64::EPSILON);
        assert_eq!(Estimate::of(&[]).samples, 0);
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let mut samples = [5.0, 1.0, 3.0];
        assert_eq!(quantile(&mut samples, 0.5), Some(3.0));
        assert_eq!(quantile(&mut samples, 0.25), Some(2.0));
        assert_eq!(quantile(&mut samples, 1.0), Some(5.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    proptest! {
        #[test]
        fn the_bar_holds_the_mean(samples in proptest::collection::vec(-1e3..1e3, 1..50)) {
            let estimate = Estimate::of(&samples);
            let (low, high) = estimate.bar();
            prop_assert!(low <= estimate.mean && estimate.mean <= high);
        }

        #[test]
        fn quantiles_rise(mut samples in proptest::collection::vec(-1e3..1e3, 1..50),
                          a in 0.0..1.0, b in 0.0..1.0) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(quantile(&mut samples, low) <= quantile(&mut samples, high));
        }
    }
}
