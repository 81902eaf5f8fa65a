//! What a person needs to see after a scenario went wrong: everything that the parts of the system
//! say of themselves, in one file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use simcluster::store::{Kind, Store, object};

use crate::watcher::Watched;

/// Lines of each log that are shown.
const TAIL: usize = 150;

/// The whole state as text.
pub(crate) async fn dump(store: &Store, nodes: &[Watched], logs: &Path) -> String {
    let mut text = String::new();
    for kind in [Kind::Node, Kind::Pod, Kind::Event] {
        let _ = writeln!(text, "\n== {}", kind.info().plural);
        for object in store.list(kind, None).0 {
            let line = match kind {
                Kind::Node => node(&object),
                Kind::Pod => pod(&object),
                _ => event(&object),
            };
            let _ = writeln!(text, "{line}");
        }
    }
    for watched in nodes {
        let _ = writeln!(
            text,
            "\n== node {}: kubelet and driver",
            watched.node.name()
        );
        for panic in watched.node.panics() {
            let _ = writeln!(text, "PANIC {panic}");
        }
        for given in watched.node.allocations().await {
            let (pod, container, resource) = (given.pod_uid, given.container, given.resource);
            let _ = writeln!(text, "pod {pod} {container}: {resource} {:?}", given.ids);
        }
        if let Some(driver) = &watched.driver {
            match driver.state() {
                Ok(state) => {
                    for gpu in state.gpus {
                        let _ = writeln!(
                            text,
                            "{} {} mig={} {:#?}\n{:?}",
                            gpu.uuid, gpu.name, gpu.mig_mode, gpu.instances, gpu.processes
                        );
                    }
                }
                Err(error) => {
                    let _ = writeln!(text, "the driver cannot be read: {error}");
                }
            }
        }
    }
    text.push_str(&tails(logs));
    text
}

fn node(node: &Value) -> String {
    format!(
        "{} {} annotations {} allocatable {}",
        object::name(node),
        node["metadata"]["labels"],
        node["metadata"]["annotations"],
        node["status"]["allocatable"],
    )
}

fn pod(pod: &Value) -> String {
    let limits: Vec<&Value> = ["/spec/initContainers", "/spec/containers"]
        .into_iter()
        .flat_map(|list| object::array(pod, list))
        .map(|container| &container["resources"]["limits"])
        .collect();
    let status = &pod["status"];
    format!(
        "{} {}{} on {:?} asks {limits:?} annotations {} reason {} {} conditions {}",
        object::name(pod),
        object::text(pod, "/status/phase"),
        if object::is_deleting(pod) {
            " (deleting)"
        } else {
            ""
        },
        object::text(pod, "/spec/nodeName"),
        pod["metadata"]["annotations"],
        status["reason"],
        status["message"],
        status["conditions"],
    )
}

fn event(event: &Value) -> String {
    format!(
        "{} {} {}/{}: {} {} ({}x)",
        time(event),
        component(event),
        object::text(event, "/involvedObject/kind"),
        object::text(event, "/involvedObject/name"),
        object::text(event, "/reason"),
        object::text(event, "/message"),
        event["count"],
    )
}

fn time(event: &Value) -> &str {
    match object::text(event, "/lastTimestamp") {
        "" => object::text(event, "/eventTime"),
        seen => seen,
    }
}

/// Events of the newer API name their source elsewhere.
fn component(event: &Value) -> &str {
    match object::text(event, "/source/component") {
        "" => object::text(event, "/reportingComponent"),
        named => named,
    }
}

fn tails(logs: &Path) -> String {
    let mut text = String::new();
    let mut files: Vec<_> = std::fs::read_dir(logs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    for file in files {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        let name = file.display();
        let _ = writeln!(
            text,
            "\n== {name} (last {} lines)\n{}",
            tail.len(),
            tail.join("\n")
        );
    }
    text
}
