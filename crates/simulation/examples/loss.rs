//! Prints accepted pods and slices of every policy: `loss [LOAD [GPUS [SEEDS]]]`.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::loss::Loss;
use simulation::statistics::Estimate;

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, other: &str| -> Result<f64, std::num::ParseFloatError> {
        arguments.get(at).map_or(other, String::as_str).parse()
    };
    let (load, gpus, seeds) = (number(0, "1.0")?, number(1, "100")?, number(2, "20")?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    let (gpus, seeds) = (gpus as u32, seeds as u64);
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    let loss = Loss::new(gpus, load);
    for (mix, demand) in Demand::mixes(&geometry) {
        let mut reference: Vec<f64> = Vec::new();
        let mut rows = Vec::new();
        for (name, contestant) in Contestant::ALL {
            let mut tallies = Vec::new();
            for seed in 1..=seeds {
                let mut policy = contestant.policy(&geometry, &demand, seed)?;
                tallies.push(loss.run(&geometry, &demand, policy.as_mut(), seed)?);
            }
            rows.push((name, tallies));
        }
        let repacked = (1..=seeds).map(|seed| loss.run_repacked(&geometry, &demand, seed));
        rows.push(("REPACK", repacked.collect::<Result<_, _>>()?));
        if let Some((_, tallies)) = rows.iter().find(|(name, _)| *name == "MFI") {
            reference = tallies.iter().map(|tally| tally.pods()).collect();
        }
        for (name, tallies) in rows {
            let pods: Vec<f64> = tallies.iter().map(|tally| tally.pods()).collect();
            let slices: Vec<f64> = tallies.iter().map(|tally| tally.slices()).collect();
            let created: Vec<f64> = tallies.iter().map(|t| t.created_per_start()).collect();
            let active: Vec<f64> = tallies.iter().map(|tally| tally.active).collect();
            let difference = Estimate::of_difference(&pods, &reference);
            println!(
                "{mix} {name}: pods {:.2} slices {:.2} against MFI {:+.2} ±{:.2} created {:.2} active {:.1}",
                Estimate::of(&pods).mean,
                Estimate::of(&slices).mean,
                difference.mean,
                difference.standard_error,
                Estimate::of(&created).mean,
                Estimate::of(&active).mean,
            );
        }
    }
    Ok(())
}
