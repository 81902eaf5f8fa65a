//! `status`: what runs.

use super::ready::Kubectl;
use super::record::Record;
use super::{keeper, parts, place};
use crate::demo::style;
use crate::outcome::Outcome;

/// Prints the parts and whether the node takes pods. Good only if all that could be seen is as it
/// should be.
pub(super) async fn status() -> anyhow::Result<Outcome> {
    let Some(mut record) = Record::load()? else {
        anstream::println!("no cluster is up on this machine");
        return Ok(Outcome::Failed);
    };
    let same_boot = record.is_of_this_boot();
    let mut good = true;
    for name in parts::ALL {
        let process = record.part(name).map(|part| part.process);
        let (state, paint) = match process {
            Some(process) if same_boot && process.lives() => match keeper::running(name, process) {
                Some(process) => (format!("runs, process {}", process.pid), style::good()),
                None => (
                    "has ended; is about to be started again".to_owned(),
                    style::bad(),
                ),
            },
            Some(_) => {
                let log = place::log(name);
                (format!("has ended; see {}", log.display()), style::bad())
            }
            None => ("was not started".to_owned(), style::bad()),
        };
        good &= state.starts_with("runs");
        anstream::println!("{name:24}{}", style::paint(paint, &state));
        tell_ends(name);
    }
    if !rustix::process::geteuid().is_root() {
        anstream::println!("{:24}only root may ask the API server", "node");
        return Ok(if good { Outcome::Good } else { Outcome::Failed });
    }
    if good && Kubectl::new(&record.tools).node_is_ready().await {
        anstream::println!("{:24}{}", "node", style::paint(style::good(), "Ready"));
        return Ok(Outcome::Good);
    }
    anstream::println!("{:24}{}", "node", style::paint(style::bad(), "not Ready"));
    Ok(Outcome::Failed)
}

/// A node lives through it, but it is nothing that should happen.
fn tell_ends(name: &str) {
    let ends = keeper::ends(name);
    let Some(last) = ends.last() else {
        return;
    };
    let (count, log) = (ends.len(), place::log(name));
    let times = if count == 1 { "time" } else { "times" };
    let told = format!(
        "ended by itself {count} {times}, last {last}; see {}",
        log.display()
    );
    anstream::println!("{:24}{}", "", style::paint(style::bad(), &told));
}
