//! `kubectl cdmo what-if`: what would become of the pods in a file.

use std::fmt::Write as _;

use gpu_picture::style::{bad, busy, good, paint, strong};
use serde_json::{Value, json};
use status_report::{Fate, MOST_PODS, Prospect, WhatIf};

use crate::Outcome;
use crate::args::{Output, WhatIf as Options};
use crate::error::Error;
use crate::manifest::{self, Pods};
use crate::picture;
use crate::screen::Screen;
use crate::source::Source;

/// Asks, and shows the answer.
pub async fn run(options: Options) -> Result<Outcome, Error> {
    let mut pods = Vec::new();
    for file in &options.files {
        pods.extend(manifest::read(file)?);
    }
    for pods in &pods {
        for warning in &pods.warnings {
            anstream::eprintln!("warning: {}: {warning}", pods.name);
        }
    }
    let question = question(&pods)?;
    let mut source = Source::open(&options.cluster).await?;
    let answer = source.what_if(&question).await?;
    let mut screen = Screen::default();
    screen.put(&match options.output {
        Output::Text => text(&answer.report, screen.width().0),
        Output::Json => {
            let value: Value = serde_json::from_slice(&answer.text).unwrap_or_default();
            format!("{value:#}\n")
        }
    });
    let fits = answer.report.pods.iter().all(|pod| pod.fate.fits());
    Ok(if fits { Outcome::Good } else { Outcome::Unfit })
}

/// The question as the controller takes it.
fn question(pods: &[Pods]) -> Result<String, Error> {
    let count = pods
        .iter()
        .fold(0u64, |sum, pods| sum.saturating_add(pods.count));
    let most = u64::try_from(MOST_PODS).unwrap_or(u64::MAX);
    if count > most {
        return Err(Error::Question {
            why: format!(
                "the files make {count} pods, and it answers about {most} at most; ask about fewer"
            ),
        });
    }
    let list = pods.iter().map(|pods| {
        let mut asked = json!({ "name": pods.name, "count": pods.count, "spec": pods.spec });
        if pods
            .annotations
            .as_object()
            .is_some_and(|given| !given.is_empty())
        {
            asked["annotations"] = pods.annotations.clone();
        }
        asked
    });
    Ok(Value::Array(list.collect()).to_string())
}

/// The answer in words, for a width in columns.
fn text(answer: &WhatIf, width: usize) -> String {
    let fitting = answer.pods.iter().filter(|pod| pod.fate.fits()).count();
    let all = answer.pods.len();
    let mut text = match (all, fitting) {
        (0, _) => "No pods would be made.\n".to_owned(),
        (1, 1) => "The pod would fit.\n".to_owned(),
        (1, _) => "The pod would not fit.\n".to_owned(),
        (all, fitting) if all == fitting => format!("All {all} pods would fit.\n"),
        (all, fitting) => format!("{fitting} of {all} pods would fit.\n"),
    };
    for run in runs(&answer.pods) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let name = if run.len() == 1 {
            first.name.clone()
        } else {
            let number = last.name.rsplit('-').next().unwrap_or_default();
            format!("{} to {number}", first.name)
        };
        let wants = first
            .wants
            .iter()
            .map(|(resource, count)| format!("{count}x {}", picture::short(resource)));
        let wants = wants.collect::<Vec<_>>().join(", ");
        let each = if run.len() > 1 && !wants.is_empty() {
            " each"
        } else {
            ""
        };
        let (style, word) = match first.fate {
            Fate::Ready => (good(), "at once"),
            Fate::Planned => (busy(), "made"),
            Fate::Waiting => (busy(), "later"),
            Fate::Nothing => (good(), "not ours"),
            Fate::Refused | Fate::Unknown => (bad(), "no"),
        };
        // Writing to a String cannot fail.
        let gap = if wants.is_empty() { "" } else { "  " };
        let _ = writeln!(text, "  {}{gap}{wants}{each}", paint(strong(), &name));
        let lines =
            crate::text::wrapped(width, "    ", "    ", &format!("{word}: {}", first.message));
        text.push_str(&lines.replacen(word, &paint(style, word), 1));
    }
    text
}

/// Pods in a row that nothing tells apart but their number.
fn runs(pods: &[Prospect]) -> impl Iterator<Item = &[Prospect]> {
    let base = |pod: &Prospect| pod.name.rsplit_once('-').map(|(base, _)| base.to_owned());
    pods.chunk_by(move |a, b| {
        base(a).is_some()
            && base(a) == base(b)
            && (a.fate, &a.message, &a.wants) == (b.fate, &b.message, &b.wants)
    })
}

#[cfg(test)]
mod tests;
