//! Tables and plots in a folder.

use std::fmt::Write as _;
use std::path::Path;

use charts::{Chart, Gpu, Line, Map, Piece};
use simulation::capacity::Outcome;
use simulation::statistics::Estimate;

use super::runs::{Done, Found, Plan};
use super::summary::{Enough, Row, Summary};
use crate::error::Error;

/// As many lines as can be told apart.
const MOST_LINES: usize = 7;
/// As many GPUs as a map can show.
const MOST_GPUS: usize = 256;

fn failed(place: &Path, why: &dyn std::error::Error) -> Error {
    Error::Write {
        place: place.display().to_string(),
        why: why.to_string(),
    }
}

/// Makes the folder, before anything is simulated in vain.
pub fn make(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))
}

/// Writes what is known; the names of the files.
pub fn write(
    folder: &Path,
    plan: &Plan,
    summary: &Summary,
    done: &[Done],
) -> Result<Vec<&'static str>, Error> {
    let mut written = Vec::new();
    let mut put = |name: &'static str, text: String| {
        let file = folder.join(name);
        written.push(name);
        std::fs::write(&file, text).map_err(|error| failed(&file, &error))
    };
    let drawn = |why: charts::ChartError| failed(folder, &why);
    put("results.csv", results(summary))?;
    // A line needs two points.
    if plan.loads.len() > 1 && !summary.rows.is_empty() {
        put("load.svg", by_load(plan, summary).svg().map_err(drawn)?)?;
    }
    let shown = outcomes(plan, done);
    if !shown.is_empty() {
        put("utilisation.csv", utilisation(&shown))?;
        put(
            "utilisation.svg",
            over_time(plan, &shown).svg().map_err(drawn)?,
        )?;
    }
    if let Some((policy, outcome)) = shown.first() {
        put("gpus.svg", map(plan, policy, outcome).svg().map_err(drawn)?)?;
    }
    Ok(written)
}

/// The first runs at the highest load, by policy.
fn outcomes<'a>(plan: &Plan, done: &'a [Done]) -> Vec<(&'static str, &'a Outcome)> {
    let of = |done: &'a Done| match &done.found {
        Found::Figures(_, Some(outcome)) => {
            let policy = plan.policies.get(done.policy)?;
            Some((policy.name, &**outcome))
        }
        _ => None,
    };
    done.iter().filter_map(of).collect()
}

/// One figure of a line.
type Figure = fn(&Row) -> Estimate;

fn results(summary: &Summary) -> String {
    let figures: [(&str, Figure); 10] = [
        ("pods_percent", |row| row.pods),
        ("slices_percent", |row| row.slices),
        ("largest_percent", |row| row.whole),
        ("used_percent", |row| row.used),
        ("gpus_busy", |row| row.active),
        ("made_per_start", |row| row.made),
        ("wait_mean", |row| row.wait),
        ("wait_99_percent", |row| row.late),
        ("pods_asked", |row| row.asked),
        ("pods_not_started", |row| row.left),
    ];
    let mut text = "load,policy,runs".to_owned();
    for (name, _) in figures {
        let _ = write!(text, ",{name},{name}_standard_error");
    }
    text.push_str(",gpus_enough\n");
    for row in &summary.rows {
        let load = row.load.map_or_else(String::new, |load| load.to_string());
        let _ = write!(text, "{load},{},{}", row.policy, row.pods.samples);
        for (_, figure) in figures {
            let estimate = figure(row);
            if estimate.samples == 0 {
                text.push_str(",,");
            } else {
                let _ = write!(text, ",{:.6},{:.6}", estimate.mean, estimate.standard_error);
            }
        }
        let enough = match row.enough {
            Enough::Gpus(gpus) => gpus.to_string(),
            Enough::NotFound | Enough::Unknown => String::new(),
        };
        let _ = writeln!(text, ",{enough}");
    }
    text
}

fn by_load(plan: &Plan, summary: &Summary) -> Chart {
    let figure = |row: &Row| if summary.queue { row.wait } else { row.pods };
    let line = |name: &'static str| {
        let rows = summary.rows.iter().filter(|row| row.policy == name);
        let points = rows.filter_map(|row| {
            let estimate = figure(row);
            let off = estimate.bar().1 - estimate.mean;
            (estimate.samples > 0).then_some((row.load?, estimate.mean, off))
        });
        Line {
            name: name.to_owned(),
            points: points.collect(),
        }
    };
    let (title, y) = if summary.queue {
        ("Waits against load", "mean wait (mean lifetimes)")
    } else {
        ("Accepted pods against load", "accepted pods (%)")
    };
    Chart {
        title: title.to_owned(),
        x: "load (memory slices asked for, relative to all)".to_owned(),
        y: y.to_owned(),
        lines: plan
            .policies
            .iter()
            .take(MOST_LINES)
            .map(|policy| line(policy.name))
            .collect(),
    }
}

fn utilisation(shown: &[(&'static str, &Outcome)]) -> String {
    let mut text = "time,policy,used_percent,waiting\n".to_owned();
    for (policy, outcome) in shown {
        for sample in &outcome.samples {
            let (time, used) = (sample.time, sample.used);
            let _ = writeln!(text, "{time:.6},{policy},{used:.4},{}", sample.waiting);
        }
    }
    text
}

fn over_time(plan: &Plan, shown: &[(&'static str, &Outcome)]) -> Chart {
    let (unit, scale) = if plan.is_trace() {
        ("hours", 3600.0)
    } else {
        ("mean lifetimes", 1.0)
    };
    let line = |(name, outcome): &(&'static str, &Outcome)| {
        let samples = outcome.samples.iter();
        Line {
            name: (*name).to_owned(),
            points: samples
                .map(|sample| (sample.time / scale, sample.used, 0.0))
                .collect(),
        }
    };
    let load = match plan.loads.last() {
        Some(load) if !plan.is_trace() => format!(" at load {load:.2}"),
        _ => String::new(),
    };
    Chart {
        title: format!("GPUs in use{load}"),
        x: format!("time ({unit})"),
        y: "in use (% of all GPUs)".to_owned(),
        lines: shown.iter().take(MOST_LINES).map(line).collect(),
    }
}

fn map(plan: &Plan, policy: &str, outcome: &Outcome) -> Map {
    let mut profiles: Vec<String> = Vec::new();
    let mut gpus = Vec::new();
    for (part, standing) in plan.input.parts.iter().zip(&outcome.standing) {
        let geometry = &part.geometry;
        for name in geometry
            .profiles()
            .iter()
            .map(|shape| shape.name.to_string())
        {
            if !profiles.contains(&name) {
                profiles.push(name);
            }
        }
        gpus.extend(standing.iter().map(|pieces| {
            let piece = pieces.iter().map(|piece| Piece {
                start: piece.start,
                size: piece.size,
                name: geometry.profile(piece.profile).name.to_string(),
                used: piece.held,
            });
            Gpu {
                slices: geometry.slices(),
                pieces: piece.collect(),
            }
        }));
    }
    let all = gpus.len();
    gpus.truncate(MOST_GPUS);
    let cut = if all > MOST_GPUS {
        format!(" (the first {MOST_GPUS} of {all})")
    } else {
        String::new()
    };
    Map {
        title: format!("GPUs at the end, placed by {policy}{cut}; pale: idle"),
        profiles,
        gpus,
    }
}
