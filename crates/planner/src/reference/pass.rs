//! One pass over all demands.

use std::collections::BTreeMap;

use mig::{
    ProfileName, RESOURCE_PREFIX,
    fraction::{Class, FRACTION_PREFIX},
};

use super::{
    explain,
    node_search::{Found, Memo, search},
    work::WorkNode,
};
use crate::{
    cost::Cost,
    demand::{Demand, Eligibility, Wants},
    options::Choice,
    outcome::{Creation, Exposure, GivenUp, GpuPlan, NodePlan, Outcome, Refusal, RefusalKind},
    state::{Cluster, Gpu},
    work::{Kind, Want},
};

/// Says what becomes of each demand; the answers are in the order of `demands`.
///
/// Demands are served by priority, then age, then position. A demand whose number of `nodes` is not
/// the cluster's is looked at on the nodes that both have.
pub(crate) fn plan(cluster: &Cluster, demands: &[Demand]) -> Vec<Outcome> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&n| (-i64::from(demands[n].priority), demands[n].created, n));
    let mut pass = Pass {
        cluster,
        work: cluster.nodes.iter().map(WorkNode::new).collect(),
        memos: BTreeMap::new(),
    };
    let mut outcomes: Vec<(usize, Outcome)> = order
        .into_iter()
        .map(|n| (n, pass.serve(&demands[n])))
        .collect();
    outcomes.sort_by_key(|(n, _)| *n);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

struct Pass<'a> {
    cluster: &'a Cluster,
    work: Vec<WorkNode>,
    /// What GPUs can do for equal demands: pods of one queue ask for the same.
    memos: BTreeMap<Wants, Memo>,
}

impl Pass<'_> {
    fn serve(&mut self, demand: &Demand) -> Outcome {
        let wants = match wants(demand) {
            Ok(wants) => wants,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        let memo = self.memos.entry(Wants::clone(&demand.wants)).or_default();
        let mut best: Option<(Cost, usize, Vec<Choice>)> = None;
        let mut cut_off = false;
        for (number, eligibility) in super::eligibilities(demand)
            .enumerate()
            .take(self.work.len())
        {
            if eligibility != Eligibility::Allowed {
                continue;
            }
            match search(&self.work[number], &wants, memo) {
                Found::Served { cost, choices } => {
                    let price = price(&self.work[number], cost);
                    if best.as_ref().is_none_or(|(known, _, _)| price < *known) {
                        best = Some((price, number, choices));
                    }
                }
                Found::Nothing => {}
                Found::TooComplex => cut_off = true,
            }
        }
        match best {
            Some((_, node, choices)) => self.promise(node, &wants, &choices),
            None => Outcome::Refused(explain::refusal(
                self.cluster,
                demand,
                &wants,
                cut_off,
                memo,
            )),
        }
    }

    /// Writes the choice down, so that nobody else is promised the same.
    fn promise(&mut self, node: usize, wants: &[Want], choices: &[Choice]) -> Outcome {
        let gpus = &self.cluster.nodes[node].gpus;
        let work = &mut self.work[node];
        let mut blocked = false;
        let mut plans = Vec::new();
        let mut arriving = false;
        for (number, choice) in choices.iter().enumerate() {
            let board = &mut work.boards[number];
            if !choice.changes_nothing() {
                blocked |= board.busy;
                board.busy = true;
                plans.push(gpu_plan(number, &gpus[number], board, wants, choice));
            }
            let mut left = Vec::new();
            for (index, idle) in std::mem::take(&mut board.idle).into_iter().enumerate() {
                let moved = choice.expose.iter().any(|moved| moved.0 == index);
                if moved || choice.reuse.contains(&index) {
                    arriving |= idle.arriving;
                    board.stand(idle.profile, idle.placement);
                } else if !choice.give_up.contains(&index) {
                    left.push(idle);
                }
            }
            board.idle = left;
            for (_, profile, placement) in &choice.create {
                board.stand(*profile, *placement);
            }
        }
        for want in wants {
            if let Some(free) = work.fixed.get_mut(&*want.resource) {
                *free = free.saturating_sub(want.count);
            }
        }
        if blocked || (plans.is_empty() && arriving) {
            Outcome::Wait { node }
        } else if plans.is_empty() {
            Outcome::Covered { node }
        } else {
            Outcome::Plan(NodePlan { node, gpus: plans })
        }
    }
}

/// What serving a demand on a node costs, with the wait for another plan of the node.
fn price(node: &WorkNode, cost: Cost) -> Cost {
    cost.queued(node.boards.iter().any(|board| board.busy))
}

fn gpu_plan(
    number: usize,
    gpu: &Gpu,
    board: &super::work::Board,
    wants: &[Want],
    choice: &Choice,
) -> GpuPlan {
    let name = |profile| board.model.profile(profile).map(|p| p.name);
    let give_up = choice.give_up.iter().filter_map(|&index| {
        let idle = &board.idle[index];
        Some(GivenUp {
            gi_id: idle.gi_id,
            profile: name(idle.profile)?,
            placement: idle.placement,
            resource: idle.resource.clone(),
        })
    });
    let expose = choice.expose.iter().filter_map(|&(index, want)| {
        let idle = &board.idle[index];
        Some(Exposure {
            gi_id: idle.gi_id,
            profile: name(idle.profile)?,
            placement: idle.placement,
            from: idle.resource.clone(),
            to: wants[want].resource.to_string(),
        })
    });
    let create = choice
        .create
        .iter()
        .filter_map(|(want, profile, placement)| {
            Some(Creation {
                profile: name(*profile)?,
                placement: *placement,
                resource: wants[*want].resource.to_string(),
            })
        });
    GpuPlan {
        gpu: number,
        uuid: gpu.uuid.clone(),
        version: gpu.version,
        give_up: give_up.collect(),
        expose: expose.collect(),
        create: create.collect(),
    }
}

/// Reads the resource names of a demand.
fn wants(demand: &Demand) -> Result<Vec<Want>, Refusal> {
    let invalid = |text: String| Refusal {
        kind: RefusalKind::InvalidProfile,
        text: format!("{text}; correct the pod's limits").into(),
    };
    let one = |(resource, count): (&String, &u32)| {
        let of = if resource.starts_with(RESOURCE_PREFIX) {
            let name = ProfileName::from_resource(resource);
            Kind::Profile(name.map_err(|error| invalid(error.to_string()))?)
        } else if resource.starts_with(FRACTION_PREFIX) {
            let class = Class::from_resource(resource);
            Kind::Class(class.ok_or_else(|| invalid(explain::no_class(resource)))?)
        } else {
            Kind::Fixed
        };
        Ok(Want {
            resource: resource.as_str().into(),
            of,
            count: *count,
        })
    };
    demand.wants.iter().map(one).collect()
}
