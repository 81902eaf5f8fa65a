//! Kubernetes quantities as integers.
//!
//! The scheduler compares integers: CPU in thousandths, everything else in whole units (bytes,
//! devices), each rounded up. See apimachinery `pkg/api/resource/quantity.go` for the grammar.

/// Thousandths of the quantity's unit, rounded up; `None` if it is not a quantity.
pub fn milli(text: &str) -> Option<i64> {
    scaled(text, 1000)
}

/// Whole units, rounded up; `None` if it is not a quantity.
pub fn units(text: &str) -> Option<i64> {
    scaled(text, 1)
}

/// `text * factor`, rounded up and cut off at the ends of `i64`.
fn scaled(text: &str, factor: i128) -> Option<i64> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_digit() || c == '.' || (at == 0 && (c == '-' || c == '+'))))
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at(end);
    let (mantissa, decimals) = mantissa(number)?;
    let (up, down) = suffix_factor(suffix)?;
    let numerator = mantissa.checked_mul(up)?.checked_mul(factor)?;
    let denominator = 10i128.checked_pow(decimals)?.checked_mul(down)?;
    let floor = numerator.div_euclid(denominator);
    let value = floor + i128::from(numerator.rem_euclid(denominator) != 0);
    Some(i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX }))
}

/// Digits without the point, and how many stood behind it.
fn mantissa(number: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if !digits.chars().any(|c| c.is_ascii_digit()) || fraction.contains('.') {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

/// What a suffix multiplies and divides by.
fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    let up = |value: i128| Some((value, 1));
    match suffix {
        "" => up(1),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => up(1_000),
        "M" => up(1_000_000),
        "G" => up(1_000_000_000),
        "T" => up(1_000_000_000_000),
        "P" => up(1_000_000_000_000_000),
        "E" => up(1_000_000_000_000_000_000),
        "Ki" => up(1 << 10),
        "Mi" => up(1 << 20),
        "Gi" => up(1 << 30),
        "Ti" => up(1 << 40),
        "Pi" => up(1 << 50),
        "Ei" => up(1 << 60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 {
                Some((1, power))
            } else {
                up(power)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, expected) in [
            ("1", 1000),
            ("0.5", 500),
            ("500m", 500),
            (".25", 250),
            ("1e3", 1_000_000),
            ("12E-1", 1200),
            ("1Ki", 1_024_000),
            ("1500u", 2),
            ("1n", 1),
            ("0", 0),
            ("-1", -1000),
            ("2k", 2_000_000),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn whole_units_round_up() {
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("1.5Gi"), Some(3 << 29));
        assert_eq!(units("16Ei"), Some(i64::MAX));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "abc", "1.2.3", "1x", "m", "1 Gi", "--1", "."] {
            assert_eq!(milli(text), None, "{text}");
        }
    }
}
