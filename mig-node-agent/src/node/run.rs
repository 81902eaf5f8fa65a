//! A plan's part on one GPU: prove everything free, give up, move, make, confirm; or undo.

use std::collections::VecDeque;

use super::gpu::{Life, Slot};
use super::outcome::{Doing, Making, Pending};
use super::plans::session_lost;
use super::{Action, Failure, Node};

/// Attempts to destroy an instance whose compute instance is gone, before it is made whole again.
const DESTROY_TRIES: u32 = 3;

/// A plan's part on one GPU.
#[derive(Debug)]
pub(super) struct GpuRun {
    /// The GPU.
    pub(super) at: usize,
    give_up: Vec<Slot>,
    pub(super) expose: Vec<(Slot, Option<String>)>,
    create: VecDeque<Making>,
    pub(super) step: Step,
    pub(super) failure: Option<Failure>,
    /// Instances made so far.
    pub(super) made: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The kubelet is being told.
    Withdrawing,
    /// It was told; nothing is irrevocable yet.
    Withdrawn,
    /// The controller said so; next is the hard fence.
    Committed,
    /// Everything is being proven free.
    Fencing,
    /// Instances are destroyed, and others taken off their old names.
    Clearing,
    /// Instances are made and offered.
    Making,
    /// What was withdrawn is offered again.
    Undoing,
    /// Done, one way or the other.
    Ended,
}

impl GpuRun {
    pub(super) fn new(
        at: usize,
        give_up: Vec<Slot>,
        expose: Vec<(Slot, Option<String>)>,
        create: VecDeque<Making>,
    ) -> Self {
        Self {
            at,
            give_up,
            expose,
            create,
            step: Step::Withdrawing,
            failure: None,
            made: Vec::new(),
        }
    }

    /// Whether it takes a device away from where it is.
    pub(super) fn takes_away(&self) -> bool {
        !self.give_up.is_empty() || !self.expose.is_empty()
    }

    /// Units whose listing ends.
    pub(super) fn withdrawn_first(&self) -> Vec<Slot> {
        let exposed = self.expose.iter().map(|(slot, _)| *slot);
        self.give_up.iter().copied().chain(exposed).collect()
    }
}

impl Node {
    pub(super) fn advance_run(&mut self, run: &mut GpuRun) {
        loop {
            let before = run.step;
            match run.step {
                Step::Withdrawing => self.run_withdrawing(run),
                Step::Withdrawn | Step::Ended => {}
                Step::Committed => self.run_committed(run),
                Step::Fencing => self.run_fencing(run),
                Step::Clearing => self.run_clearing(run),
                Step::Making => self.run_making(run),
                Step::Undoing => self.run_undoing(run),
            }
            if run.step == before {
                return;
            }
        }
    }

    fn lives<'a>(&'a self, run: &'a GpuRun) -> impl Iterator<Item = (Slot, Life)> + 'a {
        let units = &self.gpus[run.at].units;
        run.withdrawn_first()
            .into_iter()
            .filter_map(|slot| units.get(&slot).map(|unit| (slot, unit.life)))
    }

    fn any(&self, run: &GpuRun, life: Life) -> bool {
        self.lives(run).any(|(_, l)| l == life)
    }

    fn run_withdrawing(&mut self, run: &mut GpuRun) {
        if !self.any(run, Life::Withdrawing) {
            run.step = Step::Withdrawn;
        }
    }

    fn run_committed(&mut self, run: &mut GpuRun) {
        let withdrawn: Vec<Slot> = self.slots(run, Life::Withdrawn);
        for slot in withdrawn {
            self.fence(run.at, slot);
        }
        run.step = Step::Fencing;
    }

    fn run_fencing(&mut self, run: &mut GpuRun) {
        if !self.any(run, Life::Fencing) {
            run.step = if run.failure.is_some() {
                Step::Undoing
            } else {
                Step::Clearing
            };
        }
    }

    fn run_clearing(&mut self, run: &mut GpuRun) {
        let at = run.at;
        if run.failure.is_some() {
            run.step = Step::Undoing;
            return;
        }
        for slot in self.slots(run, Life::Fenced) {
            if run.expose.iter().any(|(exposed, _)| *exposed == slot) {
                self.forget(at, slot);
            }
        }
        if self.gpus[at].busy.is_some() {
            return;
        }
        for slot in run.give_up.clone() {
            let Some(unit) = self.gpus[at].units.get(&slot) else {
                continue;
            };
            match unit.life {
                Life::Fenced | Life::Unlisted | Life::Bare => {}
                // Whole again after a failed destroy: what the run cannot give up, it keeps.
                Life::Offered => {
                    run.failure = Some(in_use(&unit.reason));
                    run.step = Step::Undoing;
                    return;
                }
                _ => return,
            }
            if !self.session {
                run.failure = Some(session_lost());
            } else if self.is_held(unit) {
                run.failure = Some(Failure::new(
                    "held",
                    "A pod took an instance to be given up.",
                ));
            } else if unit.life == Life::Bare && unit.tries >= DESTROY_TRIES {
                let failure = in_use(&unit.reason);
                self.complete(at, slot);
                run.failure = Some(failure);
            } else if unit.life == Life::Bare && unit.retry_at > self.now.tick {
                // The tick at that time comes back here.
            } else {
                self.destroy(at, slot);
            }
            if run.failure.is_some() {
                run.step = Step::Undoing;
            }
            return;
        }
        if self.gpus[at].forgetting == 0 && !self.any(run, Life::Forgetting) {
            self.expose(run);
            run.step = Step::Making;
        }
    }

    /// Units that are off their old names, or had none, go to the new ones.
    fn expose(&mut self, run: &GpuRun) {
        for (slot, resource) in &run.expose {
            if let Some(unit) = self.unit(run.at, *slot) {
                unit.resource.clone_from(resource);
                let unit = unit.clone();
                self.note_exposure(run.at, &unit);
                self.gpus[run.at].changed();
                self.offer(run.at, *slot);
            }
        }
    }

    fn run_making(&mut self, run: &mut GpuRun) {
        let at = run.at;
        let gpu = &self.gpus[at];
        if run.failure.is_some() {
            run.create.clear();
        }
        if gpu.busy.is_some() && !gpu.late {
            return;
        }
        if let Some(making) = run.create.pop_front() {
            let uuid = gpu.info.uuid.clone();
            let op = self.start(at, Pending::gpu(at, Doing::Create(making.clone())));
            self.actions.push(Action::Create {
                op,
                gpu: uuid,
                profile_id: making.profile_id,
                profile: making.profile,
                placement: making.placement,
            });
            return;
        }
        let exposed = run.expose.iter().map(|(slot, _)| slot);
        let offering = run
            .made
            .iter()
            .chain(exposed)
            .filter_map(|slot| gpu.units.get(slot))
            .any(|unit| unit.life == Life::Offering);
        if !offering {
            self.end_run(run);
        }
    }

    fn run_undoing(&mut self, run: &mut GpuRun) {
        let at = run.at;
        for (slot, life) in self.lives(run).collect::<Vec<_>>() {
            if matches!(life, Life::Withdrawn | Life::Fenced) {
                self.reinstate(at, slot);
            }
        }
        let late = self.gpus[at].late;
        let moving = self.lives(run).any(|(_, life)| match life {
            Life::Destroying | Life::Completing => !late,
            Life::Withdrawing | Life::Fencing | Life::Returning | Life::Forgetting => true,
            _ => false,
        });
        if !moving && self.gpus[at].forgetting == 0 {
            self.end_run(run);
        }
    }

    fn end_run(&mut self, run: &mut GpuRun) {
        let gpu = &mut self.gpus[run.at];
        gpu.plan = None;
        if run.failure.is_some() {
            gpu.read_at = self.now.tick;
        }
        run.step = Step::Ended;
    }

    fn slots(&self, run: &GpuRun, life: Life) -> Vec<Slot> {
        let with = self.lives(run).filter(|(_, l)| *l == life);
        with.map(|(slot, _)| slot).collect()
    }
}

fn in_use(reason: &str) -> Failure {
    Failure::new("in_use", reason)
}
