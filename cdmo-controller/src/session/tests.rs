use super::*;

fn hello(highest_epoch: u64) -> Input {
    let hello = agent::AgentHello {
        highest_epoch,
        ..agent::AgentHello::default()
    };
    Input::Message(AgentMessage {
        message: Some(FromAgent::Hello(hello)),
    })
}

fn snapshot() -> Input {
    let snapshot = agent::Snapshot::default();
    Input::Message(AgentMessage {
        message: Some(FromAgent::Snapshot(snapshot)),
    })
}

fn progress() -> Input {
    let progress = agent::PlanProgress::default();
    Input::Message(AgentMessage {
        message: Some(FromAgent::Progress(progress)),
    })
}

fn session(epoch: u64, said: Option<u64>) -> Session {
    Session::new("controller-0".into(), epoch, said)
}

fn greeting(epoch: u64) -> Vec<Output> {
    vec![Output::Hello(ControllerHello {
        epoch,
        controller: "controller-0".into(),
        takes_pieces: true,
    })]
}

#[test]
fn an_agent_that_obeyed_lower_epochs_is_greeted_at_once() {
    let mut session = session(5, None);
    assert_eq!(session.step(hello(4)), greeting(5));
    assert_eq!(session.said(), Some(5));
    let up = session.step(snapshot());
    assert_eq!(
        up,
        [Output::Up, Output::Snapshot(agent::Snapshot::default())]
    );
    assert_eq!(session.step(progress()).len(), 1);
    assert_eq!(session.patience(), None);
}

#[test]
fn a_higher_epoch_than_ours_is_topped_before_anything_is_said() {
    let mut session = session(5, None);
    assert_eq!(session.step(hello(9)), [Output::TakeEpochAbove(9)]);
    assert_eq!(session.said(), None);
    assert_eq!(session.step(Input::Epoch(10)), greeting(10));
}

#[test]
fn our_own_number_from_somebody_else_is_topped_too() {
    assert_eq!(session(5, None).step(hello(5)), [Output::TakeEpochAbove(5)]);
    assert_eq!(
        session(5, Some(4)).step(hello(5)),
        [Output::TakeEpochAbove(5)]
    );
    assert_eq!(session(5, Some(5)).step(hello(5)), greeting(5));
}

#[test]
fn an_agent_that_speaks_out_of_turn_is_hung_up_on() {
    for early in [snapshot(), progress()] {
        let mut session = session(5, None);
        assert!(matches!(session.step(early)[..], [Output::Close(_)]));
        assert!(
            session.step(hello(1)).is_empty(),
            "nothing is said after the end"
        );
    }
    let mut session = session(5, None);
    session.step(hello(1));
    assert!(matches!(session.step(hello(1))[..], [Output::Close(_)]));
}

#[test]
fn a_message_of_a_kind_from_the_future_is_passed_over() {
    let mut session = session(5, None);
    assert!(
        session
            .step(Input::Message(AgentMessage { message: None }))
            .is_empty()
    );
    assert_eq!(session.step(hello(0)), greeting(5));
}

#[test]
fn silence_ends_a_session_before_it_stands_but_not_after() {
    let mut mute = session(5, None);
    assert!(matches!(mute.step(Input::Timeout)[..], [Output::Close(_)]));
    let mut mute = session(5, None);
    mute.step(hello(1));
    assert!(matches!(mute.step(Input::Timeout)[..], [Output::Close(_)]));
    let mut live = session(5, None);
    live.step(hello(1));
    live.step(snapshot());
    assert!(live.step(Input::Timeout).is_empty());
}

#[test]
fn attempts_back_off_and_start_over_after_a_success() {
    let mut backoff = Backoff::default();
    let delays: Vec<_> = (0..9).map(|_| backoff.next_delay().as_millis()).collect();
    assert_eq!(
        delays,
        [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
    );
    backoff.reset();
    assert_eq!(backoff.next_delay().as_millis(), 250);
}

#[test]
fn an_agent_with_an_absurd_epoch_does_not_use_up_the_numbers() {
    let mut session = session(5, None);
    let outputs = session.step(hello(u64::MAX));
    assert!(
        matches!(&outputs[..], [Output::Close(problem)] if problem.lasting),
        "{outputs:?}"
    );
}
