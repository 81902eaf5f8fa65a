//! Where the time of a planning pass goes, for whoever looks for it in the log.

use std::time::Duration;

use tokio::time::Instant;

/// A clock that is read after each part of a pass. In tests it stands still with tokio's.
#[derive(Debug)]
pub(super) struct Laps {
    begin: Instant,
    last: Instant,
}

impl Laps {
    pub(super) fn start() -> Self {
        let begin = Instant::now();
        Self { begin, last: begin }
    }

    /// Microseconds since the last lap, or since the start.
    pub(super) fn lap(&mut self) -> u64 {
        let now = Instant::now();
        micros(now - std::mem::replace(&mut self.last, now))
    }

    /// Microseconds from the start to the last lap.
    pub(super) fn total(&self) -> u64 {
        micros(self.last - self.begin)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn laps_add_up_to_the_whole() {
        let mut laps = Laps::start();
        tokio::time::advance(Duration::from_micros(1_500)).await;
        assert_eq!(laps.lap(), 1_500);
        tokio::time::advance(Duration::from_micros(200)).await;
        assert_eq!((laps.lap(), laps.total()), (200, 1_700));
    }
}
