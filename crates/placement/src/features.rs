//! What is worth knowing of a mask, as whole numbers, for a table that is trained.
//!
//! A value of a mask that is a weighted sum of these features makes a score table
//! ([`Features::values`], [`crate::ScoreTable::from_values`]); training only searches weights. The
//! features say what could still be made and what is spoilt, profile by profile and over all, so
//! that few weights describe every mask of a geometry.

use std::collections::BTreeSet;

use crate::{
    geometry::{Geometry, ProfileId, placements},
    policy::{Mix, capability::capability},
};

/// The features of all masks of a geometry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    names: Vec<String>,
    /// Row by mask, column by feature.
    rows: Vec<i32>,
}

/// Weights that do not go with the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to weigh the features of a mask: {given} weights for {wanted} features")]
pub struct WeightsError {
    /// Weights given.
    pub given: usize,
    /// Features there are.
    pub wanted: usize,
}

impl Features {
    /// Works out the features of every mask.
    pub fn new(geometry: &Geometry) -> Self {
        let mut names = Vec::new();
        let mut rows = Vec::new();
        let halves = Half::both(geometry);
        for mask in geometry.masks() {
            let row = row(geometry, &halves, mask);
            if names.is_empty() {
                names = row.iter().map(|(name, _)| name.clone()).collect();
            }
            rows.extend(row.into_iter().map(|(_, value)| value));
        }
        Self { names, rows }
    }

    /// What each feature is, by column.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many features there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The features of a mask, by column.
    ///
    /// # Panics
    /// If the mask is of another geometry.
    pub fn row(&self, mask: u16) -> &[i32] {
        let start = usize::from(mask) * self.len();
        &self.rows[start..start + self.len()]
    }

    /// The weighted sum of the features, for each mask; sums that are out of range are cut off.
    ///
    /// # Errors
    /// If there is not one weight for each feature.
    pub fn values(&self, weights: &[i32]) -> Result<Vec<i32>, WeightsError> {
        if weights.len() != self.len() {
            return Err(WeightsError {
                given: weights.len(),
                wanted: self.len(),
            });
        }
        let weigh = |row: &[i32]| {
            let products = row
                .iter()
                .zip(weights)
                .map(|(f, w)| i64::from(*f) * i64::from(*w));
            let sum: i64 = products.sum();
            i32::try_from(sum).unwrap_or(if sum < 0 { i32::MIN } else { i32::MAX })
        };
        Ok(self.rows.chunks(self.len()).map(weigh).collect())
    }
}

fn row(geometry: &Geometry, halves: &[Half], mask: u16) -> Vec<(String, i32)> {
    let mut row = Vec::new();
    for profile in geometry.profile_ids() {
        of_profile(geometry, mask, profile, &mut row);
    }
    of_gpu(geometry, mask, &mut row);
    for half in halves {
        half.add_to(geometry, mask, &mut row);
    }
    for occupied in 1..=u32::from(geometry.slices()) {
        let exactly = mask.count_ones() == occupied;
        row.push((
            format!("exactly {occupied} slices occupied"),
            i32::from(exactly),
        ));
    }
    row
}

fn of_profile(geometry: &Geometry, mask: u16, profile: ProfileId, row: &mut Vec<(String, i32)>) {
    let name = geometry.profile(profile).name.to_string();
    let free = geometry.free_of(mask, profile);
    let idle_slices = geometry.full() & !mask;
    let unusable = (idle_slices & !geometry.cover(free)).count_ones();
    let most = most_at_once(geometry, mask, profile);
    row.push((format!("{name}: free placements"), small(free.count_ones())));
    row.push((format!("{name}: fits"), i32::from(free != 0)));
    row.push((format!("{name}: at once"), small(most)));
    row.push((
        format!("{name}: free slices it cannot use"),
        small(unusable),
    ));
}

fn of_gpu(geometry: &Geometry, mask: u16, row: &mut Vec<(String, i32)>) {
    let full = geometry.full();
    let free = full & !mask;
    let left = left_half(geometry);
    let right = full & !left;
    let windows = geometry.free(mask);
    let uniform = Mix::uniform(geometry);
    let blocked = |size: i32| size * i32::from(windows == 0);
    let pairs: Vec<u32> = (0..geometry.slices() / 2)
        .map(|pair| (mask >> (2 * pair) & 3).count_ones())
        .collect();
    let pairs_with = |occupied: u32| small(pairs.iter().filter(|n| **n == occupied).count());
    let mut add = |name: &str, value: i32| row.push((name.to_owned(), value));
    add("empty", i32::from(mask == 0));
    add("nothing fits", blocked(1));
    add("free slices", small(free.count_ones()));
    add(
        "free slices lost",
        small((free & !geometry.cover(windows)).count_ones()),
    );
    add("free slices, left half", small((free & left).count_ones()));
    add(
        "free slices, right half",
        small((free & right).count_ones()),
    );
    add("left half empty", i32::from(mask & left == 0));
    add("right half empty", i32::from(mask & right == 0));
    add("left half full", i32::from(mask & left == left));
    add("right half full", i32::from(mask & right == right));
    add(
        "one half empty, one full",
        i32::from(mask == left || mask == right),
    );
    add(
        "both halves touched",
        i32::from(mask & left != 0 && mask & right != 0),
    );
    add("pairs half used", pairs_with(1));
    add("pairs free", pairs_with(0));
    add("longest free run", longest_run(free));
    add("free runs", small(free_runs(free)));
    add("placements possible", small(windows.count_ones()));
    add("compute slices possible", most_compute(geometry, mask));
    add(
        "profiles that fit",
        small(geometry.fitting(mask).count_ones()),
    );
    let weighed = capability(geometry, &uniform, mask) * i64::from(free.count_ones());
    add(
        "placements possible x free slices",
        i32::try_from(weighed).unwrap_or(i32::MAX),
    );
    add("free slices squared", small(free.count_ones().pow(2)));
}

/// One half of a GPU, and the states it can be in.
struct Half {
    name: &'static str,
    slices: u16,
    states: BTreeSet<Vec<u32>>,
}

impl Half {
    fn both(geometry: &Geometry) -> [Self; 2] {
        let left = left_half(geometry);
        [("left", left), ("right", geometry.full() & !left)].map(|(name, slices)| {
            let state = |mask: &u16| half_state(geometry, slices, *mask);
            let states = geometry.reachable().iter().map(state);
            // One state needs no feature of its own: that in which nothing fits.
            let states = states
                .filter(|state| state.iter().any(|n| *n > 0))
                .collect();
            Self {
                name,
                slices,
                states,
            }
        })
    }

    /// Which state it is in. Hardly anything but the whole GPU couples the halves, so that a value
    /// is nearly the sum of two.
    fn add_to(&self, geometry: &Geometry, mask: u16, row: &mut Vec<(String, i32)>) {
        let now = half_state(geometry, self.slices, mask);
        for known in &self.states {
            let counts: Vec<String> = known.iter().map(ToString::to_string).collect();
            let name = format!("{} half: free placements {}", self.name, counts.join(" "));
            row.push((name, i32::from(now == *known)));
        }
    }
}

fn left_half(geometry: &Geometry) -> u16 {
    geometry.full() >> (geometry.slices() - geometry.slices() / 2)
}

/// A half by how many placements of each profile are free in it.
fn half_state(geometry: &Geometry, half: u16, mask: u16) -> Vec<u32> {
    let full = geometry.full();
    let free = geometry.free((mask & half) | (full & !half));
    geometry
        .profiles()
        .iter()
        .map(|p| (free & p.windows).count_ones())
        .collect()
}

/// The most instances of one profile that could be made side by side; its placements are of one
/// size and ascending, so that taking the first that fits is best.
fn most_at_once(geometry: &Geometry, mask: u16, profile: ProfileId) -> u32 {
    let mut taken = mask;
    let mut count = 0;
    for id in placements(geometry.free_of(mask, profile)) {
        let window = geometry.spot(id).mask;
        if window & taken == 0 {
            taken |= window;
            count += 1;
        }
    }
    count
}

/// The most compute slices that further instances could have together: the best over placements of
/// what begins at each slice.
fn most_compute(geometry: &Geometry, mask: u16) -> i32 {
    let slices = usize::from(geometry.slices());
    // best[n]: the most from slice n on.
    let mut best = vec![0i32; slices + 1];
    for start in (0..slices).rev() {
        best[start] = best[start + 1];
        for id in placements(geometry.free(mask)) {
            let spot = geometry.spot(id);
            if usize::from(spot.placement.start) == start {
                let end = start + usize::from(spot.placement.size);
                let compute = geometry.profile(spot.profile).name.compute_slices();
                best[start] = best[start].max(i32::from(compute) + best[end]);
            }
        }
    }
    best[0]
}

fn longest_run(free: u16) -> i32 {
    let mut rest = free;
    let mut length = 0;
    while rest != 0 {
        rest &= rest >> 1;
        length += 1;
    }
    length
}

fn free_runs(free: u16) -> u32 {
    (free & !(free << 1)).count_ones()
}

/// Counts on one GPU are small.
fn small(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::tests::{a30, a100, fine_twelve, rtx};

    fn feature(geometry: &Geometry, mask: u16, name: &str) -> i32 {
        let features = Features::new(geometry);
        let column = features.names().iter().position(|n| n == name).unwrap();
        features.row(mask)[column]
    }

    #[test]
    fn features_say_what_a_person_would_count() {
        let geometry = a100();
        let of = |mask, name| feature(&geometry, mask, name);
        // Seven 1g: slice 7 is free and lost.
        assert_eq!(of(0b0111_1111, "free slices lost"), 1);
        assert_eq!(of(0b0111_1111, "nothing fits"), 1);
        assert_eq!(of(0, "1g.10gb: at once"), 7);
        assert_eq!(of(0, "2g.20gb: at once"), 3);
        assert_eq!(of(0, "compute slices possible"), 7);
        assert_eq!(of(0b0000_0001, "compute slices possible"), 6);
        assert_eq!(of(0b0000_0001, "3g.40gb: free placements"), 1);
        assert_eq!(of(0b0001_0001, "3g.40gb: fits"), 0);
        assert_eq!(of(0b0001_0001, "pairs half used"), 2);
        assert_eq!(of(0b0000_1111, "one half empty, one full"), 1);
        assert_eq!(of(0b0000_0110, "longest free run"), 5);
        assert_eq!(of(0b0000_0110, "free runs"), 2);
        assert_eq!(of(0b0000_0110, "exactly 2 slices occupied"), 1);
        // 7g, 4g, 3g, 2g, 1g.20gb, 1g.10gb: one pair is left on the left.
        let one_pair = "left half: free placements 0 0 0 1 1 2";
        assert_eq!(of(0b0000_0011, one_pair), 1);
        assert_eq!(of(0b1111_1100, one_pair), 1);
        assert_eq!(of(0b0000_0101, one_pair), 0);
    }

    #[test]
    fn no_feature_is_the_same_on_all_masks_of_eight_slices() {
        let geometry = a100();
        let features = Features::new(&geometry);
        for (column, name) in features.names().iter().enumerate() {
            let first = features.row(0)[column];
            let differs = geometry
                .reachable()
                .iter()
                .any(|m| features.row(*m)[column] != first);
            assert!(differs, "{name} says nothing");
        }
    }

    #[test]
    fn every_geometry_has_features() {
        for geometry in [a30(), rtx(), fine_twelve()] {
            let features = Features::new(&geometry);
            assert_eq!(features.names().len(), features.len());
            assert_ne!(features.row(0), features.row(geometry.full()));
        }
    }

    #[test]
    fn values_are_weighted_sums() {
        let features = Features::new(&a100());
        let mut weights = vec![0; features.len()];
        weights[0] = 3;
        weights[1] = -2;
        let values = features.values(&weights).unwrap();
        for mask in a100().masks() {
            let row = features.row(mask);
            assert_eq!(values[usize::from(mask)], 3 * row[0] - 2 * row[1]);
        }
        let error = WeightsError {
            given: 1,
            wanted: features.len(),
        };
        assert_eq!(features.values(&[1]), Err(error));
    }
}
