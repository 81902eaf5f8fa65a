//! Label and annotation: fractions for the pod, which has one task. They go to the first container, or
//! to the one that NVIDIA's names are in; limits count more.

use mig::fraction::Share;
use serde_json::Value;

use crate::Options;
use crate::container::Kind;
use crate::devices::Devices;
use crate::record::Record;
use crate::template::Template;
use crate::warnings::Warnings;
use crate::words::{ANNOTATION, LABEL, quoted, servable};

use super::Change;
use super::slot::{Slot, say_if_other_share};

/// A fraction for the whole pod.
#[derive(Clone, Copy)]
pub(super) struct PodWord<'a> {
    name: &'static str,
    list: &'static str,
    value: &'a Value,
}

impl PodWord<'_> {
    fn field(&self, template: Template<'_>) -> String {
        template.field(&format!("metadata.{}[{}]", self.list, quoted(self.name)))
    }
}

/// Label and annotation, in their order; only those that count.
pub(super) fn pod_words<'a>(
    template: Template<'a>,
    options: &Options,
    written: Option<&Record>,
) -> Vec<PodWord<'a>> {
    // What was given because of a word must not be taken away when the word stops to count.
    let counts = |on: bool, name: &str| on || written.is_some_and(|record| record.mentions(name));
    let label = template
        .label(LABEL)
        .filter(|_| counts(options.label, LABEL))
        .map(|value| (LABEL, "labels", value));
    let annotation = template
        .annotation(ANNOTATION)
        .filter(|_| counts(options.annotation, ANNOTATION))
        .map(|value| (ANNOTATION, "annotations", value));
    [label, annotation]
        .into_iter()
        .flatten()
        .map(|(name, list, value)| PodWord { name, list, value })
        .collect()
}

/// Says that the annotation is another share than the label.
pub(super) fn say_if_others_differ(
    template: Template<'_>,
    words: &[PodWord<'_>],
    warnings: &mut Warnings,
) {
    let [first, second] = words else {
        return;
    };
    if servable(first.value).ok() != servable(second.value).ok() {
        warnings.say(|| {
            format!(
                "{} differs from {}; the label counts, make them equal or leave one away",
                second.field(template),
                first.field(template)
            )
        });
    }
}

/// Says that what exists keeps its share.
pub(super) fn say_if_too_late(change: &Change<'_>, word: PodWord<'_>, warnings: &mut Warnings) {
    let Some(before) = change.before.filter(|_| change.frozen) else {
        return;
    };
    let old = before
        .metadata(word.list)
        .and_then(|list| list.get(word.name));
    if old != Some(word.value) {
        warnings.say(|| {
            format!(
                "{} was changed, but the {} keeps what it was created with: delete it and create it \
                 again to change its share",
                word.field(change.template),
                change.called
            )
        });
    }
}

/// Gives a fraction for the whole pod to one container, or says that limits rule over it.
pub(super) fn give_to_one(
    change: &Change<'_>,
    word: PodWord<'_>,
    slots: &mut [Slot<'_>],
    warnings: &mut Warnings,
) -> Result<(), String> {
    if slots.iter().any(Slot::asks_in_limits) {
        say_if_limits_differ(change.template, word, slots, warnings);
        return Ok(());
    }
    let devices = devices(slots);
    if devices.is_empty() {
        give_to_first(change.template, word, slots, warnings)
    } else {
        give_beside(change.template, word, &devices, slots, warnings);
        Ok(())
    }
}

/// Fractions in limits count.
fn say_if_limits_differ(
    template: Template<'_>,
    word: PodWord<'_>,
    slots: &[Slot<'_>],
    warnings: &mut Warnings,
) {
    let total = total(slots);
    let differs = match servable(word.value) {
        Ok(share) if share == total => return,
        Ok(share) => format!("is {share}"),
        Err(wrong) => wrong,
    };
    warnings.say(|| {
        format!(
            "{} {differs}, but the limits ask for {total}; the limits count",
            word.field(template)
        )
    });
}

/// Nothing is in any limits.
fn give_to_first(
    template: Template<'_>,
    word: PodWord<'_>,
    slots: &mut [Slot<'_>],
    warnings: &mut Warnings,
) -> Result<(), String> {
    let is_main = |slot: &&mut Slot<'_>| slot.container.kind == Kind::Main;
    let several = slots.iter_mut().filter(is_main).count() > 1;
    let Some(target) = slots.iter_mut().find(is_main) else {
        return Ok(());
    };
    if target.left_alone {
        return Ok(());
    }
    let share =
        servable(word.value).map_err(|wrong| format!("{} {wrong}", word.field(template)))?;
    if several {
        warnings.say(|| {
            format!(
                "{} is for one container, and the pod has several; the first one, {}, gets it: name \
                 clear.ml/fraction in the limits of those that shall have one",
                word.field(template),
                quoted(target.container.name())
            )
        });
    }
    target.words.insert(word.name.to_owned(), share);
    Ok(())
}

/// NVIDIA's names are in some limits, and count; the word is for the first container with one.
fn give_beside(
    template: Template<'_>,
    word: PodWord<'_>,
    devices: &Devices,
    slots: &mut [Slot<'_>],
    warnings: &mut Warnings,
) {
    let share = match servable(word.value) {
        Ok(share) => share,
        Err(wrong) => {
            let names = devices.names();
            warnings.say(|| format!("{} {wrong}; {names} counts", word.field(template)));
            return;
        }
    };
    say_if_other_share(devices, &[share], || word.field(template), warnings);
    let target = slots
        .iter_mut()
        .filter(|slot| !slot.left_alone)
        .find(|slot| slot.container.kind == Kind::Main && !slot.devices.is_empty());
    if let Some(target) = target {
        target.words.insert(word.name.to_owned(), share);
    }
}

/// NVIDIA's names in the containers that run beside each other; if there are none, in the others.
fn devices(slots: &[Slot<'_>]) -> Devices {
    let mut devices = Devices::default();
    for slot in slots
        .iter()
        .filter(|slot| slot.container.kind != Kind::Init)
    {
        devices.add(&slot.devices);
    }
    if devices.is_empty() {
        for slot in slots {
            devices.add(&slot.devices);
        }
    }
    devices
}

/// Of the containers that run beside each other; if those ask for nothing, of the others.
fn total(slots: &[Slot<'_>]) -> Share {
    let beside: Share = slots
        .iter()
        .filter(|slot| slot.container.kind != Kind::Init)
        .map(Slot::share_in_limits)
        .sum();
    if beside == Share::ZERO {
        let shares = slots.iter().map(Slot::share_in_limits);
        shares.max().unwrap_or_default()
    } else {
        beside
    }
}
