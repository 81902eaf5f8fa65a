//! `ResourceQuota`: what a namespace may use, kept in its status and enforced when something is made
//! (plugin/pkg/admission/resourcequota, pkg/quota/v1).
//!
//! The real server counts in the admission of each request, and a controller corrects that later.
//! Here both are one recount under the store's lock, so a quota's status is true at every version.

mod usage;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::object::{self, child};
use super::quantity::Quantity;
use super::state::State;
use super::{Key, Kind, Status};

/// Amounts by what is limited: `requests.nvidia.com/gpu`, `pods`, `count/jobs.batch` ...
type Amounts = BTreeMap<String, Quantity>;

/// Refuses a new object for which a quota has no room.
pub(super) fn check(state: &State, key: &Key, new: &Value) -> Result<(), Status> {
    let mut asked = None;
    for quota in quotas(state, key) {
        if !usage::in_scope(&quota, key.kind, new) {
            continue;
        }
        let refuse = |why: String| Err(Status::forbidden(key.kind, &key.name, why));
        let hard = amounts(quota.pointer("/status/hard"));
        let used = amounts(quota.pointer("/status/used"));
        let name = object::name(&quota);
        if let Some(missing) = usage::unsaid(key.kind, new, &hard) {
            return refuse(format!("failed quota: {name}: must specify {missing}"));
        }
        let asked = asked.get_or_insert_with(|| usage::of_new(key.kind, new));
        let exceeded: Vec<&String> = asked
            .iter()
            .filter(|(what, amount)| {
                let taken = used.get(*what).copied().unwrap_or_default();
                let limit = hard.get(*what);
                limit.is_some_and(|limit| taken.plus(**amount) > *limit)
            })
            .map(|(what, _)| what)
            .collect();
        if !exceeded.is_empty() {
            let shown = |amounts: &Amounts| {
                let shown = exceeded.iter().map(|what| {
                    format!("{what}={}", amounts.get(*what).copied().unwrap_or_default())
                });
                shown.collect::<Vec<_>>().join(",")
            };
            return refuse(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                shown(asked),
                shown(&used),
                shown(&hard)
            ));
        }
    }
    Ok(())
}

/// Brings the status of a namespace's quotas up to date after a change of that object.
pub(super) fn recount(state: &mut State, changed: &Key) {
    for quota in quotas(state, changed) {
        let own = changed.kind == Kind::ResourceQuota && object::name(&quota) == changed.name;
        let hard = amounts(quota.pointer("/spec/hard"));
        if !own && !usage::concerns(changed.kind, &hard) {
            continue;
        }
        let mut used = Amounts::new();
        for what in hard.keys() {
            used.insert(what.clone(), Quantity::default());
        }
        for kind in Kind::ALL {
            if !usage::concerns(kind, &hard) {
                continue;
            }
            for item in state.list(kind, Some(&changed.namespace)) {
                if usage::in_scope(&quota, kind, &item) {
                    for (what, amount) in usage::of(kind, &item) {
                        if let Some(sum) = used.get_mut(&what) {
                            *sum = sum.plus(amount);
                        }
                    }
                }
            }
        }
        let status = [("hard", &hard), ("used", &used)];
        let mut new = Value::clone(&quota);
        for (member, amounts) in status {
            let shown: Map<String, Value> = amounts
                .iter()
                .map(|(what, amount)| (what.clone(), amount.to_string().into()))
                .collect();
            child(&mut new, "status")[member] = shown.into();
        }
        if new["status"] != quota["status"] {
            let key = Key::new(
                Kind::ResourceQuota,
                &changed.namespace,
                object::name(&quota),
            );
            state.commit(&key, new);
        }
    }
}

fn quotas(state: &State, about: &Key) -> Vec<std::sync::Arc<Value>> {
    if about.namespace.is_empty() || !state.has_any(Kind::ResourceQuota) {
        return Vec::new();
    }
    state.list(Kind::ResourceQuota, Some(&about.namespace))
}

fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(what, amount)| Some((what.clone(), Quantity::from_value(amount).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests;
