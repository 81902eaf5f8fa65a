//! What waiting pods are told: that devices are there for them, or why there are none.

use std::{sync::Arc, time::Duration};

use planner::{Refusal, RefusalKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Action, World,
    alarms::Alarm,
    demand::{Annotation, DemandState, Standing},
};
use crate::{
    names::PodKey,
    notes::{self, Told},
    words::{self, Note},
};

/// How long a refusal must stand before the pod is told: a device may be on its way back.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pauses after which a pod that is not bound although its devices lie ready is annotated again. The
/// scheduler takes a few tens of milliseconds.
const REMINDERS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

impl World {
    /// Something was heard of a pod.
    pub(super) fn note_demand(&mut self, key: &PodKey, now: Instant) {
        if let Some((key, row)) = self.pods.waiting(key) {
            let known = self.demands.get(key);
            if known.is_none_or(|known| known.uid != row.uid) {
                tracing::debug!(pod = %key, "seen");
                // The key as it is kept there, once.
                let (key, created) = (key.clone(), row.created().as_second());
                let mut demand = DemandState::new(row.uid.clone(), now);
                demand.waiting = self.waited(created, now);
                self.demands.insert(key, demand);
            }
            return;
        }
        let row = self.pods.get(key);
        let bound = row.is_some_and(|row| row.node.is_some());
        if let (Some(demand), true) = (self.demands.remove(key), bound) {
            self.metrics.stage("total", now - demand.seen);
            if let Some(ready) = demand.ready {
                self.metrics.stage("binding", now - ready);
            }
        }
    }

    /// Pods that no longer wait; a list may have dropped them without an event each.
    pub(super) fn forget_demands(&mut self) {
        if !std::mem::take(&mut self.relisted) {
            return;
        }
        self.demands
            .retain(|key, _| self.pods.waiting(key).is_some());
    }

    pub(super) fn count_demands(&self) {
        let mut counts: Vec<(&str, i64)> = Vec::new();
        for demand in self.demands.values() {
            let category = demand.standing.category();
            match counts.iter_mut().find(|(known, _)| *known == category) {
                Some((_, count)) => *count += 1,
                None => counts.push((category, 1)),
            }
        }
        self.metrics.pending(counts.into_iter());
    }

    /// Free devices on the node are promised to the pod. If it waited so far, the scheduler may
    /// have put it into back-off; a change of the pod brings it back.
    pub(super) fn cover(&mut self, key: &PodKey, node: &str, served: bool, now: Instant) {
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let waited = !matches!(demand.standing, Standing::New | Standing::Covered);
        demand.standing = Standing::Covered;
        let is_known = demand
            .plan
            .as_ref()
            .is_some_and(|known| known.due.is_some() && *known.node == *node);
        if !waited || is_known {
            return;
        }
        let row = self.pods.get(key);
        if demand.held_back && row.is_some_and(|row| row.gate.is_some()) {
            // The scheduler does not see it.
            return;
        }
        let wants = row.map(|row| Arc::clone(&row.wants)).unwrap_or_default();
        // Where an operation is under way for the pod, its end writes the annotation, if it comes soon.
        let at = if served { now + REMINDERS[0] } else { now };
        let plan = json!({"node": node, "reuses": *wants});
        self.annotate(key, node, &plan, at, now);
    }

    /// Writes onto a pod at some time what lies ready for it, and again later if it was not bound since: a
    /// change that comes while the scheduler is looking at the pod, or before it has seen the node's new
    /// status, is lost on it, and the pod waits out a back-off of up to ten seconds, or until the scheduler looks
    /// at all pods again, which takes minutes.
    pub(super) fn annotate(
        &mut self,
        key: &PodKey,
        node: &str,
        plan: &Value,
        at: Instant,
        now: Instant,
    ) {
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let plan: Box<str> = plan.to_string().into();
        let known = demand.plan.take().filter(|known| known.plan == plan);
        demand.plan = Some(Box::new(Annotation {
            plan,
            node: node.into(),
            written: known.map_or(0, |known| known.written),
            reminders: 0,
            due: Some(at),
        }));
        if now < at {
            self.alarms.set(at, Alarm::Remind(key.clone()));
        } else {
            self.write_annotation(key, now);
        }
    }

    /// Writes it again if it is time and the devices still lie ready.
    pub(super) fn remind(&mut self, key: &PodKey, now: Instant) {
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let covered = demand.standing == Standing::Covered;
        let Some(known) = &mut demand.plan else {
            return;
        };
        if known.due.is_none_or(|due| now < due) {
            return;
        }
        known.due = None;
        // If somebody else got the devices it would be told of what is not there.
        if covered {
            self.write_annotation(key, now);
        }
    }

    fn write_annotation(&mut self, key: &PodKey, now: Instant) {
        if !self.config.pod_annotation {
            return;
        }
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let Some(known) = &mut demand.plan else {
            return;
        };
        // Written by ourselves.
        let mut plan: Value = serde_json::from_str(&known.plan).unwrap_or_default();
        if known.written > 0 {
            // Unchanged it would be no change.
            plan["reminder"] = json!(known.written);
        }
        known.written += 1;
        known.due = REMINDERS.get(known.reminders).map(|pause| now + *pause);
        known.reminders += 1;
        if let Some(due) = known.due {
            self.alarms.set(due, Alarm::Remind(key.clone()));
        }
        let uid = demand.uid.clone();
        self.actions.push(Action::AnnotatePod {
            pod: key.clone(),
            uid,
            plan,
        });
    }

    pub(super) fn refuse(&mut self, key: &PodKey, refusal: Refusal, now: Instant) {
        self.waits(key, refusal.kind, now);
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let Refusal { kind, text } = refusal;
        let since = match &demand.standing {
            Standing::Refused {
                kind: known,
                since,
                text: said,
            } if *known == kind => {
                if *said == text {
                    return;
                }
                *since
            }
            _ => now,
        };
        let patience = patience(kind);
        demand.standing = Standing::Refused { kind, text, since };
        self.alarms
            .set((since + patience).max(now), Alarm::Tell(key.clone()));
        if patience.is_zero() {
            self.tell_refusal(key, now);
        }
    }

    /// Tells a pod why it is refused, if it still is and it is time.
    pub(super) fn tell_refusal(&mut self, key: &PodKey, now: Instant) {
        let Some(demand) = self.demands.get_mut(key) else {
            return;
        };
        let Standing::Refused { kind, text, .. } = &demand.standing else {
            return;
        };
        let reason = words::reason(*kind);
        let due = notes::due(demand.told.as_ref(), reason, text, now);
        let again = if due > now {
            Err(due)
        } else {
            self.budget.take(demand.told.is_none(), now)
        };
        if let Err(at) = again {
            self.alarms.set(at, Alarm::Tell(key.clone()));
            return;
        }
        // Who is in the way may change with every pod that ends: news is only what a pass says.
        demand.told = Some(Told::now(reason, text.clone(), now));
        let (uid, text) = (demand.uid.clone(), text.clone());
        let words = self.explainer().waiting(key, now).unwrap_or(text);
        tracing::info!(pod = %key, reason, "{words}");
        let note = Note::new(key.clone(), uid, reason, &words, true);
        self.actions.push(Action::Publish(note));
        self.metrics.event(reason);
        self.alarms
            .set(now + notes::REPEAT, Alarm::Tell(key.clone()));
    }
}

/// How long a refusal must stand before anything follows from it.
pub(super) fn patience(kind: RefusalKind) -> Duration {
    match kind {
        // What is wrong in the pod itself no patience mends.
        RefusalKind::InvalidProfile => Duration::ZERO,
        _ => PATIENCE,
    }
}
