//! Trains a table for eight-slice GPUs and prints it: `train SEED GENERATIONS [coarse|all]`.

use std::process::ExitCode;
use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;
use simulation::training::{Detail, Goal, Training};

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
    let mut arguments = std::env::args().skip(1);
    let (Some(seed), Some(generations)) = (arguments.next(), arguments.next()) else {
        return Err("usage: train SEED GENERATIONS [coarse|all]".into());
    };
    let detail = match arguments.next().as_deref() {
        None | Some("coarse") => Detail::Coarse,
        Some("all") => Detail::Halves,
        Some(_) => return Err("usage: train SEED GENERATIONS [coarse|all]".into()),
    };
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").ok_or("no table for the model")?;
    let geometry = Arc::new(Geometry::new(&model)?);
    let goal = Goal::usual(&geometry, 1.0)?;
    let training = Training::new(&goal, detail);
    let trained = training.search(seed.parse()?, generations.parse()?, &mut |progress| {
        eprintln!(
            "{} best {:.4} mean {:.4} step {:.3}",
            progress.generation, progress.best, progress.mean, progress.step
        );
    })?;
    print!("{}", training.text(&trained, "ours")?);
    eprintln!("weights {:?}", trained.weights);
    Ok(())
}
