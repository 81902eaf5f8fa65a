//! Choosing the placement table by the pods that came and went.

use serde_json::json;

use super::super::*;
use super::bench::*;
use crate::arrivals::tests::Numbers;

/// A mix on which the trained table is known to be bad, in percent: 4g and 1g.
const BAD: [u64; 6] = [0, 30, 0, 0, 0, 70];
const EVEN: [u64; 6] = [1, 1, 1, 1, 1, 1];

/// So many pods come, run on the node for up to 50 seconds, and go.
fn flow(bench: &mut Bench, percent: [u64; 6], pods: u64) {
    let mut numbers = Numbers::new(1);
    let mut running: Vec<(Instant, Box<PodLite>)> = Vec::new();
    for number in 0..pods {
        bench.now += Duration::from_secs(1);
        let now = bench.now;
        let (over, rest) = running.into_iter().partition(|(end, _)| *end <= now);
        running = rest;
        let over: Vec<(Instant, Box<PodLite>)> = over;
        for (_, pod) in over {
            bench.apply(Input::Pod(Box::new(Event::Delete(*pod))));
        }
        let pod = json!({
            "metadata": {"namespace": "ns", "name": format!("p{number}"), "uid": format!("u{number}"),
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "a", "containers": [{"name": "main", "resources": {
                "limits": {numbers.resource(percent): "1"}}}]},
            "status": {"phase": "Running"},
        });
        let pod: PodLite = serde_json::from_value(pod).unwrap();
        let end = now + Duration::from_millis(numbers.below(50_000));
        bench.apply(Input::Pod(Box::new(Event::Apply(pod.clone()))));
        running.push((end, Box::new(pod)));
        if number % 16 == 0 {
            bench.run();
        }
    }
    for (_, pod) in running {
        bench.apply(Input::Pod(Box::new(Event::Delete(*pod))));
    }
    bench.pass(Duration::from_secs(2));
}

fn table(bench: &Bench) -> String {
    let arrivals = bench.world.arrivals.as_ref().unwrap();
    let [(kind, table)] = arrivals.tables().collect::<Vec<_>>()[..] else {
        panic!("one kind of GPU");
    };
    assert_eq!(kind, "7g.40gb");
    table.to_owned()
}

/// Where pods that come one after the other are placed.
fn places(bench: &mut Bench) -> Vec<String> {
    bench.take_log();
    let small = [
        "2g.10gb", "1g.5gb", "2g.10gb", "1g.5gb", "1g.10gb", "2g.10gb", "1g.5gb",
    ];
    for (number, profile) in small.into_iter().enumerate() {
        let name = format!("last{number}");
        bench.create(&name, &[(&format!("nvidia.com/mig-{profile}"), 1)]);
        bench.run();
        bench.bind(&name, "a");
        bench.run();
    }
    let mut log = bench.take_log();
    log.retain(|line| line.starts_with("plan"));
    log
}

#[test]
fn a_mix_on_which_the_trained_table_is_bad_is_placed_by_another() {
    let mut bench = Bench::replaying(&[("a", 8)], Some(512));
    assert_eq!(table(&bench), "ours");
    let mut as_ever = Bench::replaying(&[("a", 8)], None);
    for bench in [&mut bench, &mut as_ever] {
        flow(bench, BAD, 12_000);
    }
    assert_ne!(table(&bench), "ours");
    let (now, before) = (places(&mut bench), places(&mut as_ever));
    assert_eq!(now.len(), before.len());
    assert_ne!(now, before, "placed by {}", table(&bench));
}

#[test]
fn a_mix_that_the_table_was_trained_on_is_placed_by_it_for_ever() {
    let mut bench = Bench::replaying(&[("a", 8)], Some(512));
    flow(&mut bench, EVEN, 12_000);
    assert_eq!(table(&bench), "ours");
}

#[test]
fn pods_that_are_there_when_the_controller_starts_count_as_nothing() {
    let mut bench = Bench::unheard(&[("a", 8)]);
    let mut arrivals = Arrivals::with_window(256);
    let model = mig::GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
    // Agents are in fact heard only later; the pods must not count for another reason.
    arrivals.node("b", [&std::sync::Arc::new(model)].into_iter());
    bench.world.arrivals = Some(arrivals);
    bench.list_agents();
    assert_eq!(table(&bench), "ours");
    for number in 0..600 {
        bench.create(&format!("p{number}"), &[(ONE, 1)]);
    }
    bench.list_nodes();
    bench.list_pods();
    assert!(!bench.world.arrivals.as_ref().unwrap().is_due());
    for number in 600..856 {
        bench.create(&format!("p{number}"), &[(ONE, 1)]);
        bench.bind_only(&format!("p{number}"), "a");
    }
    assert!(bench.world.arrivals.as_ref().unwrap().is_due());
}

#[test]
fn work_waits_while_a_planning_pass_is_due_and_goes_on_afterwards() {
    let mut bench = Bench::replaying(&[("a", 8)], Some(256));
    for number in 0..256 {
        bench.create(&format!("p{number}"), &[(ONE, 1)]);
        bench.bind_only(&format!("p{number}"), "a");
    }
    assert!(bench.world.arrivals.as_ref().unwrap().is_due());
    bench.world.plan_at = Some(bench.now + Duration::from_secs(9));
    let due = bench.now + Duration::from_secs(1);
    bench.world.decide(due);
    assert!(bench.world.arrivals.as_ref().unwrap().is_due());
    assert!(bench.world.replay_set, "it is tried again");
    bench.pass(Duration::from_secs(12));
    assert!(!bench.world.arrivals.as_ref().unwrap().is_due());
    assert!(!bench.world.replay_set);
}
