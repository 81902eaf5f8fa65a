use std::time::Duration;

use super::*;

fn quiet() -> (Quiet, Timing) {
    (Quiet::new(Timing::default()), Timing::default())
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// A pod with one container that asks for one device.
fn pod(uid: &str) -> Expected {
    Expected {
        pod: uid.to_owned(),
        grants: vec![("x".to_owned(), 1)],
    }
}

async fn time_to_list(quiet: &Quiet) -> Duration {
    let start = Instant::now();
    drop(quiet.leave_to_list().await);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn without_an_admission_nothing_waits() {
    assert_eq!(time_to_list(&quiet().0).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn no_list_begins_between_the_preference_and_the_answer() {
    let (quiet, timing) = quiet();
    quiet.begin().await;
    let list = async {
        let waited = time_to_list(&quiet).await;
        assert_eq!(waited, Duration::from_millis(300) + timing.admission_rest);
    };
    let admit = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let in_hand = quiet.allocates("x", &[]);
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(in_hand);
    };
    tokio::join!(list, admit);
}

#[tokio::test(start_paused = true)]
async fn no_list_begins_while_we_answer_however_long_that_takes() {
    let (quiet, timing) = quiet();
    quiet.begin().await;
    let long = 5 * (timing.admission_timeout + timing.list_patience);
    let list = async {
        assert_eq!(time_to_list(&quiet).await, long + timing.admission_rest);
    };
    let answer = async {
        let in_hand = quiet.allocates("x", &[]);
        assert!(matches!(quiet.try_leave_to_list(), Occupied::Waiting));
        tokio::time::sleep(long).await;
        drop(in_hand);
        assert!(matches!(quiet.try_leave_to_list(), Occupied::Busy));
    };
    tokio::join!(list, answer);
    assert!(matches!(quiet.try_leave_to_list(), Occupied::Idle(_)));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_starts_with_the_devices_ends_the_quiet() {
    let (quiet, timing) = quiet();
    let start = Instant::now();
    drop(quiet.allocates("x", &[ids(&["a", "b"])]));
    quiet.starts(&ids(&["c"]));
    assert_eq!(time_to_list(&quiet).await, timing.admission_rest);
    drop(quiet.allocates("x", &[ids(&["a", "b"])]));
    quiet.starts(&ids(&["b"]));
    assert_eq!(time_to_list(&quiet).await, Duration::ZERO);
    assert_eq!(start.elapsed(), timing.admission_rest);
}

#[tokio::test(start_paused = true)]
async fn the_start_of_an_earlier_pod_does_not_end_a_later_ones_quiet() {
    let (quiet, timing) = quiet();
    drop(quiet.allocates("x", &[ids(&["a"])]));
    quiet.begin().await;
    quiet.starts(&ids(&["a"]));
    assert_eq!(time_to_list(&quiet).await, timing.admission_timeout);
}

#[tokio::test(start_paused = true)]
async fn an_admission_begins_when_the_list_under_way_has_ended() {
    let (quiet, _) = quiet();
    let leave = quiet.leave_to_list().await;
    let start = Instant::now();
    let list = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(leave);
    };
    tokio::join!(quiet.begin(), list);
    assert_eq!(start.elapsed(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_holds_an_admission_up_only_so_long() {
    let (quiet, timing) = quiet();
    let _leave = quiet.leave_to_list().await;
    let start = Instant::now();
    quiet.begin().await;
    assert_eq!(start.elapsed(), timing.admission_wait);
}

#[tokio::test(start_paused = true)]
async fn an_admission_that_comes_to_nothing_is_over_after_a_while() {
    let (quiet, timing) = quiet();
    quiet.begin().await;
    assert_eq!(time_to_list(&quiet).await, timing.admission_timeout);
}

#[tokio::test(start_paused = true)]
async fn admissions_without_a_gap_do_not_keep_lists_away_for_ever() {
    let (quiet, timing) = quiet();
    let admitting = std::cell::Cell::new(false);
    let admit = async {
        loop {
            quiet.begin().await;
            admitting.set(true);
            tokio::time::sleep(Duration::from_millis(70)).await;
            drop(quiet.allocates("x", &[ids(&["a"])]));
            admitting.set(false);
            quiet.starts(&ids(&["a"]));
        }
    };
    let list = async {
        tokio::task::yield_now().await;
        let start = Instant::now();
        let _leave = quiet.leave_to_list().await;
        assert!(!admitting.get(), "not in the middle of one");
        start.elapsed()
    };
    tokio::select! {
        waited = list => {
            assert!(waited <= timing.list_patience + Duration::from_millis(70), "{waited:?}");
        }
        () = admit => {}
    }
}

#[tokio::test(start_paused = true)]
async fn no_list_begins_while_a_pod_is_expected() {
    let (quiet, timing) = quiet();
    quiet.expect(&[pod("p")], &[]);
    assert!(matches!(quiet.try_leave_to_list(), Occupied::Busy));
    assert_eq!(time_to_list(&quiet).await, timing.admission_expected);
}

#[tokio::test(start_paused = true)]
async fn an_admission_that_is_expected_finds_no_list_under_way() {
    let (quiet, _) = quiet();
    quiet.expect(&[pod("p")], &[]);
    let admitted = std::cell::Cell::new(false);
    let list = async {
        drop(quiet.leave_to_list().await);
        assert!(admitted.get());
    };
    let admit = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        quiet.begin().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(quiet.allocates("x", &[ids(&["a"])]));
        admitted.set(true);
        quiet.starts(&ids(&["a"]));
    };
    tokio::join!(list, admit);
}

#[tokio::test(start_paused = true)]
async fn the_start_of_one_pod_does_not_end_the_quiet_for_another_that_is_expected() {
    let (quiet, timing) = quiet();
    quiet.expect(&[pod("p"), pod("q")], &[]);
    quiet.begin().await;
    drop(quiet.allocates("x", &[ids(&["a"])]));
    quiet.starts(&ids(&["a"]));
    assert_eq!(time_to_list(&quiet).await, timing.admission_expected);
}

#[tokio::test(start_paused = true)]
async fn word_of_a_pod_that_runs_already_costs_no_time() {
    let (quiet, _) = quiet();
    quiet.begin().await;
    drop(quiet.allocates("x", &[ids(&["a"])]));
    quiet.starts(&ids(&["a"]));
    quiet.expect(&[pod("p")], &[]);
    assert_eq!(time_to_list(&quiet).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_before_it_was_admitted_ends_the_quiet() {
    let (quiet, _) = quiet();
    quiet.expect(&[pod("p")], &[]);
    let list = time_to_list(&quiet);
    let leave = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        quiet.expect(&[], &["p".to_owned()]);
    };
    let (waited, ()) = tokio::join!(list, leave);
    assert_eq!(waited, Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_expected_without_end_do_not_keep_lists_away_for_ever() {
    let (quiet, timing) = quiet();
    let announce = async {
        for number in 0.. {
            quiet.expect(&[pod(&format!("p{number}"))], &[]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        () = announce => {}
        waited = time_to_list(&quiet) => assert_eq!(waited, timing.list_patience),
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_out_of_patience_does_not_hold_an_admission_up() {
    let (quiet, timing) = quiet();
    let announce = async {
        for number in 0.. {
            quiet.expect(&[pod(&format!("p{number}"))], &[]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let both = async {
        let list = async { drop(quiet.leave_to_list().await) };
        let admit = async {
            tokio::time::sleep(timing.list_patience + Duration::from_millis(10)).await;
            let start = Instant::now();
            quiet.begin().await;
            assert_eq!(start.elapsed(), Duration::ZERO);
        };
        tokio::join!(list, admit);
    };
    tokio::select! {
        biased;
        () = announce => {}
        () = both => {}
    }
}
