//! How a Deployment's pods are replaced step by step: a pure function of the numbers
//! (pkg/controller/deployment/rolling.go).

use serde_json::Value;

use crate::store::object::text;

/// One `ReplicaSet` of a Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    /// It has the Deployment's present template.
    pub(super) new: bool,
    /// Pods that it shall have.
    pub(super) wanted: usize,
    /// Pods that it has.
    pub(super) has: usize,
    /// Those of them that are ready.
    pub(super) ready: usize,
}

/// What a Deployment says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strategy {
    /// Pods that there shall be.
    replicas: usize,
    /// All old ones go before the first new one comes.
    recreate: bool,
    surge: usize,
    unavailable: usize,
}

impl Strategy {
    /// Pods that must be ready at any time.
    pub(super) const fn least(self) -> usize {
        self.replicas.saturating_sub(self.unavailable)
    }

    pub(super) fn of(deployment: &Value) -> Self {
        let replicas = super::pods::number(deployment, "/spec/replicas");
        let steps = &deployment["spec"]["strategy"]["rollingUpdate"];
        let surge = share(&steps["maxSurge"], replicas, true);
        let unavailable = share(&steps["maxUnavailable"], replicas, false);
        Self {
            replicas,
            recreate: text(deployment, "/spec/strategy/type") == "Recreate",
            surge,
            // Nothing would ever move otherwise.
            unavailable: if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            },
        }
    }
}

/// A number, or a part of `whole` in percent.
fn share(amount: &Value, whole: usize, up: bool) -> usize {
    if let Some(number) = amount.as_u64() {
        return usize::try_from(number).unwrap_or(usize::MAX);
    }
    let percent = amount.as_str().and_then(|text| text.strip_suffix('%'));
    let percent: usize = percent.and_then(|text| text.parse().ok()).unwrap_or(0);
    let hundredfold = percent.saturating_mul(whole);
    if up {
        hundredfold.div_ceil(100)
    } else {
        hundredfold / 100
    }
}

/// How many pods each set shall have next, in the order of `sets`, oldest first.
pub(super) fn step(strategy: Strategy, sets: &[Set]) -> Vec<usize> {
    let mut next: Vec<usize> = sets.iter().map(|set| set.wanted).collect();
    if strategy.recreate {
        let old_gone = sets.iter().filter(|set| !set.new).all(|set| set.has == 0);
        for (next, set) in next.iter_mut().zip(sets) {
            if !set.new {
                *next = 0;
            } else if old_gone {
                *next = strategy.replicas;
            }
        }
        return next;
    }
    let total: usize = next.iter().sum();
    let most = strategy.replicas + strategy.surge;
    if let Some(at) = sets.iter().position(|set| set.new) {
        let missing = strategy.replicas.saturating_sub(next[at]);
        next[at] = next[at].min(strategy.replicas) + missing.min(most.saturating_sub(total));
    }
    shrink_old(strategy, sets, &mut next);
    next
}

/// Old pods go as far as enough of all are ready; first those that are not.
fn shrink_old(strategy: Strategy, sets: &[Set], next: &mut [usize]) {
    let least = strategy.least();
    let (mut all, mut ready, mut new_unready) = (0, 0, 0);
    for (set, next) in sets.iter().zip(next.iter()) {
        all += next;
        ready += set.ready.min(*next);
        if set.new {
            new_unready += next.saturating_sub(set.ready);
        }
    }
    let mut spare = all.saturating_sub(least + new_unready);
    for (set, next) in sets.iter().zip(next.iter_mut()).filter(|(set, _)| !set.new) {
        let broken = next.saturating_sub(set.ready).min(spare);
        *next -= broken;
        spare -= broken;
    }
    let mut spare = spare.min(ready.saturating_sub(least));
    for (_, next) in sets.iter().zip(next.iter_mut()).filter(|(set, _)| !set.new) {
        let gone = (*next).min(spare);
        *next -= gone;
        spare -= gone;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(new: bool, wanted: usize, ready: usize) -> Set {
        Set {
            new,
            wanted,
            has: wanted,
            ready,
        }
    }

    fn rolling(replicas: u32) -> Strategy {
        Strategy::of(&json!({ "spec": { "replicas": replicas, "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
        }}}))
    }

    #[test]
    fn the_first_set_gets_all_pods_at_once() {
        assert_eq!(step(rolling(4), &[set(true, 0, 0)]), [4]);
    }

    #[test]
    fn a_rollout_keeps_enough_pods_ready() {
        // Of 4, one more and one fewer are allowed.
        assert_eq!(
            step(rolling(4), &[set(false, 4, 4), set(true, 0, 0)]),
            [3, 1]
        );
        assert_eq!(
            step(rolling(4), &[set(false, 3, 3), set(true, 1, 0)]),
            [3, 2]
        );
        assert_eq!(
            step(rolling(4), &[set(false, 3, 3), set(true, 2, 2)]),
            [1, 2]
        );
        assert_eq!(
            step(rolling(4), &[set(false, 0, 0), set(true, 4, 1)]),
            [0, 4]
        );
    }

    #[test]
    fn a_rollout_comes_to_its_end_whatever_the_numbers() {
        for replicas in 0..9 {
            let mut sets = [set(false, 7, 7), set(true, 0, 0)];
            for _ in 0..20 {
                let next = step(rolling(replicas), &sets);
                for (known, next) in sets.iter_mut().zip(next) {
                    *known = set(known.new, next, next);
                }
            }
            let wanted = sets.map(|set| set.wanted);
            assert_eq!(wanted, [0, usize::try_from(replicas).unwrap()]);
        }
    }

    #[test]
    fn fewer_replicas_shrink_the_set_at_once() {
        assert_eq!(step(rolling(1), &[set(true, 4, 4)]), [1]);
        assert_eq!(step(rolling(0), &[set(true, 4, 0)]), [0]);
    }

    #[test]
    fn recreation_waits_until_the_old_pods_are_gone() {
        let strategy = Strategy {
            recreate: true,
            ..rolling(2)
        };
        let mut sets = [set(false, 2, 2), set(true, 0, 0)];
        assert_eq!(step(strategy, &sets), [0, 0]);
        sets[0] = Set {
            has: 0,
            ..set(false, 0, 0)
        };
        assert_eq!(step(strategy, &sets), [0, 2]);
    }
}
