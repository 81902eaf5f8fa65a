//! Whose turn it is to have a window searched for.
//!
//! A search is a look at hundreds of nodes, so that a pass makes few of them, and most searches are in vain. So those
//! who ask take turns: who never had a search comes first, then who had one the longest ago, whatever has changed since.
//! The others are put off until the next pass. Demands of one kind are searched for alike, and take one turn together.

use std::{collections::HashMap, sync::Arc};

use crate::{
    demand::{Demand, Eligibilities, Wants},
    window::Ask,
};

/// Searches for new windows in one pass.
const MOST_SEARCHES: usize = 2;
/// Passes for which a kind is remembered though nobody asks, so that one for which nothing can be asked for a moment does
/// not come first when it is back.
const REMEMBERED: u64 = 64;

/// Kinds that are remembered besides those that asked in the last pass.
const MOST_KINDS: usize = 4_096;

/// Whose turn it is: [`Ask::kind`], and the priority, for those of a higher one are given what is kept free for others.
type Key = (u64, i32);

/// What searches depend on besides the demand: counts of changes of nodes and windows.
pub(super) type State = (u64, u64);

/// What a search for a kind would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// It may find something.
    Hope,
    /// It would find nothing, as before.
    Nothing,
    /// It would find so many GPUs, as before, which are more than may have windows now.
    TooMuch(usize),
}

/// What is known of the searches for a kind.
#[derive(Clone, Debug)]
struct Known {
    /// For whom was searched last.
    wants: Arc<Wants>,
    nodes: Arc<Eligibilities>,
    /// As it was when the last search began; one that is cut off goes on in later passes.
    state: State,
    /// The pass of the last search; 0 if there was none.
    searched: u64,
    /// What another one would bring as long as nothing changes.
    prospect: Prospect,
    /// So many nodes were looked at so far, and there are more; none if it was at all.
    skip: usize,
    /// The passes in which somebody asked for the first and for the last time.
    since: u64,
    asked: u64,
    /// The last pass in which it was put off.
    put_off: u64,
}

/// What is remembered of all who ask: as many kinds as asked lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    passes: u64,
    /// In this pass.
    searches: usize,
    known: HashMap<Key, Known>,
    /// Who was put off in the last pass, is the next, and did not come yet: a search is left for each of them.
    due: Vec<Key>,
    /// Who is put off in this pass: since when it waits for its turn, and its place in line.
    put_off: Vec<(u64, u64, usize, Key)>,
    /// A search of this pass is to be gone on with.
    cut_off: bool,
    /// Another pass would go on with what this one did not do.
    unfinished: bool,
}

pub(super) fn key(demand: &Demand, ask: &Ask) -> Key {
    (ask.kind, demand.priority)
}

impl Turns {
    pub(super) fn begin(&mut self) {
        self.passes += 1;
        self.searches = 0;
        self.put_off.clear();
        self.cut_off = false;
    }

    /// The pass is over; `is_changed` says whether windows have changed in it, so that what was searched for before that
    /// may be found now.
    pub(super) fn end(&mut self, is_changed: bool) {
        let pass = self.passes;
        let mut known = self.known.values();
        let missed = |known: &Known| known.prospect != Prospect::Hope && known.asked == pass;
        self.unfinished =
            self.cut_off || !self.put_off.is_empty() || is_changed && known.any(missed);
        self.put_off.sort_unstable();
        let due = self.put_off.iter().take(MOST_SEARCHES);
        self.due = due.map(|(.., key)| *key).collect();
        self.known
            .retain(|_, known| pass - known.asked < REMEMBERED);
        if self.known.len() > MOST_KINDS {
            // Those who ask now are as many as there are demands, and forgotten they would come first again.
            self.known.retain(|_, known| known.asked == pass);
        }
    }

    /// Whether searches of the last pass were put off or cut off.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// What a search for a demand would bring.
    pub(super) fn prospect(&mut self, key: Key, demand: &Demand, state: State) -> Prospect {
        let pass = self.passes;
        let known = self.known.entry(key).or_insert_with(|| Known {
            wants: Arc::clone(&demand.wants),
            nodes: Arc::clone(&demand.nodes),
            state,
            searched: 0,
            prospect: Prospect::Hope,
            skip: 0,
            since: pass,
            asked: pass,
            put_off: 0,
        });
        known.asked = pass;
        let is_over = known.searched == pass
            || known.skip == 0 && known.state == state && known.is_for(demand);
        if is_over {
            known.prospect
        } else {
            Prospect::Hope
        }
    }

    /// Whether it is the turn of this kind, for which there is hope: then the search is to be made.
    pub(super) fn takes(&mut self, key: Key, demand: &Demand, state: State) -> bool {
        let Some(known) = self.known.get_mut(&key) else {
            return false;
        };
        let due = self.due.iter().position(|due| *due == key);
        if let Some(at) = due {
            self.due.swap_remove(at);
        } else if self.searches + self.due.len() >= MOST_SEARCHES {
            if known.put_off != self.passes {
                known.put_off = self.passes;
                let place = self.put_off.len();
                self.put_off.push((known.searched, known.since, place, key));
            }
            return false;
        }
        self.searches += 1;
        known.searched = self.passes;
        known.prospect = Prospect::Hope;
        if known.skip == 0 {
            known.wants = Arc::clone(&demand.wants);
            known.nodes = Arc::clone(&demand.nodes);
            known.state = state;
        }
        true
    }

    /// Behind how many nodes a search goes on.
    pub(super) fn skip(&self, key: Key) -> usize {
        self.known.get(&key).map_or(0, |known| known.skip)
    }

    /// A search found something, which may be too much now: the next one begins with what is best then.
    pub(super) fn found(&mut self, key: Key, prospect: Prospect) {
        if let Some(known) = self.known.get_mut(&key) {
            known.prospect = prospect;
            known.skip = 0;
        }
    }

    /// A search found nothing; it goes on behind so many nodes, if they are not all.
    pub(super) fn found_nothing(&mut self, key: Key, skip: usize) {
        self.cut_off |= skip > 0;
        if let Some(known) = self.known.get_mut(&key) {
            known.prospect = Prospect::Nothing;
            known.skip = skip;
        }
    }
}

impl Known {
    /// Whether the last search was for what this demand asks for, and where it could run.
    fn is_for(&mut self, demand: &Demand) -> bool {
        if !Arc::ptr_eq(&self.wants, &demand.wants) && self.wants != demand.wants {
            return false;
        }
        if !Arc::ptr_eq(&self.nodes, &demand.nodes) {
            if self.nodes.allowed() != demand.nodes.allowed() {
                return false;
            }
            // Only what is said of other nodes has changed; many share it, and need not be compared again.
            self.nodes = Arc::clone(&demand.nodes);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::Eligibility;

    fn demand(kind: usize, verdict: u8) -> Demand {
        let nodes = [Eligibility::Excluded(format!("{kind} {verdict}").into())];
        Demand {
            id: String::new(),
            priority: 0,
            created: 0,
            window: None,
            group: None,
            wants: Arc::default(),
            nodes: Arc::new(nodes.into_iter().collect()),
        }
    }

    proptest! {
        #[test]
        fn whatever_changes_every_kind_gets_its_turn_within_a_bounded_number_of_passes(
            kinds in 1usize..12,
            passes in prop::collection::vec((0u64..2, any::<u8>(), any::<Index>()), 1..60),
        ) {
            let mut turns = Turns::default();
            let mut last = vec![0; kinds];
            let mut state = (0, 0);
            for ((change, verdict, first), pass) in passes.into_iter().zip(1..) {
                state.0 += change;
                turns.begin();
                let mut searches = 0;
                // They stand in line in another order each time, as their oldest pods come and go.
                let line = (0..kinds).cycle().skip(first.index(kinds)).take(kinds);
                for kind in line {
                    let (key, demand) = ((kind as u64, 0), demand(kind, verdict));
                    if turns.prospect(key, &demand, state) != Prospect::Hope {
                        // What was looked at in this state need not be looked at again.
                        prop_assert!(turns.known[&key].state == state);
                        last[kind] = pass;
                        continue;
                    }
                    if turns.takes(key, &demand, state) {
                        searches += 1;
                        turns.found_nothing(key, 0);
                        last[kind] = pass;
                    }
                }
                turns.end(false);
                prop_assert!(searches <= MOST_SEARCHES);
                let oldest = last.iter().min().unwrap();
                let bound = 1 + kinds.div_ceil(MOST_SEARCHES);
                prop_assert!(pass - oldest <= bound, "{last:?} in pass {pass}");
                let is_done = last.iter().all(|looked| *looked == pass);
                prop_assert_eq!(turns.is_unfinished(), !is_done);
            }
        }
    }

    #[test]
    fn more_kinds_than_are_remembered_take_turns_too() {
        let mut turns = Turns::default();
        let mut searched = Vec::new();
        for _ in 0..3 {
            turns.begin();
            for kind in 0..MOST_KINDS as u64 + 10 {
                let (key, demand) = ((kind, 0), demand(0, 0));
                let hopes = turns.prospect(key, &demand, (0, 0)) == Prospect::Hope;
                if hopes && turns.takes(key, &demand, (0, 0)) {
                    turns.found_nothing(key, 0);
                    searched.push(kind);
                }
            }
            turns.end(false);
        }
        assert_eq!(searched, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_never_had_a_search_comes_before_those_that_had_one() {
        let mut turns = Turns::default();
        let mut pass = |kinds: &[u64], change| {
            turns.begin();
            let mut searched = Vec::new();
            for kind in kinds {
                let (key, demand) = ((*kind, 0), demand(0, 0));
                if turns.prospect(key, &demand, (change, 0)) == Prospect::Hope
                    && turns.takes(key, &demand, (change, 0))
                {
                    turns.found_nothing(key, 0);
                    searched.push(*kind);
                }
            }
            turns.end(false);
            searched
        };
        assert_eq!(pass(&[1, 2, 3, 4], 0), [1, 2]);
        assert_eq!(pass(&[1, 2, 3, 4], 1), [3, 4]);
        // Somebody new comes, behind all others.
        assert_eq!(pass(&[1, 2, 3, 4, 5], 2), [1, 2]);
        assert_eq!(pass(&[1, 2, 3, 4, 5], 3), [3, 5]);
        assert_eq!(pass(&[1, 2, 3, 4, 5], 4), [1, 4]);
        // Those whose turn it is do not come: only a pass is lost.
        assert!(pass(&[1, 4, 5], 5).is_empty());
        assert_eq!(pass(&[1, 4, 5], 6), [1, 5]);
    }
}
