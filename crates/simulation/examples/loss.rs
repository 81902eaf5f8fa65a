//! Prints accepted pods and slices of policies, and how sure the difference of ours to the best
//! other is: `loss LOAD GPUS SEEDS [TABLE.txt [POLICY,...]]`. A table that is given stands for ours.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::policy::{ByTable, Policy};
use placement::{Geometry, ScoreTable};
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::loss::{Loss, Tally};
use simulation::statistics::Estimate;

type Failure = Box<dyn std::error::Error>;
type Measured = fn(&Tally) -> f64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [load, gpus, seeds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: loss LOAD GPUS SEEDS [TABLE.txt [POLICY,...]]".into());
    };
    let seeds: u64 = seeds.parse()?;
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    let table = match rest.first() {
        Some(path) => Some(ScoreTable::from_text(&std::fs::read_to_string(path)?, &geometry)?.0),
        None => None,
    };
    let wanted = |name: &str| {
        let list = rest.get(1);
        list.is_none_or(|list| list.split(',').any(|one| one == name)) || name == "ours"
    };
    let mut loss = Loss::new(gpus.parse()?, load.parse()?);
    // Small clusters see as many pods as large ones.
    loss.measured *= (100.0 / f64::from(loss.gpus)).max(1.0);
    for (mix, demand) in Demand::mixes(&geometry) {
        let mut rows: Vec<(&str, Vec<Tally>)> = Vec::new();
        for (name, contestant) in Contestant::ALL.into_iter().filter(|(name, _)| wanted(name)) {
            let mut tallies = Vec::new();
            for seed in 1..=seeds {
                let mut policy: Box<dyn Policy> = match (&table, contestant) {
                    (Some(table), Contestant::Ours) => Box::new(ByTable::new(&geometry, table)?),
                    _ => contestant.policy(&geometry, &demand, seed)?,
                };
                tallies.push(loss.run(&geometry, &demand, policy.as_mut(), seed)?);
            }
            rows.push((name, tallies));
        }
        report(mix, &rows);
    }
    Ok(())
}

fn report(mix: &str, rows: &[(&str, Vec<Tally>)]) {
    let of = |tallies: &[Tally], measure: Measured| -> Vec<f64> {
        tallies.iter().map(measure).collect()
    };
    let mean = |tallies: &[Tally], measure| Estimate::of(&of(tallies, measure)).mean;
    for (name, tallies) in rows {
        println!(
            "{mix} {name}: pods {:.2} slices {:.2} 7g {:.2} created {:.2} active {:.1}",
            mean(tallies, Tally::pods),
            mean(tallies, Tally::slices),
            mean(tallies, |tally| tally.of(placement::ProfileId(0))),
            mean(tallies, Tally::created_per_start),
            mean(tallies, |tally| tally.active),
        );
    }
    let Some((_, ours)) = rows.iter().find(|(name, _)| *name == "ours") else {
        return;
    };
    let measures: [(&str, Measured); 2] = [("pods", Tally::pods), ("slices", Tally::slices)];
    for (what, measure) in measures {
        let others = rows.iter().filter(|(name, _)| *name != "ours");
        let best =
            others.max_by(|one, other| mean(&one.1, measure).total_cmp(&mean(&other.1, measure)));
        let mfi = rows.iter().find(|(name, _)| *name == "MFI");
        for (name, tallies) in best.into_iter().chain(mfi) {
            let difference = Estimate::of_difference(&of(ours, measure), &of(tallies, measure));
            println!(
                "{mix} ours - {name}, {what}: {:+.3} ±{:.3}",
                difference.mean, difference.standard_error
            );
        }
    }
}
