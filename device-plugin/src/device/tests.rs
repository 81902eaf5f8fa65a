use std::time::Duration;

use cdmo_proto::podresources::{AllocatableResourcesResponse, ContainerDevices};

use super::*;
use crate::listing::Allocatable;
use crate::{Device, DevicePhase, Holder, Listing, Shown};

const MIG: &str = "nvidia.com/mig-3g.20gb";
const OTHER: &str = "nvidia.com/mig-1g.5gb";

fn rules() -> Rules {
    Rules {
        blind_wait: Duration::from_millis(50),
        unseen_for: Duration::from_secs(10),
        unseen_rounds: 3,
        starved_after: Duration::from_secs(30),
    }
}

fn device(id: &str) -> Device {
    Device {
        id: id.to_owned(),
        group: "GPU-0".to_owned(),
        specs: Vec::new(),
        cdi: None,
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn holder(pod: &str) -> Holder {
    Holder {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
    }
}

fn listing(shown: &[(&str, &str, &str)]) -> Listing {
    let shown = shown.iter().map(|(pod, resource, id)| Shown {
        holder: holder(pod),
        resource: (*resource).to_owned(),
        ids: ids(&[id]),
    });
    Listing::new(shown.collect())
}

fn allocatable(devices: &[&str]) -> Allocatable {
    let devices = ContainerDevices {
        resource_name: MIG.to_owned(),
        device_ids: ids(devices),
    };
    AllocatableResourcesResponse {
        devices: vec![devices],
    }
    .into()
}

/// A table with the devices offered and confirmed, and the stream that is read.
fn confirmed(devices: &[&str]) -> (Table, u64, Instant) {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    for id in devices {
        table.offer(MIG, device(id)).unwrap();
    }
    let reader = table.reader_opened(MIG);
    deliver(&mut table, reader, now);
    let begun = table.begin_observation();
    table.saw_allocatable(begun, &allocatable(devices));
    (table, reader, now)
}

fn deliver(table: &mut Table, reader: u64, now: Instant) {
    let version = table.version(MIG);
    table.delivered(MIG, reader, version, now);
}

fn grant(table: &mut Table, id: &str, now: Instant) {
    let (grant, _) = table.begin_grant(MIG, &ids(&[id]), now).unwrap();
    table.commit_grant(&grant, now);
}

fn look(table: &mut Table, shown: &[(&str, &str, &str)], now: Instant) -> Seen {
    let begun = table.begin_observation();
    let listing = Arc::new(listing(shown));
    let seen = table.saw_list(begun, &listing, now);
    table.looked(begun, listing);
    seen
}

fn phase(table: &Table, id: &str) -> Option<DevicePhase> {
    let state = table.resource_state(MIG);
    state
        .devices
        .iter()
        .find(|device| device.id == id)
        .map(|device| device.phase)
}

fn held(table: &Table, id: &str) -> bool {
    let state = table.resource_state(MIG);
    state
        .devices
        .iter()
        .any(|device| device.id == id && device.hold.is_some())
}

#[test]
fn a_look_that_began_before_the_list_was_handed_over_confirms_nothing() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    table.offer(MIG, device("a")).unwrap();
    let reader = table.reader_opened(MIG);
    let early = table.begin_observation();
    deliver(&mut table, reader, now);
    table.saw_allocatable(early, &allocatable(&["a"]));
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Unsettled);
    let late = table.begin_observation();
    table.saw_allocatable(late, &allocatable(&["a"]));
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Settled);
}

#[test]
fn absence_of_a_confirmed_device_proves_a_withdrawal_at_once() {
    let (mut table, reader, now) = confirmed(&["a"]);
    let ticket = table.withdraw(MIG, "a").unwrap();
    let early = table.begin_observation();
    table.saw_allocatable(early, &allocatable(&[]));
    assert_eq!(table.withdraw_progress(MIG, "a", ticket), Progress::Unread);
    deliver(&mut table, reader, now);
    let late = table.begin_observation();
    table.saw_allocatable(late, &allocatable(&[]));
    assert_eq!(table.withdraw_progress(MIG, "a", ticket), Progress::Settled);
}

#[test]
fn absence_of_a_device_that_was_never_confirmed_must_be_seen_twice() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    table.offer(MIG, device("a")).unwrap();
    let reader = table.reader_opened(MIG);
    deliver(&mut table, reader, now);
    let ticket = table.withdraw(MIG, "a").unwrap();
    deliver(&mut table, reader, now);
    for (seen, progress) in [
        (vec![], Progress::Unsettled),
        (vec!["a"], Progress::Unsettled),
        (vec![], Progress::Unsettled),
        (vec![], Progress::Settled),
    ] {
        let begun = table.begin_observation();
        table.saw_allocatable(begun, &allocatable(&seen));
        assert_eq!(table.withdraw_progress(MIG, "a", ticket), progress);
    }
}

fn read_checkpoint(table: &mut Table, ids: &[&str]) {
    let begun = table.begin_observation();
    table.saw_checkpoint(begun, allocatable(ids));
}

#[test]
fn a_silent_kubelet_needs_two_round_trips_and_the_wait() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    table.offer(MIG, device("a")).unwrap();
    let reader = table.reader_opened(MIG);
    deliver(&mut table, reader, now);
    for (after, progress) in [
        (10, Progress::Unsettled),
        (20, Progress::Unsettled),
        (60, Progress::Settled),
    ] {
        let begun = table.begin_observation();
        table.saw_round_trip(begun, now + Duration::from_millis(after));
        assert_eq!(table.offer_progress(MIG, "a"), progress, "{after} ms");
    }
}

#[test]
fn the_checkpoint_of_a_silent_kubelet_proves_what_it_did_not_say_before() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    let reader = table.reader_opened(MIG);
    read_checkpoint(&mut table, &[]);
    table.offer(MIG, device("a")).unwrap();
    deliver(&mut table, reader, now);
    read_checkpoint(&mut table, &[]);
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Unsettled);
    read_checkpoint(&mut table, &["a"]);
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Settled);
    let ticket = table.withdraw(MIG, "a").unwrap();
    deliver(&mut table, reader, now);
    read_checkpoint(&mut table, &["a"]);
    assert_eq!(
        table.withdraw_progress(MIG, "a", ticket),
        Progress::Unsettled
    );
    read_checkpoint(&mut table, &[]);
    assert_eq!(table.withdraw_progress(MIG, "a", ticket), Progress::Settled);
}

#[test]
fn a_checkpoint_from_before_the_kubelet_restarted_proves_nothing() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    let old = table.reader_opened(MIG);
    read_checkpoint(&mut table, &[]);
    table.offer(MIG, device("a")).unwrap();
    deliver(&mut table, old, now);
    let new = table.reader_opened(MIG);
    deliver(&mut table, new, now);
    read_checkpoint(&mut table, &["a"]);
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Unsettled);
}

#[test]
fn a_broken_stream_voids_every_confirmation_but_the_kubelet_goes_on_counting() {
    let (mut table, reader, _) = confirmed(&["a"]);
    table.reader_closed(MIG, reader);
    let state = table.resource_state(MIG);
    assert_eq!((state.allocatable, state.capacity), (0, 1));
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Unread);
}

#[test]
fn the_end_of_an_older_stream_does_not_touch_the_newer_one() {
    let (mut table, old, now) = confirmed(&["a"]);
    let new = table.reader_opened(MIG);
    deliver(&mut table, new, now);
    table.reader_closed(MIG, old);
    assert_eq!(table.offer_progress(MIG, "a"), Progress::Unsettled);
    let version = table.version(MIG);
    table.reader_opened(MIG);
    table.delivered(MIG, new, version, now);
    assert_eq!(
        table.offer_progress(MIG, "a"),
        Progress::Unread,
        "handed to the old stream"
    );
}

#[test]
fn a_grant_being_written_stops_a_fence_and_its_failure_lets_it_pass() {
    let (mut table, _, now) = confirmed(&["a"]);
    let ticket = table.withdraw(MIG, "a").unwrap();
    let (grant, _) = table.begin_grant(MIG, &ids(&["a"]), now).unwrap();
    assert!(matches!(
        table.fence(MIG, "a", ticket),
        Err(FenceRefusal::Held(_))
    ));
    table.abort_grant(&grant);
    table.fence(MIG, "a", ticket).unwrap();
    let refused = table.begin_grant(MIG, &ids(&["a"]), now).unwrap_err();
    assert_eq!(refused, GrantError::Fenced { id: "a".to_owned() });
}

#[test]
fn a_failed_grant_of_a_held_device_leaves_the_former_hold() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    let (again, _) = table.begin_grant(MIG, &ids(&["a"]), now).unwrap();
    table.abort_grant(&again);
    assert!(held(&table, "a"));
}

#[test]
fn a_hold_that_was_shown_is_quiet_at_the_first_look_without_it() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    let seen = look(&mut table, &[("pod", MIG, "a")], now);
    assert_eq!(seen.named.len(), 1);
    assert!(
        look(&mut table, &[("pod", MIG, "a")], now).named.is_empty(),
        "no news"
    );
    let seen = look(&mut table, &[], now);
    assert_eq!(seen.quiet.len(), 1);
    table.release(&seen.quiet[0]);
    assert!(!held(&table, "a"));
}

#[test]
fn a_hold_that_was_never_shown_needs_looks_and_time() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    let late = now + rules().unseen_for;
    for _ in 0..10 {
        assert!(
            look(&mut table, &[], now).quiet.is_empty(),
            "no time passed"
        );
    }
    assert_eq!(look(&mut table, &[], late).quiet.len(), 1);

    grant(&mut table, "a", now);
    assert!(look(&mut table, &[], late).quiet.is_empty(), "one look");
    assert!(look(&mut table, &[], late).quiet.is_empty(), "two looks");
    assert_eq!(look(&mut table, &[], late).quiet.len(), 1);
}

#[test]
fn a_look_that_began_before_the_grant_was_answered_says_nothing_about_it() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    look(&mut table, &[("old", MIG, "a")], now);
    let begun = table.begin_observation();
    grant(&mut table, "a", now);
    table.saw_list(begun, &listing(&[("old", MIG, "a")]), now);
    assert!(
        look(&mut table, &[], now).quiet.is_empty(),
        "the new pod was never shown"
    );
    let hold = table.resource_state(MIG).devices[0].hold.clone().unwrap();
    assert!(!hold.shown);
    assert_eq!(hold.holders.len(), 1, "the former holder stays a suspect");
}

#[test]
fn a_grant_between_proof_and_release_keeps_the_hold() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    look(&mut table, &[("pod", MIG, "a")], now);
    let quiet = look(&mut table, &[], now).quiet.remove(0);
    let (next, _) = table.begin_grant(MIG, &ids(&["a"]), now).unwrap();
    assert!(!table.unchanged(&quiet));
    table.release(&quiet);
    table.commit_grant(&next, now);
    table.release(&quiet);
    assert!(held(&table, "a"));
}

#[test]
fn an_id_is_listed_until_it_is_fenced_and_forgotten() {
    let (mut table, _, _) = confirmed(&["a"]);
    let ticket = table.withdraw(MIG, "a").unwrap();
    table.forget(MIG, "a", ticket);
    assert_eq!(
        phase(&table, "a"),
        Some(DevicePhase::Withdrawing),
        "not fenced"
    );
    table.fence(MIG, "a", ticket).unwrap();
    table.forget(MIG, "a", ticket + 1);
    assert_eq!(
        phase(&table, "a"),
        Some(DevicePhase::Fenced),
        "another withdrawal's token"
    );
    table.forget(MIG, "a", ticket);
    assert_eq!(phase(&table, "a"), None);
}

#[test]
fn a_lost_device_leaves_the_list_when_nobody_holds_it_and_the_kubelet_knows() {
    let (mut table, reader, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    look(&mut table, &[("pod", MIG, "a")], now);
    table.lose(MIG, "a");
    deliver(&mut table, reader, now);
    let begun = table.begin_observation();
    table.saw_allocatable(begun, &allocatable(&[]));
    assert_eq!(phase(&table, "a"), Some(DevicePhase::Lost), "held");
    let quiet = look(&mut table, &[], now).quiet.remove(0);
    table.release(&quiet);
    assert_eq!(phase(&table, "a"), None);
}

#[test]
fn a_pod_that_has_a_device_of_ours_that_we_do_not_list_gets_it_listed_as_lost() {
    let now = Instant::now();
    let mut table = Table::new(rules(), Vec::new(), now);
    table.ensure(MIG);
    let seen = look(
        &mut table,
        &[("pod", MIG, "a"), ("pod", "vendor/other", "b")],
        now,
    );
    assert_eq!(seen.found, [(MIG.to_owned(), "a".to_owned())]);
    assert_eq!(phase(&table, "a"), Some(DevicePhase::Lost));
    assert_eq!(table.list(MIG).devices.len(), 1);
}

#[test]
fn an_id_that_a_pod_has_under_another_name_is_unhealthy_until_that_hold_is_over() {
    let (mut table, _, now) = confirmed(&["a"]);
    table.ensure(OTHER);
    look(&mut table, &[("pod", OTHER, "a")], now);
    assert!(!table.list(MIG).devices[0].healthy);
    let refused = table.begin_grant(MIG, &ids(&["a"]), now).unwrap_err();
    assert!(matches!(refused, GrantError::Elsewhere { .. }));

    let quiet = look(&mut table, &[], now).quiet.remove(0);
    assert!(
        !table.list(MIG).devices[0].healthy,
        "not shown, but not proven free"
    );
    let reader = table.reader_opened(OTHER);
    let version = table.version(OTHER);
    table.delivered(OTHER, reader, version, now);
    for _ in 0..2 {
        let begun = table.begin_observation();
        table.saw_allocatable(begun, &allocatable(&[]));
    }
    table.release(&quiet);
    look(&mut table, &[], now);
    assert!(table.list(MIG).devices[0].healthy);
}

#[test]
fn a_resource_starves_only_when_the_kubelet_shows_none_of_its_devices_for_long() {
    let (mut table, _, now) = confirmed(&["a", "b"]);
    let late = now + rules().starved_after;
    let begun = table.begin_observation();
    table.saw_allocatable(begun, &allocatable(&["b"]));
    assert!(table.starved(late).is_empty());
    let begun = table.begin_observation();
    table.saw_allocatable(begun, &allocatable(&[]));
    assert!(table.starved(now).is_empty());
    assert_eq!(table.starved(late), [MIG]);
}

#[test]
fn holders_that_are_remembered_are_bounded() {
    let (mut table, _, now) = confirmed(&["a"]);
    for pod in 0..20 {
        grant(&mut table, "a", now);
        look(&mut table, &[(&format!("pod-{pod}"), MIG, "a")], now);
    }
    let hold = table.resource_state(MIG).devices[0].hold.clone().unwrap();
    assert_eq!(hold.holders.len(), 8);
    assert_eq!(hold.holders.last().unwrap().pod, "pod-19");
}

/// A container of a pod that is shown with it may start, after a look of its own.
fn may_start_of(table: &mut Table, id: &str, pods: &[&str]) -> bool {
    let asked = table.begin_observation();
    let shown: Vec<_> = pods.iter().map(|pod| (*pod, MIG, id)).collect();
    look(table, &shown, Instant::now());
    let begun = table.begin_start(MIG, &ids(&[id]), asked);
    begun.is_ok_and(|contests| contests.is_empty())
}

/// It may start without any look.
fn may_start(table: &mut Table, id: &str) -> bool {
    let asked = table.begin_observation();
    let begun = table.begin_start(MIG, &ids(&[id]), asked);
    begun.is_ok_and(|contests| contests.is_empty())
}

#[test]
fn a_device_granted_over_a_started_hold_starts_only_after_its_contest() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    look(&mut table, &[("old", MIG, "a")], now);
    assert!(may_start(&mut table, "a"));
    assert!(may_start(&mut table, "a"), "a container starts again");
    grant(&mut table, "a", now);
    assert!(!may_start_of(&mut table, "a", &["new"]));
    let contest = table.contests().remove(0);
    assert_eq!(former(&contest), ["old"]);
    assert_eq!(contest.present.as_ref().unwrap().pod, "new");
    assert!(table.settle_contest(&contest));
    assert!(!may_start(&mut table, "a"), "the kubelet may know two pods");
    assert!(may_start_of(&mut table, "a", &["new"]));
}

#[test]
fn a_device_that_two_pods_have_starts_with_neither_until_one_of_them_has_ended() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    assert!(may_start(&mut table, "a"));
    // Granted anew before anybody was shown with it.
    grant(&mut table, "a", now);
    assert!(!may_start_of(&mut table, "a", &["old", "new"]));
    let contest = table.contests().remove(0);
    let rivals = Unclear::Rivals(Box::new((holder("old"), holder("new"))));
    assert_eq!(contest.unclear, Some(rivals));
    // Gone from the kubelet's books, which says nothing of its processes.
    assert!(!may_start_of(&mut table, "a", &["new"]));
    let contest = table.contests().remove(0);
    assert_eq!(former(&contest), ["old"]);
    assert!(table.settle_contest(&contest));
    assert!(may_start_of(&mut table, "a", &["new"]));
}

#[test]
fn a_device_that_the_kubelet_named_as_free_is_another_pods_although_nothing_has_started() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    table.named_as_free(MIG, ids(&["a"]).iter());
    grant(&mut table, "a", now);
    assert!(!may_start(&mut table, "a"));
    assert!(!may_start_of(&mut table, "a", &["old", "new"]));
    assert!(!may_start_of(&mut table, "a", &["new"]));
}

#[test]
fn a_start_that_was_called_for_before_the_device_was_granted_anew_is_refused() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    assert!(may_start(&mut table, "a"));
    let asked = table.begin_observation();
    grant(&mut table, "a", now);
    look(&mut table, &[("new", MIG, "a")], now);
    let begun = table.begin_start(MIG, &ids(&["a"]), asked);
    let id = "a".to_owned();
    assert_eq!(begun, Err(GrantError::Overtaken { id }));
}

#[test]
fn a_pod_that_asks_twice_before_it_starts_does_not_contest_its_own_device() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    grant(&mut table, "a", now);
    assert!(may_start(&mut table, "a"));
}

#[test]
fn a_proof_for_an_older_contest_settles_no_newer_one() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    assert!(may_start(&mut table, "a"));
    grant(&mut table, "a", now);
    let older = table.contests().remove(0);
    grant(&mut table, "a", now);
    assert!(!table.settle_contest(&older));
    assert!(!may_start(&mut table, "a"));
}

/// A device that the journal says is held by these pods, offered and known to the kubelet.
fn adopted(pods: &[&str]) -> (Table, Instant) {
    let now = Instant::now();
    let holders = pods.iter().map(|pod| holder(pod));
    let hold = Hold {
        resource: MIG.to_owned(),
        id: "a".to_owned(),
        holders: holders.collect(),
    };
    let mut table = Table::new(rules(), vec![hold], now);
    table.offer(MIG, device("a")).unwrap();
    let reader = table.reader_opened(MIG);
    deliver(&mut table, reader, now);
    let begun = table.begin_observation();
    table.saw_allocatable(begun, &allocatable(&["a"]));
    (table, now)
}

#[test]
fn an_adopted_hold_is_put_to_the_proof_once() {
    let (mut table, now) = adopted(&["old", "new"]);
    look(&mut table, &[("new", MIG, "a")], now);
    assert!(!may_start(&mut table, "a"));
    let contest = table.contests().remove(0);
    assert_eq!(former(&contest), ["old", "new"]);
    assert_eq!(contest.present.as_ref().unwrap().pod, "new");
    assert!(table.settle_contest(&contest));
    assert!(table.contests().is_empty());
    assert!(may_start_of(&mut table, "a", &["new"]));
}

#[test]
fn an_adopted_hold_counts_as_started_whether_it_was_proven_or_not() {
    let (mut table, now) = adopted(&["old"]);
    let contest = table.contests().remove(0);
    assert!(table.settle_contest(&contest));
    look(&mut table, &[("old", MIG, "a")], now);
    grant(&mut table, "a", now);
    assert!(!may_start(&mut table, "a"));
    let (mut table, now) = adopted(&["old"]);
    grant(&mut table, "a", now);
    assert!(!may_start(&mut table, "a"));
    assert_eq!(former(&table.contests()[0]), ["old"]);
}

#[test]
fn a_pod_that_started_and_was_never_shown_is_nobody_known() {
    let (mut table, _, now) = confirmed(&["a"]);
    grant(&mut table, "a", now);
    look(&mut table, &[("first", MIG, "a")], now);
    assert!(may_start(&mut table, "a"));
    grant(&mut table, "a", now);
    look(&mut table, &[], now);
    let contest = table.contests().remove(0);
    assert!(!contest.unseen);
    assert!(table.settle_contest(&contest));
    assert!(may_start_of(&mut table, "a", &[]));
    grant(&mut table, "a", now);
    let contest = &table.contests()[0];
    assert!(former(contest).is_empty() && contest.unseen);
}

fn former(contest: &Contest) -> Vec<&str> {
    let holders = contest.held.hold.holders.iter();
    holders.map(|holder| holder.pod.as_str()).collect()
}
