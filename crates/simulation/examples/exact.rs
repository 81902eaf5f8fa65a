//! Prints what the best policy and others accept on two GPUs at a load of 0.7:
//! `exact [TABLE.txt]`, where the table stands for ours.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::policy::ByTable;
use placement::{Geometry, ScoreTable};
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::exact::{Chain, Decisions, Measure, Refusal};

const SHOWN: [Contestant; 4] = [
    Contestant::FirstFit,
    Contestant::BestFit,
    Contestant::Mfi,
    Contestant::MfiAll,
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    let table = match std::env::args().nth(1) {
        Some(path) => Some(ScoreTable::from_text(&std::fs::read_to_string(path)?, &geometry)?.0),
        None => None,
    };
    for (name, demand) in Demand::mixes(&geometry) {
        let chain = Chain::new(&geometry, &demand, 0.7);
        let mut policies = Vec::new();
        for contestant in SHOWN {
            policies.push(contestant.in_the_long_run(&geometry, &demand, 1)?);
        }
        policies.push(match &table {
            Some(table) => Box::new(ByTable::new(&geometry, table)?),
            None => Contestant::Ours.in_the_long_run(&geometry, &demand, 1)?,
        });
        for policy in &mut policies {
            let decisions = Decisions::of(&geometry, policy.as_mut())?;
            let pods = chain.evaluate(&decisions, Measure::Pods).middle();
            let slices = chain.evaluate(&decisions, Measure::Slices).middle();
            println!(
                "{name}, {}, pods {pods:.2}, slices {slices:.2}",
                policy.name()
            );
        }
        let pods = chain.optimum(Measure::Pods, Refusal::Never).middle();
        let slices = chain.optimum(Measure::Slices, Refusal::Never).middle();
        println!("{name}, optimum, pods {pods:.2}, slices {slices:.2}");
    }
    Ok(())
}
