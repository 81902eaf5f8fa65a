//! Prints, for each mix, the load at which 99 % of the pods (and of the slices) are accepted, and what
//! is accepted when an empty cluster is filled once: `sustained GPUS SEEDS POLICY,...`.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;
use simulation::contest::{ContestError, Contestant};
use simulation::demand::Demand;
use simulation::exact::Measure;
use simulation::fill::Fill;
use simulation::loss::Loss;
use simulation::statistics::Estimate;
use simulation::sustained::sustained;

type Failure = Box<dyn std::error::Error>;

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
    let [gpus, seeds, names] = arguments.as_slice() else {
        return Err("usage: sustained GPUS SEEDS POLICY,...".into());
    };
    let gpus: u32 = gpus.parse()?;
    let seeds: Vec<u64> = (1..=seeds.parse()?).collect();
    let contestants = names.split(',').map(Contestant::find);
    let contestants: Vec<Contestant> = contestants.collect::<Result<_, ContestError>>()?;
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    for (mix, demand) in Demand::mixes(&geometry) {
        for contestant in &contestants {
            let load = |measure| {
                sustained((0.3, 1.5), 99.0, |load| -> Result<f64, Failure> {
                    let loss = Loss::new(gpus, load);
                    let mut accepted = Vec::with_capacity(seeds.len());
                    for seed in &seeds {
                        let mut policy = contestant.policy(&geometry, &demand, *seed)?;
                        let tally = loss.run(&geometry, &demand, policy.as_mut(), *seed)?;
                        accepted.push(match measure {
                            Measure::Pods => tally.pods(),
                            Measure::Slices => tally.slices(),
                        });
                    }
                    Ok(Estimate::of(&accepted).mean)
                })
            };
            let fill = Fill { gpus, demand: 1.0 };
            let mut filled = Vec::new();
            for seed in &seeds {
                let mut policy = contestant.policy(&geometry, &demand, *seed)?;
                let tally = fill.run(&geometry, &demand, policy.as_mut(), *seed)?;
                filled.push((tally.pods(), tally.slices()));
            }
            let (pods, slices): (Vec<f64>, Vec<f64>) = filled.into_iter().unzip();
            println!(
                "{mix} {contestant:?}: sustained {:.3} / {:.3}, filled {:.2} / {:.2}",
                load(Measure::Pods)?,
                load(Measure::Slices)?,
                Estimate::of(&pods).mean,
                Estimate::of(&slices).mean,
            );
        }
    }
    Ok(())
}
