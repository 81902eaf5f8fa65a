//! Hardware and kubelet as the state machine sees them, with every choice open to the test. It
//! checks the promises at each action.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cdmo_proto::agent as api;
use cdmo_proto::agent::plan_progress::Stage;
use device_plugin::{
    DevicePhase, DeviceState, HoldState, PluginState, Registration, ResourceState,
};
use mig::{GpuModel, Placement};
use nvml_mig::{Activation, ComputeInstance, GpuInfo, GpuInstance, MigMode};

use super::super::*;

/// A GPU's hardware.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) uuid: String,
    pub(super) mode: MigMode,
    pub(super) instances: Vec<GpuInstance>,
}

/// A device on the kubelet's list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) phase: DevicePhase,
    pub(super) held: bool,
}

type Key = (String, String);

pub(super) struct World {
    pub(super) node: Node,
    pub(super) now: Now,
    pub(super) gpus: Vec<Board>,
    pub(super) devices: BTreeMap<Key, Listed>,
    /// Actions that nobody has done yet.
    pub(super) pending: VecDeque<Action>,
    pub(super) reports: Vec<api::PlanProgress>,
    pub(super) session: bool,
    pub(super) hardware_changes: usize,
    /// The driver destroys compute instances only.
    pub(super) bare_after_destroy: bool,
    pub(super) intent: Intent,
    /// Registrations with the kubelet were ended.
    pub(super) stood_down: bool,
    /// Sockets of another plugin.
    pub(super) rivals: Vec<String>,
    /// Device ids with a CDI spec file.
    pub(super) specs: std::collections::BTreeSet<String>,
    pods: u64,
}

pub(super) fn info(index: u32) -> GpuInfo {
    GpuInfo {
        uuid: format!("GPU-{index}"),
        index,
        minor: index,
        name: "NVIDIA A100-SXM4-40GB".into(),
        pci_bus_id: format!("00000000:0{index}:00.0"),
        memory_mib: 40960,
        mig_capable: true,
        resetless_mig: false,
    }
}

pub(super) fn model() -> GpuModel {
    GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap()
}

/// An instance as the driver describes it. The uuid depends on the place, not on the profile.
pub(super) fn instance(gpu: &str, profile: &str, start: u8, whole: bool) -> GpuInstance {
    let profile = profile.parse().unwrap();
    let model = model();
    let (_, found) = model.find(&profile).unwrap();
    let placement = Placement::new(start, found.size());
    GpuInstance {
        gi_id: u32::from(start) * 16 + u32::from(placement.size),
        profile_id: found.id,
        profile,
        placement,
        compute: if whole {
            vec![compute(gpu, start)]
        } else {
            Vec::new()
        },
    }
}

fn compute(gpu: &str, start: u8) -> ComputeInstance {
    ComputeInstance {
        ci_id: 0,
        uuid: format!("MIG-{gpu}-{start}"),
        full: true,
    }
}

impl World {
    pub(super) fn new(found: Vec<Found>, recorded: &Recorded) -> Self {
        let gpus = found.iter().map(|found| Board {
            uuid: found.info.uuid.clone(),
            mode: found.view.mode,
            instances: found.view.instances.clone(),
        });
        let gpus = gpus.collect();
        let mut node = Node::adopt(found, recorded, 1000, Now::default());
        node.keep_specs(Vec::new());
        let first = node.take_actions();
        let mut world = Self {
            node,
            now: Now::default(),
            gpus,
            devices: BTreeMap::new(),
            pending: VecDeque::new(),
            reports: Vec::new(),
            session: false,
            hardware_changes: 0,
            bare_after_destroy: false,
            intent: Intent::default(),
            stood_down: false,
            rivals: Vec::new(),
            specs: std::collections::BTreeSet::new(),
            pods: 0,
        };
        world.take(first);
        world
    }

    /// One GPU with an instance, one without any, and one whose MIG mode is off.
    pub(super) fn mixed() -> Self {
        let modes = [MigMode::On, MigMode::On, MigMode::Off];
        let found = modes.into_iter().zip(0..).map(|(mode, index)| Found {
            info: info(index),
            model: Some(model()),
            view: View {
                mode,
                instances: (index == 0)
                    .then(|| instance("GPU-0", "2g.10gb", 2, true))
                    .into_iter()
                    .collect(),
            },
        });
        Self::new(found.collect(), &Recorded::default())
    }

    /// GPUs in MIG mode without instances, and a controller.
    pub(super) fn connected(gpus: u32) -> Self {
        let found = (0..gpus).map(|index| Found {
            info: info(index),
            model: Some(model()),
            view: View {
                mode: MigMode::On,
                instances: Vec::new(),
            },
        });
        let mut world = Self::new(found.collect(), &Recorded::default());
        world.connect();
        world.drain();
        world
    }

    pub(super) fn connect(&mut self) {
        self.session = true;
        self.pods = 1;
        self.input(Input::SessionOpened);
        self.input(Input::Pods(1));
        self.intend(|intent| intent.turn_mig_on = true);
    }

    /// The controller means something else to become of the node.
    pub(super) fn intend(&mut self, change: impl FnOnce(&mut Intent)) {
        change(&mut self.intent);
        self.input(Input::Intent(self.intent.clone()));
    }

    /// Commits what was withdrawn last.
    pub(super) fn commit(&mut self) {
        let plan_id = self.reports.last().unwrap().plan_id.clone();
        self.commit_plan(plan_id);
    }

    pub(super) fn commit_plan(&mut self, plan_id: String) {
        self.input(Input::Commit(api::Commit {
            plan_id,
            pods_revision: self.pods,
        }));
    }

    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::SessionOpened => self.session = true,
            Input::SessionClosed => self.session = false,
            _ => {}
        }
        let actions = self.node.handle(self.now, input);
        self.take(actions);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.tick += time;
        self.now.unix += time.as_secs().cast_signed();
        self.input(Input::Tick);
    }

    /// Does everything that is to be done, kindly.
    pub(super) fn drain(&mut self) {
        for _ in 0..1000 {
            let Some(action) = self.pending.pop_front() else {
                self.show_plugins();
                if self.pending.is_empty() {
                    return;
                }
                continue;
            };
            self.perform(action, true);
        }
        panic!("the node never comes to rest: {:?}", self.pending);
    }

    pub(super) fn pending_op(&self, wanted: impl Fn(&Action) -> bool) -> OpId {
        match self.pending.iter().find(|action| wanted(action)) {
            Some(Action::Create { op, .. } | Action::Destroy { op, .. }) => *op,
            other => panic!("no such action: {other:?}"),
        }
    }

    /// The kubelet gives a device to a pod, if it may. Returns whether it did.
    pub(super) fn grant(&mut self, id: &str) -> bool {
        for ((_, listed_id), listed) in &mut self.devices {
            let may = matches!(
                listed.phase,
                DevicePhase::Offered | DevicePhase::Withdrawing
            );
            if listed_id == id && may {
                listed.held = true;
                return true;
            }
        }
        false
    }

    pub(super) fn show_plugins(&mut self) {
        let mut state = PluginState {
            rivals: self.rivals.clone().into(),
            ..PluginState::default()
        };
        for ((resource, id), listed) in &self.devices {
            let entry = state
                .resources
                .entry(resource.clone())
                .or_insert(ResourceState {
                    registration: Registration::Registered,
                    ..ResourceState::default()
                });
            entry.devices.push(DeviceState {
                id: id.clone(),
                group: String::new(),
                phase: listed.phase,
                sick: None,
                confirmed: true,
                hold: listed.held.then(|| HoldState {
                    holders: Vec::new(),
                    shown: true,
                    doubt: None,
                }),
            });
        }
        self.input(Input::Plugins(Arc::new(state)));
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.check(&action);
            match action {
                Action::StandDown(down) => self.stood_down = down,
                Action::Progress(report) => self.reports.push(report),
                Action::Offer {
                    resource,
                    id,
                    op,
                    gpu,
                    instance,
                } => {
                    self.specs.insert(id.clone());
                    let entry = self.devices.entry((resource.clone(), id.clone()));
                    entry.or_insert(Listed {
                        phase: DevicePhase::Offered,
                        held: false,
                    });
                    self.pending.push_back(Action::Offer {
                        op,
                        resource,
                        id,
                        gpu,
                        instance,
                    });
                }
                other => self.pending.push_back(other),
            }
        }
    }

    /// The promises, at the moment something is asked for.
    fn check(&self, action: &Action) {
        match action {
            Action::Destroy { gpu, instance, .. } => {
                assert!(self.session, "destroyed without a controller");
                let board = self.board(gpu);
                let found = board.instances.iter().find(|i| i.gi_id == *instance);
                for compute in found.iter().flat_map(|i| &i.compute) {
                    for ((resource, id), listed) in &self.devices {
                        if *id == compute.uuid {
                            assert!(!listed.held, "destroyed {resource} {id}, which is held");
                            assert_eq!(listed.phase, DevicePhase::Fenced, "{resource} {id}");
                        }
                    }
                }
                self.alone_on(gpu, action);
            }
            Action::Create { gpu, placement, .. } => {
                let taken = self.board(gpu).instances.iter();
                let mut taken = taken.map(|i| i.placement.mask());
                assert!(
                    !taken.any(|mask| mask.overlaps(placement.mask())),
                    "overlap: {action:?}"
                );
                self.alone_on(gpu, action);
            }
            Action::Complete { gpu, .. }
            | Action::TurnOn { gpu, .. }
            | Action::TurnOff { gpu, .. } => {
                self.alone_on(gpu, action);
            }
            Action::Progress(report) => {
                let ended = |r: &&api::PlanProgress| {
                    r.plan_id == report.plan_id && r.stage() != Stage::Withdrawn
                };
                assert!(
                    self.reports.iter().find(ended).is_none() || report.stage() == Stage::Refused
                );
            }
            Action::Undescribe { id, .. } => {
                let listed = self.devices.keys().any(|(_, listed)| listed == id);
                assert!(!listed, "{id} is listed, and its spec file shall go");
                let instances = self.gpus.iter().flat_map(|board| &board.instances);
                let exists = instances.flat_map(|i| &i.compute).any(|c| c.uuid == *id);
                assert!(!exists, "{id} exists, and its spec file shall go");
            }
            Action::Offer { resource, id, .. } => {
                let leaving = self.pending.iter().any(|action| match action {
                    Action::Undescribe { id: leaving, .. } => leaving == id,
                    _ => false,
                });
                assert!(
                    !leaving,
                    "{id} is offered while its spec file is being removed"
                );
                let elsewhere = self.devices.keys().any(|(r, i)| i == id && r != resource);
                assert!(!elsewhere, "{id} is offered under two names");
            }
            _ => {}
        }
    }

    /// One change at a time on a GPU.
    fn alone_on(&self, gpu: &str, action: &Action) {
        let changes = self.pending.iter().filter(|pending| match pending {
            Action::Create { gpu: g, .. }
            | Action::Complete { gpu: g, .. }
            | Action::Destroy { gpu: g, .. }
            | Action::TurnOn { gpu: g, .. }
            | Action::TurnOff { gpu: g, .. } => g == gpu,
            _ => false,
        });
        assert_eq!(changes.count(), 0, "two changes at once: {action:?}");
    }

    fn board(&self, gpu: &str) -> &Board {
        self.gpus.iter().find(|board| board.uuid == gpu).unwrap()
    }

    fn board_mut(&mut self, gpu: &str) -> &mut Board {
        self.gpus
            .iter_mut()
            .find(|board| board.uuid == gpu)
            .unwrap()
    }

    /// Does an action and tells the node how it ended; an unkind world lets it fail.
    pub(super) fn perform(&mut self, action: Action, kind: bool) {
        let failure = || Failure::new("unlucky", "It did not work.");
        let (op, outcome) = match action {
            Action::Read { op, gpu } => {
                let board = self.board(&gpu);
                let view = View {
                    mode: board.mode,
                    instances: board.instances.clone(),
                };
                (
                    op,
                    Outcome::Read(if kind { Ok(view) } else { Err(failure()) }),
                )
            }
            Action::Create {
                op,
                gpu,
                profile,
                placement,
                ..
            } => {
                self.hardware_changes += 1;
                let made = instance(&gpu, &profile.to_string(), placement.start, kind);
                // Half of the failures leave an instance without compute instance behind.
                if kind || op.is_multiple_of(2) {
                    self.board_mut(&gpu).instances.push(made.clone());
                }
                (
                    op,
                    Outcome::Made(if kind { Ok(made) } else { Err(failure()) }),
                )
            }
            Action::Complete {
                op, gpu, instance, ..
            } => {
                let uuid = gpu.clone();
                let board = self.board_mut(&gpu);
                let found = board.instances.iter_mut().find(|i| i.gi_id == instance);
                let made = match found {
                    Some(found) if kind => {
                        found.compute = vec![compute(&uuid, found.placement.start)];
                        Ok(found.clone())
                    }
                    _ => Err(failure()),
                };
                (op, Outcome::Made(made))
            }
            Action::Destroy {
                op, gpu, instance, ..
            } => {
                self.hardware_changes += 1;
                let bare = self.bare_after_destroy || (!kind && op.is_multiple_of(2));
                let board = self.board_mut(&gpu);
                let at = board.instances.iter().position(|i| i.gi_id == instance);
                let gone = match at {
                    // Somebody else was faster.
                    None => Ok(()),
                    Some(at) if bare => {
                        board.instances[at].compute.clear();
                        Err((Remains::Bare, failure()))
                    }
                    Some(at) if kind => {
                        board.instances.remove(at);
                        Ok(())
                    }
                    Some(_) => Err((Remains::Whole, failure())),
                };
                (op, Outcome::Destroyed(gone))
            }
            Action::TurnOn { op, gpu, .. } => {
                if kind {
                    self.board_mut(&gpu).mode = MigMode::On;
                }
                let set = if kind {
                    Ok(Activation::Done)
                } else {
                    Err(failure())
                };
                (op, Outcome::TurnedOn(set))
            }
            Action::TurnOff { op, gpu } => {
                let board = self.board_mut(&gpu);
                assert!(board.instances.is_empty(), "MIG mode off under instances");
                let set = if kind {
                    board.mode = MigMode::Off;
                    Ok(Activation::Done)
                } else {
                    Err(failure())
                };
                (op, Outcome::TurnedOff(set))
            }
            Action::ProveFree { op, .. } => (
                op,
                Outcome::Free(if kind { Ok(()) } else { Err(failure()) }),
            ),
            other => return self.with_kubelet(other, kind),
        };
        self.input(Input::Done(op, outcome));
    }

    fn with_kubelet(&mut self, action: Action, kind: bool) {
        let (op, outcome) = match action {
            Action::Offer { op, .. } => {
                let unconfirmed = Failure::new("unconfirmed", "The kubelet is silent.");
                (
                    op,
                    Outcome::Offered(if kind { Ok(()) } else { Err(unconfirmed) }),
                )
            }
            Action::Withdraw { op, resource, id } => {
                let listed = self.devices.get_mut(&(resource, id)).unwrap();
                let result = if listed.held || !kind {
                    listed.phase = DevicePhase::Offered;
                    Err(Failure::new(
                        if kind { "held" } else { "unconfirmed" },
                        "No.",
                    ))
                } else {
                    listed.phase = DevicePhase::Withdrawing;
                    Ok(())
                };
                (op, Outcome::Withdrawn(result))
            }
            Action::Fence { op, resource, id } => {
                let listed = self.devices.get_mut(&(resource, id)).unwrap();
                assert_eq!(listed.phase, DevicePhase::Withdrawing);
                let result = if listed.held || !kind {
                    listed.phase = DevicePhase::Offered;
                    Err(Failure::new("held", "A pod took it."))
                } else {
                    listed.phase = DevicePhase::Fenced;
                    Ok(())
                };
                (op, Outcome::Fenced(result))
            }
            Action::Reinstate { op, resource, id } => {
                self.devices.get_mut(&(resource, id)).unwrap().phase = DevicePhase::Offered;
                (op, Outcome::Reinstated)
            }
            Action::Forget { op, resource, id } => {
                let listed = self.devices.remove(&(resource, id)).unwrap();
                assert_eq!(listed.phase, DevicePhase::Fenced);
                (op, Outcome::Forgotten)
            }
            Action::Lose { op, resource, id } => {
                self.devices.remove(&(resource, id));
                (op, Outcome::Forgotten)
            }
            Action::Undescribe { op, id } => {
                self.specs.remove(&id);
                (op, Outcome::Undescribed)
            }
            // Nobody waits for the rest.
            _ => return,
        };
        self.input(Input::Done(op, outcome));
    }
}
