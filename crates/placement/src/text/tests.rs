use super::*;
use crate::{
    geometry::tests::{a30, a100, a100_five, rtx},
    policy::{best_fit::best_fit, fewest_blocked},
};
use proptest::prelude::*;

fn origin() -> Origin {
    Origin {
        made: "for a test".to_owned(),
        seed: Some(7),
    }
}

#[test]
fn a_table_of_scores_reads_back_as_it_was_written() {
    for geometry in [a100(), a30(), rtx()] {
        for table in [best_fit(&geometry), fewest_blocked(&geometry)] {
            let text = table.to_text(&geometry, &origin()).unwrap();
            assert_eq!(
                ScoreTable::from_text(&text, &geometry),
                Ok((table, origin()))
            );
        }
    }
}

proptest! {
    #[test]
    fn a_table_of_values_reads_back_as_it_was_written(
        values in proptest::collection::vec(-1_000_000i32..1_000_000, 16),
    ) {
        let geometry = a30();
        let table = ScoreTable::from_values("values", &geometry, &values).unwrap();
        let text = table.to_text(&geometry, &origin()).unwrap();
        prop_assert_eq!(ScoreTable::from_text(&text, &geometry), Ok((table, origin())));
    }

    #[test]
    fn a_damaged_text_is_refused_or_read_but_never_breaks_anything(
        at in 0usize..400, with in "[ -z\n]{0,3}",
    ) {
        let geometry = a30();
        let mut text = best_fit(&geometry).to_text(&geometry, &origin()).unwrap();
        let at = at.min(text.len());
        text.replace_range(at..(at + 1).min(text.len()), &with);
        let _ = ScoreTable::from_text(&text, &geometry);
    }
}

#[test]
fn a_table_for_other_gpus_is_refused_with_the_line_that_differs() {
    let geometry = a100();
    let text = best_fit(&geometry).to_text(&geometry, &origin()).unwrap();
    let error = ScoreTable::from_text(&text, &a100_five()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read the placement table, line 11: the table is for other GPUs: this one has \
         \"profile 1g size 1 starts 0 1 2 3 4 5 6\""
    );
}

#[test]
fn every_kind_of_damage_is_named_with_its_line() {
    let geometry = a30();
    let text = best_fit(&geometry).to_text(&geometry, &origin()).unwrap();
    let read = |text: &str| {
        ScoreTable::from_text(text, &geometry)
            .unwrap_err()
            .to_string()
    };
    let swap = |from: &str, to: &str| read(&text.replacen(from, to, 1));
    each_says(&[
        (read(""), "line 1: expected \"another line\""),
        (
            swap("table 1", "table 2"),
            "line 1: expected \"cdmo placement table 1\"",
        ),
        (
            swap("seed 7", "seed x"),
            "line 4: expected a whole number from 0",
        ),
        (
            swap("unit ", "unit -"),
            "line 5: expected a whole number from 1",
        ),
        (
            swap("slices 4", "slices 8"),
            "line 6: the table is for other GPUs",
        ),
        (swap("scores", "marks"), "line 10: expected \"values\""),
        (swap("\n1111 -", "\n1111 5"), "line 26: expected 7 numbers"),
        (
            swap("\n0000 0", "\n0000 x"),
            "line 11: expected a whole number from -2147483647",
        ),
        (swap("\n1000", "\n1100"), "line 12: expected \"1000 ...\""),
        (
            read(&format!("{text}0\n")),
            "line 27: expected the end of the table",
        ),
    ]);
}

fn each_says(cases: &[(String, &str)]) {
    for (error, wanted) in cases {
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
    }
}
