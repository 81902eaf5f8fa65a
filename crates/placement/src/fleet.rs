//! One decision over several pools: GPUs of different models, each with its own table.
//!
//! Tables of different models have their own units. A score is made comparable as a part of what a
//! whole GPU is worth in its table, times what a whole GPU of that pool is worth to the cluster.

use crate::pool::{Ask, Choice, Pool};

/// A pool that could serve a demand.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The pool.
    pub pool: &'a Pool,
    /// The demand, with the profile that serves it on GPUs of this pool.
    pub ask: Ask<'a>,
    /// What a whole GPU is worth, in any unit that all pools share; 0 counts as 1.
    pub worth: u16,
}

/// The best placement over all pools, and the position of its pool among the offers. Scores are
/// losses or gains of value; a placement that loses a smaller part of a GPU, or of a cheaper GPU, is
/// better. Among equals the first offer.
pub fn choose_among<'a>(offers: impl IntoIterator<Item = Offer<'a>>) -> Option<(usize, Choice)> {
    let mut best: Option<(i64, usize, Choice)> = None;
    for (position, offer) in offers.into_iter().enumerate() {
        let Some(choice) = offer.pool.choose(&offer.ask) else {
            continue;
        };
        let part = offer.ask.worth_of(&choice) * i64::from(offer.worth.max(1));
        // 33 bits of a score with its bonus, 16 of a worth, 12 for what the division would cut off.
        let value = part * 4096 / i64::from(offer.pool.index().table().unit());
        if best.as_ref().is_none_or(|(most, ..)| value > *most) {
            best = Some((value, position, choice));
        }
    }
    best.map(|(_, position, choice)| (position, choice))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Geometry, GpuPlace, Index,
        geometry::tests::{a30, a100},
        policy::fewest_blocked,
    };

    fn pool(geometry: Geometry) -> Pool {
        let geometry = Arc::new(geometry);
        let table = fewest_blocked(&geometry);
        let index = Arc::new(Index::new(&geometry, &table).unwrap());
        let mut pool = Pool::new(geometry, index);
        pool.add(GpuPlace::default());
        pool
    }

    fn ask<'a>(pool: &Pool, name: &str) -> Ask<'a> {
        Ask::new(pool.geometry().find(&name.parse().unwrap()).unwrap())
    }

    #[test]
    fn the_pool_that_loses_the_smaller_part_of_a_gpu_serves_it() {
        let (big, small) = (pool(a100()), pool(a30()));
        let offer = |pool, name| Offer {
            pool,
            ask: ask(pool, name),
            worth: 1,
        };
        let offers = [offer(&small, "1g.6gb"), offer(&big, "1g.10gb")];
        assert_eq!(choose_among(offers).unwrap().0, 1);
        let dear = Offer {
            worth: 10,
            ..offers[1]
        };
        assert_eq!(choose_among([offers[0], dear]).unwrap().0, 0);
    }

    #[test]
    fn a_pool_without_room_does_not_count() {
        let (mut big, small) = (pool(a100()), pool(a30()));
        let whole = big.choose(&ask(&big, "7g.80gb")).unwrap();
        big.commit(&whole).unwrap();
        let offer = |pool, name| Offer {
            pool,
            ask: ask(pool, name),
            worth: 1,
        };
        let offers = [offer(&big, "1g.10gb"), offer(&small, "1g.6gb")];
        assert_eq!(choose_among(offers).unwrap().0, 1);
        assert_eq!(choose_among([offer(&big, "1g.10gb")]), None);
    }
}
