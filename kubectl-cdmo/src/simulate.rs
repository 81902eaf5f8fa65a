//! `kubectl cdmo simulate`: what GPUs that are not bought yet could carry. Needs no cluster.
//!
//! [`options`] is the command line, [`input`] makes GPUs and pods of it, [`runs`] simulates on all
//! cores, [`summary`] is what came of it, and [`table`] and [`files`] show it. Ctrl-C ends it with what is known,
//! a second one at once (`interrupt`). The simulation is in the crate `simulation`.

pub mod files;
pub mod input;
mod interrupt;
pub mod options;
pub mod runs;
pub mod summary;
pub mod table;

use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::error::Error;
use crate::screen::Screen;
use input::Input;
pub use options::Simulate as Options;
use runs::{Plan, Progress};

/// How often the bar is drawn anew.
const REDRAW: Duration = Duration::from_millis(150);

/// Simulates, and shows what came of it.
pub async fn run(options: Options) -> Result<Outcome, Error> {
    let input = Input::read(&options)?;
    if let Some(folder) = &options.out {
        files::make(folder)?;
    }
    let mut screen = Screen::default();
    let plan = Arc::new(Plan::new(&options, input));
    let progress = Arc::new(Progress::default());
    let (of_plan, of_progress) = (Arc::clone(&plan), Arc::clone(&progress));
    let mut simulated = tokio::task::spawn_blocking(move || of_plan.run(&of_progress));
    let mut interrupted = interrupt::watch()?;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut ended_early = false;
    let done = loop {
        tokio::select! {
            biased;
            _ = &mut interrupted, if !ended_early => {
                ended_early = true;
                progress.stop();
            }
            done = &mut simulated => break done.map_err(|_| Error::Simulation {
                why: "a thread of it ended unexpectedly".to_owned(),
            })??,
            _ = redraw.tick(), if screen.is_live() && !ended_early => {
                let width = screen.width().0;
                screen.draw(&progress.line(width));
            }
        }
    };
    let (width, cut) = screen.width();
    let summary = plan.summary(&done);
    if !summary.rows.is_empty() {
        screen.put(&table::text(&summary, cut.then_some(width)));
    }
    screen.wipe();
    if ended_early {
        let (known, all) = (done.len(), plan.jobs());
        anstream::eprintln!("interrupted: this is what {known} of {all} runs say");
    }
    if let Some(folder) = &options.out {
        let written = files::write(folder, &plan, &summary, &done)?;
        screen.put(&format!(
            "\nWritten to {}: {}\n",
            folder.display(),
            written.join(", ")
        ));
    }
    Ok(if ended_early {
        Outcome::Interrupted
    } else {
        Outcome::Good
    })
}
