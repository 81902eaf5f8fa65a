//! The loss model: pods that find no place are lost.

use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::fill::Fill;
use simulation::law::Law;
use simulation::loss::Loss;
use simulation::statistics::Estimate;

use super::field::{Cell, Field, Samples, Who, difference, everybody, row, verdict, with_bar};
use super::{Findings, Table, plots, promises};

/// Memory slices asked for, relative to all there are.
pub(super) const LOADS: [f64; 4] = [0.7, 0.85, 1.0, 1.15];
/// Number of GPUs where nothing else is said.
pub(super) const GPUS: u32 = 100;

/// Every row at every load on every mix.
pub(super) struct Loads {
    pub(super) rows: Vec<(&'static str, Who)>,
    /// By load, then mix, then row.
    pub(super) cells: Vec<Vec<Vec<Samples>>>,
}

pub(super) fn loads(field: &Field) -> anyhow::Result<Loads> {
    let rows = everybody();
    let cells: Vec<Cell<'_>> = load_cells(field)
        .into_iter()
        .map(|(_, _, cell)| cell)
        .collect();
    let figures = field.run(&cells, &rows, field.seeds(20))?;
    let by_load = figures.chunks(field.mixes.len()).map(<[_]>::to_vec);
    Ok(Loads {
        rows,
        cells: by_load.collect(),
    })
}

/// The cells of all loads with their load and mix, by load.
pub(super) fn load_cells(field: &Field) -> Vec<(f64, &'static str, Cell<'_>)> {
    let mut cells = Vec::new();
    for load in LOADS {
        for (mix, demand) in &field.mixes {
            let loss = Loss::new(GPUS, load);
            cells.push((load, *mix, Cell { demand, loss }));
        }
    }
    cells
}

pub(super) fn tables(field: &Field, loads: &Loads, found: &mut Findings) -> anyhow::Result<()> {
    against_best(field, loads, found)?;
    for (load, cells) in LOADS.iter().zip(&loads.cells) {
        let heading = format!(
            "### {GPUS} GPUs, load {load}\n\nAccepted pods / memory slices / whole GPUs (7g) in percent, \
             and below the difference of the pods to MFI."
        );
        found.add(heading, wide(field, &loads.rows, cells)?);
        let heading = format!("Pods against MFI at load {load}, in points:");
        found.add(heading, against_mfi(field, &loads.rows, cells)?);
    }
    plots::loads(field, loads, found)
}

fn head<'a>(field: &Field, first: &'a str) -> Vec<&'a str> {
    let mixes = field.mixes.iter().map(|(name, _)| *name);
    [first].into_iter().chain(mixes).collect()
}

/// Pods, slices and whole GPUs of every row.
fn wide(
    field: &Field,
    rows: &[(&'static str, Who)],
    cells: &[Vec<Samples>],
) -> anyhow::Result<Table> {
    let mut table = Table::new(&head(field, "policy"));
    for (name, _) in rows {
        let mut line = vec![(*name).to_owned()];
        for cell in cells {
            let samples = row(rows, cell, name)?;
            let columns = [&samples.pods, &samples.slices, &samples.whole];
            line.push(columns.map(|values| with_bar(values)).join(" / "));
        }
        table.row(&line);
    }
    Ok(table)
}

fn against_mfi(
    field: &Field,
    rows: &[(&'static str, Who)],
    cells: &[Vec<Samples>],
) -> anyhow::Result<Table> {
    let mut table = Table::new(&head(field, "policy"));
    for (name, _) in rows {
        let mut line = vec![(*name).to_owned()];
        for cell in cells {
            let (one, mfi) = (row(rows, cell, name)?, row(rows, cell, "MFI")?);
            let apart = Estimate::of_difference(&one.pods, &mfi.pods);
            line.push(difference(apart));
        }
        table.row(&line);
    }
    Ok(table)
}

/// The policy other than ours that accepts most, and ours less it, seed by seed.
pub(super) fn best_other(
    rows: &[(&'static str, Who)],
    cell: &[Samples],
    figure: impl Fn(&Samples) -> &Vec<f64>,
) -> anyhow::Result<(&'static str, Estimate)> {
    let mut best: Option<(&'static str, f64, &Vec<f64>)> = None;
    for ((name, who), samples) in rows.iter().zip(cell) {
        if matches!(who, Who::Repacked | Who::By(Contestant::Ours)) {
            continue;
        }
        let mean = Estimate::of(figure(samples)).mean;
        if best.is_none_or(|(_, most, _)| mean > most) {
            best = Some((name, mean, figure(samples)));
        }
    }
    let (name, _, other) = best.ok_or_else(|| anyhow::anyhow!("no other policy"))?;
    let ours = figure(row(rows, cell, "ours")?);
    Ok((name, Estimate::of_difference(ours, other)))
}

fn against_best(field: &Field, loads: &Loads, found: &mut Findings) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "load",
        "mix",
        "best other, pods",
        "ours less it",
        "",
        "best other, slices",
        "ours less it",
        "",
        "pods less MFI",
        "",
    ]);
    for (load, cells) in LOADS.iter().zip(&loads.cells) {
        for ((mix, _), cell) in field.mixes.iter().zip(cells) {
            let (pods, by_pods) = best_other(&loads.rows, cell, |samples| &samples.pods)?;
            found.judge("loads", by_pods);
            let (slices, by_slices) = best_other(&loads.rows, cell, |samples| &samples.slices)?;
            let (ours, mfi) = (
                row(&loads.rows, cell, "ours")?,
                row(&loads.rows, cell, "MFI")?,
            );
            let by_mfi = Estimate::of_difference(&ours.pods, &mfi.pods);
            table.row(&[
                load.to_string(),
                (*mix).to_owned(),
                pods.to_owned(),
                difference(by_pods),
                verdict(by_pods).to_owned(),
                slices.to_owned(),
                difference(by_slices),
                verdict(by_slices).to_owned(),
                difference(by_mfi),
                verdict(by_mfi).to_owned(),
            ]);
        }
    }
    found.add(
        "## Pods that are lost if they find no place\n\nOurs against the best other policy of each \
         cell, chosen after the fact, and against MFI; in points.",
        table,
    );
    Ok(())
}

/// All pods at once, and nothing ends.
pub(super) fn fill(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows = everybody();
    let cells = fill_cells(field, &rows)?;
    let mut table = Table::new(&head(field, "policy"));
    for (name, _) in &rows {
        let mut line = vec![(*name).to_owned()];
        for cell in &cells {
            let samples = row(&rows, cell, name)?;
            line.push(
                [&samples.pods, &samples.slices]
                    .map(|v| with_bar(v))
                    .join(" / "),
            );
        }
        table.row(&line);
    }
    let mut best = vec!["ours less best other".to_owned()];
    for cell in &cells {
        let (name, apart) = best_other(&rows, cell, |samples| &samples.pods)?;
        found.judge("filling an empty cluster", apart);
        best.push(format!(
            "{} ({name}): {}",
            difference(apart),
            verdict(apart)
        ));
    }
    table.row(&best);
    found.add(
        format!(
            "## Filling an empty cluster\n\n{GPUS} GPUs; pods come until they asked for all memory slices, \
             and none leaves. Accepted pods / slices in percent."
        ),
        table,
    );
    Ok(())
}

fn fill_cells(field: &Field, rows: &[(&'static str, Who)]) -> anyhow::Result<Vec<Vec<Samples>>> {
    let seeds = if field.is_quick() { 20 } else { 200 };
    let mixes = field.mixes.iter();
    mixes
        .map(|(_, demand)| filled(field, demand, rows, seeds))
        .collect()
}

/// Every row, filling an empty cluster with one mix.
pub(super) fn filled(
    field: &Field,
    demand: &Demand,
    rows: &[(&'static str, Who)],
    seeds: u64,
) -> anyhow::Result<Vec<Samples>> {
    let fill = Fill {
        gpus: GPUS,
        demand: 1.0,
    };
    field.spread(rows, |(_, who)| {
        let mut samples = Samples::default();
        for seed in 1..=seeds {
            samples.add(&match who {
                Who::By(contestant) => {
                    let mut policy = contestant.policy(&field.geometry, demand, seed)?;
                    fill.run(&field.geometry, demand, policy.as_mut(), seed)?
                }
                Who::Repacked => fill.run_repacked(&field.geometry, demand, seed)?,
            });
        }
        Ok(samples)
    })
}

/// Small and large clusters.
pub(super) fn sizes(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows = everybody();
    // Ten times the GPUs say as much in a tenth of the time.
    for (gpus, seeds, measured) in [(16, 40, 60.0), (1000, 10, 20.0)] {
        let cells: Vec<Cell<'_>> = field
            .mixes
            .iter()
            .map(|(_, demand)| Cell {
                demand,
                loss: Loss {
                    measured,
                    ..Loss::new(gpus, 1.0)
                },
            })
            .collect();
        let figures = field.run(&cells, &rows, field.seeds(seeds))?;
        for cell in &figures {
            let (_, apart) = best_other(&rows, cell, |samples| &samples.pods)?;
            found.judge("16 and 1000 GPUs", apart);
        }
        found.add(
            format!(
                "### {gpus} GPUs, load 1\n\nAccepted pods / memory slices / whole GPUs (7g) in percent; \
                 {GPUS} GPUs are above."
            ),
            wide(field, &rows, &figures)?,
        );
        found.add(
            format!("Pods against MFI on {gpus} GPUs, in points:"),
            against_mfi(field, &rows, &figures)?,
        );
    }
    Ok(())
}

/// Lifetimes of other laws than the exponential one.
pub(super) fn laws(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows = everybody();
    let seeds = field.seeds(20);
    let mut table = Table::new(&[
        "lifetimes",
        "mix",
        "ours",
        "MFI",
        "ours less MFI",
        "",
        "best other",
        "ours less it",
        "",
    ]);
    let others = Law::SHOWN
        .iter()
        .filter(|(_, law)| *law != Law::Exponential);
    for (law_name, law) in others.copied() {
        let cell = |demand| Cell {
            demand,
            loss: Loss {
                law,
                ..Loss::new(GPUS, 1.0)
            },
        };
        let cells: Vec<_> = field.mixes.iter().map(|(_, demand)| cell(demand)).collect();
        let figures = field.run(&cells, &rows, seeds)?;
        for ((mix, _), cell) in field.mixes.iter().zip(&figures) {
            let (ours, mfi) = (row(&rows, cell, "ours")?, row(&rows, cell, "MFI")?);
            let by_mfi = Estimate::of_difference(&ours.pods, &mfi.pods);
            let (best, by_best) = best_other(&rows, cell, |samples| &samples.pods)?;
            found.judge("lifetimes of other laws", by_best);
            table.row(&[
                law_name.to_owned(),
                (*mix).to_owned(),
                with_bar(&ours.pods),
                with_bar(&mfi.pods),
                difference(by_mfi),
                verdict(by_mfi).to_owned(),
                best.to_owned(),
                difference(by_best),
                verdict(by_best).to_owned(),
            ]);
        }
    }
    found.add(
        format!(
            "### Lifetimes of other laws\n\n{GPUS} GPUs, load 1; accepted pods in percent, differences in \
             points. Log-normal has a standard deviation of the logarithm of 1.5, Pareto an exponent of \
             1.5: both have heavy tails."
        ),
        table,
    );
    Ok(())
}

/// GPUs that must be powered.
pub(super) fn active(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows = everybody();
    let cells: Vec<_> = field
        .mixes
        .iter()
        .map(|(_, demand)| Cell {
            demand,
            loss: Loss::new(GPUS, 0.6),
        })
        .collect();
    let figures = field.run(&cells, &rows, field.seeds(10))?;
    let mut table = Table::new(&head(field, "policy"));
    for (name, _) in &rows {
        let mut line = vec![(*name).to_owned()];
        for cell in &figures {
            line.push(with_bar(&row(&rows, cell, name)?.active));
        }
        table.row(&line);
    }
    found.add(
        format!(
            "## GPUs in use\n\nHow many of {GPUS} GPUs have something running on them, in the mean over \
             time, at load 0.6; fewer is better (the others could be switched off). 60 is the least for whoever loses no \
             pod; baskets loses many here."
        ),
        table,
    );
    Ok(())
}

/// How often an instance has to be made.
pub(super) fn reuse(field: &Field, found: &mut Findings) -> anyhow::Result<()> {
    let rows: Vec<_> = everybody()
        .into_iter()
        .filter(|(name, _)| promises::REUSING.contains(name))
        .collect();
    let mut table = Table::new(&[
        "policy",
        "load",
        "mix",
        "made per start, policy chooses",
        "made per start, scheduler chooses",
        "pods, policy chooses",
        "pods, scheduler chooses",
    ]);
    for load in [0.85, 1.0] {
        let of = |reuse| -> anyhow::Result<_> {
            let cells: Vec<_> = field
                .mixes
                .iter()
                .map(|(_, demand)| Cell {
                    demand,
                    loss: Loss {
                        reuse,
                        ..Loss::new(GPUS, load)
                    },
                })
                .collect();
            field.run(&cells, &rows, field.seeds(10))
        };
        let by_policy = of(simulation::cluster::Reuse::Policy)?;
        let by_scheduler = of(simulation::cluster::Reuse::Scheduler)?;
        for (name, _) in &rows {
            for (number, (mix, _)) in field.mixes.iter().enumerate() {
                let one = row(&rows, &by_policy[number], name)?;
                let other = row(&rows, &by_scheduler[number], name)?;
                table.row(&[
                    (*name).to_owned(),
                    load.to_string(),
                    (*mix).to_owned(),
                    with_bar(&one.created),
                    with_bar(&other.created),
                    with_bar(&one.pods),
                    with_bar(&other.pods),
                ]);
            }
        }
    }
    found.add(
        "## Instances made\n\nInstances made per pod that starts: below 1, the others took over an idle \
         instance, without a call to the driver. Either the policy decides whether an idle instance is \
         taken, or Kubernetes' scheduler does, which binds a pod to any idle instance of its profile, and \
         the policy is asked only where there is none. HAMi, DAS and DRA destroy at once: 1 for all.",
        table,
    );
    Ok(())
}
