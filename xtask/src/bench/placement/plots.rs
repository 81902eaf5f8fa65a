//! Plots beside the tables.

use std::fmt::Write as _;

use charts::{Chart, Line};
use simulation::statistics::Estimate;

use super::field::{Field, Samples, half, row};
use super::steady::{LOADS, Loads};
use super::{Findings, Table};

/// As many as can be told apart by their colours; ours first.
const SHOWN: [&str; 7] = [
    "ours",
    "MFI-all",
    "MFI",
    "FF",
    "HAMi-2855-exact",
    "DRA",
    "DAS",
];
const FILES: [&str; 4] = [
    "placement-uniform.svg",
    "placement-skew-small.svg",
    "placement-skew-big.svg",
    "placement-bimodal.svg",
];

/// Accepted slices against load, one plot a mix, all shown in one section.
pub(super) fn loads(field: &Field, loads: &Loads, found: &mut Findings) -> anyhow::Result<()> {
    let mut section = String::from("### As plots\n");
    for (number, ((mix, _), file)) in field.mixes.iter().zip(FILES).enumerate() {
        let line = |name: &str| -> anyhow::Result<Line> {
            let mut points = Vec::new();
            for (load, cells) in LOADS.iter().zip(&loads.cells) {
                let samples: &Samples = row(&loads.rows, &cells[number], name)?;
                let estimate = Estimate::of(&samples.slices);
                points.push((100.0 * load, estimate.mean, half(estimate)));
            }
            Ok(Line {
                name: name.to_owned(),
                points,
            })
        };
        let chart = Chart {
            title: format!("Accepted memory slices, {mix}"),
            x: "load (% of all memory slices)".to_owned(),
            y: "accepted (%)".to_owned(),
            lines: SHOWN.into_iter().map(line).collect::<Result<_, _>>()?,
        };
        found.plots.push((file, chart.svg()?));
        let _ = write!(
            section,
            "\n![accepted slices against load, {mix}]({file})\n"
        );
    }
    found.add(section.trim_end(), Table::default());
    Ok(())
}
