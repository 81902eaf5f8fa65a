use serde_json::json;

use super::*;
use crate::journey::Stage;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn grant(id: &str, profile: &str, start: u8, size: u8) -> Grant {
    Grant {
        container: "main".into(),
        resource: "nvidia.com/mig-3g.20gb".into(),
        device_id: id.into(),
        device: Some(Device {
            gpu_uuid: "GPU-0".into(),
            gpu_index: 0,
            profile: profile.into(),
            start,
            size,
            serial: 1,
            resources: vec![format!("nvidia.com/mig-{profile}")],
        }),
    }
}

fn ran(journeys: &mut Journeys, name: &str, count: u32, grants: Vec<Grant>, at: u64) {
    let pod = json!({
        "metadata": { "namespace": "team", "name": name, "uid": name },
        "spec": { "nodeName": "a", "containers": [
            { "name": "main", "resources": { "limits": { "nvidia.com/mig-3g.20gb": count } } },
        ] },
        "status": { "phase": "Running" },
    });
    journeys.pod_seen(&pod, ms(at));
    let key = PodKey {
        namespace: "team".into(),
        name: name.into(),
    };
    journeys.granted(&key, "a", grants, ms(at));
}

fn messages(journeys: &Journeys) -> Vec<String> {
    faults(journeys)
        .into_iter()
        .map(|fault| fault.to_string())
        .collect()
}

#[test]
fn pods_with_exactly_what_they_asked_for_have_no_fault() {
    let mut journeys = Journeys::default();
    ran(
        &mut journeys,
        "one",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        1,
    );
    ran(
        &mut journeys,
        "two",
        1,
        vec![grant("MIG-2", "3g.20gb", 4, 4)],
        2,
    );
    assert_eq!(messages(&journeys), [""; 0]);
}

#[test]
fn a_pod_that_never_ran_is_a_fault_with_its_reason() {
    let mut journeys = Journeys::default();
    let pod = json!({ "metadata": { "namespace": "team", "name": "one" }, "spec": {} });
    journeys.rejected(&pod, "must be an integer", ms(1));
    assert_eq!(
        messages(&journeys),
        ["team/one: failed (Rejected: must be an integer)"]
    );
}

#[test]
fn too_few_devices_and_devices_of_another_profile_are_faults() {
    let mut journeys = Journeys::default();
    ran(
        &mut journeys,
        "one",
        2,
        vec![grant("MIG-1", "4g.20gb", 0, 4)],
        1,
    );
    let messages = messages(&journeys);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("asked for 2") && messages[0].contains("granted 1"));
    assert!(messages[1].contains("the driver says that it is 4g.20gb"));
}

#[test]
fn a_device_that_the_driver_does_not_know_is_a_fault() {
    let mut journeys = Journeys::default();
    let unknown = Grant {
        device: None,
        ..grant("MIG-9", "", 0, 0)
    };
    ran(&mut journeys, "one", 1, vec![unknown], 1);
    assert!(messages(&journeys)[0].contains("the driver has no such device"));
}

#[test]
fn slices_are_compared_not_ids() {
    let mut journeys = Journeys::default();
    ran(
        &mut journeys,
        "one",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        1,
    );
    ran(
        &mut journeys,
        "two",
        1,
        vec![grant("MIG-2", "3g.20gb", 2, 4)],
        2,
    );
    assert!(messages(&journeys)[0].contains("team/two: was granted memory slices"));
}

#[test]
fn a_pod_that_is_gone_from_the_api_may_still_hold_its_devices() {
    let mut journeys = Journeys::default();
    ran(
        &mut journeys,
        "one",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        1,
    );
    journeys.pod_gone(
        &json!({ "metadata": { "namespace": "team", "name": "one" } }),
        ms(2),
    );
    ran(
        &mut journeys,
        "two",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        3,
    );
    journeys.released(|uid| (uid == "one").then_some(ms(5)));
    assert_eq!(messages(&journeys).len(), 1);
}

#[test]
fn a_device_may_go_from_a_pod_that_ended_to_the_next() {
    let mut journeys = Journeys::default();
    ran(
        &mut journeys,
        "one",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        1,
    );
    journeys.released(|uid| (uid == "one").then_some(ms(5)));
    ran(
        &mut journeys,
        "two",
        1,
        vec![grant("MIG-1", "3g.20gb", 0, 4)],
        6,
    );
    assert_eq!(messages(&journeys), [""; 0]);
    assert!(journeys.all()[1].reached.contains_key(&Stage::Allocated));
}
