use cdmo_proto::agent::{Container, Pod, ResourceCount};

use super::*;

const SLICE: &str = "nvidia.com/mig-1g.5gb";

fn alive(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

fn table(pods: &[(&str, bool)]) -> PodTable {
    let pods = pods.iter().map(|(uid, terminal)| Pod {
        uid: (*uid).into(),
        terminal: *terminal,
        containers: vec![Container {
            requests: vec![ResourceCount {
                resource: SLICE.into(),
                count: 1,
            }],
            ..Container::default()
        }],
        ..Pod::default()
    });
    PodTable {
        revision: 1,
        pods: pods.collect(),
    }
}

#[test]
fn a_former_holder_that_was_deleted_by_force_is_recognised_by_its_processes() {
    let alive = alive(&["old", "other"]);
    let known = ["old".to_owned()];
    let doubt = process_of_holder(&alive, &known, SLICE, &table(&[]), None);
    assert_eq!(doubt.map(String::as_str), Some("old"));
}

#[test]
fn other_pods_do_not_matter_where_the_holders_are_known() {
    let alive = alive(&["other"]);
    let known = ["old".to_owned()];
    assert_eq!(
        process_of_holder(&alive, &known, SLICE, &table(&[]), None),
        None
    );
}

#[test]
fn any_pod_gone_from_the_api_is_a_suspect_where_no_holder_was_seen() {
    let ghosts = alive(&["ghost"]);
    assert!(process_of_holder(&ghosts, &[], SLICE, &table(&[]), None).is_some());
    let listed = table(&[("ghost", false)]);
    assert_eq!(process_of_holder(&ghosts, &[], SLICE, &listed, None), None);
}

#[test]
fn a_terminal_pod_with_processes_is_a_suspect_if_it_asked_for_the_resource() {
    let dying = alive(&["dying"]);
    let listed = table(&[("dying", true)]);
    assert!(process_of_holder(&dying, &[], SLICE, &listed, None).is_some());
    assert_eq!(process_of_holder(&dying, &[], "other", &listed, None), None);
}

#[test]
fn the_agents_own_pod_is_no_suspect() {
    let own = alive(&["self"]);
    assert_eq!(
        process_of_holder(&own, &[], SLICE, &table(&[]), Some("self")),
        None
    );
}
