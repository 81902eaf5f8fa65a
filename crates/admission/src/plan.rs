//! From a pod or pod template to the changes that make its fractions servable.
//!
//! ClearML's order of precedence holds: fractions in limits, then NVIDIA's own names in limits, then
//! the label, then the annotation. Label and annotation are for the pod, which has one task: they go
//! to the first container, or to the one that NVIDIA's names are in.

mod slot;

use mig::fraction::Share;
use serde_json::{Value, json};

use crate::Options;
use crate::applied::TakenBack;
use crate::container::{Container, Kind};
use crate::devices::Devices;
use crate::operation::Operation;
use crate::record::{MAX_BYTES, RECORD_ANNOTATION, RECORD_POINTER, Record};
use crate::template::Template;
use crate::warnings::Warnings;
use crate::words::{ANNOTATION, LABEL, quoted, servable};

use slot::Slot;

/// A pod or template that is created or changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// As it shall be.
    pub(crate) template: Template<'a>,
    /// As it was.
    pub(crate) before: Option<Template<'a>>,
    /// Whether its resources can be changed no more.
    pub(crate) frozen: bool,
    /// The objects that they are in, before and after, where users may have taken words back.
    pub(crate) objects: Option<(&'a Value, &'a Value)>,
    /// What users call the object: `pod`, `job` ...
    pub(crate) called: &'static str,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) patch: Vec<Operation>,
    /// Whether it asks for slices of a GPU, by whatever name.
    pub(crate) wants_slices: bool,
}

/// A fraction for the whole pod.
#[derive(Clone, Copy)]
struct PodWord<'a> {
    name: &'static str,
    list: &'static str,
    value: &'a Value,
}

impl PodWord<'_> {
    fn field(&self, template: Template<'_>) -> String {
        template.field(&format!("metadata.{}[{}]", self.list, quoted(self.name)))
    }
}

/// Plans a change.
///
/// # Errors
/// A sentence, if it must not be.
pub(crate) fn plan(
    change: &Change<'_>,
    options: &Options,
    warnings: &mut Warnings,
) -> Result<Planned, String> {
    let template = change.template;
    let containers = template.containers();
    let written = template
        .annotation(RECORD_ANNOTATION)
        .and_then(Value::as_str)
        .and_then(Record::read);
    let words = pod_words(template, options, written.as_ref());
    if written.is_none() && words.is_empty() && !containers.iter().any(Container::has_fractions) {
        let wants_slices = containers
            .iter()
            .any(|c| !c.classes().is_empty() || c.devices().has_slices());
        return Ok(Planned {
            patch: Vec::new(),
            wants_slices,
        });
    }
    let written = written.unwrap_or_default();
    let before = change.before.filter(|_| change.frozen);
    let before = before.map_or_else(Vec::new, Template::containers);
    let mut slots = Vec::with_capacity(containers.len());
    for (index, container) in containers.into_iter().enumerate() {
        let entry = written.0.get(container.name());
        let before = before.get(index).filter(|b| b.name() == container.name());
        slots.push(Slot::read(change, container, before.copied(), entry)?);
    }
    take_back(change, &mut slots);
    if let Some(word) = words.first() {
        say_if_others_differ(template, &words, warnings);
        say_if_too_late(change, *word, warnings);
        give_to_one(change, *word, &mut slots, warnings)?;
    }

    let mut planned = Planned::default();
    let mut record = Record::default();
    for slot in &slots {
        let settled = slot.settle(change, &mut planned.patch, warnings)?;
        planned.wants_slices |= settled.wants_slices;
        if let Some(entry) = settled.entry {
            record.0.insert(slot.container.name().to_owned(), entry);
        }
    }
    keep_record(template, &written, &record, &mut planned.patch)?;
    Ok(planned)
}

/// Label and annotation, in their order; only those that count.
fn pod_words<'a>(
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

/// Forgets the words that the user has taken out of an applied manifest.
fn take_back(change: &Change<'_>, slots: &mut [Slot<'_>]) {
    let Some((before, after)) = change.objects else {
        return;
    };
    if !slots.iter().any(Slot::has_remembered) {
        return;
    }
    let taken = TakenBack::between(before, after, change.template.pointer());
    for slot in slots {
        slot.forget(&taken);
    }
}

fn say_if_others_differ(template: Template<'_>, words: &[PodWord<'_>], warnings: &mut Warnings) {
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

fn say_if_too_late(change: &Change<'_>, word: PodWord<'_>, warnings: &mut Warnings) {
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
fn give_to_one(
    change: &Change<'_>,
    word: PodWord<'_>,
    slots: &mut [Slot<'_>],
    warnings: &mut Warnings,
) -> Result<(), String> {
    let template = change.template;
    if slots.iter().any(Slot::asks_in_limits) {
        let total = total(slots);
        let differs = match servable(word.value) {
            Ok(share) if share == total => return Ok(()),
            Ok(share) => format!("is {share}"),
            Err(wrong) => wrong,
        };
        warnings.say(|| {
            format!(
                "{} {differs}, but the limits ask for {total}; the limits count",
                word.field(template)
            )
        });
        return Ok(());
    }
    let devices = devices(slots);
    let main = |slot: &&mut Slot<'_>| slot.container.kind == Kind::Main;
    let several = slots
        .iter()
        .filter(|slot| slot.container.kind == Kind::Main)
        .count()
        > 1;
    if devices.is_empty() {
        let Some(target) = slots.iter_mut().find(main).filter(|slot| !slot.left_alone) else {
            return Ok(());
        };
        let share =
            servable(word.value).map_err(|wrong| format!("{} {wrong}", word.field(template)))?;
        if several {
            warnings.say(|| {
                format!(
                    "{} is for one container, and the pod has several; the first one, {}, gets it: \
                     name clear.ml/fraction in the limits of those that shall have one",
                    word.field(template),
                    quoted(target.container.name())
                )
            });
        }
        target.words.insert(word.name.to_owned(), share);
        return Ok(());
    }
    let share = match servable(word.value) {
        Ok(share) => share,
        Err(wrong) => {
            let names = devices.names();
            warnings.say(|| format!("{} {wrong}; {names} counts", word.field(template)));
            return Ok(());
        }
    };
    slot::say_if_other_share(&devices, &[share], || word.field(template), warnings);
    let target = slots
        .iter_mut()
        .filter(|slot| !slot.left_alone)
        .find(|slot| slot.container.kind == Kind::Main && !slot.devices.is_empty());
    if let Some(target) = target {
        target.words.insert(word.name.to_owned(), share);
    }
    Ok(())
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

/// Writes the annotation, if it is to be another one.
fn keep_record(
    template: Template<'_>,
    before: &Record,
    after: &Record,
    patch: &mut Vec<Operation>,
) -> Result<(), String> {
    let pointer = template.pointer();
    let ours = || format!("{pointer}/metadata/annotations/{RECORD_POINTER}");
    if before == after {
        return Ok(());
    }
    if after.0.is_empty() {
        patch.push(Operation::remove(ours()));
        return Ok(());
    }
    let text = serde_json::to_string(after)
        .map_err(|error| format!("failed to write the annotation {RECORD_ANNOTATION}: {error}"))?;
    if text.len() > MAX_BYTES {
        let field = template.field("spec.containers");
        return Err(format!(
            "{field} has {} containers with fractions, and what they ask for does not fit into the \
             annotation {RECORD_ANNOTATION}, which may have {} KiB: ask for fractions in fewer containers",
            after.0.len(),
            MAX_BYTES >> 10
        ));
    }
    patch.push(if template.metadata("annotations").is_some() {
        Operation::add(ours(), Value::String(text))
    } else if template.has_metadata() {
        let annotations = json!({RECORD_ANNOTATION: text});
        Operation::add(format!("{pointer}/metadata/annotations"), annotations)
    } else {
        let metadata = json!({"annotations": {RECORD_ANNOTATION: text}});
        Operation::add(format!("{pointer}/metadata"), metadata)
    });
    Ok(())
}
