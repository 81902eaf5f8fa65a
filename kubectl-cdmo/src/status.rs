//! `kubectl cdmo status`: once, or again and again.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use status_report::Report;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep},
};

use crate::args::{Options, Output};
use crate::error::Error;
use crate::screen::Screen;
use crate::source::{Fetched, Source};
use crate::text::Page;

/// Ages in the picture go on so often.
const TICK: Duration = Duration::from_secs(1);
/// Reports follow each other no faster: in a large cluster something changes all the time.
const REST: Duration = Duration::from_millis(500);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Shows the status.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut source = Source::open(&options.cluster).await?;
    let first = source.fetch(&options.nodes, None).await?;
    let view = View {
        options,
        screen: Screen::default(),
        shown: None,
        trouble: None,
    };
    view.show_all(source, first).await
}

struct View {
    options: Options,
    screen: Screen,
    /// What was written last, where nothing is drawn again.
    shown: Option<Report>,
    /// Why there is nothing newer.
    trouble: Option<String>,
}

impl View {
    async fn show_all(mut self, mut source: Source, first: Fetched) -> Result<(), Error> {
        if !self.options.watch {
            let text = self.once(&first);
            self.screen.put(&text);
            return Ok(());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ticks = interval(TICK);
        let nodes = self.options.nodes.clone();
        let (mut last, mut came) = (first, Instant::now());
        loop {
            if !self.again(&last, came.elapsed()) {
                return Ok(());
            }
            let revision = last.report.revision;
            let pause = if self.trouble.is_some() { RETRY } else { REST };
            // Controllers count revisions on their own: after a failure the number means nothing.
            let after = self.trouble.is_none().then_some(revision);
            let next = async {
                sleep(pause).await;
                source.fetch(&nodes, after).await
            };
            tokio::pin!(next);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {
                        self.end(&last, came.elapsed());
                        return Ok(());
                    }
                    _ = terminate.recv() => {
                        self.end(&last, came.elapsed());
                        return Ok(());
                    }
                    _ = ticks.tick() => {
                        if self.screen.is_live() && !self.again(&last, came.elapsed()) {
                            return Ok(());
                        }
                    }
                    answer = &mut next => {
                        match answer {
                            Ok(fetched) => {
                                (last, came) = (fetched, Instant::now());
                                self.trouble = None;
                            }
                            Err(error) => self.complain(&error),
                        }
                        break;
                    }
                }
            }
        }
    }

    /// The whole answer.
    fn once(&self, fetched: &Fetched) -> String {
        match self.options.output {
            Output::Text => self.text(fetched, Duration::ZERO),
            Output::Json => {
                let value: Value = serde_json::from_slice(&fetched.text).unwrap_or_default();
                format!("{value:#}\n")
            }
        }
    }

    /// Shows what is new; false if nobody reads any more.
    fn again(&mut self, fetched: &Fetched, passed: Duration) -> bool {
        if self.options.output == Output::Text && self.screen.is_live() {
            let mut text = self.text(fetched, passed);
            if let Some(trouble) = &self.trouble {
                // Writing to a String cannot fail.
                let _ = write!(text, "\n{trouble}; trying again\n");
            }
            return self.screen.draw(&text);
        }
        let new = Some(content(&fetched.report));
        if new == self.shown {
            return true;
        }
        let first = self.shown.is_none();
        self.shown = new;
        let text = match self.options.output {
            Output::Json => {
                let value: Value = serde_json::from_slice(&fetched.text).unwrap_or_default();
                format!("{value}\n")
            }
            Output::Text if first => self.text(fetched, passed),
            Output::Text => {
                let time = fetched.report.time;
                format!("\n--- {time}\n{}", self.text(fetched, passed))
            }
        };
        self.screen.put(&text)
    }

    /// The last picture stays, whole.
    fn end(&mut self, fetched: &Fetched, passed: Duration) {
        if self.options.output == Output::Text && self.screen.is_live() {
            let text = self.text(fetched, passed);
            self.screen.put(&text);
        }
    }

    fn complain(&mut self, error: &Error) {
        let sentence = error.to_string();
        if self.trouble.as_ref() != Some(&sentence) && !self.screen.is_live() {
            anstream::eprintln!("{sentence}; trying again");
        }
        self.trouble = Some(sentence);
    }

    fn text(&self, fetched: &Fetched, passed: Duration) -> String {
        let (width, cut) = self.screen.width();
        let passed = SignedDuration::try_from(passed).unwrap_or_default();
        let time = fetched.report.time;
        let page = Page {
            width,
            cut,
            now: time.checked_add(passed).unwrap_or(time),
        };
        page.write(&fetched.report, &self.options.cluster.namespace)
    }
}

/// A report but for what changes without anything happening.
fn content(report: &Report) -> Report {
    Report {
        revision: 0,
        time: report.controller.since,
        ..report.clone()
    }
}
