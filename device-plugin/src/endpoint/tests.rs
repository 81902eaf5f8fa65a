use super::*;

fn socket(inode: u64) -> SocketId {
    SocketId {
        inode,
        modified: (0, 0),
    }
}

fn look(kubelet: Option<u64>, own: bool) -> Event {
    Event::Looked(Look {
        kubelet: kubelet.map(socket),
        own,
        yields: false,
    })
}

/// Another plugin is there.
fn rival(own: bool) -> Event {
    Event::Looked(Look {
        kubelet: Some(socket(1)),
        own,
        yields: true,
    })
}

fn timing() -> Timing {
    Timing::default()
}

fn endpoint() -> Endpoint {
    Endpoint::new(&timing())
}

/// Registered, and the kubelet reads the list.
fn live() -> Endpoint {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    endpoint.handle(Event::Listening(Ok(())));
    endpoint.handle(Event::Registered(Ok(())));
    endpoint.handle(Event::Streams(1));
    assert_eq!(endpoint.registration(), Registration::Registered);
    endpoint
}

fn delay(actions: &[Action]) -> Option<Duration> {
    actions.iter().find_map(|action| match action {
        Action::Timer(after) => *after,
        _ => None,
    })
}

#[test]
fn nothing_is_registered_while_another_plugin_is_there_and_at_once_when_it_is_gone() {
    let mut endpoint = endpoint();
    let actions = endpoint.handle(rival(false));
    assert!(!actions.contains(&Action::Listen), "{actions:?}");
    assert!(endpoint.handle(rival(false)).is_empty());
    assert_eq!(endpoint.registration(), Registration::Yielding);
    let actions = endpoint.handle(look(Some(1), false));
    assert_eq!(actions.last(), Some(&Action::Listen));
    let actions = endpoint.handle(Event::Listening(Ok(())));
    assert_eq!(actions.last(), Some(&Action::Register { attempt: 1 }));
}

#[test]
fn a_plugin_that_comes_back_is_yielded_to_and_waited_for() {
    let mut endpoint = live();
    let actions = endpoint.handle(rival(true));
    assert!(actions.contains(&Action::CloseStreams), "{actions:?}");
    assert!(endpoint.handle(Event::Streams(0)).is_empty());
    assert!(endpoint.handle(Event::Due).is_empty());
    let actions = endpoint.handle(look(Some(1), true));
    assert_eq!(actions.last(), Some(&Action::Register { attempt: 1 }));
}

#[test]
fn a_registration_that_another_plugin_overtook_is_given_up() {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    endpoint.handle(Event::Listening(Ok(())));
    endpoint.handle(rival(true));
    assert_eq!(endpoint.handle(Event::Streams(1)), [Action::CloseStreams]);
    assert!(endpoint.handle(Event::Registered(Ok(()))).is_empty());
    assert_eq!(endpoint.registration(), Registration::Yielding);
}

#[test]
fn nothing_happens_without_a_kubelet() {
    let mut endpoint = endpoint();
    assert!(endpoint.handle(look(None, false)).is_empty());
    assert_eq!(endpoint.registration(), Registration::KubeletAbsent);
}

#[test]
fn the_socket_is_served_before_register_is_called() {
    let mut endpoint = endpoint();
    let actions = endpoint.handle(look(Some(1), false));
    assert_eq!(actions.last(), Some(&Action::Listen));
    let actions = endpoint.handle(Event::Listening(Ok(())));
    assert_eq!(actions.last(), Some(&Action::Register { attempt: 1 }));
}

#[test]
fn a_stream_may_open_before_register_is_answered_or_after() {
    for stream_first in [true, false] {
        let mut endpoint = endpoint();
        endpoint.handle(look(Some(1), false));
        endpoint.handle(Event::Listening(Ok(())));
        if stream_first {
            endpoint.handle(Event::Streams(1));
            endpoint.handle(Event::Registered(Ok(())));
        } else {
            endpoint.handle(Event::Registered(Ok(())));
            assert_ne!(endpoint.registration(), Registration::Registered);
            endpoint.handle(Event::Streams(1));
        }
        assert_eq!(endpoint.registration(), Registration::Registered);
    }
}

#[test]
fn attempts_are_counted_and_their_pauses_double_up_to_the_longest() {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    endpoint.handle(Event::Listening(Ok(())));
    let mut pauses = Vec::new();
    for attempt in 1..=12 {
        let actions = endpoint.handle(Event::Registered(Err("no".to_owned())));
        pauses.push(delay(&actions).unwrap());
        let reason = "no".to_owned();
        assert_eq!(
            endpoint.registration(),
            Registration::Retrying { attempt, reason }
        );
        if endpoint.handle(Event::Due).contains(&Action::Listen) {
            endpoint.handle(Event::Listening(Ok(())));
        }
    }
    assert!(
        pauses
            .windows(2)
            .all(|pair| pair[1] == (pair[0] * 2).min(timing().register_backoff_max))
    );
    assert_eq!(pauses.last(), Some(&timing().register_backoff_max));
}

#[test]
fn a_socket_that_leads_nowhere_is_made_anew_now_and_then() {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    endpoint.handle(Event::Listening(Ok(())));
    let mut fresh = 0;
    for _ in 0..8 {
        endpoint.handle(Event::Registered(Err("no".to_owned())));
        if endpoint.handle(Event::Due).contains(&Action::Listen) {
            fresh += 1;
            endpoint.handle(Event::Listening(Ok(())));
        }
    }
    assert_eq!(fresh, 2);
}

#[test]
fn a_socket_that_cannot_be_made_is_tried_again() {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    let actions = endpoint.handle(Event::Listening(Err("read-only file system".to_owned())));
    assert!(delay(&actions).is_some());
    assert_eq!(endpoint.handle(Event::Due).last(), Some(&Action::Listen));
}

#[test]
fn an_open_stream_is_closed_and_the_kubelet_given_a_moment_before_a_new_register() {
    let mut endpoint = live();
    let actions = endpoint.handle(Event::Starved);
    assert_eq!(actions[0], Action::CloseStreams);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Register { .. }))
    );
    let actions = endpoint.handle(Event::Streams(0));
    assert_eq!(actions, [Action::Timer(Some(timing().settle))]);
    assert!(matches!(
        endpoint.handle(Event::Due).last(),
        Some(Action::Register { .. })
    ));
}

#[test]
fn the_stream_of_a_socket_that_vanished_is_closed_too_before_a_new_register() {
    let mut endpoint = live();
    let actions = endpoint.handle(look(Some(1), false));
    assert_eq!(
        actions,
        [
            Action::CloseStreams,
            Action::Timer(Some(timing().close_timeout))
        ]
    );
    let actions = endpoint.handle(Event::Streams(0));
    assert_eq!(actions, [Action::Timer(Some(timing().settle))]);
    assert_eq!(endpoint.handle(Event::Due).last(), Some(&Action::Listen));
}

#[test]
fn a_stream_opened_by_a_register_that_failed_is_closed_before_the_socket_is_made_anew() {
    let mut endpoint = endpoint();
    endpoint.handle(look(Some(1), false));
    endpoint.handle(Event::Listening(Ok(())));
    for _ in 1..FRESH_SOCKET_EVERY {
        endpoint.handle(Event::Registered(Err("no".to_owned())));
        endpoint.handle(Event::Due);
    }
    endpoint.handle(Event::Streams(1));
    endpoint.handle(Event::Registered(Err("no".to_owned())));
    let actions = endpoint.handle(Event::Due);
    assert_eq!(actions[0], Action::CloseStreams);
    assert!(!actions.contains(&Action::Listen));
}

#[test]
fn streams_that_do_not_end_are_left_behind_with_their_socket() {
    let mut endpoint = live();
    endpoint.handle(Event::Starved);
    assert_eq!(endpoint.handle(Event::Due).last(), Some(&Action::Listen));
}

#[test]
fn a_new_kubelet_socket_means_a_new_registration_with_or_without_our_socket() {
    let mut endpoint = live();
    endpoint.handle(Event::Streams(0));
    let actions = endpoint.handle(look(Some(2), false));
    assert_eq!(actions.last(), Some(&Action::Listen));

    let mut endpoint = live();
    endpoint.handle(Event::Streams(0));
    let actions = endpoint.handle(look(Some(2), true));
    assert_eq!(actions.last(), Some(&Action::Register { attempt: 1 }));
}

#[test]
fn looking_at_the_same_directory_again_changes_nothing() {
    let mut endpoint = live();
    assert!(endpoint.handle(look(Some(1), true)).is_empty());
    assert_eq!(endpoint.registration(), Registration::Registered);
}

#[test]
fn a_kubelet_that_goes_away_is_waited_for() {
    let mut endpoint = live();
    let actions = endpoint.handle(look(None, true));
    assert!(actions.contains(&Action::CloseStreams));
    assert_eq!(endpoint.registration(), Registration::KubeletAbsent);
    // What was under way at that moment ends without effect.
    assert!(endpoint.handle(Event::Streams(0)).is_empty());
    assert!(endpoint.handle(Event::Registered(Ok(()))).is_empty());
    assert!(endpoint.handle(Event::Due).is_empty());
    // The same inode number again is still a new kubelet.
    assert!(!endpoint.handle(look(Some(1), true)).is_empty());
}

#[test]
fn a_stream_that_the_kubelet_closes_is_followed_by_a_new_register() {
    let mut endpoint = live();
    assert!(delay(&endpoint.handle(Event::Streams(0))).is_some());
    let actions = endpoint.handle(Event::Due);
    assert!(matches!(actions.last(), Some(Action::Register { .. })));
}

#[test]
fn a_registration_that_flaps_is_slowed_down_and_one_that_lasts_is_forgiven() {
    let flap = |endpoint: &mut Endpoint| {
        let pause = delay(&endpoint.handle(Event::Streams(0))).unwrap();
        if endpoint.handle(Event::Due).contains(&Action::Listen) {
            endpoint.handle(Event::Listening(Ok(())));
        }
        endpoint.handle(Event::Registered(Ok(())));
        endpoint.handle(Event::Streams(1));
        pause
    };
    let mut endpoint = live();
    let pauses: Vec<_> = (0..3).map(|_| flap(&mut endpoint)).collect();
    assert!(pauses[2] > pauses[1] && pauses[1] > pauses[0]);
    endpoint.handle(Event::Due);
    assert_eq!(flap(&mut endpoint), pauses[0]);
}

#[test]
fn after_shutdown_nothing_happens_any_more() {
    let mut endpoint = live();
    let actions = endpoint.handle(Event::Shutdown);
    assert_eq!(actions[..2], [Action::CloseStreams, Action::Unlisten]);
    for event in [
        look(Some(2), false),
        Event::Due,
        Event::Starved,
        Event::Streams(0),
    ] {
        assert!(endpoint.handle(event).is_empty());
    }
    assert_eq!(endpoint.registration(), Registration::Closed);
}

mod any_order {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        let result = prop_oneof![Just(Ok(())), Just(Err("no".to_owned()))];
        prop_oneof![
            (proptest::option::of(0..3_u64), any::<bool>()).prop_map(|(k, own)| look(k, own)),
            result.clone().prop_map(Event::Registered),
            (0..3_usize).prop_map(Event::Streams),
            Just(Event::Due),
            Just(Event::Starved),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: Register is called only on a served socket and with no
        /// old stream open, and with a kubelet there an endpoint always waits for something.
        #[test]
        fn register_follows_a_served_socket_without_streams(events in prop::collection::vec(event(), 0..60)) {
            let mut endpoint = endpoint();
            let (mut served, mut streams, mut timer) = (false, 0, false);
            for event in events {
                if let Event::Streams(open) = &event {
                    streams = *open;
                }
                if let Event::Looked(look) = &event {
                    served &= look.own;
                }
                let mut actions = endpoint.handle(event);
                while !actions.is_empty() {
                    let mut next = Vec::new();
                    for action in actions {
                        match action {
                            Action::Listen => {
                                (served, streams) = (true, 0);
                                next.extend(endpoint.handle(Event::Listening(Ok(()))));
                            }
                            Action::Register { attempt } => {
                                prop_assert!(served && streams == 0);
                                prop_assert!(attempt >= 1);
                            }
                            Action::Timer(after) => timer = after.is_some(),
                            Action::CloseStreams => {}
                            Action::Unlisten => prop_assert!(false, "not shut down"),
                        }
                    }
                    actions = next;
                }
                if let Registration::Retrying { .. } = endpoint.registration() {
                    prop_assert!(timer, "a retry needs a time");
                }
            }
        }
    }
}
