//! Events: kinds of both faces, with a count or a series.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age};
use crate::store::object::{name, text};

pub(super) const COLUMNS: &[Column] = &[
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    ("First Seen", "string", 1),
    ("Count", "string", 1),
    ("Name", "string", 1),
];

pub(super) fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = [
        "/firstTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .find(|pointer| !text(event, pointer).is_empty())
    .unwrap_or("/eventTime");
    let last = ["/series/lastObservedTime", "/lastTimestamp"]
        .into_iter()
        .find(|pointer| !text(event, pointer).is_empty())
        .unwrap_or(first);
    let count = event["series"]["count"]
        .as_i64()
        .or(event["count"].as_i64());
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let object = format!("{kind}/{}", text(event, "/involvedObject/name"));
    vec![
        age::since(event, last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        age::since(event, first, now).into(),
        count.filter(|count| *count > 0).unwrap_or(1).into(),
        name(event).into(),
    ]
}

fn source(event: &Value) -> String {
    let or = |first: &'static str, second: &'static str| match text(event, first) {
        "" => text(event, second).to_owned(),
        found => found.to_owned(),
    };
    let component = or("/source/component", "/reportingComponent");
    match or("/source/host", "/reportingInstance") {
        host if host.is_empty() => component,
        host => format!("{component}, {host}"),
    }
}
