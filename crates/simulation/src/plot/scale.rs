//! From values to places on paper, with round numbers along the axis.

/// One axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

/// About how many numbers stand along an axis.
const TICKS: f64 = 6.0;

impl Scale {
    /// For values between two, drawn between two places.
    pub(super) fn new((least, most): (f64, f64), (from, to): (f64, f64)) -> Self {
        let step = round_step((most - least).max(1e-9) / TICKS);
        let low = (least / step).floor() * step;
        let high = ((most / step).ceil() * step).max(low + step);
        Self {
            low,
            high,
            step,
            from,
            to,
        }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        self.from + part * (self.to - self.from)
    }

    /// The round numbers and how to write them.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let digits = if self.step >= 1.0 {
            0
        } else if self.step >= 0.1 {
            1
        } else if self.step >= 0.01 {
            2
        } else {
            3
        };
        let mut ticks = Vec::new();
        let mut value = self.low;
        while value <= self.high + self.step / 2.0 && ticks.len() < 20 {
            // Not "-0".
            let shown = if value.abs() < self.step / 2.0 {
                0.0
            } else {
                value
            };
            ticks.push((shown, format!("{shown:.digits$}")));
            value += self.step;
        }
        ticks
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(wanted: f64) -> f64 {
    let mut power = 1e-9;
    while power * 10.0 <= wanted && power < 1e15 {
        power *= 10.0;
    }
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fitting = factors.iter().find(|factor| **factor * power >= wanted);
    fitting.copied().unwrap_or(10.0) * power
}
