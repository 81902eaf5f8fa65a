use cdmo_proto::agent::ResourceCount;
use device_plugin::{Holder, Shown};

use super::*;

const SLICE: &str = "nvidia.com/mig-1g.5gb";

fn container(name: &str, ordinary_init: bool, count: u32) -> Container {
    Container {
        name: name.into(),
        ordinary_init,
        requests: vec![ResourceCount {
            resource: SLICE.into(),
            count,
        }],
    }
}

fn pod(containers: Vec<Container>) -> Pod {
    Pod {
        namespace: "team".into(),
        name: "train".into(),
        uid: "u".into(),
        containers,
        ..Pod::default()
    }
}

fn shown(container: &str, ids: &[&str]) -> Shown {
    Shown {
        holder: Holder {
            namespace: "team".into(),
            pod: "train".into(),
            container: container.into(),
        },
        resource: SLICE.into(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn doubt(pod: Pod, listed: Vec<Shown>) -> Option<String> {
    unaccounted(&[pod], SLICE, &Listing::new(listed))
}

#[test]
fn a_pod_that_is_shown_with_all_it_asks_for_leaves_no_doubt() {
    let pod = pod(vec![container("main", false, 2)]);
    assert_eq!(doubt(pod, vec![shown("main", &["a", "b"])]), None);
}

#[test]
fn a_pod_that_is_not_shown_yet_leaves_doubt() {
    let why = doubt(pod(vec![container("main", false, 1)]), vec![]).unwrap();
    assert!(why.contains("team/train"), "{why}");
}

#[test]
fn a_pod_that_is_shown_with_too_few_leaves_doubt() {
    let pod = pod(vec![container("main", false, 2)]);
    assert!(doubt(pod, vec![shown("main", &["a"])]).is_some());
}

#[test]
fn every_container_counts_for_itself() {
    let pod = pod(vec![container("one", false, 1), container("two", false, 1)]);
    assert!(doubt(pod, vec![shown("one", &["a", "b"])]).is_some());
}

#[test]
fn an_init_containers_device_that_the_app_reuses_leaves_no_doubt() {
    let pod = pod(vec![
        container("fetch", true, 1),
        container("main", false, 1),
    ]);
    assert_eq!(doubt(pod, vec![shown("main", &["a"])]), None);
}

#[test]
fn an_init_containers_device_that_nobody_reuses_leaves_doubt() {
    let alone = pod(vec![container("fetch", true, 1)]);
    assert!(doubt(alone, vec![]).unwrap().contains("init"));
    let larger = pod(vec![
        container("fetch", true, 2),
        container("main", false, 1),
    ]);
    assert!(doubt(larger, vec![shown("main", &["a"])]).is_some());
}

#[test]
fn a_sidecar_takes_over_the_device_so_that_a_later_init_container_needs_another() {
    let pod = pod(vec![
        container("fetch", true, 1),
        container("sidecar", false, 1),
        container("prepare", true, 1),
    ]);
    assert!(doubt(pod, vec![shown("sidecar", &["a"])]).is_some());
}

#[test]
fn pods_that_are_terminal_or_ask_for_something_else_do_not_count() {
    let mut done = pod(vec![container("main", false, 1)]);
    done.terminal = true;
    assert_eq!(doubt(done, vec![]), None);
    let pod = pod(vec![container("main", false, 1)]);
    let other = unaccounted(&[pod], "nvidia.com/mig-2g.10gb", &Listing::default());
    assert_eq!(other, None);
}
