//! GPUs that cannot be partitioned now, but will be in a moment.
//!
//! Slices are kept free for hours, so that a moment does not count where they are chosen: otherwise whoever has to choose
//! just when an agent starts anew would wait for pods elsewhere that run for days.

use cdmo_proto::agent::MigMode;
use planner::Node;

use super::board::{Board, LONGEST_PAUSE};
use crate::{takeover, view::Facts};

/// Positions of GPUs of a node that only lack their agent, whose session broke a moment ago, or rest for some seconds.
/// Whatever else keeps a GPU from being partitioned lasts: a driver upgrade, MIG mode that is off, a layout that
/// contradicts the model, failures one after the other, or that somebody wants it left alone.
pub(super) fn soon_changeable(view: &Node, facts: &Facts<'_>, board: &Board) -> Vec<usize> {
    let Some(agent) = facts.agent else {
        return Vec::new();
    };
    let serves = agent.serves(facts.now) && facts.row.managed;
    let (Some(snapshot), true) = (
        &agent.snapshot,
        serves && !takeover::is_upgrading(facts.row),
    ) else {
        return Vec::new();
    };
    let is_back_soon = |uuid: &str| {
        let gpu = snapshot.gpu(uuid);
        let works =
            gpu.is_some_and(|gpu| gpu.mode == MigMode::On && gpu.consistent && !gpu.left_alone);
        let rest = board.resting_for(uuid, facts.now);
        works && rest.is_none_or(|rest| rest.until <= facts.now + LONGEST_PAUSE)
    };
    let gpus = view.gpus.iter().enumerate();
    gpus.filter(|(_, gpu)| !gpu.changeable && is_back_soon(&gpu.uuid))
        .map(|(at, _)| at)
        .collect()
}
