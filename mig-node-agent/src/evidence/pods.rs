//! Proof (b): every pod that could have the device is accounted for in podresources.
//!
//! podresources List shows app containers and sidecars, never ordinary init containers. The kubelet
//! lets later containers of a pod reuse the devices of its ordinary init containers (dm/manager.go,
//! devicesToReuse); what none of them reuses stays the pod's, unseen, for its whole life.

use cdmo_proto::agent::{Container, Pod};
use device_plugin::Listing;

/// Why the pods leave it open who has which device of a resource, as half a sentence.
pub fn unaccounted(pods: &[Pod], resource: &str, shown: &Listing) -> Option<String> {
    let asking = pods.iter().filter(|pod| !pod.terminal);
    asking
        .into_iter()
        .find_map(|pod| in_pod(pod, resource, shown))
}

/// How many of a resource a container asks for.
fn asks(container: &Container, resource: &str) -> usize {
    let of_resource = container.requests.iter().filter(|r| r.resource == resource);
    // A count beyond memory cannot be granted either.
    let counts = of_resource.map(|r| usize::try_from(r.count).unwrap_or(usize::MAX));
    counts.fold(0, usize::saturating_add)
}

fn in_pod(pod: &Pod, resource: &str, shown: &Listing) -> Option<String> {
    let Pod {
        namespace, name, ..
    } = pod;
    // Devices of ordinary init containers that no later container has taken over.
    let mut hidden = 0usize;
    for container in &pod.containers {
        let asked = asks(container, resource);
        if container.ordinary_init {
            hidden = hidden.max(asked);
            continue;
        }
        hidden = hidden.saturating_sub(asked);
        if shown.count(namespace, name, &container.name, resource) < asked {
            let container = &container.name;
            return Some(format!(
                "pod {namespace}/{name} asks for {asked} in container {container}, and the kubelet does not show which it has"
            ));
        }
    }
    (hidden > 0).then(|| {
        format!("pod {namespace}/{name} has {hidden} for its init containers, which the kubelet never shows")
    })
}

/// Whether the kubelet does not show what the pod's containers ask for, ordinary init containers aside: it did not
/// admit the pod yet, or takes it for gone.
pub fn is_forgotten(pod: &Pod, resource: &str, shown: &Listing) -> bool {
    let containers = pod.containers.iter().filter(|c| !c.ordinary_init);
    let (namespace, name) = (&pod.namespace, &pod.name);
    containers.into_iter().any(|container| {
        shown.count(namespace, name, &container.name, resource) < asks(container, resource)
    })
}

/// Whether any container of the pod asks for the resource.
pub fn asks_for(pod: &Pod, resource: &str) -> bool {
    pod.containers
        .iter()
        .any(|container| asks(container, resource) > 0)
}

#[cfg(test)]
mod tests;
