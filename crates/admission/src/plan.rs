//! From a pod or pod template to the changes that make its fractions servable.
//!
//! ClearML's order of precedence holds: fractions in limits, then NVIDIA's own names in limits, then
//! the label, then the annotation.

mod pod_word;
mod slot;

use serde_json::{Value, json};

use crate::Options;
use crate::applied::TakenBack;
use crate::operation::Operation;
use crate::record::{MAX_BYTES, RECORD_ANNOTATION, RECORD_POINTER, Record};
use crate::template::Template;
use crate::warnings::Warnings;

use pod_word::{give_to_one, pod_words, say_if_others_differ, say_if_too_late};
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

/// Containers with fractions of which the annotation could have room: an entry has no fewer bytes than
/// this. What is planned for more would only take memory.
const MOST_CONTAINERS: usize = MAX_BYTES / 32;

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
    let with_fractions = containers.iter().filter(|c| c.has_fractions()).count();
    if written.is_none() && words.is_empty() && with_fractions == 0 {
        let wants_slices = containers
            .iter()
            .any(|c| !c.classes().is_empty() || c.devices().has_slices());
        return Ok(Planned {
            patch: Vec::new(),
            wants_slices,
        });
    }
    if with_fractions > MOST_CONTAINERS {
        return Err(too_many(template, with_fractions));
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
        return Err(too_many(template, after.0.len()));
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

fn too_many(template: Template<'_>, with_fractions: usize) -> String {
    let field = template.field("spec.containers");
    format!(
        "{field} has {with_fractions} containers with fractions, and what they ask for does not fit into the \
         annotation {RECORD_ANNOTATION}, which may have {} KiB: ask for fractions in fewer containers",
        MAX_BYTES >> 10
    )
}
