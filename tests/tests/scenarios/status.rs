//! What `kubectl cdmo` and the metrics tell is what the system does.

use clap::Parser as _;
use kubectl_cdmo::args::{Args, Command, Options};
use kubectl_cdmo::source::{Fetched, Source};
use kubectl_cdmo::text::Page;
use scenarios::{NAMESPACE, NodeSpec, Pod, Spec, System, Verdict, scenario};
use serde_json::json;
use simcluster::store::object;
use status_report::{AgentState, Fate, InstanceState};
use testbed::{http, manifests};

fn options(system: &System) -> Options {
    let kubeconfig = system.cluster().kubeconfig_path().display().to_string();
    let line = ["kubectl-cdmo", "status", "--kubeconfig", &kubeconfig];
    match Args::parse_from(line).command {
        Command::Status(options) => options,
        other => unreachable!("{other:?}"),
    }
}

async fn status(system: &System) -> anyhow::Result<Fetched> {
    Ok(Source::open(&options(system).cluster)
        .await?
        .fetch(&[], None)
        .await?)
}

fn text(fetched: &Fetched) -> String {
    let page = Page {
        width: 80,
        cut: false,
        now: fetched.report.time,
    };
    let text = page.write(&fetched.report, manifests::NAMESPACE);
    anstream::adapter::strip_str(&text).to_string()
}

/// What a part serves at `/metrics`.
async fn metrics(system: &System, app: &str, port: u16) -> anyhow::Result<String> {
    let pod = system.own_pod(app, None);
    let address = pod.map(|pod| object::text(&pod, "/status/podIP").to_owned());
    let address = address.unwrap_or_default();
    Ok(http::get(&address, port, "/metrics").await?.1)
}

/// Metrics of a page that the documentation lacks.
fn undocumented(page: &str, section: &str) -> Vec<String> {
    let document = include_str!("../../../docs/metrics.md");
    let mut known = serving::metrics::documented(document, section);
    known.extend(serving::metrics::documented(document, "All programs"));
    let served = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    served
        .map(|(name, _)| name)
        .filter(|name| !known.iter().any(|(known, _)| known == name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_status_shows_who_holds_what_who_waits_and_what_is_idle() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("train", "3g.20gb")).await?;
        system.run(&Pod::of("gone", "2g.10gb")).await?;
        system.remove("gone").await?;
        system.create(&Pod::of("greedy", "7g.40gb"))?;
        system.event("greedy", "NoRoom").await?;
        let idle = async || {
            let fetched = status(system).await.ok()?;
            let all = fetched.report.nodes[0].gpus[0].instances.iter();
            let mut states: Vec<_> = all.map(|instance| instance.state).collect();
            states.sort_by_key(|state| format!("{state:?}"));
            (states == [InstanceState::Held, InstanceState::Idle]).then_some(fetched)
        };
        let fetched = system.until("one held and one idle", idle).await?;
        let node = &fetched.report.nodes[0];
        assert_eq!(
            (node.name.as_str(), node.agent.state),
            ("a", AgentState::Up)
        );
        let held = node.gpus[0]
            .instances
            .iter()
            .find(|instance| instance.state == InstanceState::Held)
            .unwrap();
        assert_eq!(held.profile, "3g.20gb");
        assert_eq!(held.holders[0].name, "train");
        assert_eq!(held.device_id, system.device("train").await?.id);
        assert!(held.since.is_some_and(|since| since <= fetched.report.time));
        assert_eq!(fetched.report.waiting[0].pod.name, "greedy");
        assert_eq!(fetched.report.waiting[0].reason, "NoRoom");
        let text = text(&fetched);
        for words in ["3g.20gb", "idle", "default/train", "NoRoom: no room for"] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let page = metrics(system, manifests::CONTROLLER, manifests::CONTROLLER_HTTP).await?;
        let slices = |labels: &str| http::metric(&page, "cdmo_slices", labels);
        assert_eq!(slices("profile=\"3g.20gb\",state=\"held\""), Some(4.0));
        assert_eq!(slices("profile=\"2g.10gb\",state=\"idle\""), Some(2.0));
        let waiting = http::metric(&page, "cdmo_pending_demands", "no_room");
        assert_eq!(waiting, Some(1.0));
        assert_eq!(undocumented(&page, "Controller"), [""; 0]);
        let page = metrics(system, manifests::AGENT, manifests::AGENT_HTTP).await?;
        let made = "operation=\"create\"";
        let made = http::metric(&page, "cdmo_agent_nvml_operations_total", made);
        assert_eq!(made, Some(2.0));
        assert_eq!(undocumented(&page, "Agent"), [""; 0]);
        Ok(())
    })
}

#[test]
fn the_status_shows_what_is_being_made_and_for_whom() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").latency(3_000, 0);
    scenario(Spec::new().node(node), async |system| {
        system.create(&Pod::of("train", "3g.20gb"))?;
        let under_way = async || {
            let fetched = status(system).await.ok()?;
            let operations = &fetched.report.nodes[0].operations;
            (!operations.is_empty()).then_some(fetched)
        };
        let fetched = system.until("an operation", under_way).await?;
        let operation = &fetched.report.nodes[0].operations[0];
        assert_eq!(operation.pod.name, "train");
        assert_eq!(operation.makes[0].profile, "3g.20gb");
        let text = text(&fetched);
        assert!(text.contains("> making 3g.20gb at slice"), "{text}");
        assert!(text.contains("Planned: "), "{text}");
        system.running("train").await.map(|_| ())
    })
}

#[test]
fn whoever_watches_hears_of_changes_when_they_happen() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("first", "3g.20gb")).await?;
        let mut source = Source::open(&options(system).cluster).await?;
        let mut seen = source.fetch(&[], None).await?.report;
        system.create(&Pod::of("second", "3g.20gb"))?;
        let holders = |report: &status_report::Report| {
            let gpus = report.nodes.iter().flat_map(|node| &node.gpus);
            let instances = gpus.flat_map(|gpu| &gpu.instances);
            instances.flat_map(|instance| &instance.holders).count()
        };
        // Each wait ends with a change: nothing is asked for twice.
        while holders(&seen) < 2 {
            seen = source.fetch(&[], Some(seen.revision)).await?.report;
        }
        system.kill_agent("a").await?;
        while seen.nodes[0].agent.state == AgentState::Up {
            seen = source.fetch(&[], Some(seen.revision)).await?.report;
        }
        assert_eq!(holders(&seen), 2, "what was known is still shown");
        system.kill_controller().await?;
        let back = async || {
            let report = source.fetch(&[], None).await.ok()?.report;
            let up = report.nodes[0].agent.state == AgentState::Up;
            (up && holders(&report) == 2).then_some(())
        };
        system
            .until("the next controller tells as much", back)
            .await
    })
}

#[test]
fn what_if_tells_beforehand_what_then_happens() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("train", "3g.20gb")).await?;
        system.run(&Pod::of("gone", "2g.10gb")).await?;
        system.remove("gone").await?;
        let mut source = Source::open(&options(system).cluster).await?;
        let spec = |profile: &str| {
            let limits = json!({ format!("nvidia.com/mig-{profile}"): 1 });
            json!({ "containers": [{ "name": "main", "resources": { "limits": limits } }] })
        };
        let question = json!([
            { "name": "whole", "spec": spec("7g.40gb") },
            { "name": "half", "spec": spec("3g.20gb") },
            { "name": "small", "spec": spec("1g.5gb") },
        ]);
        // What was given back becomes idle a moment later; until then it is in the way.
        let told = async || {
            let answer = source.what_if(&question.to_string()).await.ok()?.report;
            let fates: Vec<_> = answer.pods.iter().map(|pod| pod.fate).collect();
            (fates == [Fate::Refused, Fate::Planned, Fate::Refused]).then_some(answer)
        };
        let told = system.until("only the half fits", told).await?;
        let half = &told.pods[1];
        assert_eq!(half.node.as_deref(), Some("a"));
        assert_eq!(half.gives_up[0].profile, "2g.10gb");
        let why = &told.pods[0].message;
        let blocked = format!(
            "7g.40gb blocked by {NAMESPACE}/train on GPU 0 of node a, 1 idle 2g.10gb would not help"
        );
        assert!(why.ends_with(&blocked), "{why}");
        assert_eq!(
            status(system).await?.report.nodes[0].operations,
            [],
            "nothing was begun"
        );
        system.run(&Pod::of("half", "3g.20gb")).await?;
        let report = status(system).await?.report;
        let made = report.nodes[0].gpus[0].instances.iter();
        let mut made = made.filter(|made| made.holders.iter().any(|pod| pod.name == "half"));
        let made = made.next().unwrap();
        assert_eq!(
            made.start, half.makes[0].start,
            "at the place that was told"
        );
        Ok(())
    })
}
