//! `cargo demo`: the whole system at work, for somebody who has none of it.

mod apply;
mod json;
mod manifest;
mod options;
mod report;
mod screen;
mod table;
mod words;

use std::time::Duration;

use gpu_picture::Node;
pub(crate) use gpu_picture::style;
pub(crate) use options::Options;
use testbed::binaries::{Binaries, Profile, Progress};
use testbed::journey::{Journey, Journeys};
use testbed::picture;
use testbed::system::{Setup, StartError, System};
use testbed::verdict;

use self::manifest::Manifest;
use self::screen::Screen;
use crate::interrupt::Interrupt;
use crate::outcome::Outcome;

/// How often the picture is drawn while nothing happens: clocks in it go on.
const FRAME: Duration = Duration::from_millis(100);
/// How long agents and controller may take to come up.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Runs the demo.
pub(crate) async fn run(options: Options) -> anyhow::Result<Outcome> {
    let manifests: Result<Vec<_>, _> = options
        .files()
        .iter()
        .map(|file| manifest::read(file))
        .collect();
    let manifests = match manifests {
        Ok(manifests) => manifests.concat(),
        Err(error) => {
            anstream::eprintln!("error: {error}");
            return Ok(Outcome::Usage);
        }
    };
    let mut interrupt = Interrupt::take()?;
    let mut screen = Screen::new(options.json);
    tokio::select! {
        biased;
        signal = interrupt.came() => {
            screen.say("Interrupted; nothing was started.");
            Ok(Outcome::Interrupted(signal))
        }
        binaries = build(&mut screen) => {
            let binaries = binaries?;
            play(&options, &manifests, &binaries, &mut interrupt, &mut screen).await
        }
    }
}

async fn build(screen: &mut Screen) -> anyhow::Result<Binaries> {
    screen.say("Building agent, controller and simulated driver ...");
    let progress = if screen.is_live() {
        Progress::Shown
    } else {
        Progress::Quiet
    };
    Ok(Binaries::build(Profile::Debug, progress).await?)
}

/// Starts the system, performs, and ends it again, whatever happens in between.
async fn play(
    options: &Options,
    manifests: &[Manifest],
    binaries: &Binaries,
    interrupt: &mut Interrupt,
    screen: &mut Screen,
) -> anyhow::Result<Outcome> {
    let setup = Setup {
        behaviour: options.kubernetes.into(),
        hosts: options.hosts(),
        log_level: "info".to_owned(),
        controller_args: Vec::new(),
    };
    let system = System::start(setup, binaries).await?;
    let result = tokio::select! {
        biased;
        signal = interrupt.came() => {
            screen.wipe();
            screen.say("Interrupted; cleaning up.");
            Ok(Outcome::Interrupted(signal))
        }
        result = perform(options, manifests, &system, screen) => result,
    };
    tokio::select! {
        () = system.shutdown() => {}
        // Somebody has no patience: what is left is killed, not asked to end.
        _ = interrupt.came() => {}
    }
    result
}

async fn perform(
    options: &Options,
    manifests: &[Manifest],
    system: &System,
    screen: &mut Screen,
) -> anyhow::Result<Outcome> {
    for (name, host) in options.hosts() {
        let gpus: Vec<String> = host
            .gpus
            .iter()
            .map(|gpus| format!("{}x {}", gpus.count, gpus.board))
            .collect();
        screen.say(&format!("Node {name}: {}, MIG mode off", gpus.join(", ")));
    }
    system.install()?;
    system.label_nodes()?;
    let (label, value) = testbed::manifests::NODE_LABEL;
    screen.say(&format!("Label {label}={value} on all; agents come up ..."));
    system.ready(START_LIMIT).await?;
    screen.begin(system.cluster().now());
    for warning in apply::apply(system, manifests).await? {
        screen.say(&format!("Warning: {warning}"));
    }
    let pods = manifests.iter().map(Manifest::pods).sum();
    let settled = watch(options, system, screen, pods).await;
    let journeys = system.observed().journeys();
    screen.end(
        journeys.all(),
        &maps(system, journeys.all())?,
        system.cluster().now(),
    );
    let mut faults = verdict::faults(&journeys);
    faults.extend(verdict::vanished(&journeys, &states(system)?));
    if !settled {
        screen.say(&format!(
            "No pod came any further for {} s.",
            options.timeout
        ));
    }
    let given_up = given_up(system).await;
    screen.put(&format!(
        "\n{}",
        report::draw(journeys.all(), given_up, &faults)
    ));
    if options.json {
        print_json(journeys.all())?;
    }
    if options.keep {
        let kubeconfig = system.cluster().kubeconfig_path().display();
        screen.say("\nThe cluster stays up until Ctrl-C. For kubectl in another terminal:");
        screen.say(&format!("  export KUBECONFIG={kubeconfig}"));
        std::future::pending::<()>().await;
    }
    Ok(if faults.is_empty() && settled {
        Outcome::Good
    } else {
        Outcome::Failed
    })
}

/// Shows what happens until every pod has run or never will; false if nothing happens any more.
async fn watch(options: &Options, system: &System, screen: &mut Screen, pods: usize) -> bool {
    let mut changed = system.observed().changed();
    let patience = Duration::from_secs(options.timeout);
    let mut last_news = system.cluster().now();
    loop {
        changed.borrow_and_update();
        let journeys: Journeys = system.observed().journeys();
        let now = system.cluster().now();
        screen.show(
            journeys.all(),
            &maps(system, journeys.all()).unwrap_or_default(),
            now,
        );
        if journeys.all().len() >= pods && journeys.all().iter().all(Journey::is_settled) {
            return true;
        }
        if now.saturating_sub(last_news) > patience {
            return false;
        }
        tokio::select! {
            _ = changed.changed() => last_news = system.cluster().now(),
            () = tokio::time::sleep(FRAME) => {}
        }
    }
}

fn maps(system: &System, journeys: &[Journey]) -> Result<Vec<Node>, StartError> {
    let nodes = system.drivers().iter().map(|(name, driver)| {
        let here: Vec<Journey> = journeys
            .iter()
            .filter(|j| j.node.as_ref() == Some(name))
            .cloned()
            .collect();
        Ok(picture::node(name, &driver.state()?, &here))
    });
    nodes.collect()
}

fn states(
    system: &System,
) -> Result<std::collections::BTreeMap<String, testbed::driver::HostState>, StartError> {
    let states = system
        .drivers()
        .iter()
        .map(|(name, driver)| Ok((name.clone(), driver.state()?)));
    states.collect()
}

/// How many instances the agents have destroyed, by their own count.
async fn given_up(system: &System) -> Option<u64> {
    let pages = system.agent_pages("/metrics").await;
    let counts = pages.iter().filter_map(|(_, page)| {
        testbed::http::metric(
            page,
            "cdmo_agent_nvml_operations_total",
            "operation=\"destroy\"",
        )
    });
    // Counts of instances are small whole numbers.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    counts
        .map(|count| count as u64)
        .reduce(|all, count| all + count)
}

fn print_json(journeys: &[Journey]) -> anyhow::Result<()> {
    for journey in journeys {
        anstream::println!("{}", serde_json::to_string(&json::Pod::from(journey))?);
    }
    Ok(())
}
