//! What fits on a number of GPUs if everything could be moved: the exact answer.
//!
//! It says what can never be placed together, how many GPUs a demand needs at least, and whether moving
//! instances would help.
//!
//! **Eight slices** (A100, H100, H200, B200). A GPU is a left half of two pairs (0-1, 2-3), and a
//! right half of a pair (4-5) and slices 6-7, which a 2g cannot use and of which a 1g uses one. Only
//! 7g couples the halves. A 4g takes a left half; 3g take right halves first, which are worth less; 2g
//! need pairs; double-memory 1g take 6-7 first; 1g take what is left. Each step gives up only what
//! later ones can use least, so that the greedy count is exact.
//!
//! **Sizes that divide each other**, standing at all their multiples (A30, RTX PRO 6000): placed from
//! large to small they leave no hole, so that the sum of slices decides.
//!
//! **Anything else**: a search over full layouts, bounded.

use std::collections::HashSet;

use crate::geometry::{Geometry, placements};

/// Partial demands that one search looks at before it gives up.
const MOST_STATES: usize = 100_000;

/// Whether a demand fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is a way.
    Yes,
    /// There is none.
    No,
    /// The search was cut off. Never with the GPUs of NVIDIA that are known.
    Unknown,
}

/// Decides what fits on GPUs of one geometry, all of them free to be cut anew.
#[derive(Clone, Debug)]
pub struct Packing {
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Eight(Vec<Role>),
    Dividing { sizes: Vec<u64>, slices: u64 },
    Search(Vec<Vec<u32>>),
}

/// What a profile is on eight slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Seven,
    Four,
    Three,
    Two,
    OneDouble,
    One,
}

const ROLES: [(Role, u8, &[u8]); 6] = [
    (Role::Seven, 8, &[0]),
    (Role::Four, 4, &[0]),
    (Role::Three, 4, &[0, 4]),
    (Role::Two, 2, &[0, 2, 4]),
    (Role::OneDouble, 2, &[0, 2, 4, 6]),
    (Role::One, 1, &[0, 1, 2, 3, 4, 5, 6]),
];

impl Packing {
    /// Finds out how the geometry is decided.
    pub fn new(geometry: &Geometry) -> Self {
        let method = eight(geometry)
            .or_else(|| dividing(geometry))
            .unwrap_or_else(|| Method::Search(full_layouts(geometry)));
        Self { method }
    }

    /// Whether so many instances of each profile (by [`crate::ProfileId`]; missing ones are 0) fit
    /// on so many empty GPUs.
    pub fn fits(&self, counts: &[u32], gpus: u32) -> Fit {
        let yes = |fits| if fits { Fit::Yes } else { Fit::No };
        match &self.method {
            Method::Eight(roles) => yes(fits_eight(roles, counts, gpus)),
            Method::Dividing { sizes, slices } => {
                let wanted: u64 = sizes
                    .iter()
                    .zip(counts)
                    .map(|(s, n)| s * u64::from(*n))
                    .sum();
                yes(wanted <= slices * u64::from(gpus))
            }
            Method::Search(layouts) => match search(layouts, counts) {
                Some(needed) => yes(needed <= gpus),
                None => Fit::Unknown,
            },
        }
    }

    /// The fewest GPUs that hold so many instances of each profile; `None` if the search was cut
    /// off.
    pub fn gpus_needed(&self, counts: &[u32]) -> Option<u32> {
        if let Method::Search(layouts) = &self.method {
            return search(layouts, counts);
        }
        // An instance needs a GPU at most, and what fits on some GPUs fits on more.
        let (mut low, mut high) = (0, counts.iter().copied().fold(0, u32::saturating_add));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.fits(counts, middle) == Fit::Yes {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }
}

fn eight(geometry: &Geometry) -> Option<Method> {
    if geometry.slices() != 8 {
        return None;
    }
    let role = |profile: &crate::Shape| {
        let starts: Vec<u8> = placements(profile.windows)
            .map(|id| geometry.spot(id).placement.start)
            .collect();
        let known = ROLES
            .iter()
            .find(|(_, size, at)| *size == profile.size && *at == starts);
        known.map(|(role, ..)| *role)
    };
    let roles: Option<Vec<Role>> = geometry.profiles().iter().map(role).collect();
    roles.map(Method::Eight)
}

fn fits_eight(roles: &[Role], counts: &[u32], gpus: u32) -> bool {
    let count = |wanted: Role| -> i64 {
        let of_role = roles
            .iter()
            .zip(counts)
            .filter(|(role, _)| **role == wanted);
        of_role.map(|(_, n)| i64::from(*n)).sum()
    };
    let (fours, threes) = (count(Role::Four), count(Role::Three));
    let (twos, doubles) = (count(Role::Two), count(Role::OneDouble));
    let open = i64::from(gpus) - count(Role::Seven);
    if open < 0 || fours > open {
        return false;
    }
    let threes_right = threes.min(open);
    let threes_left = threes - threes_right;
    let left = open - fours - threes_left;
    let right = open - threes_right;
    let pairs = 2 * left + right;
    if left < 0 || twos > pairs {
        return false;
    }
    let doubles_at_six = doubles.min(right);
    let doubles_on_pairs = doubles - doubles_at_six;
    let pairs_left = pairs - twos - doubles_on_pairs;
    pairs_left >= 0 && count(Role::One) <= 2 * pairs_left + (right - doubles_at_six)
}

fn dividing(geometry: &Geometry) -> Option<Method> {
    let slices = geometry.slices();
    // From large to small: each size divides the one before, the first the whole row.
    let mut larger = slices;
    for profile in geometry.profiles() {
        let size = profile.size;
        let everywhere = placements(profile.windows)
            .map(|id| geometry.spot(id).placement.start)
            .eq((0..slices / size).map(|n| n * size));
        if !larger.is_multiple_of(size) || !everywhere {
            return None;
        }
        larger = size;
    }
    let sizes = geometry
        .profiles()
        .iter()
        .map(|p| u64::from(p.size))
        .collect();
    Some(Method::Dividing {
        sizes,
        slices: u64::from(slices),
    })
}

/// Full layouts as counts by profile, each once, none that another one contains.
fn full_layouts(geometry: &Geometry) -> Vec<Vec<u32>> {
    let mut found: Vec<Vec<u32>> = Vec::new();
    geometry.each_layout(|set, mask| {
        if geometry.free(mask) == 0 {
            let profiles = geometry.profiles().iter();
            found.push(profiles.map(|p| (set & p.windows).count_ones()).collect());
        }
    });
    found.sort_unstable();
    found.dedup();
    let within = |a: &Vec<u32>, b: &Vec<u32>| a != b && a.iter().zip(b).all(|(a, b)| a <= b);
    let all = found.clone();
    found.retain(|layout| !all.iter().any(|other| within(layout, other)));
    found
}

/// The fewest GPUs, by trying each full layout on the next one.
fn search(layouts: &[Vec<u32>], counts: &[u32]) -> Option<u32> {
    let width = layouts.first().map_or(0, Vec::len);
    let mut goal = counts.to_vec();
    goal.resize(width, 0);
    let mut known = HashSet::new();
    let mut level = vec![goal];
    for gpus in 0.. {
        if level.iter().any(|left| left.iter().all(|n| *n == 0)) {
            return Some(gpus);
        }
        let mut next = Vec::new();
        for left in &level {
            if known.len() > MOST_STATES {
                return None;
            }
            for layout in layouts {
                let rest: Vec<u32> = left
                    .iter()
                    .zip(layout)
                    .map(|(n, has)| n.saturating_sub(*has))
                    .collect();
                // A rest that was reached before was reached with no more GPUs.
                if rest != *left && known.insert(rest.clone()) {
                    next.push(rest);
                }
            }
        }
        if next.is_empty() {
            return None;
        }
        level = next;
    }
    None
}

#[cfg(test)]
mod tests;
