use std::collections::BTreeSet;

use super::*;
use crate::geometry::tests::{a30, a100, a100_five, fine_twelve, rtx};
use proptest::prelude::*;

type Counts = Vec<u32>;

/// Everything that fits on exactly one GPU, then on two, and so on, by putting it there.
fn by_force(geometry: &Geometry, gpus: u32) -> BTreeSet<Counts> {
    let mut one = BTreeSet::new();
    geometry.each_layout(|set, _| {
        let profiles = geometry.profiles().iter();
        one.insert(
            profiles
                .map(|p| (set & p.windows).count_ones())
                .collect::<Counts>(),
        );
    });
    (1..gpus).fold(one.clone(), |all, _| {
        let sums = all.iter().flat_map(|a| {
            one.iter()
                .map(move |b| a.iter().zip(b).map(|(a, b)| a + b).collect::<Counts>())
        });
        sums.collect()
    })
}

/// Every vector of counts up to the most that fits of each profile alone, and one more.
fn each_in_box(most: &[u32], mut visit: impl FnMut(&Counts)) {
    let mut counts = vec![0; most.len()];
    loop {
        visit(&counts);
        let Some(at) = counts.iter().zip(most).position(|(n, most)| n <= most) else {
            return;
        };
        counts[at] += 1;
        counts[..at].fill(0);
    }
}

fn agrees_with_force(geometry: &Geometry, gpus: u32) -> usize {
    let packing = Packing::new(geometry);
    let truth = by_force(geometry, gpus);
    let width = geometry.profiles().len();
    let most: Counts = (0..width)
        .map(|p| truth.iter().map(|c| c[p]).max().unwrap())
        .collect();
    each_in_box(&most, |counts| {
        let fits = packing.fits(counts, gpus) == Fit::Yes;
        assert_eq!(fits, truth.contains(counts), "{counts:?} on {gpus}");
    });
    truth.len()
}

#[test]
fn the_closed_form_for_eight_slices_agrees_with_putting_it_there() {
    let geometry = a100();
    assert!(matches!(Packing::new(&geometry).method, Method::Eight(_)));
    assert_eq!(
        [1, 2, 3].map(|gpus| agrees_with_force(&geometry, gpus)),
        [78, 778, 3964]
    );
    agrees_with_force(&a100_five(), 2);
}

#[test]
fn the_sum_of_slices_decides_where_sizes_divide_each_other() {
    for geometry in [a30(), rtx()] {
        assert!(matches!(
            Packing::new(&geometry).method,
            Method::Dividing { .. }
        ));
        agrees_with_force(&geometry, 1);
        agrees_with_force(&geometry, 3);
    }
}

#[test]
fn any_other_geometry_is_searched() {
    let geometry = fine_twelve();
    let packing = Packing::new(&geometry);
    assert!(matches!(packing.method, Method::Search(_)));
    agrees_with_force(&geometry, 1);
    // Two 5g leave two slices, but no aligned pair.
    assert_eq!(packing.fits(&[0, 2, 0, 2], 1), Fit::Yes);
    assert_eq!(packing.fits(&[0, 2, 1, 0], 1), Fit::No);
    assert_eq!(packing.gpus_needed(&[1, 2, 1, 0]), Some(3));
}

#[test]
fn the_search_agrees_with_the_closed_form() {
    for geometry in [a100(), a30()] {
        let layouts = full_layouts(&geometry);
        let packing = Packing::new(&geometry);
        for counts in by_force(&geometry, 2) {
            assert_eq!(
                search(&layouts, &counts),
                packing.gpus_needed(&counts),
                "{counts:?}"
            );
        }
    }
}

#[test]
fn a_search_that_is_too_long_says_so_instead_of_no() {
    let layouts = full_layouts(&fine_twelve());
    assert_eq!(search(&layouts, &[500, 500, 500, 500]), None);
    assert_eq!(
        Packing::new(&fine_twelve()).fits(&[500; 4], 1),
        Fit::Unknown
    );
}

proptest! {
    #[test]
    fn the_fewest_gpus_are_enough_and_one_less_is_not(
        counts in proptest::collection::vec(0u32..2000, 0..=6),
    ) {
        let packing = Packing::new(&a100());
        let gpus = packing.gpus_needed(&counts).unwrap();
        prop_assert_eq!(packing.fits(&counts, gpus), Fit::Yes);
        if let Some(less) = gpus.checked_sub(1) {
            prop_assert_eq!(packing.fits(&counts, less), Fit::No);
        }
    }
}

#[test]
fn no_instance_needs_no_gpu() {
    assert_eq!(Packing::new(&a100()).gpus_needed(&[]), Some(0));
    assert_eq!(Packing::new(&fine_twelve()).gpus_needed(&[]), Some(0));
}
