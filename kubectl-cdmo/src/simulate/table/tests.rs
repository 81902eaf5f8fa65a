use super::*;

fn estimate(mean: f64, standard_error: f64) -> Estimate {
    Estimate {
        mean,
        standard_error,
        samples: 5,
    }
}

fn summary() -> Summary {
    let row = |load, policy, pods: f64, enough| Row {
        load: Some(load),
        policy,
        pods: estimate(pods, 0.05),
        slices: estimate(pods - 2.0, 0.1),
        whole: estimate(pods - 10.0, 1.0),
        used: estimate(load * pods, 0.1),
        active: estimate(15.25, 0.1),
        made: estimate(0.2, 0.01),
        wait: estimate(0.0125, 0.001),
        late: estimate(12.6, 2.0),
        left: estimate(3.0, 1.0),
        enough,
        ..Row::default()
    };
    Summary {
        heading:
            "16x A100-80GB: mix uniform, exponential lifetimes, pods that find no place are lost; \
                  5 runs each, seed 1."
                .to_owned(),
        rows: vec![
            row(0.7, "ours", 99.5, Enough::Gpus(14)),
            row(0.7, "HAMi-2855", 98.0, Enough::NotFound),
            row(1.0, "ours", 90.0, Enough::Unknown),
        ],
        queue: false,
        accept: Some(99.0),
        seconds: false,
    }
}

#[test]
fn a_file_gets_all_columns() {
    insta::assert_snapshot!(text(&summary(), None));
}

#[test]
fn a_narrow_terminal_gets_the_columns_that_matter() {
    let narrow = text(&summary(), Some(60));
    assert!(narrow.lines().all(|line| {
        anstream::adapter::strip_str(line)
            .to_string()
            .chars()
            .count()
            <= 60
    }));
    insta::assert_snapshot!(narrow);
}

#[test]
fn waits_have_their_own_columns() {
    let mut waits = summary();
    (waits.queue, waits.accept) = (true, None);
    insta::assert_snapshot!(text(&waits, Some(80)));
}

#[test]
fn one_run_says_nothing_of_its_error() {
    let single = Estimate {
        mean: 98.5,
        standard_error: 0.0,
        samples: 1,
    };
    assert_eq!(
        (bar(single), bar(Estimate::default())),
        ("98.50".into(), "-".into())
    );
}
