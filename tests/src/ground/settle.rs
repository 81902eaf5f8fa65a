//! When everything is as it should be: agents stand, nothing is under way, and what the nodes offer
//! is what there is.

use std::collections::BTreeMap;

use anyhow::bail;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _, api::ListParams};
use status_report::{AgentState, InstanceState, Report};
use testbed::names;

use super::{Ground, LIMIT, TICK, report};
use crate::pods::Pod;

/// The profile that takes a whole A100-40GB.
const WHOLE: &str = "7g.40gb";

/// How many devices a node offers, by resource; none are left out.
type Offers = BTreeMap<String, u64>;

impl Ground {
    /// Waits until agents stand, no instance is between two states, and node status offers
    /// exactly what there is.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut why = String::new();
        let wait = async {
            loop {
                let looked = async {
                    let report = self.report().await?;
                    let list = nodes.list(&ListParams::default()).await?;
                    anyhow::Ok(unsettled(&report, &list.items))
                };
                why = match looked.await {
                    Ok(None) => return,
                    Ok(Some(why)) => why,
                    Err(error) => error.to_string(),
                };
                tokio::time::sleep(TICK).await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("waited {LIMIT:?} until all is settled: {why}"),
        }
    }

    /// Leaves nothing idle that is smaller than a GPU, so that what a story asks for next has to be
    /// made. One node with two GPUs is expected.
    pub async fn afresh(&self) -> anyhow::Result<()> {
        let standing = self.devices().await?;
        if standing.iter().all(|device| device.profile == WHOLE) {
            return Ok(());
        }
        self.run(&Pod::new("afresh").asks(&[(WHOLE, 2)])).await?;
        self.holds("afresh", &[WHOLE, WHOLE]).await?;
        self.release(&["afresh"]).await
    }
}

/// What is not as it should be, if anything.
fn unsettled(report: &Report, nodes: &[Node]) -> Option<String> {
    for node in report.nodes.iter().filter(|node| node.managed) {
        let name = &node.name;
        if node.agent.state != AgentState::Up {
            return Some(format!("the agent of {name} is {:?}", node.agent.state));
        }
        if let Some(operation) = node.operations.first() {
            return Some(format!("{name} is busy for {}", operation.pod));
        }
        let Some(object) = nodes.iter().find(|object| object.name_any() == *name) else {
            return Some(format!("there is no node {name}"));
        };
        let (offered, there) = (offered(object), there(report, name));
        if offered != there {
            return Some(format!("{name} offers {offered:?} and has {there:?}"));
        }
    }
    let between = report::instances(report)
        .find(|(_, _, i)| !matches!(i.state, InstanceState::Idle | InstanceState::Held));
    if let Some((_, _, instance)) = between {
        let (profile, start, state) = (&instance.profile, instance.start, instance.state);
        return Some(format!("{profile} at {start} is {state:?}"));
    }
    let no_node = !report.nodes.iter().any(|node| node.managed);
    no_node.then(|| "no node is handed over".to_owned())
}

fn offered(node: &Node) -> Offers {
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    allocatable
        .into_iter()
        .flatten()
        .filter(|(name, _)| names::is_ours(name))
        .filter_map(|(name, count)| Some((name.clone(), count.0.parse().ok()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn there(report: &Report, node: &str) -> Offers {
    let mut all = Offers::new();
    let here = report::instances(report).filter(|(name, _, _)| *name == node);
    for resource in here.filter_map(|(_, _, instance)| instance.resource.clone()) {
        *all.entry(resource).or_default() += 1;
    }
    all
}
