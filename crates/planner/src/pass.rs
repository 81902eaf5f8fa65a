//! What a demand is promised on a node.

use crate::{
    demand::Demand,
    options::Choice,
    outcome::{Creation, Exposure, GivenUp, GpuPlan, NodePlan, Outcome},
    planner::Planner,
    state::{Cluster, Gpu},
    ways::Choices,
    work::{Board, Want, WorkNode},
};

/// Says once what becomes of each demand; see [`Planner::plan`].
pub fn plan(cluster: &Cluster, demands: &[Demand]) -> Vec<Outcome> {
    Planner::from(cluster).plan(demands)
}

/// Writes down what is to be done on a node, so that nobody else is promised the same.
pub(crate) fn promise(
    node: usize,
    gpus: &[Gpu],
    work: &mut WorkNode,
    wants: &[Want],
    choices: &Choices,
) -> Outcome {
    let mut blocked = false;
    let mut arriving = false;
    let mut plans = Vec::new();
    for (number, choice) in choices {
        let board = &mut work.boards[*number];
        if !choice.changes_nothing() {
            blocked |= board.busy;
            board.busy = true;
            plans.push(gpu_plan(*number, &gpus[*number], board, wants, choice));
        }
        arriving |= take(board, choice);
    }
    for want in wants {
        work.take_fixed(&want.resource, want.count);
        work.note_promised(&want.resource, want.count);
    }
    if work.hides() {
        work.hide(gpus);
    }
    if blocked || (plans.is_empty() && arriving) {
        Outcome::Wait { node }
    } else if plans.is_empty() {
        Outcome::Covered { node }
    } else {
        Outcome::Plan(NodePlan { node, gpus: plans })
    }
}

/// Takes what is used or given up out of what is idle, and puts down what will stand. Whether something used is
/// still arriving.
fn take(board: &mut Board, choice: &Choice) -> bool {
    let moved = choice.expose.iter().map(|(moved, _)| moved);
    let used: Vec<_> = choice.reuse.iter().chain(moved).collect();
    let used: Vec<_> = used.into_iter().map(|at| board.idle[*at].clone()).collect();
    let mut position = 0..;
    board
        .idle
        .retain(|_| position.next().is_none_or(|p| !choice.takes(p)));
    let used_ones = used.iter().map(|idle| (idle.profile, idle.placement));
    let made = choice.create.iter();
    let made = made.map(|(_, profile, placement)| (*profile, *placement));
    for (profile, placement) in used_ones.chain(made) {
        board.stand(profile, placement);
        board.promised = board.promised.union(placement.mask());
    }
    used.iter().any(|idle| idle.arriving)
}

fn gpu_plan(number: usize, gpu: &Gpu, board: &Board, wants: &[Want], choice: &Choice) -> GpuPlan {
    let name = |profile| board.model.profile(profile).map(|p| p.name);
    let give_up = choice.give_up.iter().filter_map(|&index| {
        let idle = &board.idle[index];
        Some(GivenUp {
            gi_id: idle.gi_id,
            profile: name(idle.profile)?,
            placement: idle.placement,
            resource: idle.resource.as_deref().map(str::to_owned),
        })
    });
    let expose = choice.expose.iter().filter_map(|&(index, want)| {
        let idle = &board.idle[index];
        Some(Exposure {
            gi_id: idle.gi_id,
            profile: name(idle.profile)?,
            placement: idle.placement,
            from: idle.resource.as_deref().map(str::to_owned),
            to: wants[want].resource.clone(),
        })
    });
    let create = choice
        .create
        .iter()
        .filter_map(|(want, profile, placement)| {
            Some(Creation {
                profile: name(*profile)?,
                placement: *placement,
                resource: wants[*want].resource.clone(),
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

#[cfg(test)]
pub(crate) mod tests;
