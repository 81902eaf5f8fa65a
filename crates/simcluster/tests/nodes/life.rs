//! What happens to devices while pods, plugins and kubelets come and go.

use serde_json::json;
use simcluster::cluster::Behaviour;
use simcluster::store::DeleteOptions;

use crate::support::{phase, pod, start, start_with, tuning};
use crate::toy_plugin::{RESOURCE, healthy, listed, pod_resources};

#[tokio::test]
async fn a_restarted_container_keeps_its_devices_and_is_prepared_again() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let mut pod = pod("p", 1);
    pod["metadata"]["annotations"] =
        json!({ "simcluster.cdmo/run-for": "10ms", "simcluster.cdmo/exit-code": "1" });
    c.create(pod);
    c.until("p", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    assert_eq!(p.allocated().borrow().len(), 1);
    assert_eq!(*p.prepared().borrow(), [["d1"], ["d1"]]);
    c.end().await;
}

#[tokio::test]
async fn a_forced_deletion_frees_the_device_while_the_container_still_runs() {
    let c = start(Behaviour::V1_33).await;
    let _p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let mut first = pod("p", 1);
    first["metadata"]["annotations"] =
        json!({ "simcluster.cdmo/stop-delay": "1h", "simcluster.cdmo/kill-delay": "1h" });
    let first = c.create(first);
    c.until_phase("p", "Running").await;
    c.delete("p", &DeleteOptions::now());
    c.until_gone("p").await;
    let sockets = &c.node().kubelet_paths().pod_resources;
    c.eventually(|| async { listed(sockets).await.is_empty() })
        .await;
    c.create(pod("q", 1));
    c.until_phase("q", "Running").await;
    let uid = first["metadata"]["uid"].as_str().unwrap();
    let containers = c.node().containers();
    let old = containers
        .iter()
        .find(|record| record.pod_uid == uid)
        .unwrap();
    assert!(old.state.is_running());
    let cgroup = c
        .node()
        .host_root()
        .join(format!("proc/{}/cgroup", old.pid));
    assert!(
        std::fs::read_to_string(cgroup)
            .unwrap()
            .contains(&uid.replace('-', "_"))
    );
    c.end().await;
}

#[tokio::test]
async fn a_graceful_deletion_keeps_the_device_until_the_container_ended() {
    let c = start(Behaviour::V1_33).await;
    let _p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let mut first = pod("p", 1);
    first["metadata"]["annotations"] = json!({ "simcluster.cdmo/stop-delay": "1h" });
    first["spec"]["terminationGracePeriodSeconds"] = 3_600.into();
    c.create(first);
    c.until_phase("p", "Running").await;
    c.delete("p", &DeleteOptions::default());
    c.until("p", |pod| !pod["metadata"]["deletionTimestamp"].is_null())
        .await;
    assert_eq!(
        listed(&c.node().kubelet_paths().pod_resources).await.len(),
        1
    );
    let shorter = DeleteOptions {
        grace_period_seconds: Some(1),
        ..DeleteOptions::default()
    };
    c.delete("p", &shorter);
    c.until_gone("p").await;
    c.end().await;
}

#[tokio::test]
async fn on_1_20_an_evicted_pod_leaves_podresources_before_its_container_ended() {
    for (behaviour, leaves) in [(Behaviour::V1_20, true), (Behaviour::V1_33, false)] {
        let c = start(behaviour).await;
        let _p = c.plugin("toy.sock", &["d1"]).await;
        c.until_node_shows(1, 1).await;
        let mut victim = pod("p", 1);
        victim["metadata"]["annotations"] =
            json!({ "simcluster.cdmo/stop-delay": "1h", "simcluster.cdmo/kill-delay": "1h" });
        c.create(victim);
        c.until_phase("p", "Running").await;
        assert!(
            c.node()
                .evict("default", "p", "The node was low on resource: memory.")
                .await
        );
        let sockets = &c.node().kubelet_paths().pod_resources;
        if leaves {
            let failed = c.until_phase("p", "Failed").await;
            assert_eq!(failed["status"]["reason"], "Evicted");
            c.eventually(|| async { listed(sockets).await.is_empty() })
                .await;
        } else {
            assert_eq!(listed(sockets).await.len(), 1);
            assert_eq!(phase(&c.get("p").unwrap()), "Running");
        }
        assert!(c.node().containers()[0].state.is_running());
        c.end().await;
    }
}

#[tokio::test]
async fn a_kubelet_restart_leaves_running_pods_alone_and_shows_zero_until_the_plugin_is_back() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1", "d2"]).await;
    c.until_node_shows(2, 2).await;
    c.create(pod("p", 1));
    c.until_phase("p", "Running").await;
    let before = c.node().containers()[0].id.clone();
    let plain = c.node().kubelet_paths().plugins.join("some-file");
    std::fs::write(&plain, "").unwrap();
    c.node().restart_kubelet().await.unwrap();
    c.until_node_shows(0, 0).await;
    assert!(!c.node().kubelet_paths().plugins.join("toy.sock").exists());
    assert!(plain.exists());
    p.serve();
    p.register().await.unwrap();
    c.until_node_shows(2, 2).await;
    c.create(pod("q", 1));
    c.until_phase("q", "Running").await;
    assert_eq!(phase(&c.get("p").unwrap()), "Running");
    assert_eq!(
        c.node()
            .containers()
            .iter()
            .filter(|record| record.id == before)
            .count(),
        1
    );
    assert_eq!(*p.allocated().borrow(), [["d1"], ["d2"]]);
    c.end().await;
}

#[tokio::test]
async fn a_pod_deleted_while_the_kubelet_is_away_is_cleared_up_when_it_is_back() {
    let c = start(Behaviour::V1_33).await;
    c.create(pod("p", 0));
    c.create(pod("q", 0));
    c.until_phase("p", "Running").await;
    c.until_phase("q", "Running").await;
    c.node().stop_kubelet().await;
    c.delete("p", &DeleteOptions::now());
    c.delete("q", &DeleteOptions::default());
    c.node().restart_kubelet().await.unwrap();
    c.until_gone("q").await;
    let running = || {
        c.node()
            .containers()
            .iter()
            .any(|record| record.state.is_running())
    };
    c.eventually(|| async { !running() }).await;
    c.end().await;
}

#[tokio::test]
async fn after_a_reboot_pods_are_admitted_again_and_fail_without_their_plugin() {
    let c = start(Behaviour::V1_33).await;
    let _p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    c.create(pod("p", 1));
    c.until_phase("p", "Running").await;
    let boot_id = c.node().host_root().join("proc/sys/kernel/random/boot_id");
    let before = std::fs::read_to_string(&boot_id).unwrap();
    c.node().reboot().await.unwrap();
    let failed = c.until_phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "UnexpectedAdmissionError");
    assert_ne!(std::fs::read_to_string(&boot_id).unwrap(), before);
    c.end().await;
}

#[tokio::test]
async fn when_its_plugin_dies_a_resource_stays_as_capacity_and_goes_to_zero_after_the_grace() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    drop(p);
    c.until_node_shows(1, 0).await;
    c.end().await;

    let mut short = tuning();
    short.stop_grace = std::time::Duration::from_millis(50);
    let c = start_with(Behaviour::V1_33, short).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    drop(p);
    c.until_node_shows(0, 0).await;
    c.end().await;
}

#[tokio::test]
async fn the_newest_registration_wins_and_the_end_of_the_old_one_hurts_it() {
    let c = start(Behaviour::V1_33).await;
    let old = c.plugin("old.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let new = c.plugin("new.sock", &["d1", "d2"]).await;
    c.until_node_shows(2, 2).await;
    drop(old);
    c.until_node_shows(2, 0).await;
    new.register().await.unwrap();
    c.until_node_shows(2, 2).await;
    c.end().await;
}

#[tokio::test]
async fn unhealthy_devices_count_as_capacity_and_are_not_given_out() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1", "d2"]).await;
    c.until_node_shows(2, 2).await;
    p.send(vec![("d1".to_owned(), false), ("d2".to_owned(), true)]);
    c.until_node_shows(2, 1).await;
    let mut client = pod_resources(&c.node().kubelet_paths().pod_resources).await;
    let request = cdmo_proto::podresources::AllocatableResourcesRequest {};
    let answer = client
        .get_allocatable_resources(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.devices[0].resource_name, RESOURCE);
    assert_eq!(answer.devices[0].device_ids, ["d2"]);
    c.create(pod("p", 1));
    c.until_phase("p", "Running").await;
    assert_eq!(*p.allocated().borrow(), [["d2"]]);
    p.send(healthy(&["d1", "d2"]));
    c.end().await;
}

#[tokio::test]
async fn podresources_of_1_20_has_no_allocatable_resources() {
    let c = start(Behaviour::V1_20).await;
    let mut client = pod_resources(&c.node().kubelet_paths().pod_resources).await;
    let request = cdmo_proto::podresources::AllocatableResourcesRequest {};
    let refused = client.get_allocatable_resources(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    c.end().await;
}

#[tokio::test]
async fn no_container_with_devices_starts_while_its_plugin_is_away() {
    let c = start(Behaviour::V1_33).await;
    let p = c.plugin("toy.sock", &["d1"]).await;
    c.until_node_shows(1, 1).await;
    let mut pod = pod("p", 1);
    pod["metadata"]["annotations"] = json!({ "simcluster.cdmo/run-for": "200ms" });
    c.create(pod);
    c.until_phase("p", "Running").await;
    drop(p);
    c.until("p", |pod| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        state["waiting"]["reason"] == "CreateContainerConfigError"
    })
    .await;
    c.end().await;
}

#[tokio::test]
async fn a_shutdown_leaves_no_process_behind_even_of_a_pod_that_ignores_sigterm() {
    use simcluster::cluster::{Cluster, ClusterConfig, NodeConfig, Program};
    let directory = tempfile::tempdir().unwrap();
    let shell = Program {
        path: "/bin/sh".into(),
        env: Vec::new(),
    };
    let config = ClusterConfig {
        dir: directory.path().to_owned(),
        nodes: vec![NodeConfig::new("n")],
        images: std::collections::HashMap::from([("shell".to_owned(), shell)]),
        ..ClusterConfig::default()
    };
    let cluster = Cluster::start(config).await.unwrap();
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{
            "name": "c", "image": "shell",
            "args": ["-c", "echo $POD_IP of $(NODE_NAME); exec sleep 1000"],
        }]},
    });
    cluster
        .store()
        .create(simcluster::store::Kind::Pod, "default", pod)
        .unwrap();
    let limit = std::time::Duration::from_mins(1);
    let running = |pod: Option<&serde_json::Value>| pod.is_some_and(|pod| phase(pod) == "Running");
    let pod = cluster
        .wait_for_pod("default", "p", limit, running)
        .await
        .unwrap()
        .unwrap();
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("127."));
    let pid = cluster.node("n").unwrap().containers()[0].pid;
    cluster.shutdown().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(
        std::fs::read_dir(directory.path().join("run"))
            .unwrap()
            .count(),
        0
    );
}

/// Not a check by itself: the process that the next test kills.
#[tokio::test]
#[ignore = "started by the next test"]
async fn a_cluster_that_runs_until_it_is_killed() {
    use simcluster::cluster::{Cluster, ClusterConfig, NodeConfig, Program};
    let Ok(dir) = std::env::var("SIMCLUSTER_TEST_DIR") else {
        return;
    };
    let shell = Program {
        path: "/bin/sh".into(),
        env: Vec::new(),
    };
    let config = ClusterConfig {
        dir: dir.into(),
        nodes: vec![NodeConfig::new("n")],
        images: std::collections::HashMap::from([("shell".to_owned(), shell)]),
        ..ClusterConfig::default()
    };
    let cluster = Cluster::start(config).await.unwrap();
    let script = "trap '' TERM; sleep 1000 & wait";
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "shell", "args": ["-c", script] }] },
    });
    cluster
        .store()
        .create(simcluster::store::Kind::Pod, "default", pod)
        .unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn when_the_cluster_is_killed_its_processes_die_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "life::a_cluster_that_runs_until_it_is_killed",
        ])
        .env("SIMCLUSTER_TEST_DIR", directory.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let books = directory.path().join("run");
    let group = || {
        std::fs::read_dir(&books)
            .ok()?
            .next()?
            .ok()?
            .file_name()
            .into_string()
            .ok()
    };
    let found = tokio::time::timeout(std::time::Duration::from_mins(1), async {
        loop {
            if let Some(group) = group() {
                return group;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let group = found.await.expect("the process never started");
    cluster.kill().await.unwrap();
    let alive = || {
        std::fs::read_to_string(format!("/proc/{group}/stat")).is_ok_and(|stat| {
            // Ended, but nobody has read its exit code.
            !stat
                .rsplit_once(')')
                .is_some_and(|(_, fields)| fields.starts_with(" Z"))
        })
    };
    let gone = tokio::time::timeout(std::time::Duration::from_mins(1), async {
        while alive() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    gone.await.expect("the process outlived its cluster");
}
