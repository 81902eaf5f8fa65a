//! Prints how long pods wait: `queue POLICY [LOAD [GPUS [SEEDS]]]`.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::{Geometry, ProfileId};
use simulation::contest::Contestant;
use simulation::demand::Demand;
use simulation::queue::{Discipline, Queue};
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
    let text = |at: usize, other: &'static str| arguments.get(at).map_or(other, String::as_str);
    let contestant = Contestant::find(text(0, "ours"))?;
    let load = text(1, "0.95").parse()?;
    let gpus = text(2, "100").parse()?;
    let seeds: u64 = text(3, "5").parse()?;
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    let disciplines = [
        ("FIFO", Discipline::Fifo),
        ("backfill", Discipline::Backfill),
        (
            "reserving",
            Discipline::Reserving {
                after: 1.0,
                part: 0.03,
            },
        ),
    ];
    for (mix, demand) in Demand::mixes(&geometry) {
        for (name, discipline) in disciplines {
            let queue = Queue::new(gpus, load, discipline);
            let mut runs = Vec::new();
            for seed in 1..=seeds {
                let mut policy = contestant.policy(&geometry, &demand, seed)?;
                runs.push(queue.run(&geometry, &demand, policy.as_mut(), seed)?);
            }
            let seven = Some(ProfileId(0));
            let columns: [Vec<f64>; 6] = [
                runs.iter().map(|run| run.utilisation).collect(),
                runs.iter().filter_map(|run| run.mean(None)).collect(),
                runs.iter()
                    .filter_map(|run| run.quantile(None, 0.99))
                    .collect(),
                runs.iter().filter_map(|run| run.mean(seven)).collect(),
                runs.iter()
                    .filter_map(|run| run.quantile(seven, 0.99))
                    .collect(),
                runs.iter().map(|run| run.created_per_start).collect(),
            ];
            let [used, mean, late, seven, seven_late, created] =
                columns.map(|values| Estimate::of(&values).mean);
            println!(
                "{mix} {name}: utilisation {used:.1} wait {mean:.3} p99 {late:.2} \
                 7g {seven:.2} p99 {seven_late:.2} created {created:.2}"
            );
        }
    }
    Ok(())
}
