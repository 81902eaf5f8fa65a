//! Kubernetes quantities: `500m`, `1Gi`, `1e3`; compared exactly and printed canonically.
//!
//! From k8s.io/apimachinery/pkg/api/resource/quantity.go.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// An amount of a resource, in billionths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity {
    nanos: i128,
    binary: bool,
}

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct NoQuantity;

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i128); 10] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANO),
    ("k", NANO * 1_000),
    ("M", NANO * 1_000_000),
    ("G", NANO * 1_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("E", NANO * 1_000_000_000_000_000_000),
];
const BINARY: [(&str, i128); 6] = [
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
    ("Ei", NANO << 60),
];

impl Quantity {
    /// A whole number of units.
    pub const fn whole(units: i64) -> Self {
        Self {
            nanos: units as i128 * NANO,
            binary: false,
        }
    }

    /// From the string or number that an object holds.
    pub fn from_value(value: &Value) -> Result<Self, NoQuantity> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(NoQuantity),
        }
    }

    /// It is a whole number of units.
    pub const fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// Units, rounded up; the largest number if there are more.
    pub fn units(self) -> i64 {
        i64::try_from(div_ceil(self.nanos, NANO)).unwrap_or(i64::MAX)
    }

    /// Thousandths of a unit, rounded up; the largest number if there are more.
    pub fn millis(self) -> i64 {
        i64::try_from(div_ceil(self.nanos, NANO / 1000)).unwrap_or(i64::MAX)
    }

    /// Both together, in the form of the first that is not zero.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            binary: if self.nanos == 0 {
                other.binary
            } else {
                self.binary
            },
        }
    }

    /// Below zero.
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

const fn div_ceil(value: i128, by: i128) -> i128 {
    let whole = value.div_euclid(by);
    if value.rem_euclid(by) == 0 {
        whole
    } else {
        whole + 1
    }
}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(NoQuantity);
        }
        let digits: String = [whole, fraction].concat();
        // More digits than this cannot be told apart in a quantity, nor do they occur.
        if digits.len() > 30 {
            return Err(NoQuantity);
        }
        let mantissa: i128 = digits.parse().map_err(|_| NoQuantity)?;
        let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| NoQuantity)?);
        let (unit, binary) = unit(suffix)?;
        let nanos = match mantissa.checked_mul(unit) {
            // Finer than a billionth is rounded up, away from zero.
            Some(product) => div_ceil(product, scale),
            None => mantissa
                .checked_div(scale)
                .and_then(|m| m.checked_mul(unit))
                .ok_or(NoQuantity)?,
        };
        Ok(Self {
            nanos: sign * nanos,
            binary,
        })
    }
}

fn unit(suffix: &str) -> Result<(i128, bool), NoQuantity> {
    let named = |table: &[(&str, i128)]| {
        table
            .iter()
            .find(|(name, _)| *name == suffix)
            .map(|(_, unit)| *unit)
    };
    if let Some(unit) = named(&DECIMAL) {
        return Ok((unit, false));
    }
    if let Some(unit) = named(&BINARY) {
        return Ok((unit, true));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(NoQuantity)?;
    let exponent: i32 = exponent.parse().map_err(|_| NoQuantity)?;
    match exponent {
        -9..=18 => {
            let power = u32::try_from(exponent + 9).map_err(|_| NoQuantity)?;
            Ok((10_i128.pow(power), false))
        }
        _ => Err(NoQuantity),
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let exact = |(_, unit): &&(&str, i128)| self.nanos % unit == 0;
        let found = if self.binary && self.nanos.abs() >= BINARY[0].1 {
            BINARY.iter().rev().find(exact)
        } else {
            None
        };
        let found = found.or_else(|| {
            let plain = self.binary && self.is_whole();
            DECIMAL
                .iter()
                .rev()
                .filter(|(name, _)| !plain || name.is_empty())
                .find(exact)
        });
        let (suffix, unit) = found.copied().unwrap_or(("n", 1));
        write!(f, "{}{suffix}", self.nanos / unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn quantities_print_as_kubernetes_prints_them() {
        for (given, wanted) in [
            ("0.5", "500m"),
            ("1", "1"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1e3", "1k"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("-2", "-2"),
            ("0", "0"),
            ("1.5Gi", "1536Mi"),
            ("128974848", "128974848"),
            ("1Ki", "1Ki"),
            ("+3", "3"),
            (".5", "500m"),
            ("4000000", "4M"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(canonical(given), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "abc", "1.2.3", "1X", "1 Gi", "-", "1e99", "Gi", "0x10", "1e",
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(NoQuantity), "{text}");
        }
    }

    #[test]
    fn amounts_are_rounded_up() {
        let quantity: Quantity = "1500m".parse().unwrap();
        assert_eq!(
            (quantity.units(), quantity.millis(), quantity.is_whole()),
            (2, 1500, false)
        );
    }

    proptest! {
        #[test]
        fn printing_keeps_the_amount(number in 0_u64..10_000_000, suffix in "(n|u|m|k|M|G|Ki|Mi|Gi)?") {
            let first: Quantity = format!("{number}{suffix}").parse().unwrap();
            let second: Quantity = first.to_string().parse().unwrap();
            prop_assert_eq!(first.nanos, second.nanos);
            prop_assert_eq!(first.to_string(), second.to_string());
        }
    }
}
