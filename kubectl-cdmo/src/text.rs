//! A report in words and pictures.
//!
//! Colours only repeat what the words say. The text is made for a width in columns; names that would
//! not fit are cut where somebody looks at a terminal, and left whole where a program reads.

use std::fmt::Write as _;

use anstyle::Style;
use gpu_picture::style::{bad, busy, faint, fit, good, paint, strong};
use gpu_picture::{Drawing, style};
use jiff::Timestamp;
use status_report::{
    Agent, AgentState, Instance, InstanceState, KeptFree, Move, Node, Operation, Piece, Report,
};

use crate::age::{age, until};
use crate::picture;

/// How a report is written.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Columns.
    pub width: usize,
    /// Whether lines are cut at the width.
    pub cut: bool,
    /// The present by the controller's clock.
    pub now: Timestamp,
}

impl Page {
    /// The whole report.
    pub fn write(&self, report: &Report, namespace: &str) -> String {
        let mut text = self.heading(report, namespace);
        let mut pictures = Vec::new();
        for node in &report.nodes {
            text.push('\n');
            self.node(&mut text, node);
            pictures.push(picture::node(node));
        }
        if pictures.iter().any(|node| !node.gpus.is_empty()) {
            let _ = write!(
                text,
                "\n{}",
                self.wrapped("", "", &Drawing::legend(&pictures))
            );
        }
        self.waiting(&mut text, report);
        text
    }

    fn heading(&self, report: &Report, namespace: &str) -> String {
        let gpus: usize = report.nodes.iter().map(|node| node.gpus.len()).sum();
        let all = |count: usize, word: &str| {
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        let controller = &report.controller;
        let sentence = format!(
            "Controller {namespace}/{} {}, up for {}: {} with {}, {} waiting.",
            controller.name,
            controller.version,
            age(controller.since, self.now),
            all(report.nodes.len(), "node"),
            all(gpus, "GPU"),
            all(report.waiting.len(), "pod"),
        );
        let mut text = self.wrapped("", "", &sentence);
        if report.nodes.is_empty() {
            let hint = "No node is handed over; label one with cdmo.clear.ml/gpu-partitioning=mig.";
            text.push_str(&self.wrapped("", "", hint));
        }
        text
    }

    fn node(&self, text: &mut String, node: &Node) {
        let drawn = picture::node(node);
        if drawn.gpus.is_empty() {
            let _ = writeln!(text, "{}  no GPU is known", paint(strong(), &node.name));
        } else {
            text.push_str(&Drawing::new(self.width).node(&drawn));
        }
        if !node.managed {
            let hint = "not handed over: no label cdmo.clear.ml/gpu-partitioning=mig";
            text.push_str(&self.point(faint(), "-", hint));
        }
        // A minute after it should be there, that is a problem with a sentence of its own.
        if node.agent.state == AgentState::Absent && node.problems.is_empty() {
            text.push_str(&self.point(faint(), "-", "no agent is there yet"));
        }
        if let Some(sentence) = self.agent(&node.agent) {
            text.push_str(&self.point(bad(), "!", &sentence));
        }
        for problem in &node.problems {
            text.push_str(&self.point(bad(), "!", problem));
        }
        for gpu in &node.gpus {
            if let Some(rest) = &gpu.rest {
                let times = match rest.failures {
                    1 => "a failure".to_owned(),
                    n => format!("{n} failures in a row"),
                };
                let sentence = format!(
                    "GPU {} is left alone for another {} after {times}: {}",
                    gpu.index,
                    until(rest.until, self.now),
                    rest.reason
                );
                text.push_str(&self.point(bad(), "!", &sentence));
            }
            for kept in &gpu.kept_free {
                let sentence = kept_free(gpu.index, kept);
                text.push_str(&self.point(busy(), ">", &sentence));
            }
        }
        for operation in &node.operations {
            let sentence = self.operation(node, operation);
            text.push_str(&self.point(busy(), ">", &sentence));
        }
        self.table(text, node);
    }

    fn agent(&self, agent: &Agent) -> Option<String> {
        let since = agent.since.map(|since| age(since, self.now));
        let since = since.map_or_else(String::new, |age| format!(" for {age}"));
        let reason = agent.reason.as_deref().map(|why| format!(": {why}"));
        let reason = reason.unwrap_or_default();
        match agent.state {
            AgentState::Up | AgentState::Absent => None,
            AgentState::Connecting => Some(format!("the agent is being called{since}")),
            AgentState::Down | AgentState::Unknown => {
                Some(format!("no session with the agent{since}{reason}"))
            }
        }
    }

    pub(crate) fn operation(&self, node: &Node, operation: &Operation) -> String {
        let index = |uuid: &str| {
            let gpu = node.gpus.iter().find(|gpu| gpu.uuid == uuid);
            gpu.map_or_else(|| uuid.to_owned(), |gpu| gpu.index.to_string())
        };
        let place = |piece: &Piece| {
            let (profile, start) = (&piece.profile, piece.start);
            format!("{profile} at slice {start} of GPU {}", index(&piece.gpu))
        };
        let list = |pieces: &[Piece]| pieces.iter().map(place).collect::<Vec<_>>().join(", ");
        let stage = format!("{:?}", operation.stage).to_lowercase();
        let since = age(operation.since, self.now);
        if operation.pod.name.is_empty() {
            let idle = list(&operation.gives_up);
            return format!(
                "giving up idle {idle}, since the node is given back: {stage} for {since}"
            );
        }
        let moves = operation.moves.iter().map(|moved| {
            let Move {
                gpu,
                profile,
                start,
                ..
            } = moved;
            let gpu = index(gpu);
            let name = match moved.to.as_str() {
                "" => "no name (parked)",
                name => picture::short(name),
            };
            format!("idle {profile} at slice {start} of GPU {gpu} to {name}")
        });
        let moves = moves.collect::<Vec<_>>().join(", ");
        let mut what = match (operation.makes.as_slice(), moves.as_str()) {
            ([], "") => "making room".to_owned(),
            ([], moves) => format!("moving {moves}"),
            (pieces, "") => format!("making {}", list(pieces)),
            (pieces, moves) => format!("making {} and moving {moves}", list(pieces)),
        };
        if !operation.gives_up.is_empty() {
            let _ = write!(what, " in place of idle {}", list(&operation.gives_up));
        }
        // What is given up to no pod's benefit names none.
        if operation.pod.name.is_empty() {
            return format!("{what}: {stage} for {since}");
        }
        format!("{what}, for {}: {stage} for {since}", operation.pod)
    }

    fn table(&self, text: &mut String, node: &Node) {
        let devices = node.gpus.iter().flat_map(|gpu| {
            let devices = gpu.instances.iter().chain(&gpu.whole);
            devices.map(move |device| (gpu.index, device))
        });
        let rows: Vec<_> = devices.collect();
        if rows.is_empty() {
            return;
        }
        let profile = rows
            .iter()
            .map(|(_, device)| picture::offered(device).len());
        let profile = profile.max().unwrap_or_default().max("PROFILE".len());
        let heading = format!(
            "  GPU  SLICES  {:profile$}  STATE        FOR    POD",
            "PROFILE"
        );
        let _ = writeln!(text, "{}", paint(faint(), &heading));
        for (gpu, device) in rows {
            let line = format!(
                "  {gpu:<3}  {:<6}  {:<profile$}  ",
                slices(device),
                picture::offered(device)
            );
            let since = device.since.map(|since| age(since, self.now));
            let holders: Vec<_> = device.holders.iter().map(ToString::to_string).collect();
            let state = picture::state(device);
            let rest = format!("  {:<5}  {}", since.unwrap_or_default(), holders.join(", "));
            let used = line.len() + 11;
            let rest = self.cut(rest.trim_end(), used);
            let padded = format!("{state:<11}");
            let state = match (device.state, rest.is_empty()) {
                (_, true) => paint(state_style(device), state),
                _ => paint(state_style(device), &padded),
            };
            let _ = writeln!(text, "{line}{state}{rest}");
            if let Some(reason) = &device.reason {
                text.push_str(&self.wrapped("       ", "       ", reason));
            }
        }
    }

    fn waiting(&self, text: &mut String, report: &Report) {
        if report.waiting.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{}", paint(strong(), "Waiting pods"));
        for pod in &report.waiting {
            let wants = pod
                .wants
                .iter()
                .map(|(resource, count)| format!("{count}x {}", picture::short(resource)));
            let wants = wants.collect::<Vec<_>>().join(", ");
            let line = format!("  {}  {wants}, for {}", pod.pod, age(pod.since, self.now));
            let _ = writeln!(text, "{}", self.cut(&line, 0));
            let style = match pod.reason.as_str() {
                "New" | "Ready" | "Planned" | "Waiting" => busy(),
                _ => bad(),
            };
            let sentence = format!("{}: {}", pod.reason, pod.message);
            let wrapped = self.wrapped("    ", "    ", &sentence);
            text.push_str(&wrapped.replacen(&pod.reason, &paint(style, &pod.reason), 1));
        }
    }

    /// A sentence below a node, behind a sign.
    pub(crate) fn point(&self, style: Style, sign: &str, sentence: &str) -> String {
        let wrapped = self.wrapped("    ", "    ", sentence);
        format!("  {} {}", paint(style, sign), &wrapped[4..])
    }

    /// A sentence in lines that fit the page.
    pub(crate) fn wrapped(&self, first: &str, others: &str, sentence: &str) -> String {
        wrapped(self.width, first, others, sentence)
    }

    fn cut(&self, text: &str, used: usize) -> String {
        if self.cut {
            fit(text, self.width.saturating_sub(used))
        } else {
            text.to_owned()
        }
    }
}

/// A sentence in lines of so many columns.
pub(crate) fn wrapped(width: usize, first: &str, others: &str, sentence: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in sentence.split_whitespace() {
        let longer = line.chars().count() + usize::from(!empty) + word.chars().count();
        if !empty && longer > width {
            lines.push_str(&line);
            lines.push('\n');
            others.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

/// `4-7`, `6`, or `all` of a whole GPU.
pub(crate) fn slices(device: &Instance) -> String {
    match (device.start, device.size) {
        (_, 0) => "all".to_owned(),
        (start, 1) => start.to_string(),
        (start, size) => format!("{start}-{}", start.saturating_add(size - 1)),
    }
}

fn state_style(device: &Instance) -> Style {
    match device.state {
        InstanceState::Held => good(),
        InstanceState::Idle => style::faint(),
        InstanceState::Offering | InstanceState::Withdrawing => busy(),
        _ => bad(),
    }
}

fn kept_free(gpu: u32, kept: &KeptFree) -> String {
    let (first, last) = (kept.slices.first(), kept.slices.last());
    let slices = match (first, last) {
        (Some(first), Some(last)) if first != last => format!("slices {first}-{last}"),
        (Some(first), _) => format!("slice {first}"),
        (None, _) => "nothing".to_owned(),
    };
    format!(
        "{slices} of GPU {gpu} kept free for {}, which has waited long",
        kept.pod
    )
}

#[cfg(test)]
mod tests;
