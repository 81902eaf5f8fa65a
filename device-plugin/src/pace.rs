//! Pauses that double: between looks at the kubelet, and between attempts.

use std::time::Duration;

/// A pause that doubles each time, from a first to a longest one.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    first: Duration,
    next: Duration,
}

impl Pace {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// Something happened: the next pause is the first again.
    pub(crate) fn restart(&mut self) {
        self.next = self.first;
    }

    /// The pause to make now, at most `longest`.
    pub(crate) fn pause(&mut self, longest: Duration) -> Duration {
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(longest.max(self.first));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(ms(10));
        let pauses: Vec<_> = (0..5).map(|_| pace.pause(ms(50))).collect();
        assert_eq!(pauses, [ms(10), ms(20), ms(40), ms(50), ms(50)]);
        pace.restart();
        assert_eq!(pace.pause(ms(50)), ms(10));
    }

    #[test]
    fn a_shorter_limit_applies_at_once() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(ms(10));
        for _ in 0..6 {
            pace.pause(ms(1000));
        }
        assert_eq!(pace.pause(ms(100)), ms(100));
    }
}
