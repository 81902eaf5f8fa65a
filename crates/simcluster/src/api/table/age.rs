//! Ages as people read them (k8s.io/apimachinery/pkg/util/duration).

use jiff::Timestamp;
use serde_json::Value;

/// How long ago the moment at a JSON pointer was: `5m30s`, or `<unknown>`.
pub(super) fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    let then = object.pointer(pointer).and_then(Value::as_str);
    then.and_then(|then| then.parse::<Timestamp>().ok())
        .map_or_else(
            || "<unknown>".to_owned(),
            |then| human(now.as_second() - then.as_second()),
        )
}

/// A number of seconds as people read it.
pub(super) fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let years = days / 365;
    let two = |major: i64, unit: &str, minor: i64, small: &str| match minor {
        0 => format!("{major}{unit}"),
        minor => format!("{major}{unit}{minor}{small}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_are_rounded_as_kubectl_rounds_them() {
        for (seconds, wanted) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (601, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (8 * 86_400, "8d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(human(seconds), wanted);
        }
    }
}
