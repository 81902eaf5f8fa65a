//! One GPU and the units that can be devices: its GPU instances, or itself as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use cdmo_proto::agent::instance::State;
use mig::{Layout, Placement, ProfileName};
use nvml_mig::{GpuInfo, GpuInstance, MigMode};

use super::OpId;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The GPU itself.
    Whole,
    /// A GPU instance, by id.
    Instance(u32),
}

/// Where a unit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not listed with the kubelet, and nothing is going on. Offered next if it has a resource.
    Unlisted,
    /// Being offered.
    Offering,
    /// Listed; the kubelet may give it out.
    Offered,
    /// Withdraw, steps 4 and 5.
    Withdrawing,
    /// The kubelet does not give it out any more.
    Withdrawn,
    /// Withdraw, steps 7 and 8.
    Fencing,
    /// Proven free, and nobody can get it.
    Fenced,
    /// Being offered again.
    Returning,
    /// Being dropped from the list.
    Forgetting,
    /// Being destroyed.
    Destroying,
    /// A GPU instance of ours without compute instance: the driver stopped halfway.
    Bare,
    /// Being given its compute instance.
    Completing,
}

/// A device, or what could be one.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Which one.
    pub slot: Slot,
    /// Its profile; none for a whole GPU.
    pub profile: Option<ProfileName>,
    /// Where it stands; meaningless for a whole GPU.
    pub placement: Placement,
    /// MIG uuid or GPU uuid; none while it is no whole device.
    pub device: Option<String>,
    /// Id of the one compute instance.
    pub compute: u32,
    /// Somebody else divided it into compute instances of their own: never touched.
    pub foreign: bool,
    /// The resource name it is, or shall be, offered under; none: parked.
    pub resource: Option<String>,
    /// What the kubelet's list has: resource name and device id.
    pub listed: Option<(String, String)>,
    /// Where it is in its life.
    pub life: Life,
    /// The action under way with the kubelet.
    pub motion: Option<OpId>,
    /// A fault that only destroying it can mend.
    pub sick: Option<String>,
    /// Why the last attempt did not work.
    pub reason: String,
    /// Attempts that failed in a row.
    pub tries: u32,
    /// Not before this.
    pub retry_at: Duration,
    /// Journaled changes that end when this unit is whole or gone.
    pub debts: Vec<OpId>,
    /// State as last shown, and since when.
    pub shown: (State, i64),
}

impl Unit {
    pub(super) fn whole(info: &GpuInfo) -> Self {
        Self {
            profile: None,
            device: Some(info.uuid.clone()),
            resource: None,
            ..Self::blank(Slot::Whole, Placement::new(0, 0))
        }
    }

    pub(super) fn instance(found: &GpuInstance) -> Self {
        let mut unit = Self {
            profile: Some(found.profile),
            ..Self::blank(Slot::Instance(found.gi_id), found.placement)
        };
        unit.refresh(found);
        unit
    }

    fn blank(slot: Slot, placement: Placement) -> Self {
        Self {
            slot,
            profile: None,
            placement,
            device: None,
            compute: 0,
            foreign: false,
            resource: None,
            listed: None,
            life: Life::Unlisted,
            motion: None,
            sick: None,
            reason: String::new(),
            tries: 0,
            retry_at: Duration::ZERO,
            debts: Vec::new(),
            shown: (State::Unspecified, 0),
        }
    }

    /// Takes over what NVML says of its compute instances.
    pub(super) fn refresh(&mut self, found: &GpuInstance) {
        self.device = found.device_uuid().map(str::to_owned);
        self.compute = found.compute.first().map_or(0, |c| c.ci_id);
        self.foreign = self.device.is_none() && !found.compute.is_empty();
        if self.foreign {
            self.reason =
                "It is divided into compute instances that the agent did not make.".into();
        } else if self.device.is_none() {
            self.reason = "It has no compute instance.".into();
        } else {
            self.reason.clear();
        }
    }

    /// The name that its profile is offered under where nothing else is asked for.
    pub(super) fn default_resource(&self) -> Option<String> {
        match self.slot {
            Slot::Whole => Some(mig::GPU_RESOURCE.to_owned()),
            Slot::Instance(_) => self.profile.map(ProfileName::resource_name),
        }
    }

    /// Whether it is the instance that NVML found.
    pub(super) fn is(&self, found: &GpuInstance) -> bool {
        self.slot == Slot::Instance(found.gi_id)
            && self.profile == Some(found.profile)
            && self.placement == found.placement
    }

    /// An action on it is under way.
    pub(super) fn in_motion(&self) -> bool {
        !matches!(
            self.life,
            Life::Unlisted | Life::Offered | Life::Bare | Life::Withdrawn | Life::Fenced
        )
    }
}

/// An instance whose making failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The journaled change.
    pub op: OpId,
    /// Its profile.
    pub profile: ProfileName,
    /// Where.
    pub placement: Placement,
}

impl Attempt {
    /// Whether this is what it left behind.
    pub(super) fn made(&self, found: &GpuInstance) -> bool {
        self.profile == found.profile && self.placement == found.placement
    }
}

/// One GPU.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Who it is.
    pub info: GpuInfo,
    /// Index into the node's models; none if it cannot do MIG.
    pub model: Option<usize>,
    /// MIG mode, now and pending.
    pub mode: MigMode,
    /// Rises with every change that a plan could have rested on.
    pub version: u64,
    /// Everything on it.
    pub units: BTreeMap<Slot, Unit>,
    /// The NVML call under way.
    pub busy: Option<OpId>,
    /// The plan that has it.
    pub plan: Option<String>,
    /// The driver does not answer, or the GPU as a whole is faulty.
    pub fault: Option<String>,
    /// The call under way is overdue.
    pub late: bool,
    /// What could not be made: an instance found there without compute instance is ours.
    pub attempted: Vec<Attempt>,
    /// Devices that are gone and being dropped from the kubelet's list.
    pub forgetting: usize,
    /// Looks at it that failed in a row.
    pub read_tries: u32,
    /// A change failed, so it must be looked at before a plan can rest on it.
    pub unsure: bool,
    /// When to look at it again.
    pub read_at: Duration,
    /// When to try to turn MIG mode on again.
    pub turn_on_at: Duration,
    /// Why MIG mode is not on although it could be.
    pub turn_on_problem: Option<String>,
    /// Attempts to turn it on that failed in a row.
    pub turn_on_tries: u32,
    /// An administrator wants it left alone: neither offered nor changed.
    pub left_alone: bool,
    /// When to try to turn MIG mode off, and attempts that failed in a row.
    pub turn_off: (Duration, u32),
}

impl Gpu {
    /// Something changed that a plan may rest on.
    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    /// Nothing but a new plan can change it at present.
    pub(super) fn is_at_rest(&self) -> bool {
        self.busy.is_none() && self.plan.is_none()
    }

    /// What stands on it, but for some units.
    pub(super) fn layout(&self, model: &mig::GpuModel, without: &[Slot]) -> Layout {
        let mut layout = Layout::default();
        for unit in self.units.values() {
            let Some(profile) = unit.profile else {
                continue;
            };
            if without.contains(&unit.slot) {
                continue;
            }
            if let Some((index, _)) = model.find(&profile) {
                // What NVML found stands there, whatever the table thinks of it.
                let _ = layout.place(model, index, unit.placement);
            }
        }
        layout
    }
}
