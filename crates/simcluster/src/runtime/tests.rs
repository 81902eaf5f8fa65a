use serde_json::json;

use super::*;
use crate::store::StoreOptions;

struct Fixture {
    runtime: Runtime,
    directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let program = |path: &str| Program {
        path: path.into(),
        env: Vec::new(),
    };
    let images = HashMap::from([
        ("sh".to_owned(), program("/bin/sh")),
        ("missing".to_owned(), program("/no/such/program")),
    ]);
    let runtime = Runtime::new(RuntimeConfig {
        node: "n".to_owned(),
        behaviour: Behaviour::V1_33,
        host_root: directory.path().to_owned(),
        logs: directory.path().join("logs"),
        images: Arc::new(images),
        env: vec![("FROM_NODE".to_owned(), "node".to_owned())],
        start_delay: Duration::ZERO,
        guard: Arc::new(Guard::new(&directory.path().join("pids")).unwrap()),
        store: Store::new(&StoreOptions::default()),
    });
    Fixture { runtime, directory }
}

fn pod(container: &Value, annotations: &Value) -> Arc<Value> {
    Arc::new(json!({
        "metadata": { "name": "p", "namespace": "d", "uid": "u", "annotations": annotations },
        "spec": { "containers": [container] },
    }))
}

fn shell(script: &str) -> Arc<Value> {
    let container = json!({
        "name": "c", "image": "sh", "args": ["-c", script],
        "env": [
            { "name": "A", "value": "one" },
            { "name": "B", "value": "$(A)-$(FROM_NODE)-$$(A)-$(NO)" },
            { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        ],
    });
    pod(&container, &json!({}))
}

fn spec(pod: &Arc<Value>) -> ContainerSpec {
    ContainerSpec {
        pod: pod.clone(),
        container: "c".to_owned(),
        attempt: 0,
        pod_ip: "127.1.2.3".to_owned(),
        host_ip: "127.1.2.2".to_owned(),
        given: ContainerAllocateResponse::default(),
    }
}

impl Fixture {
    async fn exit_code(&self) -> i32 {
        let mut changes = self.runtime.watch("u");
        let wait = async {
            loop {
                if let Some(State::Exited { code, .. }) =
                    self.runtime.of_pod("u").first().map(|r| r.state.clone())
                {
                    return code;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_mins(1), wait)
            .await
            .expect("it never ended")
    }

    fn cgroups(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("proc")).map_or(0, Iterator::count)
    }

    /// Waits until the process has written a line.
    async fn log_has(&self, text: &str) -> String {
        let path = self.directory.path().join("logs/p.log");
        let wait = async {
            loop {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                if log.contains(text) {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), wait)
            .await
            .expect("it was never written")
    }
}

#[tokio::test]
async fn a_process_sees_its_environment_and_its_output_is_kept() {
    let node = fixture();
    node.runtime
        .start(spec(&shell("echo $NAME $B $POD_IP $NODE_NAME; exit 3")))
        .await
        .unwrap();
    assert_eq!(node.exit_code().await, 3);
    let log = node.log_has("\n").await;
    assert_eq!(log, "p one-node-$(A)-$(NO) 127.1.2.3 n\n");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_all_its_children() {
    let node = fixture();
    let script = "trap '' TERM; sleep 1000 & echo child $!; while :; do wait; done";
    node.runtime.start(spec(&shell(script))).await.unwrap();
    let log = node.log_has("child").await;
    let child: i32 = log.split_whitespace().last().unwrap().parse().unwrap();
    node.runtime.stop("u", "c", Duration::from_secs(1_000));
    node.runtime.stop("u", "c", Duration::from_millis(1));
    assert_eq!(node.exit_code().await, 137);
    assert!(is_gone(child).await);
}

/// Ended, or waiting for somebody to read its exit code.
async fn is_gone(pid: i32) -> bool {
    let gone = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, f)| f.starts_with(" Z"))
        })
    };
    let wait = async {
        while !gone() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_process_that_obeys_sigterm_is_not_killed() {
    let node = fixture();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    node.runtime.start(spec(&shell(script))).await.unwrap();
    node.log_has("ready").await;
    node.runtime.stop("u", "c", Duration::from_secs(1_000));
    assert_eq!(node.exit_code().await, 7);
}

#[tokio::test]
async fn a_program_that_is_missing_is_an_error_that_names_it() {
    let node = fixture();
    let pod = pod(&json!({ "name": "c", "image": "missing" }), &json!({}));
    let error = node.runtime.start(spec(&pod)).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to start /no/such/program");
    assert!(node.runtime.all().is_empty());
}

#[tokio::test]
async fn what_an_earlier_run_left_behind_is_killed() {
    use std::os::unix::process::CommandExt;
    let directory = tempfile::tempdir().unwrap();
    let mut left = std::process::Command::new("sleep")
        .arg("1000")
        .process_group(0)
        .spawn()
        .unwrap();
    let guard = Guard::new(directory.path()).unwrap();
    std::mem::forget(guard.track(left.id()));
    drop(Guard::new(directory.path()).unwrap());
    assert!(!left.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_guard_kills_what_is_left_when_we_are_gone() {
    use std::os::unix::process::CommandExt;
    let directory = tempfile::tempdir().unwrap();
    let mut left = std::process::Command::new("sleep")
        .arg("1000")
        .process_group(0)
        .spawn()
        .unwrap();
    let guard = Guard::new(directory.path()).unwrap();
    std::mem::forget(guard.track(left.id()));
    drop(guard);
    assert!(!left.wait().unwrap().success());
}

#[tokio::test(start_paused = true)]
async fn a_simulated_container_runs_for_its_time_and_shows_its_pods_uid_meanwhile() {
    let node = fixture();
    let annotations = json!({ "simcluster.cdmo/run-for": "3s", "simcluster.cdmo/exit-code": "4" });
    let pod = pod(&json!({ "name": "c", "image": "any" }), &annotations);
    node.runtime.start(spec(&pod)).await.unwrap();
    let pid = node.runtime.all()[0].pid;
    let cgroup = node.directory.path().join(format!("proc/{pid}/cgroup"));
    assert!(
        std::fs::read_to_string(cgroup)
            .unwrap()
            .contains("besteffort-podu.slice")
    );
    let before = Instant::now();
    assert_eq!(node.exit_code().await, 4);
    assert!(before.elapsed() >= Duration::from_secs(3));
    assert_eq!(node.cgroups(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_simulated_container_can_take_its_time_to_end_even_when_killed() {
    let node = fixture();
    let annotations =
        json!({ "simcluster.cdmo/stop-delay": "1h", "simcluster.cdmo/kill-delay": "20s" });
    let pod = pod(&json!({ "name": "c", "image": "any" }), &annotations);
    node.runtime.start(spec(&pod)).await.unwrap();
    let before = Instant::now();
    node.runtime.stop("u", "c", Duration::from_secs(30));
    assert_eq!(node.exit_code().await, 137);
    assert!(before.elapsed() >= Duration::from_secs(50));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_is_not_started_twice() {
    let node = fixture();
    let pod = pod(&json!({ "name": "c", "image": "any" }), &json!({}));
    node.runtime.start(spec(&pod)).await.unwrap();
    assert!(matches!(
        node.runtime.start(spec(&pod)).await,
        Err(StartError::Running(_))
    ));
}

#[tokio::test]
async fn a_shutdown_leaves_nothing() {
    let node = fixture();
    node.runtime
        .start(spec(&shell("echo ready; sleep 1000")))
        .await
        .unwrap();
    node.log_has("ready").await;
    node.runtime.shutdown().await;
    assert_eq!(node.cgroups(), 0);
    assert!(
        node.runtime
            .all()
            .iter()
            .all(|record| !record.state.is_running())
    );
    let error = node.runtime.start(spec(&shell("true"))).await.unwrap_err();
    assert!(matches!(error, StartError::GoingDown(_)));
}
