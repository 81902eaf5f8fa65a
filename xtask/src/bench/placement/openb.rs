//! Pods of a production cluster: the openb trace of Alibaba, 2023, where its files are there.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use simulation::demand::Demand;
use simulation::loss::Loss;
use simulation::sharing::{Filled, Filler, Rule, Workload};
use simulation::statistics::Estimate;
use simulation::trace::{Mapping, Node, Nodes, Pod, Pods};

use super::field::{Cell, Field, everybody, row, verdict, with_bar};
use super::learned;
use super::steady::{GPUS, best_other, filled};
use super::{Findings, Table};

const NODES: &str = "openb_node_list_gpu_node.csv";
const PODS: &str = "openb_pod_list_default.csv";
const LOADS: [f64; 3] = [0.85, 1.0, 1.15];

/// What FGD's authors published for the default list: allocated at 100 and at 130 % arrived, and
/// fragmented at 130 %, in percent of all GPUs (mean of ten runs; Weng et al., USENIX ATC 2023, and the
/// results in hkust-adsl/kubernetes-scheduler-simulator).
const PUBLISHED: [(&str, [f64; 3]); 6] = [
    ("Random", [86.30, 87.47, 12.4]),
    ("DotProd", [90.62, 90.85, 9.1]),
    ("Clustering", [91.65, 91.88, 8.0]),
    ("Packing", [91.78, 92.00, 7.9]),
    ("BestFit", [92.86, 93.08, 6.9]),
    ("FGD", [95.23, 95.39, 4.6]),
];
/// How far a reproduced figure may be from a published one, in points.
const WITHIN: f64 = 0.2;

pub(super) fn measure(
    field: &Field,
    folder: Option<&Path>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        found.add(
            "## A production trace (openb)\n\nLeft out: the trace is not part of this repository. \
             `--openb DIR` or CDMO_OPENB names a folder with its files.",
            Table::default(),
        );
        return Ok(());
    };
    let nodes: Vec<Node> = read(&folder.join(NODES), |file| {
        Ok(Nodes::new(file)?.collect::<Result<_, _>>()?)
    })?;
    let pods: Vec<Pod> = read(&folder.join(PODS), |file| {
        Ok(Pods::new(file)?.collect::<Result<_, _>>()?)
    })?;
    fractional(field, &pods, found)?;
    protocol(field, &nodes, &pods, found)
}

fn read<T>(path: &Path, of: impl Fn(File) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let named = || format!("failed to read {}", path.display());
    File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(of)
        .with_context(named)
}

/// The mix of the pods that share a GPU, mapped to profiles.
fn mix(field: &Field, pods: &[Pod]) -> anyhow::Result<(Demand, String)> {
    let mut parts = vec![0; field.geometry.profiles().len()];
    for pod in pods.iter().filter(|pod| (1..1000).contains(&pod.gpu_milli)) {
        let profile = Mapping::Compute.profile(&field.model, pod.gpu_milli);
        let shapes = field.geometry.profiles().iter();
        let at = shapes.zip(&mut parts);
        let of_pod = at.filter(|(shape, _)| Some(shape.model_index) == profile);
        of_pod.for_each(|(_, part)| *part += 1);
    }
    let shapes = field.geometry.profiles().iter();
    let counts = shapes.zip(&parts).filter(|(_, part)| **part > 0);
    let words: Vec<String> = counts
        .map(|(shape, part)| format!("{part} {}", shape.name))
        .collect();
    let demand = Demand::new(&field.geometry, &parts).context("no pod shares a GPU")?;
    Ok((demand, words.join(", ")))
}

fn fractional(field: &Field, pods: &[Pod], found: &mut Findings) -> anyhow::Result<()> {
    let (demand, words) = mix(field, pods)?;
    let rows = everybody();
    let cells = LOADS.map(|load| Cell {
        demand: &demand,
        loss: Loss::new(GPUS, load),
    });
    let mut figures = field.run(&cells, &rows, field.seeds(20))?;
    figures.push(filled(field, &demand, &rows, field.seeds(100))?);
    let heads = ["policy", "load 0.85", "load 1", "load 1.15", "fill"];
    let mut table = Table::new(&heads);
    for (name, _) in &rows {
        let mut line = vec![(*name).to_owned()];
        for cell in &figures {
            let samples = row(&rows, cell, name)?;
            line.push(
                [&samples.pods, &samples.slices]
                    .map(|v| with_bar(v))
                    .join(" / "),
            );
        }
        table.row(&line);
    }
    let mut last = vec!["ours less best other".to_owned()];
    for cell in &figures {
        let (name, apart) = best_other(&rows, cell, |samples| &samples.pods)?;
        found.judge("production trace (openb)", apart);
        let apart_words = super::field::difference(apart);
        last.push(format!("{apart_words} ({name}): {}", verdict(apart)));
    }
    table.row(&last);
    found.add(
        format!(
            "## A production trace (openb)\n\nThe pods of the openb trace that share a GPU, as profiles with \
             at least their share of compute slices ({words}), drawn from that mix with exponential \
             lifetimes on {GPUS} GPUs; no table was trained on it. Accepted pods / memory slices in percent."
        ),
        table,
    );
    let learned = learned::run(field, &cells, field.seeds(20))?;
    let lines: Vec<_> = LOADS
        .iter()
        .zip(&figures)
        .zip(&learned)
        .map(|((load, cell), learned)| (vec![load.to_string()], cell.as_slice(), learned))
        .collect();
    let block = "openb, with a portfolio";
    let table = learned::table(&["load"], &lines, &rows, block, found)?;
    found.add("With a portfolio, as above:", table);
    Ok(())
}

/// What FGD's authors did, done again.
fn protocol(
    field: &Field,
    nodes: &[Node],
    pods: &[Pod],
    found: &mut Findings,
) -> anyhow::Result<()> {
    let workload = Workload::new(nodes, pods)?;
    let seeds = if field.is_quick() { 42..44 } else { 42..52 };
    let runs = field.spread(&Rule::ALL, |(_, rule)| {
        let mut filler = Filler::new(&workload, *rule);
        let runs: Vec<Filled> = seeds.clone().map(|seed| filler.fill(seed, 130)).collect();
        Ok(runs)
    })?;
    let mut table = Table::new(&["rule", "figure", "published", "measured", ""]);
    for ((name, _), runs) in Rule::ALL.iter().zip(&runs) {
        let Some((_, published)) = PUBLISHED.iter().find(|(known, _)| known == name) else {
            continue;
        };
        let allocated = |percent: usize| -> Vec<f64> {
            let at = runs.iter().map(|run| run.allocated.get(percent).copied());
            at.filter_map(Option::flatten).collect()
        };
        let wasted = runs.iter().map(|run| run.fragmented.get(130).copied());
        let measured = [
            allocated(100),
            allocated(130),
            wasted.filter_map(Option::flatten).collect(),
        ];
        let figures = [
            "allocated at 100 %",
            "allocated at 130 %",
            "fragmented at 130 %",
        ];
        for ((figure, published), samples) in figures.iter().zip(published).zip(&measured) {
            let gap = (Estimate::of(samples).mean - published).abs();
            table.row(&[
                (*name).to_owned(),
                (*figure).to_owned(),
                format!("{published:.2}"),
                with_bar(samples),
                if gap <= WITHIN { "within 0.2" } else { "off" }.to_owned(),
            ]);
        }
    }
    found.add(
        "### FGD's own protocol\n\nA yardstick that is not ours: the pods of openb come to its 1,213 \
         machines until they asked for 130 % of the GPUs, and none leaves; percent of all GPUs. Figures of \
         other people's simulator that come out again say that ours can be trusted.",
        table,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn without_the_trace_the_document_says_so() {
        let field = Field::new(true, Arc::default()).unwrap();
        let mut found = Findings::default();
        measure(&field, None, &mut found).unwrap();
        assert!(found.tables[0].0.contains("Left out"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let field = Field::new(true, Arc::default()).unwrap();
        let error = measure(
            &field,
            Some(Path::new("/nowhere")),
            &mut Findings::default(),
        );
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("/nowhere/openb_node_list"), "{text}");
    }

    #[test]
    fn every_rule_has_published_figures() {
        for (name, _) in Rule::ALL {
            assert!(PUBLISHED.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
