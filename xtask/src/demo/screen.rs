//! Where the demo shows what happens: a picture that is drawn anew in place on a terminal, lines
//! everywhere else.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use gpu_picture::Node;
use testbed::journey::{Journey, Stage};

use super::style::{self, fit, paint, short_name};
use super::{table, words};

/// Where everything for people goes.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    live: bool,
    /// Lines of the picture that is on the terminal now.
    drawn: usize,
    /// When the pods were created; lines count from there.
    zero: Duration,
    /// Lines mode: what was said of each pod, by uid.
    said: HashMap<String, (Option<Stage>, String)>,
}

impl Screen {
    /// Standard output, or standard error where standard output belongs to programs.
    pub(crate) fn new(to_stderr: bool) -> Self {
        let (choice, terminal) = if to_stderr {
            (
                AutoStream::choice(&std::io::stderr()),
                std::io::stderr().is_terminal(),
            )
        } else {
            (
                AutoStream::choice(&std::io::stdout()),
                std::io::stdout().is_terminal(),
            )
        };
        let out: Box<dyn Write + Send> = if to_stderr {
            Box::new(AutoStream::new(std::io::stderr(), choice))
        } else {
            Box::new(AutoStream::new(std::io::stdout(), choice))
        };
        let (width, _) = size();
        let live = terminal && choice != ColorChoice::Never && width >= table::NARROWEST;
        Self {
            out,
            live,
            drawn: 0,
            zero: Duration::ZERO,
            said: HashMap::new(),
        }
    }

    /// Whether cargo may show its own progress.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// One line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.wipe();
        self.put(&format!("{line}\n"));
    }

    /// What is going on now: a picture, or lines for what is new.
    pub(crate) fn show(&mut self, journeys: &[Journey], nodes: &[Node], now: Duration) {
        if self.live {
            self.redraw(journeys, nodes, now);
        } else {
            self.lines(journeys, now);
        }
    }

    /// Pods are created from now on.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.zero = now;
        self.say("");
    }

    /// The last picture: all pods where there was a table, and the map everywhere.
    pub(crate) fn end(&mut self, journeys: &[Journey], nodes: &[Node], now: Duration) {
        self.show(journeys, nodes, now);
        self.wipe();
        let mut text = String::new();
        if self.live {
            text = table::draw(journeys, now, usize::MAX);
        }
        let (width, _) = size();
        let _ = write!(text, "\n{}", gpu_picture::draw(nodes, width));
        self.put(&text);
    }

    fn redraw(&mut self, journeys: &[Journey], nodes: &[Node], now: Duration) {
        let (width, height) = size();
        let map = gpu_picture::draw(nodes, width);
        // Heading, the line about hidden pods, a blank line, and the one with the cursor.
        let around = 4;
        let with_map = height.saturating_sub(map.lines().count() + around);
        let map_fits = with_map >= journeys.len().clamp(1, 6);
        let rows = if map_fits {
            with_map
        } else {
            height.saturating_sub(around)
        };
        let mut picture = table::draw(journeys, now, rows.max(1));
        if map_fits {
            let _ = write!(picture, "\n{map}");
        }
        let lines = picture.lines().count();
        // Up to the first line, and each line is cleared behind its end: nothing flickers.
        let mut text = "\x1b[?25l".to_owned();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in picture.lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        text.push_str("\x1b[J\x1b[?25h");
        self.put(&text);
        self.drawn = lines;
    }

    fn lines(&mut self, journeys: &[Journey], now: Duration) {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for journey in journeys {
            let key = format!("{} {}", journey.pod, journey.uid);
            let (said, state) = self.said.get(&key).cloned().unwrap_or_default();
            for (reached, at) in &journey.reached {
                if said.is_none_or(|said| *reached > said) {
                    let at = at.saturating_sub(self.zero);
                    lines.push((at, stage_line(journey, *reached, at)));
                }
            }
            let reason = journey.reason.as_ref().map(|(reason, _)| reason.as_str());
            let now_state = format!("{}/{}", words::state(journey), reason.unwrap_or_default());
            if now_state != state
                && let Some(line) = other_line(journey, self.zero, now)
            {
                lines.push(line);
            }
            self.said.insert(key, (Some(journey.stage()), now_state));
        }
        lines.sort_by_key(|(at, _)| *at);
        let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
        if !text.is_empty() {
            self.put(&text);
        }
    }

    /// Takes the picture away, so that lines can follow what stood before it.
    pub(crate) fn wipe(&mut self) {
        if self.drawn > 0 {
            let up = format!("\x1b[{}A\x1b[J", self.drawn);
            self.put(&up);
            self.drawn = 0;
        }
    }

    /// Text that stays.
    pub(crate) fn put(&mut self, text: &str) {
        // A reader that went away (`| head`) is no reason to leave a cluster behind.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

/// Columns and lines of the terminal; 80 by 24 where there is none.
pub(crate) fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or((80, 24), |(width, height)| {
        (usize::from(width.0), usize::from(height.0))
    })
}

fn line(at: Duration, journey: &Journey, what: &str, detail: &str) -> String {
    let name = fit(short_name(&journey.pod.name), 28);
    format!(
        "{:>10.3}s  {name:<28} {what:<10} {detail}",
        at.as_secs_f64()
    )
    .trim_end()
    .to_owned()
}

fn stage_line(journey: &Journey, stage: Stage, at: Duration) -> String {
    let detail = match stage {
        Stage::Pending => words::asks(journey),
        Stage::Planned | Stage::Ready => String::new(),
        Stage::Allocated if journey.reused => {
            format!("{}  (idle instance reused)", words::places(journey))
        }
        Stage::Allocated => words::places(journey),
        Stage::Running => journey
            .took(Stage::Running)
            .map(|took| format!("after {}", words::seconds(took)))
            .unwrap_or_default(),
    };
    let word = stage.to_string();
    let word = if stage == Stage::Running {
        paint(style::good(), &format!("{word:<10}"))
    } else {
        word
    };
    line(at, journey, &word, &detail)
}

/// What is not a stage: the end, a refusal, a reason to wait; and when.
fn other_line(journey: &Journey, zero: Duration, now: Duration) -> Option<(Duration, String)> {
    let end = journey.ended.unwrap_or(now).saturating_sub(zero);
    let now = now.saturating_sub(zero);
    let state = words::state(journey);
    match (state.as_str(), &journey.reason) {
        ("Completed" | "Deleted", _) => Some((end, line(end, journey, &state, ""))),
        ("Failed" | "Refused", reason) => {
            let detail = reason
                .as_ref()
                .map(|(reason, message)| format!("{reason}: {message}"));
            let state = paint(style::bad(), &format!("{state:<10}"));
            Some((now, line(now, journey, &state, &detail.unwrap_or_default())))
        }
        (_, Some((reason, message)))
            if journey.stage() < Stage::Planned && reason != "SlicePlanned" =>
        {
            Some((now, line(now, journey, reason, message)))
        }
        _ => None,
    }
}
