use cdmo_proto::agent::{Container, Pod, ResourceCount};

use device_plugin::Shown;

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

/// What is known of a device that `new` is to start with; pods are called by their UID up to the
/// first `-`.
struct Case {
    device: Hold,
    seen: BTreeSet<PodIdentity>,
    table: Option<PodTable>,
    present: Option<&'static str>,
    unsure: bool,
    former: Option<Former>,
    since: BTreeSet<String>,
    /// Pods that podresources shows with what they ask for.
    listed: Listing,
}

fn name(uid: &str) -> &str {
    uid.split('-').next().unwrap()
}

/// Every pod that is listed is shown.
fn all_of(listed: Option<&[(&str, bool)]>) -> Listing {
    let shown = listed.into_iter().flatten().map(|(uid, _)| Shown {
        holder: Holder {
            namespace: String::new(),
            pod: name(uid).into(),
            container: String::new(),
        },
        resource: SLICE.into(),
        ids: vec![format!("MIG-{uid}")],
    });
    Listing::new(shown.collect())
}

fn case(former: &[&str], seen: &[&str], listed: Option<&[(&str, bool)]>) -> Case {
    let holder = |uid: &&str| Holder {
        namespace: String::new(),
        pod: name(uid).into(),
        container: "main".into(),
    };
    let identity = |uid: &&str| PodIdentity {
        name: name(uid).into(),
        uid: (*uid).into(),
        ..PodIdentity::unseen()
    };
    Case {
        device: Hold {
            resource: SLICE.into(),
            id: "MIG-a".into(),
            holders: former.iter().map(holder).collect(),
        },
        seen: seen.iter().map(identity).collect(),
        table: listed.map(|pods| {
            let mut table = table(pods);
            for pod in &mut table.pods {
                pod.name = name(&pod.uid).into();
            }
            table
        }),
        present: None,
        unsure: former.is_empty(),
        former: None,
        since: BTreeSet::new(),
        listed: all_of(listed),
    }
}

impl Case {
    fn shows(mut self, name: &'static str) -> Self {
        self.present = Some(name);
        self
    }

    /// It was granted to the new pod over the hold of these; so many tables have listed them since.
    fn over(mut self, former: &[&str], listed: u32) -> Self {
        let former = former.iter().map(|uid| ((*uid).to_owned(), listed));
        self.former = Some(former.collect());
        self
    }

    /// The pod that keeps the new one from starting.
    fn suspect(&self, running: &[&str]) -> Option<String> {
        let suspects = Suspects {
            device: &self.device,
            present: self.present.map(|name| ("", name)),
            seen: self.seen.clone(),
            unsure: self.unsure,
            former: self.former.clone(),
            since: self.since.clone(),
            shown: &self.listed,
            table: self.table.as_ref(),
            own: Some("self"),
        };
        suspects.among(&alive(running)).cloned()
    }
}

#[test]
fn a_new_pod_is_kept_from_a_device_that_a_former_holder_still_runs_with() {
    let gone = case(&["old"], &["old"], Some(&[("new", false)]));
    assert_eq!(gone.suspect(&["new", "old", "other"]).unwrap(), "old");
    assert_eq!(gone.suspect(&["new", "other"]), None);
    let dying = case(&["old"], &["old"], Some(&[("old", true), ("new", false)]));
    assert_eq!(dying.suspect(&["new", "old"]).unwrap(), "old");
    let without_controller = case(&["old"], &["old"], None);
    assert_eq!(without_controller.suspect(&["new", "old"]).unwrap(), "old");
}

#[test]
fn a_pod_table_that_is_late_does_not_clear_a_former_holder() {
    let late = case(&["old"], &["old"], Some(&[("old", false)]));
    assert_eq!(late.suspect(&["new", "old"]).unwrap(), "old");
}

#[test]
fn the_new_pod_does_not_block_itself() {
    let listed: &[_] = &[("new", false)];
    let seen = case(&["old"], &["new", "old"], Some(listed)).shows("new");
    assert_eq!(seen.suspect(&["new"]), None);
    let adopted = case(&["new"], &["new"], Some(listed)).shows("new");
    assert_eq!(adopted.suspect(&["new"]), None);
    let without_controller = case(&["new"], &["new"], None).shows("new");
    assert_eq!(without_controller.suspect(&["new"]), None);
}

#[test]
fn of_two_pods_of_one_name_only_the_one_in_the_api_may_start() {
    let listed: &[_] = &[("web-2", false)];
    let both = case(&["web-1"], &["web-1", "web-2"], Some(listed)).shows("web");
    assert_eq!(both.suspect(&["web-1", "web-2"]).unwrap(), "web-1");
    assert_eq!(both.suspect(&["web-2"]), None);
    let without_controller = case(&["web-1"], &["web-1", "web-2"], None).shows("web");
    assert!(without_controller.suspect(&["web-1", "web-2"]).is_some());
    assert_eq!(without_controller.suspect(&["web-2"]), None);
}

#[test]
fn a_former_holder_without_uid_is_not_known_unless_it_is_the_new_one() {
    let known = |case: Case| {
        let suspects = Suspects {
            device: &case.device,
            present: case.present.map(|name| ("", name)),
            seen: case.seen,
            unsure: case.unsure,
            former: case.former,
            since: case.since,
            shown: &case.listed,
            table: None,
            own: None,
        };
        suspects.all_known()
    };
    assert!(known(case(&["old"], &["old"], None)));
    assert!(!known(case(&["old"], &[], None).shows("new")));
    assert!(!known(case(&[], &[], None)));
    assert!(known(case(&["new"], &[], None).shows("new")));
    let namesake = case(&["web-1"], &[], None).shows("web");
    assert!(!known(namesake.over(&[], 0)));
}

#[test]
fn a_late_pod_table_does_not_take_a_former_pod_for_its_namesake() {
    let listed: &[_] = &[("web-1", false)];
    let late = case(&["web-1"], &["web-1"], Some(listed)).shows("web");
    let late = late.over(&["web-1"], 1);
    assert_eq!(late.suspect(&["web-1"]).as_deref(), Some("web-1"));
    assert_eq!(late.suspect(&["web-1", "web-2"]).as_deref(), Some("web-1"));
    assert_eq!(late.suspect(&["web-2"]), None);
    let newer: &[_] = &[("web-2", false)];
    let newer = case(&["web-1"], &["web-1", "web-2"], Some(newer)).shows("web");
    let newer = newer.over(&["web-1"], 0);
    assert_eq!(newer.suspect(&["web-1", "web-2"]).as_deref(), Some("web-1"));
    assert_eq!(newer.suspect(&["web-2"]), None);
}

#[test]
fn a_pod_that_is_granted_its_own_device_anew_starts_once_nobody_else_can_be_meant() {
    let listed: &[_] = &[("web-1", false), ("other", false)];
    let again = |tables| {
        let case = case(&["web-1"], &["web-1"], Some(listed)).shows("web");
        case.over(&["web-1"], tables)
    };
    assert!(again(1).suspect(&["web-1", "other"]).is_some());
    assert_eq!(again(2).suspect(&["web-1", "other", "self"]), None);
    assert!(again(2).suspect(&["web-1", "web-2"]).is_some());
    let ended: &[_] = &[("web-1", true)];
    let ended = case(&["web-1"], &["web-1"], Some(ended)).shows("web");
    assert!(ended.over(&["web-1"], 0).suspect(&["web-1"]).is_some());
}

#[test]
fn a_namesake_of_a_former_holder_that_had_no_uid_is_no_suspect() {
    let listed: &[_] = &[("web-2", false), ("new", false)];
    let case = case(&["web-1"], &["web-2"], Some(listed)).shows("new");
    let case = case.over(&[], 0);
    assert_eq!(case.suspect(&["web-2", "new"]), None);
    assert!(case.suspect(&["web-2", "new", "web-1"]).is_some());
}

#[test]
fn after_a_restart_somebody_unseen_is_suspected_beside_the_new_pod() {
    let mut adopted = case(&["new"], &["new"], Some(&[("new", false)])).shows("new");
    assert_eq!(adopted.suspect(&["new", "ghost"]), None);
    adopted.unsure = true;
    assert_eq!(adopted.suspect(&["new", "ghost"]).unwrap(), "ghost");
    assert_eq!(adopted.suspect(&["new"]), None);
}

#[test]
fn where_no_former_holder_was_seen_pods_gone_from_the_api_are_suspects() {
    let unseen = case(&[], &[], Some(&[("new", false), ("done", true)]));
    assert_eq!(unseen.suspect(&["new", "ghost"]).unwrap(), "ghost");
    assert_eq!(unseen.suspect(&["new", "done"]).unwrap(), "done");
    assert_eq!(unseen.suspect(&["new", "self"]), None);
    assert_eq!(case(&[], &[], None).suspect(&["new", "ghost"]), None);
}

#[test]
fn a_pod_that_was_shown_beside_the_new_one_is_a_former_one_once_it_is_not_shown_any_more() {
    let listed: &[_] = &[("old", false), ("new", false)];
    let mut case = case(&["old"], &["old", "new"], Some(listed)).shows("new");
    case = case.over(&[], 0);
    case.since = ["old".to_owned(), "new".to_owned()].into();
    assert_eq!(case.suspect(&["new", "old"]).as_deref(), Some("old"));
    assert_eq!(case.suspect(&["new", "other"]), None);
}

#[test]
fn a_pod_that_the_kubelet_has_forgotten_is_a_suspect_where_somebody_unseen_may_have_it() {
    let listed: &[_] = &[("old", false), ("new", false), ("third", false)];
    let mut unseen = case(&[], &["new"], Some(listed)).shows("new");
    assert_eq!(unseen.suspect(&["new", "old", "third"]), None);
    unseen.listed = all_of(Some(&[("new", false), ("third", false)]));
    assert_eq!(unseen.suspect(&["new", "old"]).as_deref(), Some("old"));
    assert_eq!(unseen.suspect(&["new", "third"]), None);
}
