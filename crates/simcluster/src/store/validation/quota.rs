//! Quotas: what they may limit, and to which amounts.

use serde_json::Value;

use super::{names, resources};
use crate::store::Cause;
use crate::store::quantity::Quantity;

/// What has no domain and can be limited (pkg/apis/core/helper, `standardQuotaResources`).
const STANDARD: [&str; 18] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
];

pub(super) fn check(quota: &Value, causes: &mut Vec<Cause>) {
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    for (what, amount) in hard.into_iter().flatten() {
        let at = format!("spec.hard[{what}]");
        let huge = what
            .trim_start_matches("requests.")
            .starts_with("hugepages-");
        if let Some(why) = names::qualified(what) {
            causes.push(Cause::invalid(&at, &what.as_str().into(), why));
        } else if !what.contains('/')
            && !huge
            && !STANDARD.contains(&what.as_str())
            && what != "services.loadbalancers"
        {
            let why = "must be a standard resource for quota";
            causes.push(Cause::invalid(&at, &what.as_str().into(), why));
        }
        let resource = what.strip_prefix("requests.").unwrap_or(what);
        resources::amount(resource, amount, &at, causes);
        let counts = STANDARD[10..].contains(&what.as_str());
        let whole = Quantity::from_value(amount).is_ok_and(Quantity::is_whole);
        if counts && !whole {
            causes.push(Cause::invalid(&at, amount, "must be an integer"));
        }
    }
}
