//! Numbers as Kubernetes writes quantities: `0.5`, `500m`, `5e-1`, `0.5k`.
//!
//! The grammar is that of apimachinery `pkg/api/resource/quantity.go`; so is rounding up what is
//! finer than a billionth. Python's `float`, with which ClearML reads labels, takes no suffixes but
//! the exponent; nothing that it takes and that is a finite share means something else here.

use mig::fraction::Share;

/// Why a text is no share of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoShare {
    /// No number at all.
    NoNumber,
    /// Less than zero.
    Negative,
}

/// Digits beyond these do not change what a class it is.
const DIGITS: u128 = 10_u128.pow(30);

/// The share that a text says; the largest there is where it is too large to be counted.
pub(crate) fn share(text: &str) -> Result<Share, NoShare> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number = Number::read(number).ok_or(NoShare::NoNumber)?;
    let (tens, binary) = suffix_power(suffix).ok_or(NoShare::NoNumber)?;
    if negative && number.mantissa > 0 {
        return Err(NoShare::Negative);
    }
    let nanos = number.scaled(tens.saturating_add(9), binary);
    Ok(Share::from_nanos(nanos))
}

/// `mantissa * 10^tens`, and a little more if digits were left out.
struct Number {
    mantissa: u128,
    tens: i64,
    more: bool,
}

impl Number {
    fn read(text: &str) -> Option<Self> {
        let mut number = Self {
            mantissa: 0,
            tens: 0,
            more: false,
        };
        let (mut point, mut digits) = (false, false);
        for c in text.chars() {
            let Some(digit) = c.to_digit(10) else {
                if point {
                    return None;
                }
                point = true;
                continue;
            };
            digits = true;
            if number.mantissa < DIGITS {
                number.mantissa = number.mantissa * 10 + u128::from(digit);
                number.tens -= i64::from(point);
            } else {
                number.more |= digit != 0;
                number.tens += i64::from(!point);
            }
        }
        digits.then_some(number)
    }

    /// `self * 10^tens * 2^binary`, rounded up; the largest number if it is larger.
    fn scaled(&self, tens: i64, binary: u32) -> u64 {
        let Some(mantissa) = self.mantissa.checked_mul(1 << binary) else {
            return u64::MAX;
        };
        let tens = self.tens.saturating_add(tens);
        let power = u32::try_from(tens.unsigned_abs())
            .ok()
            .and_then(|tens| 10_u128.checked_pow(tens));
        let exact = match (tens >= 0, power) {
            _ if mantissa == 0 => Some(u128::from(self.more)),
            (true, Some(power)) => mantissa.checked_mul(power),
            (true, None) => None,
            (false, Some(power)) => {
                let up = self.more || !mantissa.is_multiple_of(power);
                Some(mantissa / power + u128::from(up))
            }
            (false, None) => Some(1),
        };
        exact
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(u64::MAX)
    }
}

/// Powers of ten and of two that a suffix stands for.
fn suffix_power(suffix: &str) -> Option<(i64, u32)> {
    let power = match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    };
    Some(power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        share(text).map_or_else(|why| format!("{why:?}"), |share| share.to_string())
    }

    #[test]
    fn one_amount_can_be_written_in_many_ways() {
        for text in [
            "0.5",
            ".5",
            "+0.5",
            "500m",
            "5e-1",
            "5E-1",
            "0.5e0",
            "50e-2",
            "500000u",
            "500000000n",
            "0.50",
            "00.5",
            "0.0005k",
            " 0.5 ",
        ] {
            assert_eq!(read(text), "0.5", "{text}");
        }
        for (text, amount) in [
            ("1e3", "1000"),
            ("0.5k", "500"),
            ("1Ki", "1024"),
            ("2.", "2"),
            ("62500u", "0.0625"),
            ("0.0000000001", "0.000000001"),
            (
                "0.3333333333333333333333333333333333333333333",
                "0.333333334",
            ),
            ("1e-99999", "0.000000001"),
            ("0e99999", "0"),
            ("-0", "0"),
            ("0", "0"),
        ] {
            assert_eq!(read(text), amount, "{text}");
        }
    }

    #[test]
    fn what_is_too_large_to_count_is_the_largest_there_is() {
        let most = Share::from_nanos(u64::MAX).to_string();
        for text in [
            "1e99999",
            "99999999999999999999",
            "1E",
            "1Ei",
            "18446744074",
        ] {
            assert_eq!(read(text), most, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " ",
            "abc",
            "NaN",
            "nan",
            "inf",
            "Infinity",
            "1.2.3",
            "0,5",
            "1/2",
            "50%",
            "1e",
            "e1",
            "m",
            ".",
            "-",
            "--1",
            "1x",
            "1 Gi",
            "0x1",
            "½",
            "1e99999999999999999999",
        ] {
            assert_eq!(read(text), "NoNumber", "{text}");
        }
        for text in ["-1", "-0.5", "-500m", "-1n"] {
            assert_eq!(read(text), "Negative", "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_a_share_prints_is_read_back(nanos in any::<u64>()) {
            let wanted = Share::from_nanos(nanos);
            prop_assert_eq!(share(&wanted.to_string()), Ok(wanted));
            prop_assert_eq!(share(&format!("{nanos}n")), Ok(wanted));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*", likely in "[+-]?[0-9.]{0,50}[eEinumkKMGTP]{0,2}[+-]?[0-9]{0,25}") {
            let _ = share(&text);
            let _ = share(&likely);
        }
    }
}
