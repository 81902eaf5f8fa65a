//! Any order of events keeps the promises. The world checks them at every action; here are the
//! orders of events.

use mig::Layout;
use proptest::prelude::*;

use super::world::{World, model};
use super::*;

/// One thing that happens; the number chooses which of several.
#[derive(Clone, Debug)]
enum Event {
    Perform(usize, bool),
    Plan(usize),
    Commit(usize),
    Abort(usize),
    Grant(usize),
    Release(usize),
    ShowPlugins,
    Session(bool),
    Late(usize),
    Pass(u64),
    Fault(usize),
    Vanish(usize),
    Intend(usize),
    Rival(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let any = any::<usize>;
    prop_oneof![
        12 => (any(), proptest::bool::weighted(0.85)).prop_map(|(n, kind)| Event::Perform(n, kind)),
        5 => any().prop_map(Event::Plan),
        3 => any().prop_map(Event::Commit),
        1 => any().prop_map(Event::Abort),
        2 => any().prop_map(Event::Grant),
        1 => any().prop_map(Event::Release),
        2 => Just(Event::ShowPlugins),
        1 => proptest::bool::weighted(0.8).prop_map(Event::Session),
        1 => any().prop_map(Event::Late),
        1 => (0u64..90).prop_map(Event::Pass),
        1 => any().prop_map(Event::Fault),
        1 => any().prop_map(Event::Vanish),
        1 => any().prop_map(Event::Intend),
        1 => proptest::bool::weighted(0.3).prop_map(Event::Rival),
    ]
}

impl World {
    fn happen(&mut self, event: &Event, plans: &mut Vec<String>) {
        match event {
            Event::Perform(n, kind) if !self.pending.is_empty() => {
                let action = self.pending.remove(n % self.pending.len());
                self.perform(action.unwrap(), *kind);
            }
            Event::Plan(n) => {
                let plan = self.some_plan(*n, plans.len());
                plans.push(plan.id.clone());
                if self.session {
                    self.input(Input::Plan(plan));
                } else {
                    plans.pop();
                }
            }
            Event::Commit(n) if !plans.is_empty() && self.session => {
                let plan = plans[n % plans.len()].clone();
                self.commit_plan(plan);
            }
            Event::Abort(n) if !plans.is_empty() && self.session => {
                let plan_id = plans[n % plans.len()].clone();
                self.input(Input::Abort(api::Abort { plan_id }));
            }
            Event::Grant(n) if !self.devices.is_empty() => {
                let keys: Vec<_> = self.devices.keys().cloned().collect();
                self.grant(&keys[n % keys.len()].1);
            }
            Event::Release(n) if !self.devices.is_empty() => {
                let keys: Vec<_> = self.devices.keys().cloned().collect();
                self.devices.get_mut(&keys[n % keys.len()]).unwrap().held = false;
            }
            Event::ShowPlugins => self.show_plugins(),
            Event::Session(true) if !self.session => self.connect(),
            Event::Session(false) if self.session => self.input(Input::SessionClosed),
            Event::Late(n) => {
                let changes: Vec<_> = self.pending.iter().filter_map(change).collect();
                if !changes.is_empty() {
                    self.input(Input::Late(changes[n % changes.len()]));
                }
            }
            Event::Fault(n) => {
                let board = &self.gpus[n % self.gpus.len()];
                let instances = board.instances.iter().map(|i| i.gi_id);
                let fault = Input::Fault {
                    gpu: board.uuid.clone(),
                    instance: instances.cycle().nth(n / 8 % 8),
                    reason: "XID".into(),
                };
                self.input(fault);
            }
            // Somebody else destroys an instance that nobody uses.
            Event::Vanish(n) => self.vanish(*n),
            Event::Intend(n) if self.session => self.intend(|intent| {
                intent.give_back = n % 3 == 0;
                intent.turn_mig_on = n % 3 == 1;
                intent.leave_alone = (n / 3 % 4 == 0)
                    .then(|| "0".to_owned())
                    .into_iter()
                    .collect();
            }),
            Event::Rival(there) => {
                self.rivals = there
                    .then(|| "nvidia-gpu.sock".to_owned())
                    .into_iter()
                    .collect();
                self.show_plugins();
            }
            Event::Pass(seconds) => self.pass(Duration::from_secs(*seconds)),
            _ => {}
        }
    }

    fn vanish(&mut self, n: usize) {
        let board = n % self.gpus.len();
        let changing = self.pending.iter().any(|action| change(action).is_some());
        let idle = |id: &str| !self.devices.iter().any(|((_, i), l)| i == id && l.held);
        let instances = &self.gpus[board].instances;
        let at = instances
            .iter()
            .position(|i| i.compute.iter().all(|c| idle(&c.uuid)));
        if let (Some(at), false) = (at, changing) {
            self.gpus[board].instances.remove(at);
        }
    }

    /// A plan that a controller could make: something given up, something made where it fits.
    fn some_plan(&self, n: usize, number: usize) -> api::Plan {
        let gpus = self.node.snapshot().gpus;
        let gpu = &gpus[n % gpus.len()];
        let model = model();
        let mut layout = Layout::default();
        let give_up: Vec<_> = gpu
            .instances
            .iter()
            .enumerate()
            .filter(|(at, _)| (n >> (4 + at)) & 1 == 1)
            .map(|(_, instance)| reference(instance))
            .collect();
        for instance in &gpu.instances {
            let (index, profile) = model.find(&instance.profile.parse().unwrap()).unwrap();
            let stays = !give_up
                .iter()
                .any(|r| r.gpu_instance_id == instance.gpu_instance_id);
            if stays {
                let placement = profile
                    .placements
                    .iter()
                    .find(|p| u32::from(p.start) == instance.start);
                layout.place(&model, index, *placement.unwrap()).unwrap();
            }
        }
        let mut create = Vec::new();
        for (at, (index, profile)) in model.indices().enumerate() {
            if (n >> (20 + at)) & 1 == 1 {
                let free = layout.free_placements(&model, index).next();
                if let Some(placement) = free {
                    layout.place(&model, index, placement).unwrap();
                    create.push(super::create(
                        &profile.name.to_string(),
                        placement.start.into(),
                    ));
                }
            }
        }
        let moved = gpu.instances.iter().filter(|instance| {
            (n >> 40) & 1 == 1
                && !give_up
                    .iter()
                    .any(|r: &api::InstanceRef| r.gpu_instance_id == instance.gpu_instance_id)
        });
        let expose = moved
            .take(1)
            .map(|instance| {
                let (index, _) = model.find(&instance.profile.parse().unwrap()).unwrap();
                let names = mig::fraction::exposures(&model, index);
                let names: Vec<_> = std::iter::once(String::new()).chain(names).collect();
                let pick = (n >> 41) % 3 % names.len();
                api::Expose {
                    instance: Some(reference(instance)),
                    resource: names[pick].clone(),
                }
            })
            .collect();
        api::Plan {
            id: format!("plan-{number}"),
            gpus: vec![api::GpuPlan {
                gpu_uuid: gpu.uuid.clone(),
                state_version: gpu.state_version,
                give_up,
                create,
                expose,
            }],
        }
    }
}

fn change(action: &Action) -> Option<OpId> {
    match action {
        Action::Create { op, .. } | Action::Destroy { op, .. } | Action::Complete { op, .. } => {
            Some(*op)
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_promises(
        events in proptest::collection::vec(event(), 1..150),
    ) {
        let mut world = World::mixed();
        world.connect();
        let mut plans = Vec::new();
        for event in &events {
            world.happen(event, &mut plans);
        }
        // Left alone with a kind world, everything comes to rest.
        world.input(Input::SessionClosed);
        for _ in 0..12 {
            world.drain();
            world.pass(Duration::from_mins(1));
        }
        world.drain();
        for plan in &plans {
            let ends = world
                .reports
                .iter()
                .filter(|r| r.plan_id == *plan && r.stage() != Stage::Withdrawn);
            prop_assert_eq!(ends.count(), 1, "{} of {:?}", plan, world.reports);
        }
        let snapshot = world.node.snapshot();
        prop_assert!(snapshot.plans.is_empty());
        for (gpu, board) in snapshot.gpus.iter().zip(&world.gpus) {
            prop_assert_eq!(gpu.instances.len(), board.instances.len());
            for instance in &gpu.instances {
                let at_rest = matches!(
                    instance.state(),
                    State::Idle | State::Held | State::Unhealthy | State::Parked
                );
                prop_assert!(at_rest, "{:?}", instance);
            }
        }
    }
}
