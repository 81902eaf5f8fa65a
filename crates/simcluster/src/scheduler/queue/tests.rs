use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const REFUSED: Rejections = Rejections {
    resources: true,
    selector: false,
    taints: false,
};

fn object(uid: &str) -> Value {
    json!({
        "metadata": { "uid": uid, "name": uid, "namespace": "default" },
        "spec": { "containers": [] },
    })
}

fn info(object: Value) -> PodInfo {
    PodInfo::new(Arc::new(object), 0)
}

fn pod(uid: &str) -> PodInfo {
    info(object(uid))
}

fn annotated(uid: &str) -> PodInfo {
    let mut object = object(uid);
    object["metadata"]["annotations"] = json!({ "plan": "made" });
    info(object)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A queue whose one pod was tried once, at 0 s, in vain.
fn refused(behaviour: Behaviour) -> Queue {
    let mut queue = Queue::new(behaviour);
    queue.upsert(ms(0), pod("p"));
    queue.pop(ms(0)).unwrap();
    queue.unschedulable(ms(0), "p", REFUSED);
    queue
}

fn pops(queue: &mut Queue, now: Duration) -> bool {
    queue.pop(now).is_some()
}

#[test]
fn an_unschedulable_pod_waits_for_an_event() {
    for behaviour in [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33] {
        let mut queue = refused(behaviour);
        assert!(!pops(&mut queue, ms(20_000)), "{behaviour:?}");
    }
}

#[test]
fn an_event_during_back_off_leads_to_a_try_after_it_but_at_once_on_1_33() {
    for (behaviour, at_once) in [
        (Behaviour::V1_20, false),
        (Behaviour::V1_28, false),
        (Behaviour::V1_33, true),
    ] {
        let mut queue = refused(behaviour);
        queue.wake_all(ms(110), |_, _| true);
        assert_eq!(queue.place("p"), Some(Place::Backoff));
        assert_eq!(pops(&mut queue, ms(110)), at_once, "{behaviour:?}");
        if !at_once {
            assert!(!pops(&mut queue, ms(999)));
            assert_eq!(queue.deadline(), Some(ms(1_000)));
            assert!(pops(&mut queue, ms(1_000)));
        }
    }
}

#[test]
fn the_end_of_back_off_is_seen_at_the_next_full_second() {
    let mut queue = Queue::new(Behaviour::V1_28);
    queue.upsert(ms(300), pod("p"));
    queue.pop(ms(300)).unwrap();
    queue.unschedulable(ms(300), "p", REFUSED);
    queue.wake_all(ms(400), |_, _| true);
    assert!(!pops(&mut queue, ms(1_999)));
    assert!(pops(&mut queue, ms(2_000)));
}

#[test]
fn an_annotation_ends_back_off_on_1_20_and_only_there() {
    for (behaviour, ends) in [(Behaviour::V1_20, true), (Behaviour::V1_28, false)] {
        let mut queue = refused(behaviour);
        queue.wake_all(ms(110), |_, _| true);
        queue.upsert(ms(120), annotated("p"));
        assert_eq!(pops(&mut queue, ms(120)), ends, "{behaviour:?}");
    }
}

#[test]
fn an_annotation_alone_wakes_an_unschedulable_pod_before_queueing_hints_only() {
    for (behaviour, place) in [
        (Behaviour::V1_20, Place::Active),
        (Behaviour::V1_28, Place::Backoff),
        (Behaviour::V1_33, Place::Unschedulable),
    ] {
        let mut queue = refused(behaviour);
        queue.upsert(ms(100), annotated("p"));
        assert_eq!(queue.place("p"), Some(place), "{behaviour:?}");
    }
}

#[test]
fn a_status_update_wakes_nobody() {
    for behaviour in [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33] {
        let mut queue = refused(behaviour);
        let mut object = object("p");
        object["status"] = json!({ "phase": "Pending" });
        queue.upsert(ms(100), info(object));
        assert_eq!(
            queue.place("p"),
            Some(Place::Unschedulable),
            "{behaviour:?}"
        );
    }
}

#[test]
fn back_off_doubles_from_one_second_to_ten() {
    let mut queue = Queue::new(Behaviour::V1_28);
    queue.upsert(ms(0), pod("p"));
    let mut now = ms(0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        queue.pop(now).unwrap();
        queue.unschedulable(now, "p", REFUSED);
        queue.wake_all(now, |_, _| true);
        let end = queue.deadline().unwrap();
        waits.push(end.abs_diff(now).as_secs());
        now = end;
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn a_pod_that_could_not_be_bound_waits_out_its_back_off_even_on_1_33() {
    let mut queue = Queue::new(Behaviour::V1_33);
    queue.upsert(ms(0), pod("p"));
    queue.pop(ms(0)).unwrap();
    queue.failed(ms(0), "p");
    assert!(!pops(&mut queue, ms(500)));
    assert!(pops(&mut queue, ms(1_000)));
}

#[test]
fn a_gated_pod_is_not_tried_until_the_gate_is_gone() {
    let mut gated = object("p");
    gated["spec"]["schedulingGates"] = json!([{ "name": "g" }]);
    let mut queue = Queue::new(Behaviour::V1_28);
    queue.upsert(ms(0), info(gated.clone()));
    assert!(!pops(&mut queue, ms(60_000)));
    queue.upsert(ms(60_000), pod("p"));
    assert!(pops(&mut queue, ms(60_000)));

    let mut old = Queue::new(Behaviour::V1_20);
    old.upsert(ms(0), info(gated));
    assert!(pops(&mut old, ms(0)));
}

#[test]
fn higher_priority_goes_first_and_age_decides_among_equals() {
    let with = |uid: &str, priority: i64| {
        let mut object = object(uid);
        object["spec"]["priority"] = priority.into();
        info(object)
    };
    let mut queue = Queue::new(Behaviour::V1_33);
    queue.upsert(ms(0), with("low", 0));
    queue.upsert(ms(1), with("old", 5));
    queue.upsert(ms(2), with("new", 5));
    queue.upsert(ms(3), with("low", 9));
    let order: Vec<String> =
        std::iter::from_fn(|| queue.pop(ms(5)).map(|pod| pod.uid.clone())).collect();
    assert_eq!(order, ["low", "old", "new"]);
}

#[test]
fn a_pod_that_was_unschedulable_for_long_is_tried_without_a_reason() {
    let mut queue = refused(Behaviour::V1_20);
    assert_eq!(queue.deadline(), Some(ms(60_000)));
    assert!(pops(&mut queue, ms(60_000)));
    let mut queue = refused(Behaviour::V1_33);
    assert!(!pops(&mut queue, ms(299_000)));
    assert!(pops(&mut queue, ms(300_000)));
}

#[test]
fn an_event_that_does_not_concern_the_pod_leaves_it_waiting() {
    let mut queue = refused(Behaviour::V1_33);
    queue.wake_all(ms(100), |_, rejections| rejections.selector);
    assert_eq!(queue.place("p"), Some(Place::Unschedulable));
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(u8, bool),
    Pop,
    Refuse(u8),
    Fail(u8),
    Wake,
    Remove(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_u8, any::<bool>()).prop_map(|(pod, annotated)| Step::Upsert(pod, annotated)),
        Just(Step::Pop),
        (0..5_u8).prop_map(Step::Refuse),
        (0..5_u8).prop_map(Step::Fail),
        Just(Step::Wake),
        (0..5_u8).prop_map(Step::Remove),
        (0..20_000_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens, a pod is in exactly the index that its place says, and a last event and
    /// enough time bring every pod that is not in flight to a try.
    #[test]
    fn no_pod_is_ever_lost(steps in proptest::collection::vec(step(), 1..60), which in 0..3_u8) {
        let behaviour = [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33][usize::from(which)];
        let mut queue = Queue::new(behaviour);
        let mut now = ms(0);
        for step in steps {
            match step {
                Step::Upsert(n, false) => queue.upsert(now, pod(&n.to_string())),
                Step::Upsert(n, true) => queue.upsert(now, annotated(&n.to_string())),
                Step::Pop => drop(queue.pop(now)),
                Step::Refuse(n) if queue.place(&n.to_string()) == Some(Place::InFlight) => {
                    queue.unschedulable(now, &n.to_string(), REFUSED);
                }
                Step::Fail(n) if queue.place(&n.to_string()) == Some(Place::InFlight) => {
                    queue.failed(now, &n.to_string());
                }
                Step::Wake => queue.wake_all(now, |_, _| true),
                Step::Remove(n) => queue.remove(&n.to_string()),
                Step::Pass(millis) => now += ms(millis),
                Step::Refuse(_) | Step::Fail(_) => {}
            }
            let at = |place| queue.entries.values().filter(|e| e.place == place).count();
            prop_assert_eq!(queue.active.len(), at(Place::Active));
            prop_assert_eq!(queue.backoff.len(), at(Place::Backoff));
            prop_assert_eq!(queue.unschedulable.len(), at(Place::Unschedulable));
        }
        queue.wake_all(now, |_, _| true);
        let waiting =
            queue.entries.values().filter(|entry| entry.place != Place::InFlight).count();
        let popped = std::iter::from_fn(|| queue.pop(now + ms(30_000))).count();
        prop_assert_eq!(popped, waiting);
    }
}
