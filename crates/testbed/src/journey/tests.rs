use serde_json::json;

use super::*;

fn pod(uid: &str, phase: &str) -> Value {
    json!({
        "metadata": { "namespace": "team", "name": "train", "uid": uid },
        "spec": { "containers": [
            { "name": "a", "resources": { "limits": { "nvidia.com/mig-3g.20gb": "2", "cpu": "1" } } },
        ] },
        "status": { "phase": phase },
    })
}

fn event(reason: &str) -> Value {
    json!({
        "involvedObject": { "kind": "Pod", "namespace": "team", "name": "train", "uid": "1" },
        "reportingComponent": "cdmo-controller",
        "reason": reason,
        "message": "because",
    })
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[test]
fn a_pod_goes_through_its_stages_and_each_time_is_kept() {
    let mut journeys = Journeys::default();
    assert!(
        !journeys.event_seen(&event("SlicePlanned"), ms(1)),
        "no such pod yet"
    );
    journeys.pod_seen(&pod("1", "Pending"), ms(10));
    assert!(journeys.event_seen(&event("SlicePlanned"), ms(12)));
    assert!(journeys.event_seen(&event("SliceReady"), ms(20)));
    let key = journeys.all()[0].pod.clone();
    assert!(journeys.granted(&key, "a", Vec::new(), ms(25)));
    assert!(journeys.pod_seen(&pod("1", "Running"), ms(30)));
    assert!(
        !journeys.pod_seen(&pod("1", "Running"), ms(40)),
        "nothing new"
    );
    let journey = journeys.get(&key).unwrap();
    assert_eq!(journey.stage(), Stage::Running);
    assert_eq!(journey.took(Stage::Allocated), Some(ms(15)));
    assert_eq!(journey.took(Stage::Running), Some(ms(20)));
    assert!(journey.has_run() && journey.is_settled());
    assert_eq!(
        journey.asks(),
        BTreeMap::from([("nvidia.com/mig-3g.20gb", 2)])
    );
}

#[test]
fn another_pod_of_the_same_name_begins_its_own_way() {
    let mut journeys = Journeys::default();
    journeys.pod_seen(&pod("1", "Running"), ms(1));
    journeys.pod_gone(&pod("1", "Running"), ms(2));
    journeys.pod_seen(&pod("2", "Pending"), ms(3));
    assert_eq!(journeys.all().len(), 2);
    assert_eq!(journeys.all()[0].ended, Some(ms(2)));
    assert_eq!(journeys.all()[1].stage(), Stage::Pending);
}

#[test]
fn a_pod_that_no_node_can_serve_is_settled_and_says_why() {
    let mut journeys = Journeys::default();
    journeys.pod_seen(&pod("1", "Pending"), ms(1));
    journeys.event_seen(&event("NoRoom"), ms(2));
    assert!(!journeys.all()[0].is_settled(), "room may come");
    journeys.event_seen(&event("NoSuchProfile"), ms(3));
    assert!(journeys.all()[0].is_settled());
    assert_eq!(
        journeys.all()[0].reason,
        Some(("NoSuchProfile".into(), "because".into()))
    );
}

#[test]
fn events_of_others_are_not_ours() {
    let mut journeys = Journeys::default();
    journeys.pod_seen(&pod("1", "Pending"), ms(1));
    let mut foreign = event("SlicePlanned");
    foreign["reportingComponent"] = "default-scheduler".into();
    assert!(!journeys.event_seen(&foreign, ms(2)));
    assert_eq!(journeys.all()[0].stage(), Stage::Pending);
}

#[test]
fn an_init_container_counts_only_where_it_asks_for_more() {
    let object = json!({
        "metadata": { "namespace": "team", "name": "train", "uid": "1" },
        "spec": {
            "initContainers": [
                { "name": "i", "resources": { "limits": { "nvidia.com/mig-1g.5gb": 3 } } },
                { "name": "s", "restartPolicy": "Always",
                  "resources": { "limits": { "nvidia.com/mig-1g.5gb": 1 } } },
            ],
            "containers": [
                { "name": "c", "resources": { "limits": { "nvidia.com/mig-1g.5gb": 1 } } },
            ],
        },
    });
    let mut journeys = Journeys::default();
    journeys.pod_seen(&object, ms(0));
    assert_eq!(
        journeys.all()[0].asks(),
        BTreeMap::from([("nvidia.com/mig-1g.5gb", 3)])
    );
}
