use cdmo_proto::deviceplugin::ContainerAllocateResponse;
use jiff::Timestamp;
use serde_json::json;

use super::*;

const RETRY: Duration = Duration::from_secs(10);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(name: &str, attempt: u32, state: State) -> Record {
    Record {
        id: format!("{name}-{attempt}"),
        pod_uid: "u".to_owned(),
        namespace: "d".to_owned(),
        pod: "p".to_owned(),
        container: name.to_owned(),
        attempt,
        state,
        last: None,
        given: ContainerAllocateResponse::default(),
        pid: 1,
    }
}

fn running(name: &str) -> Record {
    record(name, 0, State::Running { since: at(0) })
}

fn exited(name: &str, attempt: u32, code: i32) -> Record {
    record(
        name,
        attempt,
        State::Exited {
            code,
            since: at(0),
            until: at(1),
        },
    )
}

fn start(name: &str, attempt: u32) -> Action {
    Action::Start {
        container: name.to_owned(),
        attempt,
    }
}

fn stop(name: &str, seconds: u64) -> Action {
    Action::Stop {
        container: name.to_owned(),
        grace: secs(seconds),
    }
}

fn pod(restart: &str, inits: &Value, apps: &[&str]) -> Value {
    let apps: Vec<Value> = apps
        .iter()
        .map(|name| json!({ "name": name, "image": "i" }))
        .collect();
    json!({
        "metadata": { "name": "p", "namespace": "d", "uid": "u" },
        "spec": { "restartPolicy": restart, "initContainers": inits, "containers": apps },
    })
}

fn machine(behaviour: Behaviour, pod: &Value) -> Machine {
    Machine::new(behaviour, pod, secs(0), RETRY)
}

fn phase(machine: &Machine, pod: &Value, records: &[Record]) -> String {
    let status = machine.status(pod, records, &Network::default(), at(0));
    object::text(&status, "/phase").to_owned()
}

const NOW: Behaviour = Behaviour::V1_33;

#[test]
fn containers_start_together_and_the_pod_runs_when_all_do() {
    let pod = pod("Always", &json!([]), &["a", "b"]);
    let mut m = machine(NOW, &pod);
    assert_eq!(m.step(secs(0), &[]), [start("a", 0), start("b", 0)]);
    assert_eq!(phase(&m, &pod, &[running("a")]), "Pending");
    let all = [running("a"), running("b")];
    assert_eq!(m.step(secs(1), &all), []);
    let status = m.status(&pod, &all, &Network::default(), at(0));
    assert_eq!(status["phase"], "Running");
    assert!(
        object::array(&status, "/conditions")
            .iter()
            .all(|c| c["status"] == "True")
    );
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    let pod = pod("Always", &json!([{ "name": "i" }, { "name": "j" }]), &["a"]);
    let mut m = machine(NOW, &pod);
    assert_eq!(m.step(secs(0), &[]), [start("i", 0)]);
    assert_eq!(m.step(secs(0), &[running("i")]), []);
    assert_eq!(m.step(secs(0), &[exited("i", 0, 0)]), [start("j", 0)]);
    let done = [exited("i", 0, 0), exited("j", 0, 0)];
    assert_eq!(m.step(secs(0), &done), [start("a", 0)]);
}

#[test]
fn a_failed_init_container_is_tried_again_or_fails_the_pod() {
    let inits = json!([{ "name": "i" }]);
    let failed = [exited("i", 0, 1)];
    let again = pod("Always", &inits, &["a"]);
    assert_eq!(machine(NOW, &again).step(secs(0), &failed), [start("i", 1)]);
    let never = pod("Never", &inits, &["a"]);
    let mut m = machine(NOW, &never);
    assert_eq!(m.step(secs(0), &failed), []);
    assert_eq!(phase(&m, &never, &failed), "Failed");
}

#[test]
fn a_sidecar_starts_first_stays_and_is_stopped_at_the_end() {
    let inits = json!([{ "name": "s", "restartPolicy": "Always" }, { "name": "i" }]);
    let pod = pod("Never", &inits, &["a"]);
    let mut m = machine(NOW, &pod);
    assert_eq!(m.step(secs(0), &[]), [start("s", 0)]);
    assert_eq!(m.step(secs(0), &[running("s")]), [start("i", 0)]);
    let ready = [running("s"), exited("i", 0, 0)];
    assert_eq!(m.step(secs(0), &ready), [start("a", 0)]);
    let ended = [running("s"), exited("i", 0, 0), exited("a", 0, 0)];
    assert_eq!(m.step(secs(0), &ended), [stop("s", 30)]);
    let over = [exited("s", 0, 143), exited("i", 0, 0), exited("a", 0, 0)];
    assert!(m.is_over(&over));
    assert_eq!(phase(&m, &pod, &over), "Succeeded");
}

#[test]
fn the_restart_policy_decides_what_an_exit_means() {
    let after = |policy: &str, code: i32| {
        let pod = pod(policy, &json!([]), &["a"]);
        let records = [exited("a", 0, code)];
        let mut m = machine(NOW, &pod);
        let restarted = !m.step(secs(0), &records).is_empty();
        (restarted, phase(&m, &pod, &records))
    };
    assert_eq!(after("Always", 0), (true, "Running".to_owned()));
    assert_eq!(after("OnFailure", 1), (true, "Running".to_owned()));
    assert_eq!(after("OnFailure", 0), (false, "Succeeded".to_owned()));
    assert_eq!(after("Never", 0), (false, "Succeeded".to_owned()));
    assert_eq!(after("Never", 2), (false, "Failed".to_owned()));
}

#[test]
fn a_crashing_container_is_restarted_at_once_and_then_with_growing_pauses() {
    let pod = pod("Always", &json!([]), &["a"]);
    let mut m = machine(NOW, &pod);
    let mut now = secs(0);
    let mut pauses = Vec::new();
    for attempt in 0..8 {
        let records = [exited("a", attempt, 1)];
        if m.step(now, &records).is_empty() {
            let wake = m.wake_at(now).unwrap();
            pauses.push(wake.abs_diff(now).as_secs());
            let status = m.status(&pod, &records, &Network::default(), at(0));
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            assert_eq!(waiting["reason"], "CrashLoopBackOff");
            now = wake;
            assert_eq!(m.step(now, &records), [start("a", attempt + 1)]);
        } else {
            pauses.push(0);
        }
    }
    assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_start_that_failed_says_why_and_is_tried_again_later() {
    let pod = pod("Always", &json!([]), &["a"]);
    let mut m = machine(NOW, &pod);
    assert_eq!(m.step(secs(0), &[]), [start("a", 0)]);
    m.start_failed("a", "CreateContainerConfigError", "no", secs(0));
    assert_eq!(m.step(secs(9), &[]), []);
    assert_eq!(m.wake_at(secs(9)), Some(secs(10)));
    assert_eq!(m.step(secs(10), &[]), [start("a", 0)]);
}

#[test]
fn a_deleted_pod_stops_its_containers_and_is_over_when_they_ended() {
    let pod = pod("Always", &json!([]), &["a"]);
    let mut m = machine(NOW, &pod);
    m.end(Ending {
        grace: secs(30),
        failure: None,
    });
    m.end(Ending {
        grace: secs(5),
        failure: None,
    });
    assert_eq!(m.step(secs(0), &[running("a")]), [stop("a", 5)]);
    assert!(!m.is_over(&[running("a")]));
    assert_eq!(phase(&m, &pod, &[running("a")]), "Running");
    assert!(m.is_over(&[exited("a", 0, 143)]));
    assert_eq!(m.step(secs(1), &[exited("a", 0, 143)]), []);
}

#[test]
fn the_kubelets_own_verdict_comes_before_the_kill_on_1_20_and_after_it_later() {
    for (behaviour, at_once) in [(Behaviour::V1_20, "Failed"), (Behaviour::V1_28, "Running")] {
        let pod = pod("Always", &json!([]), &["a"]);
        let mut m = machine(behaviour, &pod);
        let failure = Some(("Evicted".to_owned(), "no memory".to_owned()));
        m.end(Ending {
            grace: secs(30),
            failure,
        });
        assert_eq!(phase(&m, &pod, &[running("a")]), at_once, "{behaviour:?}");
        assert_eq!(m.step(secs(0), &[running("a")]), [stop("a", 30)]);
        let status = m.status(&pod, &[exited("a", 0, 143)], &Network::default(), at(0));
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!("Failed"), &json!("Evicted"))
        );
    }
}

#[test]
fn a_pod_beyond_its_deadline_is_failed() {
    let mut pod = pod("Always", &json!([]), &["a"]);
    pod["spec"]["activeDeadlineSeconds"] = 60.into();
    let mut m = machine(NOW, &pod);
    assert_eq!(m.step(secs(59), &[running("a")]), []);
    assert_eq!(m.wake_at(secs(59)), Some(secs(60)));
    assert_eq!(m.step(secs(60), &[running("a")]), [stop("a", 30)]);
    let status = m.status(&pod, &[exited("a", 0, 143)], &Network::default(), at(0));
    assert_eq!(status["reason"], "DeadlineExceeded");
}

#[test]
fn conditions_of_others_stay_in_the_status() {
    let mut pod = pod("Always", &json!([]), &["a"]);
    pod["status"] = json!({ "conditions": [{ "type": "PodScheduled", "status": "True" }] });
    let status = machine(NOW, &pod).status(&pod, &[running("a")], &Network::default(), at(0));
    assert_eq!(status["conditions"][0]["type"], "PodScheduled");
}
