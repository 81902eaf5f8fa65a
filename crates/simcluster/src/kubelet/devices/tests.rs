use cdmo_proto::deviceplugin::ContainerAllocateResponse;
use proptest::prelude::*;

use super::allocation::{AllocateError, Chosen, Panic, PreferError, Role, Step, Wish};
use super::checkpoint::Checkpoint;
use super::*;

const RESOURCE: &str = "nvidia.com/mig-1g.5gb";
const NOW: Duration = Duration::from_secs(1_000);

fn manager(behaviour: Behaviour) -> DeviceManager {
    DeviceManager::new(behaviour, STOP_GRACE)
}

/// A manager with a plugin and these healthy devices.
fn with_devices(behaviour: Behaviour, ids: &[&str]) -> (DeviceManager, EndpointId) {
    let mut manager = manager(behaviour);
    let id = manager.connected(
        RESOURCE,
        PluginOptions {
            pre_start: true,
            preferred: false,
        },
    );
    list(&mut manager, ids);
    (manager, id)
}

fn list(manager: &mut DeviceManager, ids: &[&str]) {
    manager.listed(RESOURCE, ids.iter().map(|id| ((*id).to_owned(), true)));
}

fn wish(pod: &str, container: &str, count: usize) -> Wish {
    Wish {
        pod: pod.to_owned(),
        container: container.to_owned(),
        role: Role::App,
        resource: RESOURCE.to_owned(),
        count,
        running: false,
    }
}

fn init(pod: &str, container: &str, count: usize) -> Wish {
    Wish {
        role: Role::Init,
        ..wish(pod, container, count)
    }
}

fn set(ids: &[&str]) -> Ids {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn answer(text: &str) -> ContainerAllocateResponse {
    let envs = std::collections::HashMap::from([("ANSWER".to_owned(), text.to_owned())]);
    ContainerAllocateResponse {
        envs,
        ..ContainerAllocateResponse::default()
    }
}

fn chosen<E: std::fmt::Debug>(step: Result<Step, E>) -> Chosen {
    match step {
        Ok(Step::Allocate(chosen)) => chosen,
        other => panic!("expected an allocation, found {other:?}"),
    }
}

/// The whole way of one wish with a plugin that grants everything.
fn grant(manager: &mut DeviceManager, wish: &Wish) -> Ids {
    manager.admit(&wish.pod);
    let chosen = chosen(manager.want(wish));
    manager.granted(wish, &chosen.ids, answer("first")).unwrap();
    manager.container_admitted(&wish.pod, &wish.container, wish.role);
    chosen.ids
}

fn active(pods: &[&str]) -> BTreeSet<String> {
    set(pods)
}

#[test]
fn a_resource_nobody_registered_is_none_of_the_device_managers_business() {
    assert!(!manager(Behaviour::V1_33).manages(RESOURCE));
    assert!(with_devices(Behaviour::V1_33, &[]).0.manages(RESOURCE));
}

#[test]
fn two_pods_never_get_the_same_device() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    assert_eq!(grant(&mut manager, &wish("p", "c", 1)), set(&["a"]));
    assert_eq!(grant(&mut manager, &wish("q", "c", 1)), set(&["b"]));
    manager.admit("r");
    let refused = manager.want(&wish("r", "c", 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "requested number of devices unavailable for nvidia.com/mig-1g.5gb. Requested: 1, \
         Available: 0"
    );
}

#[test]
fn without_a_healthy_device_the_kubelet_says_so_and_1_20_counts_only() {
    let text = |behaviour| {
        let (mut manager, _) = with_devices(behaviour, &[]);
        manager.listed(RESOURCE, [("a".to_owned(), false)]);
        manager.admit("p");
        manager.want(&wish("p", "c", 1)).unwrap_err().to_string()
    };
    assert_eq!(
        text(Behaviour::V1_33),
        "no healthy devices present; cannot allocate unhealthy devices nvidia.com/mig-1g.5gb"
    );
    assert!(text(Behaviour::V1_20).starts_with("requested number of devices unavailable"));
}

#[test]
fn devices_of_init_containers_are_used_again_by_the_other_containers() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b", "c"]);
    let first = grant(&mut manager, &init("p", "i1", 2));
    let second = grant(&mut manager, &init("p", "i2", 1));
    assert!(first.is_superset(&second));
    let app = grant(&mut manager, &wish("p", "main", 2));
    assert_eq!(app, first);
    let side = grant(&mut manager, &wish("p", "side", 1));
    assert_eq!(side, set(&["c"]));
}

#[test]
fn devices_of_another_pods_init_container_are_not_used() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    grant(&mut manager, &init("p", "i", 1));
    assert_eq!(grant(&mut manager, &wish("q", "c", 1)), set(&["b"]));
}

#[test]
fn devices_become_free_only_when_somebody_looks_for_inactive_pods() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a"]);
    grant(&mut manager, &wish("p", "c", 1));
    manager.admit("q");
    assert!(manager.want(&wish("q", "c", 1)).is_err());
    manager.release_inactive(&active(&[]));
    assert_eq!(chosen(manager.want(&wish("q", "c", 1))).ids, set(&["a"]));
}

#[test]
fn the_pod_being_admitted_keeps_its_devices_although_it_is_not_active_yet() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    grant(&mut manager, &wish("p", "c1", 1));
    manager.release_inactive(&active(&[]));
    assert!(manager.held().has_pod("p"));
    manager.admit("q");
    manager.release_inactive(&active(&[]));
    assert!(!manager.held().has_pod("p"));
}

#[test]
fn a_refusal_by_the_plugin_gives_the_device_back() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a"]);
    manager.admit("p");
    chosen(manager.want(&wish("p", "c", 1)));
    manager.refused();
    assert_eq!(grant(&mut manager, &wish("q", "c", 1)), set(&["a"]));
}

#[test]
fn a_device_that_vanished_while_it_was_granted_is_a_panic() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    manager.admit("p");
    let chosen = chosen(manager.want(&wish("p", "c", 1)));
    list(&mut manager, &["b"]);
    let panic = manager
        .granted(&wish("p", "c", 1), &chosen.ids, answer(""))
        .unwrap_err();
    let vanished = Panic::NotListed {
        resource: RESOURCE.to_owned(),
        id: "a".to_owned(),
    };
    assert_eq!(panic, vanished);
}

#[test]
fn a_device_that_became_unhealthy_while_it_was_granted_is_no_panic() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a"]);
    manager.admit("p");
    let chosen = chosen(manager.want(&wish("p", "c", 1)));
    manager.listed(RESOURCE, [("a".to_owned(), false)]);
    manager
        .granted(&wish("p", "c", 1), &chosen.ids, answer(""))
        .unwrap();
}

#[test]
fn a_container_with_devices_asks_nobody_again() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    grant(&mut manager, &wish("p", "c", 1));
    assert_eq!(manager.want(&wish("p", "c", 1)), Ok(Step::Done));
    assert_eq!(manager.held().run_options("p", "c").envs["ANSWER"], "first");
}

#[test]
fn counting_is_by_resource_name() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a"]);
    let other = "nvidia.com/mig-2g.10gb";
    manager.connected(other, PluginOptions::default());
    manager.listed(other, [("a".to_owned(), true)]);
    grant(&mut manager, &wish("p", "c", 1));
    let same_id = Wish {
        resource: other.to_owned(),
        ..wish("q", "c", 1)
    };
    assert_eq!(grant(&mut manager, &same_id), set(&["a"]));
}

#[test]
fn capacity_counts_all_devices_and_allocatable_the_healthy_ones() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &[]);
    manager.listed(RESOURCE, [("a".to_owned(), true), ("b".to_owned(), false)]);
    let report = manager.capacity(NOW);
    assert_eq!(
        (report.capacity[RESOURCE], report.allocatable[RESOURCE]),
        (2, 1)
    );
    manager.listed(RESOURCE, []);
    let report = manager.capacity(NOW);
    assert_eq!(
        (report.capacity[RESOURCE], report.allocatable[RESOURCE]),
        (0, 0)
    );
    assert!(report.removed.is_empty());
}

#[test]
fn after_its_stream_ended_a_resource_is_unhealthy_for_five_minutes_and_then_gone() {
    let (mut manager, id) = with_devices(Behaviour::V1_33, &["a"]);
    assert_eq!(manager.disconnected(RESOURCE, id, NOW), None);
    let report = manager.capacity(NOW + Duration::from_secs(299));
    assert_eq!(
        (report.capacity[RESOURCE], report.allocatable[RESOURCE]),
        (1, 0)
    );
    assert_eq!(manager.deadline(), Some(NOW + STOP_GRACE));
    let report = manager.capacity(NOW + STOP_GRACE);
    assert_eq!(report.removed, [RESOURCE]);
    assert!(!manager.manages(RESOURCE));
}

#[test]
fn a_new_registration_within_the_grace_goes_on() {
    let (mut manager, id) = with_devices(Behaviour::V1_33, &["a"]);
    manager.disconnected(RESOURCE, id, NOW);
    manager.connected(RESOURCE, PluginOptions::default());
    list(&mut manager, &["a"]);
    let report = manager.capacity(NOW + STOP_GRACE * 2);
    assert_eq!(
        (report.capacity[RESOURCE], report.allocatable[RESOURCE]),
        (1, 1)
    );
}

#[test]
fn the_late_end_of_an_old_stream_hurts_the_new_plugin_but_not_on_1_20() {
    for (behaviour, hurts) in [(Behaviour::V1_20, false), (Behaviour::V1_33, true)] {
        let (mut manager, old) = with_devices(behaviour, &["a"]);
        let new = manager.connected(RESOURCE, PluginOptions::default());
        list(&mut manager, &["a"]);
        let victim = manager.disconnected(RESOURCE, old, NOW);
        assert_eq!(victim, hurts.then_some(new), "{behaviour:?}");
        assert_eq!(
            manager.capacity(NOW).allocatable[RESOURCE],
            i64::from(!hurts)
        );
    }
}

fn restarted(manager: &DeviceManager, behaviour: Behaviour) -> DeviceManager {
    let text = serde_json::to_string(&manager.checkpoint()).unwrap();
    let checkpoint: Checkpoint = serde_json::from_str(&text).unwrap();
    DeviceManager::restore(behaviour, STOP_GRACE, checkpoint, NOW)
}

#[test]
fn after_a_kubelet_restart_resources_are_zero_and_grants_are_kept() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a", "b"]);
    grant(&mut manager, &wish("p", "c", 1));
    let mut manager = restarted(&manager, Behaviour::V1_33);
    let report = manager.capacity(NOW);
    assert_eq!(
        (report.capacity[RESOURCE], report.allocatable[RESOURCE]),
        (0, 0)
    );
    assert_eq!(
        manager.held().grant("p", "c", RESOURCE).unwrap().answer,
        answer("first")
    );
    manager.connected(RESOURCE, PluginOptions::default());
    list(&mut manager, &["a", "b"]);
    assert_eq!(grant(&mut manager, &wish("q", "c", 1)), set(&["b"]));
}

#[test]
fn after_a_kubelet_restart_running_containers_are_tolerated_and_others_are_not() {
    let (mut manager, _) = with_devices(Behaviour::V1_33, &["a"]);
    grant(&mut manager, &wish("p", "c", 1));
    let mut manager = restarted(&manager, Behaviour::V1_33);
    manager.admit("p");
    let running = Wish {
        running: true,
        ..wish("p", "c", 1)
    };
    assert_eq!(manager.want(&running), Ok(Step::Done));
    assert_eq!(
        manager.want(&wish("p", "c", 1)),
        Err(AllocateError::NoHealthy(RESOURCE.to_owned()))
    );
}

#[test]
fn kubelet_1_20_does_not_look_at_the_health_of_what_a_pod_has() {
    let (mut manager, _) = with_devices(Behaviour::V1_20, &["a"]);
    grant(&mut manager, &wish("p", "c", 1));
    let mut manager = restarted(&manager, Behaviour::V1_20);
    manager.admit("p");
    assert_eq!(manager.want(&wish("p", "c", 1)), Ok(Step::Done));
}

#[test]
fn pre_start_is_called_with_the_containers_devices_where_the_plugin_wants_it() {
    let (mut manager, endpoint) = with_devices(Behaviour::V1_33, &["a"]);
    grant(&mut manager, &wish("p", "c", 1));
    let calls = manager.pre_start("p", "c", [RESOURCE]).unwrap();
    assert_eq!(calls[RESOURCE], (endpoint, set(&["a"])));
    manager.connected(RESOURCE, PluginOptions::default());
    assert!(manager.pre_start("p", "c", [RESOURCE]).unwrap().is_empty());
}

#[test]
fn no_container_with_devices_starts_while_its_plugin_is_away() {
    let (mut manager, id) = with_devices(Behaviour::V1_33, &["a"]);
    grant(&mut manager, &wish("p", "c", 1));
    manager.disconnected(RESOURCE, id, NOW);
    assert!(manager.pre_start("p", "c", [RESOURCE]).is_err());
}

/// A manager with a plugin that prefers, and these healthy devices.
fn with_preference(behaviour: Behaviour, ids: &[&str]) -> DeviceManager {
    let mut manager = manager(behaviour);
    manager.connected(
        RESOURCE,
        PluginOptions {
            pre_start: false,
            preferred: true,
        },
    );
    list(&mut manager, ids);
    manager
}

/// Pods hold `held`, and all that are not `active` have ended when somebody asks List in the middle of
/// the admission of another pod.
fn listed_while_asking(
    behaviour: Behaviour,
    held: &[(&str, &str)],
    active: &[&str],
) -> Result<Step, PreferError> {
    let mut manager = with_preference(behaviour, &["a", "b", "c"]);
    for (pod, id) in held {
        grant_preferring(&mut manager, &wish(pod, "c", 1), &[id], &[id]);
    }
    manager.admit("new");
    let wish = wish("new", "c", 1);
    let Ok(Step::Ask(question)) = manager.want(&wish) else {
        panic!("no question")
    };
    manager.release_inactive(&set(active));
    manager.prefer(&wish, question, &set(&["c"]))
}

#[test]
fn a_kubelet_listed_while_it_asks_panics_if_the_resources_last_pod_has_ended() {
    let panic = PreferError::Panicked(Panic::NoBooks {
        resource: RESOURCE.to_owned(),
    });
    for behaviour in [Behaviour::V1_20, Behaviour::V1_28] {
        let step = listed_while_asking(behaviour, &[("p", "a")], &[]);
        assert_eq!(step, Err(panic.clone()));
        assert!(
            panic
                .to_string()
                .starts_with("panic: assignment to entry in nil map")
        );
    }
    assert!(listed_while_asking(Behaviour::V1_33, &[("p", "a")], &[]).is_ok());
}

#[test]
fn a_kubelet_listed_while_it_asks_goes_on_if_nothing_ended_or_another_pod_is_left() {
    let (p, q) = (("p", "a"), ("q", "b"));
    for behaviour in [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33] {
        assert!(listed_while_asking(behaviour, &[], &[]).is_ok());
        assert!(listed_while_asking(behaviour, &[p], &["p"]).is_ok());
        assert!(listed_while_asking(behaviour, &[p, q], &["q"]).is_ok());
    }
}

#[test]
fn the_plugins_preference_is_followed_and_completed() {
    let mut manager = with_preference(Behaviour::V1_33, &["a", "b", "c", "d"]);
    grant_preferring(&mut manager, &wish("p", "c", 1), &["c"], &["c"]);
    grant_preferring(
        &mut manager,
        &wish("q", "c", 2),
        &["d", "nonsense", "c"],
        &["a", "d"],
    );
}

fn grant_preferring(manager: &mut DeviceManager, wish: &Wish, liked: &[&str], got: &[&str]) {
    manager.admit(&wish.pod);
    let Ok(Step::Ask(question)) = manager.want(wish) else {
        panic!("no question")
    };
    let chosen = chosen(manager.prefer(wish, question, &set(liked)));
    manager.granted(wish, &chosen.ids, answer("")).unwrap();
    assert_eq!(chosen.ids, set(got));
}

proptest! {
    /// Whatever plugins list and pods do, no device of a resource is ever in two live pods.
    #[test]
    fn a_device_is_in_one_live_pod_at_most(
        steps in proptest::collection::vec((0..4_u8, 0..6_u8, 0..64_u8), 1..80),
        which in 0..3_u8,
    ) {
        let behaviour = [Behaviour::V1_20, Behaviour::V1_28, Behaviour::V1_33][usize::from(which)];
        let (mut manager, _) = with_devices(behaviour, &["0", "1", "2"]);
        let mut alive = BTreeSet::new();
        for (step, pod, bits) in steps {
            let pod = format!("p{pod}");
            match step {
                0 => {
                    let device = |n: u8| (n.to_string(), bits & (1 << n) != 0);
                    manager.listed(RESOURCE, (0..6).map(device));
                }
                1 => {
                    alive.remove(&pod);
                }
                _ if alive.contains(&pod) => {}
                _ => {
                    manager.admit(&pod);
                    manager.release_inactive(&alive);
                    let wish = wish(&pod, "c", usize::from(bits % 3) + 1);
                    match manager.want(&wish) {
                        Ok(Step::Allocate(chosen)) if bits % 7 == 0 => {
                            prop_assert_eq!(chosen.ids.len(), wish.count);
                            manager.refused();
                        }
                        Ok(Step::Allocate(chosen)) => {
                            manager.granted(&wish, &chosen.ids, answer("")).unwrap();
                            alive.insert(pod);
                        }
                        Ok(_) => { alive.insert(pod); }
                        Err(_) => manager.refused(),
                    }
                }
            }
            let mut seen = BTreeSet::new();
            for (pod, _, _, grant) in manager.held().iter() {
                for id in grant.ids.iter().filter(|_| alive.contains(pod)) {
                    prop_assert!(seen.insert(id.clone()), "{} is held twice", id);
                }
            }
        }
    }
}
