//! What a demand is promised on a node.

use crate::{
    demand::Demand,
    options::Choice,
    outcome::{Creation, Exposure, GivenUp, GpuPlan, NodePlan, Outcome},
    planner::Planner,
    state::{Cluster, Gpu},
    ways::Choices,
    work::{Board, IdleInstance, Want, WorkNode},
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
    let mut changing = choices
        .iter()
        .filter(|(_, choice)| !choice.changes_nothing());
    // Of a plan that has to wait for another one nothing is written down: the next pass looks again.
    let blocked = changing.any(|(number, _)| work.boards[*number].busy);
    let mut arriving = false;
    let mut plans = Vec::new();
    for (number, choice) in choices {
        let Some(board) = work.board_mut(*number) else {
            continue;
        };
        if !choice.changes_nothing() {
            board.busy = true;
            if !blocked {
                plans.push(gpu_plan(*number, &gpus[*number], board, wants, choice));
            }
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
    let mut arriving = false;
    let moved = choice.expose.iter().map(|(moved, _)| moved);
    for at in choice.reuse.iter().chain(moved) {
        let IdleInstance {
            profile, placement, ..
        } = board.idle[*at];
        arriving |= board.idle[*at].arriving;
        board.promise(profile, placement);
    }
    let mut position = 0..;
    board
        .idle
        .retain(|_| position.next().is_none_or(|p| !choice.takes(p)));
    for (_, profile, placement) in &choice.create {
        board.promise(*profile, *placement);
    }
    arriving
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

#[cfg(test)]
pub(crate) mod tests;
