//! Our scheduling gate: when it goes.
//!
//! A gated pod is planned for as any other. The gate keeps the scheduler from trying it before there
//! is anything to be had, and so from putting it into back-off. It goes
//!
//! - when devices for the pod lie ready and the node's status shows them,
//! - when it is clear that no plan will ever serve the pod as things are, so that the scheduler says
//!   what it has to say, and whoever adds nodes hears of the pod,
//! - at the latest a minute after the pod was seen, if running pods are in the way or something under way
//!   does not come to an end: against that the back-off weighs nothing, and the scheduler may preempt,
//! - when the pod asks for no device of ours: then somebody else put the gate there.
//!
//! Pods of a group ([`crate::groups`]) keep theirs until devices lie ready for all of them, or the pod asks for
//! what cannot be had.
//!
//! Nothing is remembered of it but when it was asked for last: while the pod still has the gate and
//! one of these is true, it is asked for again. So a failed write or a restart loses nothing.

use std::time::Duration;

use planner::RefusalKind;
use tokio::time::Instant;

use super::{
    Action, World,
    alarms::Alarm,
    demand::{DemandState, Standing},
    telling::patience,
};
use crate::{
    names::PodKey,
    objects::PodLite,
    pods::{self, key_of},
};

/// Longest that a pod is kept from the scheduler while running pods, or something under way, are in its way.
const LONGEST: Duration = Duration::from_mins(1);
/// How long a pod whose gate was asked to go may be on its way to a node, unless something is seen of it.
pub(super) const SHOWN: Duration = Duration::from_secs(30);
/// Pause before the gate is taken away again that is still there.
const AGAIN: Duration = Duration::from_secs(2);

impl World {
    /// Takes the gate off a waiting pod if it is time, and sees to it that it is when it is time.
    pub(super) fn tend_gate(&mut self, key: &PodKey, now: Instant) {
        let Some(demand) = self.demands.get(key) else {
            return;
        };
        match due(demand, now) {
            Some(due) if due <= now => self.open_gate(key, now),
            Some(due) if self.pods.get(key).is_some_and(|row| row.gate.is_some()) => {
                self.alarms.set(due, Alarm::Gate(key.clone()));
            }
            _ => {}
        }
    }

    /// Takes the gate off a waiting pod.
    pub(super) fn open_gate(&mut self, key: &PodKey, now: Instant) {
        let gate = self.pods.get(key).and_then(|row| row.gate);
        let (Some(at), Some(demand)) = (gate, self.demands.get_mut(key)) else {
            return;
        };
        let next = demand.opened.map_or(now, |last| last + AGAIN);
        if now < next {
            self.alarms.set(next, Alarm::Gate(key.clone()));
            return;
        }
        demand.opened = Some(now);
        self.alarms.set(now + AGAIN, Alarm::Gate(key.clone()));
        self.actions.push(Action::OpenGate {
            pod: key.clone(),
            uid: demand.uid.clone(),
            at,
        });
    }

    /// Takes the gate off a pod that asks for nothing of ours: nobody else would ever.
    pub(super) fn open_stray_gate(&mut self, pod: &PodLite) {
        let key = key_of(pod);
        let over = pods::is_terminal(pod) || pod.metadata.deletion_timestamp.is_some();
        let (Some(at), None, false) = (pods::gate(&pod.spec), self.pods.get(&key), over) else {
            return;
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.actions.push(Action::OpenGate { pod: key, uid, at });
    }
}

/// When the gate of a pod may go as things stand.
fn due(demand: &DemandState, now: Instant) -> Option<Instant> {
    // What is held back for others of its group must not start on its own, however long that takes. It may as soon as
    // it can be bound, so that only what is wrong in the pod itself opens its gate.
    let never = matches!(
        demand.standing,
        Standing::Refused {
            kind: RefusalKind::InvalidProfile | RefusalKind::NoSuchProfile | RefusalKind::TooMany,
            ..
        }
    );
    if demand.held_back && !never {
        return None;
    }
    match &demand.standing {
        Standing::Covered => Some(now),
        Standing::Refused {
            kind: RefusalKind::NoRoom,
            ..
        }
        | Standing::Waiting => Some(demand.seen + LONGEST),
        Standing::Refused { kind, since, .. } => Some(*since + patience(*kind)),
        Standing::New | Standing::Planned => None,
    }
}
