//! What a container asks for by NVIDIA's own names; such a request rules over a fraction beside it.

use std::collections::BTreeMap;

use mig::fraction::{Share, meanings};
use mig::{GPU_RESOURCE, ProfileName, RESOURCE_PREFIX};
use serde_json::{Map, Value};

use crate::quantity;

/// Instances by profile, and whole GPUs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    profiles: BTreeMap<ProfileName, u64>,
    gpus: u64,
    /// Names or numbers that cannot be read; the API server or the planner will say so.
    unreadable: Vec<String>,
}

impl Devices {
    /// What is in a list of limits.
    pub(crate) fn read(limits: Option<&Map<String, Value>>) -> Self {
        let mut devices = Self::default();
        for (name, value) in limits.into_iter().flatten() {
            if name != GPU_RESOURCE && !name.starts_with(RESOURCE_PREFIX) {
                continue;
            }
            match (count(value), ProfileName::from_resource(name)) {
                (Some(0), _) => {}
                (Some(count), _) if name == GPU_RESOURCE => devices.gpus = count,
                (Some(count), Ok(profile)) => {
                    devices.profiles.insert(profile, count);
                }
                _ => devices.unreadable.push(name.clone()),
            }
        }
        devices
    }

    /// Adds what another container asks for.
    pub(crate) fn add(&mut self, other: &Self) {
        self.gpus = self.gpus.saturating_add(other.gpus);
        for (profile, count) in &other.profiles {
            let entry = self.profiles.entry(*profile).or_default();
            *entry = entry.saturating_add(*count);
        }
        if self.unreadable.is_empty() {
            self.unreadable
                .extend(other.unreadable.iter().take(1).cloned());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.profiles.is_empty() && self.gpus == 0 && self.unreadable.is_empty()
    }

    /// Whether slices of a GPU are among them.
    pub(crate) fn has_slices(&self) -> bool {
        !self.profiles.is_empty() || !self.unreadable.is_empty()
    }

    /// What share of GPUs they may be: one for each kind of GPU that has these profiles, without
    /// repetition; none if that cannot be said.
    pub(crate) fn shares(&self) -> Vec<Share> {
        if !self.unreadable.is_empty() {
            return Vec::new();
        }
        let gpus = Share::whole(1).times(self.gpus);
        if self.profiles.is_empty() {
            return vec![gpus];
        }
        let mut shares: Vec<Share> = meanings(self.profiles.keys())
            .into_iter()
            .map(|meaning| {
                self.profiles
                    .iter()
                    .filter_map(|(profile, count)| Some(meaning.share(*profile)?.times(*count)))
                    .fold(gpus, |sum, share| sum + share)
            })
            .collect();
        shares.sort_unstable();
        shares.dedup();
        shares
    }

    /// Their names, a few of them.
    pub(crate) fn names(&self) -> String {
        let mut names: Vec<String> = self.profiles.keys().map(|p| p.resource_name()).collect();
        if self.gpus > 0 {
            names.push(GPU_RESOURCE.to_owned());
        }
        let more = names.len() > 3;
        names.truncate(3);
        names.join(" and ") + if more { " and more" } else { "" }
    }

    /// How ClearML's reporting wants them: a list of ones for whole GPUs, else items of name and
    /// count; `None` for both at once, which it cannot read.
    pub(crate) fn variable(&self) -> Option<String> {
        if !self.unreadable.is_empty() {
            return None;
        }
        if self.profiles.is_empty() {
            let gpus = usize::try_from(self.gpus.min(u64::from(mig::fraction::MAX_GPUS))).ok()?;
            return Some(vec!["1"; gpus].join(","));
        }
        if self.gpus > 0 {
            return None;
        }
        // It knows plain names only, and each name once.
        let mut plain: BTreeMap<(u8, u16), u64> = BTreeMap::new();
        for (profile, count) in &self.profiles {
            let entry = plain
                .entry((profile.compute_slices(), profile.memory_gb()))
                .or_default();
            *entry = entry.saturating_add(*count);
        }
        let items: Vec<String> = plain
            .iter()
            .map(|((slices, gb), count)| format!("{RESOURCE_PREFIX}{slices}g.{gb}gb:{count}"))
            .collect();
        Some(items.join(","))
    }
}

/// A whole number of devices.
pub(crate) fn count(value: &Value) -> Option<u64> {
    let share = match value {
        Value::String(text) => quantity::share(text).ok()?,
        Value::Number(number) => quantity::share(&number.to_string()).ok()?,
        _ => return None,
    };
    let one = Share::whole(1).nanos();
    share
        .nanos()
        .is_multiple_of(one)
        .then_some(share.nanos() / one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "`json!` reads better by value"
    )]
    fn devices(limits: Value) -> Devices {
        Devices::read(limits.as_object())
    }

    fn shares(devices: &Devices) -> Vec<String> {
        devices.shares().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_profile_is_worth_what_its_board_has_of_it() {
        assert_eq!(
            shares(&devices(json!({"nvidia.com/mig-3g.20gb": 1, "cpu": 4}))),
            ["0.5"]
        );
        assert_eq!(
            shares(&devices(json!({"nvidia.com/mig-1g.10gb": "2"}))),
            ["0.25", "0.5"]
        );
        assert_eq!(shares(&devices(json!({"nvidia.com/gpu": 2}))), ["2"]);
        assert!(shares(&devices(json!({"nvidia.com/mig-1c.3g.20gb": 1}))).is_empty());
        assert!(devices(json!({"nvidia.com/gpu": 0, "cpu": 1})).is_empty());
    }

    #[test]
    fn clearml_gets_names_that_it_knows() {
        for (limits, variable) in [
            (
                json!({"nvidia.com/mig-3g.20gb": 1}),
                Some("nvidia.com/mig-3g.20gb:1"),
            ),
            (
                json!({"nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-1g.5gb.me": 1, "nvidia.com/mig-2g.10gb": 1}),
                Some("nvidia.com/mig-1g.5gb:3,nvidia.com/mig-2g.10gb:1"),
            ),
            (json!({"nvidia.com/gpu": 2}), Some("1,1")),
            (
                json!({"nvidia.com/gpu": 1, "nvidia.com/mig-1g.5gb": 1}),
                None,
            ),
            (json!({"nvidia.com/mig-nonsense": 1}), None),
        ] {
            assert_eq!(devices(limits).variable().as_deref(), variable);
        }
    }
}
