//! The forms in which users ask for a fraction, and what is said when one is wrong.

use mig::fraction::{MAX_GPUS, Share, Unservable};
use serde_json::Value;

use crate::quantity::{self, NoShare};

/// The pod label of ClearML's fractional GPU injector.
pub const LABEL: &str = "clearml-injector/fraction";

/// The pod annotation of ClearML's custom fractions.
pub const ANNOTATION: &str = "gpu-fraction";

/// What every fraction in the limits of a container starts with.
const LIMIT: &str = "clear.ml/fraction";

/// Whether a resource is `clear.ml/fraction` or `clear.ml/fraction-<n>`, as ClearML's own pattern has
/// it: `^clear\.ml/fraction(-\d+)?$`.
pub fn is_fraction(resource: &str) -> bool {
    match resource.strip_prefix(LIMIT) {
        None => false,
        Some("") => true,
        Some(number) => number
            .strip_prefix('-')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())),
    }
}

/// The share that a value says, if a class serves it.
///
/// # Errors
/// Says what is wrong and what is allowed; to be put behind the field.
pub(crate) fn servable(value: &Value) -> Result<Share, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => short(other),
    };
    let share = match quantity::share(&text) {
        Ok(share) => share,
        Err(NoShare::NoNumber) => return Err(wrong(&text, "that is no number")),
        Err(NoShare::Negative) => return Err(wrong(&text, "that is less than nothing")),
    };
    // Users wrote 1.3, and what reaches us is 1300m.
    let said = if text.ends_with('m') {
        share.to_string()
    } else {
        text
    };
    match share.class() {
        Ok(_) => Ok(share),
        Err(Unservable::Nothing) => Err(wrong(&said, "that is nothing")),
        Err(Unservable::NotWhole) => Err(wrong(
            &said,
            "above 1 only whole numbers of GPUs can be had",
        )),
        Err(Unservable::TooMany) => Err(wrong(
            &said,
            &format!("no machine has more than {MAX_GPUS} GPUs"),
        )),
    }
}

fn wrong(text: &str, why: &str) -> String {
    format!(
        "is {}, but {why}: ask for a share of one GPU, like \"0.5\", or for a whole number of GPUs, at most \
         {MAX_GPUS}",
        quoted(text)
    )
}

/// What users send is quoted back to them: keep it short.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// A value that is no string; what is inside of lists and objects does not matter.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) => "[...]".to_owned(),
        Value::Object(_) => "{...}".to_owned(),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_clearmls_own_names_are_fractions() {
        for name in [
            "clear.ml/fraction",
            "clear.ml/fraction-1",
            "clear.ml/fraction-0012",
        ] {
            assert!(is_fraction(name), "{name}");
        }
        for name in [
            "clear.ml/fraction-",
            "clear.ml/fraction-a",
            "clear.ml/fraction1",
            "clear.ml/fraction-1-2",
            "clear.ml/fractions",
            "xclear.ml/fraction",
            "cdmo.clear.ml/fraction-0.500",
            "",
        ] {
            assert!(!is_fraction(name), "{name}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_is_allowed() {
        let allowed =
            "ask for a share of one GPU, like \"0.5\", or for a whole number of GPUs, at most 32";
        for (value, said) in [
            (json!("0"), "is \"0\", but that is nothing: "),
            (json!(0), "is \"0\", but that is nothing: "),
            (json!("-1"), "is \"-1\", but that is less than nothing: "),
            (
                json!("1300m"),
                "is \"1.3\", but above 1 only whole numbers of GPUs can be had: ",
            ),
            (
                json!(1.3),
                "is \"1.3\", but above 1 only whole numbers of GPUs can be had: ",
            ),
            (
                json!("1e3"),
                "is \"1e3\", but no machine has more than 32 GPUs: ",
            ),
            (
                json!("1k"),
                "is \"1k\", but no machine has more than 32 GPUs: ",
            ),
            (json!("abc"), "is \"abc\", but that is no number: "),
            (json!(""), "is \"\", but that is no number: "),
            (json!("NaN"), "is \"NaN\", but that is no number: "),
            (json!(null), "is \"null\", but that is no number: "),
            (json!([[1]]), "is \"[...]\", but that is no number: "),
            (json!({"a": 1}), "is \"{...}\", but that is no number: "),
        ] {
            assert_eq!(servable(&value), Err(format!("{said}{allowed}")));
        }
    }

    #[test]
    fn long_words_are_quoted_short() {
        assert!(servable(&json!("x".repeat(3_000_000))).unwrap_err().len() < 250);
    }
}
