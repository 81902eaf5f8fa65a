use proptest::prelude::*;

use super::*;
use crate::tables::tests::PRODUCTS;
use crate::{GpuModel, Placement, Profile, ProfileName};

fn served_by(product: &str) -> Vec<String> {
    let model = GpuModel::known(product).unwrap();
    Class::ALL
        .iter()
        .map(|class| class.profile(&model).unwrap().1.name.to_string())
        .collect()
}

/// A model of nothing but names and sizes.
fn model(slices: u8, profiles: &[(&str, u8)]) -> GpuModel {
    GpuModel {
        name: "made up".into(),
        slices,
        profiles: profiles
            .iter()
            .map(|(name, size)| Profile {
                name: name.parse().unwrap(),
                id: 0,
                placements: vec![Placement::new(0, *size)],
                max_instances: 1,
                multiprocessors: 1,
                memory_mib: 1,
            })
            .collect(),
    }
}

#[test]
fn every_model_serves_every_class_as_the_table_says() {
    for (product, wanted) in [
        (PRODUCTS[0], ["1g.6gb", "1g.6gb", "2g.12gb", "4g.24gb"]),
        (PRODUCTS[1], ["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"]),
        (PRODUCTS[2], ["1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"]),
        (PRODUCTS[3], ["1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"]),
    ] {
        assert_eq!(served_by(product), wanted, "{product}");
    }
}

#[test]
fn special_engines_are_left_to_those_who_ask_for_them() {
    // As on RTX PRO 6000: four slices of compute on a row of twelve.
    let board = model(
        12,
        &[
            ("1g.24gb+me", 3),
            ("1g.24gb-me", 3),
            ("2g.48gb+gfx", 6),
            ("4g.96gb+gfx", 12),
            ("1g.24gb", 3),
            ("2g.48gb", 6),
            ("4g.96gb", 12),
        ],
    );
    let names: Vec<_> = Class::ALL
        .iter()
        .map(|class| class.profile(&board).unwrap().1.name.to_string())
        .collect();
    assert_eq!(names, ["1g.24gb", "1g.24gb", "2g.48gb", "4g.96gb"]);
    assert_eq!(Class::Half.profile(&model(4, &[("2g.12gb+me", 2)])), None);
}

#[test]
fn a_board_of_two_slices_serves_every_class_too() {
    let board = model(2, &[("1g.16gb", 1), ("2g.32gb", 2)]);
    let slices: Vec<_> = Class::ALL
        .iter()
        .map(|class| class.profile(&board).unwrap().1.name.compute_slices())
        .collect();
    assert_eq!(slices, [1, 1, 1, 2]);
}

#[test]
fn where_a_size_is_missing_the_next_larger_one_serves() {
    let board = model(8, &[("1g.5gb", 1), ("4g.20gb", 4), ("7g.40gb", 8)]);
    let (_, profile) = Class::Quarter.profile(&board).unwrap();
    assert_eq!(profile.name.to_string(), "4g.20gb");
}

#[test]
fn shares_round_up_to_the_next_class() {
    for (share, class) in [
        ("0.000000001", Class::Eighth),
        ("0.0625", Class::Eighth),
        ("0.125", Class::Eighth),
        ("0.125000001", Class::Quarter),
        ("0.25", Class::Quarter),
        ("0.375", Class::Half),
        ("0.5", Class::Half),
        ("0.625", Class::Whole),
        ("0.875", Class::Whole),
        ("1", Class::Whole),
        ("1.000", Class::Whole),
    ] {
        let parsed: Share = share.parse().unwrap();
        assert_eq!(parsed.class(), Ok((class, 1)), "{share}");
    }
}

#[test]
fn above_one_only_whole_numbers_are_served_and_no_more_than_a_machine_has() {
    for (share, outcome) in [
        ("2", Ok((Class::Whole, 2))),
        ("32", Ok((Class::Whole, 32))),
        ("0", Err(Unservable::Nothing)),
        ("0.000", Err(Unservable::Nothing)),
        ("1.000000001", Err(Unservable::NotWhole)),
        ("1.3", Err(Unservable::NotWhole)),
        ("33", Err(Unservable::TooMany)),
        ("32.5", Err(Unservable::TooMany)),
        ("18000000000", Err(Unservable::TooMany)),
    ] {
        let parsed: Share = share.parse().unwrap();
        assert_eq!(parsed.class(), outcome, "{share}");
    }
}

#[test]
fn what_is_no_decimal_is_refused() {
    for text in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "0.5 ",
        "0.0000000001",
        "NaN",
        "99999999999999999999",
        "19000000000",
        "1.2.3",
    ] {
        assert_eq!(text.parse::<Share>(), Err(NoDecimal), "{text}");
    }
}

#[test]
fn only_the_classes_have_resource_names() {
    for other in [
        "cdmo.clear.ml/fraction-0.5",
        "cdmo.clear.ml/fraction-2.000",
        "cdmo.clear.ml/fraction-",
        "clear.ml/fraction-0.500",
        "",
    ] {
        assert_eq!(Class::from_resource(other), None, "{other}");
    }
}

fn shares(names: &[&str]) -> Vec<String> {
    let names: Vec<ProfileName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut sums: Vec<Share> = meanings(&names)
        .into_iter()
        .map(|meaning| names.iter().filter_map(|name| meaning.share(*name)).sum())
        .collect();
    sums.sort_unstable();
    sums.dedup();
    sums.iter().map(Share::to_string).collect()
}

#[test]
fn a_name_is_read_as_that_of_every_board_that_has_it() {
    assert_eq!(shares(&["3g.20gb"]), ["0.5"]);
    assert_eq!(shares(&["4g.20gb"]), ["0.5"]);
    assert_eq!(shares(&["7g.40gb"]), ["1"]);
    assert_eq!(shares(&["2g.10gb"]), ["0.25"]);
    assert_eq!(shares(&["1g.5gb"]), ["0.125"]);
    assert_eq!(shares(&["1g.5gb+me"]), ["0.125"]);
    assert_eq!(shares(&["1g.6gb"]), ["0.25"]);
    assert_eq!(shares(&["4g.24gb"]), ["1"]);
    // An eighth of 80 GB, or a quarter of 40 GB.
    assert_eq!(shares(&["1g.10gb"]), ["0.125", "0.25"]);
    // Together with an instance of 40 GB, only one of them is left.
    assert_eq!(shares(&["1g.10gb", "7g.40gb"]), ["1.25"]);
}

#[test]
fn names_of_unknown_boards_are_read_by_their_compute_slices() {
    assert_eq!(shares(&["3g.999gb"]), ["0.5"]);
    assert_eq!(shares(&["1g.999gb"]), ["0.125", "0.25", "0.5"]);
    assert_eq!(shares(&["2g.999gb", "3g.999gb"]), ["0.75"]);
    assert!(shares(&["5g.999gb"]).is_empty());
}

#[test]
fn the_names_of_every_table_mean_what_the_class_says() {
    for product in PRODUCTS {
        let model = GpuModel::known(product).unwrap();
        for class in Class::ALL {
            // An eighth of a board with four slices is a quarter.
            let (_, profile) = class.profile(&model).unwrap();
            let wanted = if model.slices == 4 {
                class.max(Class::Quarter)
            } else {
                class
            };
            assert!(
                meanings([&profile.name])
                    .iter()
                    .any(|meaning| meaning.share(profile.name) == Some(wanted.share())),
                "{product} {class}"
            );
        }
    }
}

proptest! {
    #[test]
    fn every_share_is_read_back_as_printed(nanos in any::<u64>()) {
        let share = Share::from_nanos(nanos);
        prop_assert_eq!(share.to_string().parse(), Ok(share));
    }

    #[test]
    fn a_class_is_never_less_than_the_share_and_no_smaller_one_would_do(nanos in 1..=1_000_000_000_u64) {
        let share = Share::from_nanos(nanos);
        let (class, count) = share.class().unwrap();
        prop_assert_eq!(count, 1);
        prop_assert!(class.share() >= share);
        prop_assert!(Class::ALL.iter().all(|smaller| *smaller >= class || smaller.share() < share));
    }

    #[test]
    fn what_is_served_is_never_less_than_what_was_asked(nanos in any::<u64>()) {
        let share = Share::from_nanos(nanos);
        if let Ok((class, count)) = share.class() {
            prop_assert!(class.share().times(count.into()) >= share);
            prop_assert!((1..=MAX_GPUS).contains(&count));
        }
    }

    #[test]
    fn larger_classes_have_no_fewer_slices(full in 1..=8_u8) {
        let slices = Class::ALL.map(|class| class.compute_slices(full));
        prop_assert!(slices.is_sorted());
        prop_assert!(slices[0] >= 1);
        prop_assert_eq!(slices[3], full);
    }

    #[test]
    fn nothing_makes_the_parsers_panic(text in "\\PC*", digits in "[0-9.]{0,40}") {
        let _ = text.parse::<Share>();
        let _ = digits.parse::<Share>();
        let _ = Class::from_resource(&text);
        let _ = Class::from_resource(&format!("{FRACTION_PREFIX}{digits}"));
    }

    #[test]
    fn every_class_is_read_back_from_its_resource(index in 0..4_usize) {
        let class = Class::ALL[index];
        prop_assert_eq!(Class::from_resource(&class.resource_name()), Some(class));
        prop_assert_eq!(class.to_string().parse(), Ok(class.share()));
    }
}
