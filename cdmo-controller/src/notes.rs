//! Which Events are worth sending: none twice, none too often, and never a flood.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// The same sentence is repeated after this time at the earliest, so that it is found among the
/// Events that the API server keeps for an hour.
pub const REPEAT: Duration = Duration::from_mins(10);
/// Another sentence for the same reason follows after this time at the earliest: counts in it may
/// change with every pod.
const REPHRASE: Duration = Duration::from_secs(30);
/// Refusals that may be reported at once, and how many a second after that.
const BURST: u32 = 50;
const PER_SECOND: u32 = 10;
/// Permissions that repetitions leave for what was never said: with enough waiting pods, repetitions
/// alone would use up all there are.
const FOR_NEWS: u32 = BURST / 2;
/// When to ask again for a permission.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a pod was told last.
#[derive(Clone, Debug)]
pub struct Told {
    reason: &'static str,
    text: Arc<str>,
    at: Instant,
}

/// When a sentence may be said, given what was said last.
pub fn due(last: Option<&Told>, reason: &str, text: &str, now: Instant) -> Instant {
    match last {
        Some(told) if told.reason == reason && *told.text == *text => told.at + REPEAT,
        Some(told) if told.reason == reason => told.at + REPHRASE,
        _ => now,
    }
}

impl Told {
    /// Something was said now.
    pub fn now(reason: &'static str, text: Arc<str>, now: Instant) -> Self {
        Self {
            reason,
            text,
            at: now,
        }
    }
}

/// A bucket of permissions that fills up again.
#[derive(Debug)]
pub struct Budget {
    /// Milli-permissions.
    left: u64,
    filled: Instant,
}

impl Budget {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self {
            left: u64::from(BURST) * 1000,
            filled: now,
        }
    }

    /// Takes one permission, for something new or a repetition; `Err` says when to come back.
    pub fn take(&mut self, is_new: bool, now: Instant) -> Result<(), Instant> {
        let millis = u64::try_from((now - self.filled).as_millis()).unwrap_or(u64::MAX);
        let gained = millis.saturating_mul(u64::from(PER_SECOND));
        self.left = self
            .left
            .saturating_add(gained)
            .min(u64::from(BURST) * 1000);
        self.filled += Duration::from_millis(millis);
        let stays = if is_new { 0 } else { FOR_NEWS };
        if self.left < u64::from(stays + 1) * 1000 {
            return Err(now + ASK_AGAIN);
        }
        self.left -= 1000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_not_repeated_soon_and_not_rephrased_often() {
        let now = Instant::now();
        assert_eq!(due(None, "NoRoom", "2 nodes", now), now);
        let told = Told::now("NoRoom", "2 nodes".into(), now);
        assert_eq!(due(Some(&told), "NoRoom", "2 nodes", now), now + REPEAT);
        assert_eq!(due(Some(&told), "NoRoom", "3 nodes", now), now + REPHRASE);
        assert_eq!(due(Some(&told), "TooMany", "2 nodes", now), now);
    }

    #[test]
    fn a_flood_is_spread_over_time() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..BURST {
            budget.take(true, now).unwrap();
        }
        let at = budget.take(true, now).unwrap_err();
        assert_eq!(at, now + Duration::from_secs(1));
        for _ in 0..PER_SECOND {
            budget.take(true, at).unwrap();
        }
        assert!(budget.take(true, at).is_err());
        let much_later = now + Duration::from_hours(1);
        let taken = (0..200)
            .take_while(|_| budget.take(true, much_later).is_ok())
            .count();
        assert_eq!(
            taken,
            usize::try_from(BURST).unwrap(),
            "it does not save up beyond the burst"
        );
    }

    #[test]
    fn repetitions_leave_room_for_news() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        while budget.take(false, now).is_ok() {}
        let news = (0..BURST).take_while(|_| budget.take(true, now).is_ok());
        assert_eq!(u32::try_from(news.count()).unwrap(), FOR_NEWS);
    }
}
