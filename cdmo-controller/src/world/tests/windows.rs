//! A pod that waited long for room has slices kept free for it.

use super::super::*;
use super::bench::*;
use crate::notes;

const TWO: &str = "nvidia.com/mig-2g.10gb";

const WAIT: Duration = Duration::from_mins(5);

/// A GPU with seven small pods, and a large one that waits for half of it.
fn crowded() -> Bench {
    crowded_on(&["a"])
}

/// The same with several such nodes.
fn crowded_on(nodes: &[&str]) -> Bench {
    let gpus: Vec<_> = nodes.iter().map(|node| (*node, 1)).collect();
    let mut bench = Bench::new(&gpus);
    for number in 0..7 * nodes.len() {
        bench.create(&small(number), &[(ONE, 1)]);
        bench.run();
        bench.bind(&small(number), nodes[number / 7]);
    }
    bench.create("large", &[(THREE, 1)]);
    bench.run();
    bench
}

fn small(number: usize) -> String {
    format!("small-{number}")
}

/// Ends pods until the large one is served; returns how many that took. After each of them another small
/// one comes and takes whatever the scheduler is shown.
fn end_until_served(bench: &mut Bench) -> usize {
    for number in 0..7 {
        bench.finish(&small(number));
        let used = bench
            .pods
            .values()
            .filter(|pod| pod["spec"]["nodeName"].is_string());
        let used = u32::try_from(used.count()).unwrap();
        let name = format!("next-{number}");
        bench.create(&name, &[(ONE, 1)]);
        if bench.shown("a", ONE) > used {
            bench.bind(&name, "a");
        }
        bench.pass(Duration::from_secs(10));
        if bench.shown("a", THREE) == 1 {
            return number + 1;
        }
    }
    panic!("never served: {:#?}", bench.notes);
}

#[test]
fn a_large_pod_starts_although_small_ones_never_cease_to_come() {
    let mut bench = crowded();
    bench.pass(WAIT);
    let ended = end_until_served(&mut bench);
    assert!(ended >= 3, "only {ended} had to end");
    bench.note("large", "SliceReady");
    bench.bind("large", "a");
    bench.run();
    assert!(bench.world.board.planner.windows().is_empty());
}

#[test]
fn before_that_small_pods_go_on_one_after_the_other() {
    let mut bench = crowded();
    bench.pass(WAIT / 2);
    bench.finish(&small(6));
    bench.create("next", &[(ONE, 1)]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.shown("a", ONE), 7);
}

#[test]
fn the_scheduler_is_not_shown_what_is_kept_free() {
    let mut bench = crowded();
    assert_eq!(bench.shown("a", ONE), 7);
    bench.pass(WAIT);
    let hidden = 7 - bench.shown("a", ONE);
    assert!((3..=4).contains(&hidden), "{hidden} are hidden");
    let shown = bench.shown("a", ONE);
    bench.kubelet_writes("a", ONE, 7);
    bench.run();
    assert_eq!(
        bench.shown("a", ONE),
        shown,
        "also after the kubelet wrote its own"
    );
}

#[test]
fn what_is_kept_free_is_said_on_the_pod_and_in_the_report() {
    let mut bench = crowded();
    bench.pass(WAIT + notes::REPEAT);
    let mut told = bench.notes.iter().filter(|note| note.pod.name() == "large");
    let last = &told.next_back().unwrap().text;
    assert!(last.contains("are kept free for it; no room for"), "{last}");
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let report = bench.world.report("controller-0", None, clock);
    let kept = &report.nodes[0].gpus[0].kept_free[0];
    assert_eq!((kept.pod.as_str(), kept.slices.len()), ("ns/large", 4));
}

#[test]
fn what_was_kept_free_is_shown_again_once_the_pod_is_gone() {
    let mut bench = crowded();
    bench.pass(WAIT);
    assert!(bench.shown("a", ONE) < 7);
    let pod = bench.pods.remove("large").unwrap();
    bench.apply(Input::Pod(Box::new(Event::Delete(from(pod)))));
    bench.run();
    assert_eq!(bench.shown("a", ONE), 7);
}

#[test]
fn a_question_what_would_be_does_not_move_what_is_kept_free() {
    let mut bench = crowded();
    bench.pass(WAIT);
    let before = bench.world.board.planner.windows().to_vec();
    assert_eq!(before.len(), 1);
    let clock = Clock {
        now: bench.now,
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let _ = bench.world.what_if(&[], clock);
    assert_eq!(bench.world.board.planner.windows(), before);
}

#[test]
fn a_new_controller_gives_what_was_kept_free_to_who_has_waited_for_it() {
    let mut bench = crowded();
    bench.pass(WAIT);
    let place = bench.world.board.planner.windows()[0].parts.clone();
    // One of those on its slices ends, and small ones wait for that.
    let ended = (0..7).find(|number| {
        bench.finish(&small(*number));
        bench.pass(Duration::from_secs(1));
        let gpus = &bench.hosts["a"].gpus;
        gpus[0].instances.len() < 7
    });
    assert!(ended.is_some());
    for number in 0..7 {
        bench.create(&format!("next-{number}"), &[(ONE, 1)]);
    }
    bench.run();
    let devices = |bench: &Bench| bench.hosts["a"].gpus[0].instances.len();
    let before = devices(&bench);
    bench.restart();
    bench.run();
    assert_eq!(devices(&bench), before, "nothing is made for small ones");
    assert_eq!(bench.world.board.planner.windows()[0].parts, place);
}

#[test]
fn a_window_that_a_pod_does_not_use_goes_to_the_next() {
    let mut bench = crowded();
    bench.create("other", &[(TWO, 1), (ONE, 1)]);
    bench.pass(WAIT);
    let owner = |bench: &Bench| {
        let windows = bench.world.board.planner.windows();
        windows.first().map(|window| window.key.to_string())
    };
    assert_eq!(owner(&bench).as_deref(), Some("ns/large"));
    for number in 0..7 {
        bench.finish(&small(number));
        bench.pass(Duration::from_secs(1));
        if bench.shown("a", THREE) == 1 {
            break;
        }
    }
    assert_eq!(bench.shown("a", THREE), 1);
    bench.pass(Duration::from_secs(40));
    assert_ne!(owner(&bench).as_deref(), Some("ns/large"));
    let waiting = &bench.world.demands[&PodKey::new("ns", "large")].waiting;
    assert!(waiting.has_spent() > Duration::ZERO);
}

/// Where slices are kept free, and for whom.
fn kept(bench: &Bench) -> Vec<(String, String)> {
    let windows = bench.world.board.planner.windows().iter();
    windows
        .map(|window| (window.key.to_string(), window.node.clone()))
        .collect()
}

#[test]
fn a_search_that_was_put_off_is_made_soon_though_nothing_happens() {
    let mut bench = Bench::new(&[("a", 1)]);
    for number in 0..2 {
        let name = format!("half-{number}");
        bench.create(&name, &[(THREE, 1)]);
        bench.run();
        bench.bind(&name, "a");
    }
    // Whoever has a device of their own kind is not waited for, and each of them is a kind of pods of its own.
    for number in 1..20 {
        bench.create(&format!("vain-{number}"), &[(THREE, 1), ("cpu", number)]);
    }
    bench.create("large", &[(SEVEN, 1)]);
    bench.run();
    bench.pass(WAIT + Duration::from_secs(20));
    assert_eq!(kept(&bench), [("ns/large".to_owned(), "a".to_owned())]);
    // Once nothing is left to be searched for, nobody plans every second.
    let next = bench.world.alarms.next_plan().unwrap();
    assert!(next > bench.now + Duration::from_mins(1));
}

#[test]
fn a_pod_gets_a_window_on_a_node_whose_agent_is_away_for_a_moment() {
    let mut bench = crowded();
    bench.pass(WAIT * 59 / 60);
    bench.break_session("a");
    bench.pass(Duration::from_secs(6));
    assert_eq!(kept(&bench), [("ns/large".to_owned(), "a".to_owned())]);
}

#[test]
fn a_gpu_that_rests_for_long_after_failures_gets_no_window_before_it_is_back() {
    for (failures, is_kept) in [(1, true), (8, false)] {
        let mut bench = crowded();
        bench.pass(WAIT * 599 / 600);
        let board = &mut bench.world.board;
        for _ in 0..failures {
            board.rest("GPU-a0", board::LONGEST_REST, "test", bench.now);
        }
        bench.world.touch("a", bench.now);
        bench.pass(WAIT / 500);
        assert_eq!(!kept(&bench).is_empty(), is_kept);
        bench.pass(board::LONGEST_REST);
        bench.world.touch("a", bench.now);
        bench.run();
        assert!(!kept(&bench).is_empty());
    }
}

#[test]
fn a_window_outlives_that_its_agent_is_away_for_some_minutes_but_not_for_good() {
    let mut bench = crowded_on(&["a", "b"]);
    bench.pass(WAIT);
    let first = kept(&bench);
    assert_eq!(first.len(), 1);
    bench.break_session(&first[0].1);
    bench.pass(Duration::from_mins(9));
    assert_eq!(kept(&bench), first);
    bench.pass(Duration::from_mins(2));
    let second = kept(&bench);
    assert_eq!(second.len(), 1);
    assert_ne!(second, first);
    let waiting = &bench.world.demands[&PodKey::new("ns", "large")].waiting;
    assert_eq!(waiting.has_spent(), Duration::ZERO, "it was not its fault");
}

#[test]
fn one_alarm_is_enough_for_all_pods_that_wait_for_a_window() {
    let mut bench = crowded();
    for number in 0..50 {
        bench.pass(Duration::from_secs(1));
        bench.create(&format!("later-{number}"), &[(THREE, 1)]);
        bench.run();
    }
    let key = PodKey::new("ns", "large");
    let first = bench.world.demands[&key]
        .waiting
        .wake_at(Some(WAIT), bench.now);
    assert!(first.is_some() && bench.world.alarms.next_plan() == first);
    // Each waits from when it came itself.
    let asks = |bench: &Bench, name: &str| {
        let (key, world) = (PodKey::new("ns", name), &bench.world);
        let (row, state) = (world.pods.get(&key).unwrap(), &world.demands[&key]);
        windows::ask((&key, row), state, Some(WAIT), (bench.now, 0)).is_some()
    };
    bench.pass(WAIT * 14 / 15);
    assert!(asks(&bench, "later-20") && !asks(&bench, "later-40"));
    let next = bench.world.alarms.next().unwrap();
    assert!(
        next <= bench.now + Duration::from_secs(2),
        "{:?}",
        next - bench.now
    );
}

#[test]
fn a_new_controller_does_not_wait_for_ever_for_an_agent_that_keeps_silent() {
    let mut bench = crowded_on(&["a", "b"]);
    bench.pass(WAIT);
    bench.hosts.get_mut("b").unwrap().manner = Manner::Silent;
    bench.restart();
    bench.pass(GATHER * 29 / 30);
    assert!(kept(&bench).is_empty());
    bench.pass(Duration::from_millis(200));
    assert_eq!(kept(&bench), [("ns/large".to_owned(), "a".to_owned())]);
}
