//! The STATUS column of pods, as users know it.

use serde_json::json;

use super::*;

fn word(pod: &Value) -> String {
    pod::cells(pod, Timestamp::UNIX_EPOCH)[2]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_pods_state_is_told_in_one_word() {
    let with = |status: Value| json!({"spec": {"containers": [{}]}, "status": status});
    let container =
        |state: Value| with(json!({"phase": "Running", "containerStatuses": [{"state": state}]}));
    for (pod, wanted) in [
        (with(json!({"phase": "Pending"})), "Pending"),
        (
            with(json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"})),
            "UnexpectedAdmissionError",
        ),
        (
            container(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            "CrashLoopBackOff",
        ),
        (
            container(json!({"waiting": {"reason": "ContainerCreating"}})),
            "ContainerCreating",
        ),
        (
            container(json!({"terminated": {"reason": "Error", "exitCode": 1}})),
            "Error",
        ),
        (
            container(json!({"terminated": {"exitCode": 3}})),
            "ExitCode:3",
        ),
        (container(json!({"running": {}})), "Running"),
    ] {
        assert_eq!(word(&pod), wanted);
    }
}

#[test]
fn init_containers_and_deletion_come_before_the_rest() {
    let mut pod = json!({
        "metadata": {},
        "spec": {"containers": [{}], "initContainers": [{}, {}]},
        "status": {"phase": "Pending", "initContainerStatuses": [
            {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"state": {"running": {}}},
        ]},
    });
    assert_eq!(word(&pod), "Init:1/2");
    pod["status"]["initContainerStatuses"][1]["state"] =
        json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(word(&pod), "Init:CrashLoopBackOff");
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(word(&pod), "Terminating");
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in Kind::ALL {
        let row = row(kind, &json!({}), Include::Nothing, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row["cells"].as_array().unwrap().len(),
            columns(kind).len(),
            "{kind}"
        );
    }
}
