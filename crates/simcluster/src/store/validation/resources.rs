//! Limits and requests: resource names must be known or qualified, extended resources are whole
//! numbers, and nobody requests another amount of them than the limit.

use serde_json::{Map, Value};

use super::names;
use crate::store::Cause;
use crate::store::quantity::Quantity;

/// Checks `resources` of a container.
pub(super) fn check(resources: &Value, at: &str, causes: &mut Vec<Cause>) {
    let none = Map::new();
    let amounts = |list: &str| resources.get(list).and_then(Value::as_object);
    let limits = amounts("limits").unwrap_or(&none);
    let requests = amounts("requests").unwrap_or(&none);
    for (list, amounts) in [("limits", limits), ("requests", requests)] {
        for (resource, found) in amounts {
            let at = format!("{at}.{list}[{resource}]");
            name(resource, &at, causes);
            amount(resource, found, &at, causes);
        }
    }
    for (resource, request) in requests {
        let Ok(wanted) = Quantity::from_value(request) else {
            continue;
        };
        let limit = limits
            .get(resource)
            .and_then(|limit| Quantity::from_value(limit).ok());
        match limit {
            Some(limit) if is_extended(resource) && wanted != limit => {
                let why = format!("must be equal to {resource} limit of {limit}");
                causes.push(Cause::invalid(format!("{at}.requests"), request, why));
            }
            Some(limit) if wanted > limit => {
                let why = format!("must be less than or equal to {resource} limit of {limit}");
                causes.push(Cause::invalid(format!("{at}.requests"), request, why));
            }
            None if is_extended(resource) => {
                let why = "Limit must be set for non overcommitable resources";
                causes.push(Cause::required(format!("{at}.limits"), why));
            }
            _ => {}
        }
    }
}

/// Checks one amount of a resource.
pub(super) fn amount(resource: &str, found: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Ok(quantity) = Quantity::from_value(found) else {
        return;
    };
    if quantity.is_negative() {
        causes.push(Cause::invalid(
            at,
            found,
            "must be greater than or equal to 0",
        ));
    }
    if is_extended(resource) && !quantity.is_whole() {
        causes.push(Cause::invalid(at, found, "must be an integer"));
    }
}

fn name(resource: &str, at: &str, causes: &mut Vec<Cause>) {
    if let Some(why) = names::qualified(resource) {
        causes.push(Cause::invalid(at, &resource.into(), why));
    } else if !resource.contains('/') && !is_standard(resource) {
        let why = "must be a standard resource type or fully qualified";
        causes.push(Cause::invalid(at, &resource.into(), why));
    }
}

fn is_standard(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-")
}

/// Neither Kubernetes' own nor without a domain (pkg/apis/core/v1/helper/helpers.go).
fn is_extended(resource: &str) -> bool {
    resource
        .split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !resource.starts_with("requests.")
}
