//! The content of a spec file.
//!
//! Rules: SPEC.md and schema/ of the CDI project. `env` is never empty, because a device without any
//! edit is refused; `void` tells NVIDIA's own hook, where a runtime has it as well, to leave the
//! container alone, as NVIDIA's specs do.

use serde_json::{Map, Value, json};

use super::driver::DriverEdits;
use crate::specs::CdiNode;

/// The version that knows everything we say: names of devices, `hostPath` of device nodes.
const LEAST: &str = "0.5.0";
const VOID: &str = "NVIDIA_VISIBLE_DEVICES=void";

/// The spec of one device.
pub(super) fn document(
    kind: &str,
    id: &str,
    nodes: &[CdiNode],
    driver: Option<&DriverEdits>,
) -> Value {
    let theirs = driver.map(DriverEdits::node_paths).unwrap_or_default();
    let own: Vec<Value> = nodes
        .iter()
        .filter(|node| !theirs.contains(&node.path.as_str()))
        .map(device_node)
        .collect();
    let mut edits = Map::new();
    edits.insert("env".into(), json!([VOID]));
    if !own.is_empty() {
        edits.insert("deviceNodes".into(), own.into());
    }
    let version = driver.map_or(LEAST, |driver| newer(LEAST, &driver.version));
    let mut spec = json!({
        "cdiVersion": version,
        "kind": kind,
        "devices": [{"name": id, "containerEdits": edits}],
    });
    if let Some(driver) = driver {
        spec["containerEdits"] = Value::Object(driver.edits.clone());
    }
    spec
}

fn device_node(node: &CdiNode) -> Value {
    let mut value = json!({"path": node.path, "permissions": "rw"});
    // With its numbers the runtime makes the node; otherwise it looks at the host's.
    if let Some((major, minor)) = node.numbers {
        value["type"] = "c".into();
        value["major"] = major.into();
        value["minor"] = minor.into();
    }
    value
}

/// The higher of two versions; ours if the other is none.
fn newer<'a>(ours: &'a str, theirs: &'a str) -> &'a str {
    let parts = |version: &str| -> Option<Vec<u32>> {
        let numbers = version.trim_start_matches('v').split('.');
        numbers.map(|number| number.parse().ok()).collect()
    };
    match (parts(ours), parts(theirs)) {
        (Some(a), Some(b)) if b > a => theirs,
        _ => ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(newer("0.5.0", "0.10.0"), "0.10.0");
        assert_eq!(newer("0.5.0", "0.3.0"), "0.5.0");
        assert_eq!(newer("0.5.0", "one"), "0.5.0");
    }
}
