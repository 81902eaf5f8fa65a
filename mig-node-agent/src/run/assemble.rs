//! The loop with everything around it: node, proofs, device plugins, workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cdmo_proto::agent::Snapshot;
use device_plugin::{Hold, Holder, Plugins};
use mig::fraction;
use nvml_mig::EventWatch;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Inputs, Outputs};
use crate::args::Args;
use crate::cdi::Cdi;
use crate::driver::{self, Driver};
use crate::evidence::{Holders, Proofs, cgroups};
use crate::exit::Error;
use crate::journal::{Journal, Recorded};
use crate::metrics::Metrics;
use crate::node::{Found, Node, Now};
use crate::session::SessionEvent;
use crate::specs::Nodes;
use crate::work::Worker;

/// Key of the problem that the journal was damaged.
pub(super) const JOURNAL: &str = "journal";
/// Messages from controllers that may wait for the loop.
const SESSION_QUEUE: usize = 64;

/// The loop, and the ends of it that others hold.
pub(super) struct Assembled {
    pub(super) agent: Agent,
    pub(super) plugins: Plugins,
    pub(super) sessions: (mpsc::Sender<SessionEvent>, watch::Receiver<Arc<Snapshot>>),
    pub(super) heartbeat: watch::Receiver<Instant>,
    pub(super) events_ended: oneshot::Receiver<()>,
}

/// What the loop is made of.
pub(super) struct Parts<'a> {
    pub(super) recorded: &'a Recorded,
    pub(super) found: Vec<Found>,
    /// What an administrator should know of the start, by key.
    pub(super) problems: [(&'static str, Option<String>); 2],
    pub(super) driver: Driver,
    pub(super) watch: Option<EventWatch>,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
}

pub(super) async fn assemble(
    args: &Args,
    parts: Parts<'_>,
    shutdown: &CancellationToken,
) -> Result<Assembled, Error> {
    let Parts {
        recorded,
        found,
        problems,
        driver,
        watch,
        journal,
        metrics,
    } = parts;
    let (pods_out, pods) = watch::channel(None);
    let (whereabouts_out, whereabouts) = watch::channel(Arc::default());
    let (snapshots_out, snapshots) = watch::channel(Arc::default());
    let (heartbeat_out, heartbeat) = watch::channel(Instant::now());
    let (session_events, sessions) = mpsc::channel(SESSION_QUEUE);
    let (late_out, late) = mpsc::channel(SESSION_QUEUE);

    let started = Instant::now();
    let mut now = Now::default();
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.unix = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let versions = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX / 2);
    let minors = found.iter().map(|f| (f.info.uuid.clone(), f.info.minor));
    let minors: HashMap<String, u32> = minors.collect();
    let damaged = problems
        .iter()
        .any(|(key, what)| *key == JOURNAL && what.is_some());
    let doubted = if damaged {
        devices(&found)
    } else {
        HashMap::new()
    };
    let mut node = Node::adopt(found, recorded, versions, now);
    for (key, problem) in problems {
        if let Some(problem) = problem {
            node.note_problem(key, problem);
        }
    }

    let mut holds = adopted_holds(recorded);
    holds.extend(doubted_holds(&doubted, &node, recorded));
    let holders = Arc::new(Holders::new(journal.clone(), pods.clone(), recorded));
    let config = plugin_config(args);
    let proofs = Arc::new(Proofs {
        pods,
        holders: holders.clone(),
        whereabouts,
        driver: driver.clone(),
        proc_dir: args.proc_dir.clone(),
        own_pod: cgroups::own_pod(&args.proc_dir),
        doubted,
    });
    let plugins = Plugins::start(config, holders, proofs.clone(), holds, shutdown.clone()).await?;
    let nodes = Nodes {
        host_root: args.host_root.clone(),
        proc_dir: args.proc_dir.clone(),
    };
    let cdi = keep_specs(args, &nodes, &mut node);
    let trouble = journal.trouble();
    let worker = Worker {
        driver,
        plugins: plugins.clone(),
        journal,
        proofs,
        nodes: Arc::new(nodes),
        cdi,
        minors: Arc::new(minors),
        metrics: metrics.clone(),
        late: late_out,
        tokens: Arc::default(),
    };
    let (faults, events_ended) = driver::watch_events(watch, shutdown.clone());
    let inputs = Inputs {
        sessions,
        journal: trouble,
        late,
        faults,
        plugins: plugins.state(),
    };
    let outputs = Outputs {
        snapshots: snapshots_out,
        pods: pods_out,
        whereabouts: whereabouts_out,
        heartbeat: heartbeat_out,
        metrics,
    };
    let agent = Agent::new(node, worker, inputs, outputs, started);
    Ok(Assembled {
        agent,
        plugins,
        sessions: (session_events, snapshots),
        heartbeat,
        events_ended,
    })
}

/// CDI spec files, if a strategy needs them.
fn keep_specs(args: &Args, nodes: &Nodes, node: &mut Node) -> Option<Arc<Cdi>> {
    if !args.device_list_strategy.need_cdi() {
        return None;
    }
    let cdi = Cdi::new(&args.cdi_dir, nodes.clone());
    match cdi.known() {
        Ok(known) => node.keep_specs(known),
        Err(problem) => {
            node.keep_specs(Vec::new());
            node.note_problem("cdi", problem);
        }
    }
    Some(Arc::new(cdi))
}

fn plugin_config(args: &Args) -> device_plugin::Config {
    let mut config = device_plugin::Config::new(&args.kubelet_dir);
    config.strategies.clone_from(&args.device_list_strategy.0);
    config.pass_device_specs = args.pass_device_specs;
    config
}

fn adopted_holds(recorded: &Recorded) -> Vec<Hold> {
    let holds = recorded.holds.iter();
    holds
        .map(|((resource, id), pods)| Hold {
            resource: resource.clone(),
            id: id.clone(),
            holders: pods
                .iter()
                .filter(|pod| !pod.is_unseen())
                .map(|pod| Holder {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: pod.container.clone(),
                })
                .collect(),
        })
        .collect()
}

/// Every device there is, with all names that a pod may have it under: a damaged journal may have said
/// so.
fn devices(found: &[Found]) -> HashMap<String, Vec<String>> {
    let on_gpu = |found: &Found| {
        let instances = found.view.instances.iter();
        let named = instances.filter_map(|instance| {
            let own = || vec![instance.profile.resource_name()];
            let model = found.model.as_ref();
            let known = model.and_then(|m| Some((m, m.find(&instance.profile)?.0)));
            let names = known.map_or_else(own, |(m, p)| fraction::exposures(m, p).collect());
            Some((instance.device_uuid()?.to_owned(), names))
        });
        named.collect::<Vec<_>>()
    };
    found.iter().flat_map(on_gpu).collect()
}

/// Each of these devices as a hold by nobody known, under the name that it is about to be offered as.
fn doubted_holds(
    doubted: &HashMap<String, Vec<String>>,
    node: &Node,
    recorded: &Recorded,
) -> Vec<Hold> {
    let units = node.units().filter_map(|(_, unit)| {
        let id = unit
            .device
            .as_ref()
            .filter(|id| doubted.contains_key(*id))?;
        Some((unit.resource.clone()?, id.clone()))
    });
    units
        .filter(|key| !recorded.holds.contains_key(key))
        .map(|(resource, id)| Hold {
            resource,
            id,
            holders: Vec::new(),
        })
        .collect()
}
