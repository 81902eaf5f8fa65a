//! One container on its way from what was asked to what is given.

use std::collections::BTreeMap;

use mig::fraction::{Class, Share};
use serde_json::{Value, json};

use crate::applied::TakenBack;
use crate::container::Container;
use crate::devices::Devices;
use crate::environment::{self, FRACTIONS_VARIABLE};
use crate::operation::Operation;
use crate::record::Entry;
use crate::warnings::Warnings;
use crate::words::is_fraction;

use super::Change;

/// A container, what is known of it, and the words that count for it.
pub(super) struct Slot<'a> {
    pub(super) container: Container<'a>,
    /// As it was, where it can be changed no more.
    before: Option<Container<'a>>,
    /// Its resources can be changed no more and are as they were.
    pub(super) left_alone: bool,
    /// What was written of it when it came by last.
    entry: Option<Entry>,
    /// Whether its classes are what was given to it then; else somebody has changed them by hand.
    ours: bool,
    classes: BTreeMap<String, u64>,
    pub(super) devices: Devices,
    /// The shares that it asks for.
    pub(super) words: BTreeMap<String, Share>,
}

/// What became of a container.
pub(super) struct Settled {
    /// To be written down.
    pub(super) entry: Option<Entry>,
    pub(super) wants_slices: bool,
}

impl<'a> Slot<'a> {
    /// Reads it; words that are there now count more than those written down.
    pub(super) fn read(
        change: &Change<'_>,
        container: Container<'a>,
        before: Option<Container<'a>>,
        entry: Option<&Entry>,
    ) -> Result<Self, String> {
        let left_alone = change.frozen
            && before.is_none_or(|before| before.resources() == container.resources());
        let classes = container.classes();
        let ours = entry.is_some_and(|entry| entry.given == classes);
        let mut words = entry
            .filter(|_| ours)
            .map(|entry| entry.shares(is_fraction))
            .unwrap_or_default();
        if !left_alone {
            words.extend(container.fractions(change.template)?);
        }
        Ok(Self {
            container,
            before,
            left_alone,
            entry: entry.cloned(),
            ours,
            classes,
            devices: container.devices(),
            words,
        })
    }

    /// Whether there are words in its limits that are not there now.
    pub(super) fn has_remembered(&self) -> bool {
        self.words
            .keys()
            .any(|fraction| !self.container.names(fraction))
    }

    /// Drops the words that were taken back.
    pub(super) fn forget(&mut self, taken: &TakenBack) {
        let container = self.container;
        self.words.retain(|fraction, _| {
            container.names(fraction) || !taken.has(container.name(), fraction)
        });
    }

    /// Classes that the user named, not we.
    fn has_own_classes(&self) -> bool {
        !self.ours && !self.classes.is_empty() && self.words.is_empty()
    }

    pub(super) fn asks_in_limits(&self) -> bool {
        !self.words.is_empty() || self.has_own_classes()
    }

    pub(super) fn share_in_limits(&self) -> Share {
        if self.has_own_classes() {
            shares(&self.classes).sum()
        } else {
            self.words.values().copied().sum()
        }
    }

    /// Makes it what it shall be.
    pub(super) fn settle(
        &self,
        change: &Change<'_>,
        patch: &mut Vec<Operation>,
        warnings: &mut Warnings,
    ) -> Result<Settled, String> {
        let slices = self.devices.has_slices();
        if self.left_alone {
            return Ok(Settled {
                entry: self.entry.clone(),
                wants_slices: slices || !self.classes.is_empty(),
            });
        }
        let given = if self.has_own_classes() {
            self.classes.clone()
        } else if self.devices.is_empty() {
            classes(&self.words)
        } else {
            BTreeMap::new()
        };
        let variable = self.variable_for(change, warnings);
        let (steps, env) = self.environment_steps(change, variable);
        if self.cannot_become(&given, env.final_value.as_deref()) {
            return self.refuse(change);
        }
        let rewritten = if self.has_own_classes() {
            None
        } else {
            self.container.rewritten(&given)
        };
        if let Some(resources) = rewritten {
            let at = self.container.pointer(change.template, "resources");
            patch.push(if self.container.resources().is_some() {
                Operation::replace(at, resources)
            } else {
                Operation::add(at, resources)
            });
        }
        patch.extend(steps);
        let asked = |(name, share): (&String, &Share)| (name.clone(), share.to_string());
        Ok(Settled {
            wants_slices: slices || !given.is_empty(),
            entry: (!self.words.is_empty()).then(|| Entry {
                asked: self.words.iter().map(asked).collect(),
                given,
                env: env.ours,
            }),
        })
    }

    /// What the variable is to be, if anything.
    fn variable_for(&self, change: &Change<'_>, warnings: &mut Warnings) -> Option<String> {
        if self.words.is_empty() {
            return None;
        }
        if self.devices.is_empty() {
            return Some(environment::decimals(&self.words));
        }
        let asked: Vec<Share> = self.words.values().copied().collect();
        let names = || {
            let names: Vec<&str> = self.words.keys().map(String::as_str).take(3).collect();
            let inner = format!(".resources.limits[{:?}]", names.join(" and "));
            self.container.field(change.template, &inner)
        };
        // For label and annotation that was said of the pod as a whole.
        let equal = if self.words.keys().any(|name| is_fraction(name)) {
            say_if_other_share(&self.devices, &asked, names, warnings)
        } else {
            is_share(&self.devices, &asked)
        };
        if equal {
            Some(environment::decimals(&self.words))
        } else {
            self.devices.variable()
        }
    }

    /// How the variable becomes that, unless the user has set it.
    fn environment_steps(
        &self,
        change: &Change<'_>,
        wanted: Option<String>,
    ) -> (Vec<Operation>, Environment) {
        let pointer = |inner: &str| self.container.pointer(change.template, inner);
        let Some((index, value)) = self.container.variable() else {
            let steps = wanted.iter().map(|value| {
                let variable = json!({"name": FRACTIONS_VARIABLE, "value": value});
                if self.container.has_environment() {
                    Operation::add(pointer("env/-"), variable)
                } else {
                    Operation::add(pointer("env"), json!([variable]))
                }
            });
            let steps = steps.collect();
            return (steps, Environment::ours(wanted));
        };
        let written = self.entry.as_ref().and_then(|entry| entry.env.as_deref());
        if written.is_none() || written != value {
            return (
                Vec::new(),
                Environment {
                    ours: None,
                    final_value: value.map(str::to_owned),
                },
            );
        }
        let steps = match &wanted {
            Some(wanted) if Some(wanted.as_str()) == value => Vec::new(),
            Some(wanted) => {
                let path = pointer(&format!("env/{index}/value"));
                vec![Operation::replace(path, Value::String(wanted.clone()))]
            }
            None => vec![Operation::remove(pointer(&format!("env/{index}")))],
        };
        (steps, Environment::ours(wanted))
    }

    /// Whether it can be changed no more, and would be.
    fn cannot_become(&self, given: &BTreeMap<String, u64>, variable: Option<&str>) -> bool {
        self.before.is_some_and(|before| {
            let old = before.variable().and_then(|(_, value)| value);
            before.classes() != *given || old != variable
        })
    }

    /// Says so if the user changed a fraction; anything else is for the API server to say.
    fn refuse(&self, change: &Change<'_>) -> Result<Settled, String> {
        if !self.container.has_fractions() {
            return Ok(Settled {
                entry: self.entry.clone(),
                wants_slices: false,
            });
        }
        let field = self.container.field(change.template, ".resources.limits");
        let asked: Vec<String> = self
            .words
            .iter()
            .take(3)
            .map(|(name, share)| format!("{name}: {share}"))
            .collect();
        Err(format!(
            "{field} now has {}, but the resources of a {called} that exists cannot be changed: delete \
             the {called} and create it again",
            asked.join(", "),
            called = change.called
        ))
    }
}

/// The variable in the end.
struct Environment {
    /// Its value, if it is we who set it.
    ours: Option<String>,
    /// Its value, whoever set it.
    final_value: Option<String>,
}

impl Environment {
    fn ours(value: Option<String>) -> Self {
        Self {
            final_value: value.clone(),
            ours: value,
        }
    }
}

/// The classes that serve some shares, and how many of each.
fn classes(words: &BTreeMap<String, Share>) -> BTreeMap<String, u64> {
    let mut classes = BTreeMap::new();
    for (class, count) in words.values().filter_map(|share| share.class().ok()) {
        *classes.entry(class.resource_name()).or_default() += u64::from(count);
    }
    classes
}

fn shares(classes: &BTreeMap<String, u64>) -> impl Iterator<Item = Share> {
    classes
        .iter()
        .filter_map(|(name, count)| Some(Class::from_resource(name)?.share().times(*count)))
}

/// Whether NVIDIA's names may stand for these shares, as they are or rounded up; also if that cannot
/// be said.
fn is_share(devices: &Devices, asked: &[Share]) -> bool {
    let exact: Share = asked.iter().copied().sum();
    let rounded: Share = asked
        .iter()
        .filter_map(|share| share.class().ok())
        .map(|(class, count)| class.share().times(count.into()))
        .sum();
    let shares = devices.shares();
    shares.is_empty() || shares.contains(&exact) || shares.contains(&rounded)
}

/// Says that a fraction is not what NVIDIA's names beside it stand for; whether it is.
pub(super) fn say_if_other_share(
    devices: &Devices,
    asked: &[Share],
    field: impl FnOnce() -> String,
    warnings: &mut Warnings,
) -> bool {
    if is_share(devices, asked) {
        return true;
    }
    warnings.say(|| {
        let asked: Share = asked.iter().copied().sum();
        let shares: Vec<String> = devices.shares().iter().map(Share::to_string).collect();
        let names = devices.names();
        format!(
            "{} is {asked}, but {names} stands for {}; {names} counts",
            field(),
            shares.join(" or ")
        )
    });
    false
}
