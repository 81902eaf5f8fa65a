//! Times as people read them.

use jiff::{SignedDuration, Timestamp};

/// How long ago something was, as kubectl writes it: `45s`, `5m30s`, `3h`, `12d`. Clocks of nodes and
/// controller differ; what seems to lie ahead has just begun.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// How long until then.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    let ahead: SignedDuration = then.duration_since(now);
    let mirrored = now.checked_sub(ahead).unwrap_or(now);
    age(mirrored, now)
}

fn two(large: i64, unit: &str, small: i64, rest: &str) -> String {
    match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let of = |seconds: i64| {
            age(
                Timestamp::from_second(1_000_000_000 - seconds).unwrap(),
                now,
            )
        };
        let ages: Vec<_> = [
            -5, 0, 119, 120, 599, 600, 10_800, 28_799, 28_800, 172_800, 900_000,
        ]
        .into_iter()
        .map(of)
        .collect();
        let expected = [
            "0s", "0s", "119s", "2m", "9m59s", "10m", "3h", "7h59m", "8h", "2d", "10d",
        ];
        assert_eq!(ages, expected);
    }

    #[test]
    fn what_lies_ahead_is_as_far_as_it_is() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(until(Timestamp::from_second(1_090).unwrap(), now), "90s");
        assert_eq!(until(Timestamp::from_second(900).unwrap(), now), "0s");
    }
}
