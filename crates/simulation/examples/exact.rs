//! Prints what the best policy and others accept on two GPUs at a load of 0.7.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;
use placement::policy::{ByTable, FirstFit, MfiWindows, Policy, best_fit, least_fragmentation};
use simulation::demand::Demand;
use simulation::exact::{Chain, Decisions, Measure, Refusal};

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
    for (name, demand) in Demand::mixes(&geometry) {
        let chain = Chain::new(&geometry, &demand, 0.7);
        let mut policies: Vec<Box<dyn Policy>> = vec![
            Box::new(FirstFit::lowest_start(&geometry)?),
            Box::new(ByTable::new(&geometry, &best_fit(&geometry))?),
            Box::new(ByTable::new(
                &geometry,
                &least_fragmentation(&geometry, MfiWindows::Touched, true),
            )?),
        ];
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
