//! Runs the protocol of the FGD paper on the openb trace: `fgd NODES.csv PODS.csv`.

use std::fs::File;
use std::process::ExitCode;

use simulation::sharing::{Filler, Rule, Workload};
use simulation::statistics::Estimate;
use simulation::trace::{Nodes, Pods};

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
    let mut arguments = std::env::args().skip(1);
    let (Some(nodes), Some(pods)) = (arguments.next(), arguments.next()) else {
        return Err("usage: fgd NODES.csv PODS.csv".into());
    };
    let nodes: Vec<_> = Nodes::new(File::open(nodes)?)?.collect::<Result<_, _>>()?;
    let pods: Vec<_> = Pods::new(File::open(pods)?)?.collect::<Result<_, _>>()?;
    let workload = Workload::new(&nodes, &pods)?;
    println!("policy, allocated % at 100 % arrived, at 130 %, fragmented % at 130 %, refused pods");
    for (name, rule) in Rule::ALL {
        let mut filler = Filler::new(&workload, rule);
        let runs: Vec<_> = (42..52).map(|seed| filler.fill(seed, 130)).collect();
        let at = |percent: usize| -> Vec<f64> {
            let values = runs.iter().map(|run| run.allocated.get(percent));
            values.filter_map(|value| *value?).collect()
        };
        let useless = runs.iter().filter_map(|run| *run.fragmented.get(130)?);
        let useless: Vec<f64> = useless.collect();
        let refused = runs.iter().map(|run| run.refused).sum::<usize>() / runs.len();
        let figures = [&at(100), &at(130), &useless].map(|values| {
            let estimate = Estimate::of(values);
            format!("{:.2} ±{:.2}", estimate.mean, estimate.standard_error)
        });
        println!("{name}, {}, {refused}", figures.join(", "));
    }
    Ok(())
}
