//! Nodes come from NVIDIA's GPU operator and go back to it, and the pods on them notice nothing.

use scenarios::{NodeSpec, Pod, Spec, System, Verdict, scenario};
use simcluster::store::{Kind, object};
use testbed::manifests::MANAGED_LABEL;
use testbed::nvidia::{MANAGER_LABEL, PLUGIN_LABEL};

/// A node that the operator looks after, and nobody else yet.
fn theirs(gpus: &str) -> NodeSpec {
    NodeSpec::new("a", gpus)
        .not_handed_over()
        .label("nvidia.com/gpu.present", "true")
}

/// In MIG mode, with two instances that somebody made by hand.
fn divided() -> Spec {
    let layout = "mig = true\n\
        [[instance]]\nprofile = \"3g.20gb\"\nstart = 0\n\
        [[instance]]\nprofile = \"3g.20gb\"\nstart = 4\n";
    Spec::new().node(theirs("A100-40GB:1").driver(layout))
}

fn mig_mode(system: &System) -> anyhow::Result<bool> {
    Ok(system.driver("a")?.state()?.gpus[0].mig_mode)
}

/// Everything is as before: the operator's labels, and nothing of ours.
async fn given_back(system: &System) -> anyhow::Result<()> {
    system.labelled("a", MANAGED_LABEL, None).await?;
    system.labelled("a", PLUGIN_LABEL, Some("true")).await?;
    system.labelled("a", MANAGER_LABEL, Some("true")).await?;
    system.agent_gone("a").await?;
    let clean = async || {
        let node = system.store().get(Kind::Node, "", "a")?;
        let annotations = node["metadata"]["annotations"].as_object();
        let mut names = annotations.into_iter().flatten().map(|(name, _)| name);
        (!names.any(|name| name.contains("cdmo"))).then_some(())
    };
    system.until("nothing of ours is on the node", clean).await
}

#[test]
fn a_node_is_taken_over_from_nvidias_plugin_while_its_pod_runs_on() -> Verdict {
    scenario(divided(), async |system| {
        let _operator = system.gpu_operator();
        system.run(&Pod::of("theirs", "3g.20gb")).await?;
        let held = system.device("theirs").await?;
        let standing = system.instances("a")?;

        system.hand_over("a")?;
        system.labelled("a", PLUGIN_LABEL, Some("false")).await?;
        system.labelled("a", MANAGER_LABEL, Some("false")).await?;
        // Between the two plugins the kubelet fails whoever is sent there.
        system.offers("a", 1).await?;
        system.run(&Pod::of("ours", "3g.20gb")).await?;
        assert_ne!(system.device("ours").await?.id, held.id);
        assert_eq!(system.instances("a")?, standing, "what exists is used");

        // What the first pod has is known to be held, so that nothing large can be made.
        system.remove("ours").await?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        system.event("large", "NoRoom").await?;
        assert_eq!(system.device("theirs").await?, held);
        system.remove("theirs").await?;
        system.running("large").await?;
        system.consistent().await
    })
}

#[test]
fn nothing_is_offered_while_nvidias_plugin_listens_and_the_node_says_so() -> Verdict {
    // Without the operator's labels: somebody runs the plugin by other means.
    scenario(divided(), async |system| {
        let operator = system.gpu_operator();
        system.run(&Pod::of("theirs", "3g.20gb")).await?;
        let insist = async || {
            // Whoever runs it puts it back whenever it is turned off.
            system.label("a", PLUGIN_LABEL, Some("true")).ok()?;
            let problems = system.annotation("a", "cdmo.clear.ml/problems")?;
            problems
                .contains("nvidia-mig-3g.20gb.sock")
                .then_some(problems)
        };
        system.hand_over("a")?;
        let problems = system.until("the node says so", insist).await?;
        assert!(problems.contains(PLUGIN_LABEL), "what to do: {problems}");
        drop(operator);
        // It is killed; that its socket leads nowhere is found out after a while.
        system.offers("a", 1).await?;
        system.run(&Pod::of("ours", "3g.20gb")).await?;
        system.consistent().await
    })
}

#[test]
fn a_node_goes_back_when_its_pods_have_ended_and_the_operator_serves_it_again() -> Verdict {
    scenario(Spec::new().node(theirs("H100-80GB:1")), async |system| {
        let _operator = system.gpu_operator();
        system.run(&Pod::of("before", "gpu")).await?;
        system.hand_over("a")?;
        system.labelled("a", PLUGIN_LABEL, Some("false")).await?;
        system.remove("before").await?;
        for name in ["stays", "ends"] {
            system.run(&Pod::of(name, "3g.40gb")).await?;
        }
        assert!(mig_mode(system)?);
        system.remove("ends").await?;

        system.unlabel("a")?;
        system.problem("a", "given back once").await?;
        let fewer = async || (system.instances("a").ok()?.len() == 1).then_some(());
        system.until("what is idle is given up", fewer).await?;
        system.create(&Pod::of("late", "3g.40gb"))?;
        system.event("late", "NoRoom").await?;
        assert_eq!(system.profiles("stays").await?, ["3g.40gb"]);
        assert_eq!(
            system.node_label("a", PLUGIN_LABEL).as_deref(),
            Some("false")
        );

        system.remove("late").await?;
        system.remove("stays").await?;
        given_back(system).await?;
        assert!(!mig_mode(system)?, "it was turned on for us");
        system.run(&Pod::of("after", "gpu")).await?;
        Ok(())
    })
}

#[test]
fn a_mode_that_was_on_before_stays_on() -> Verdict {
    scenario(divided(), async |system| {
        let _operator = system.gpu_operator();
        system.hand_over("a")?;
        system.run(&Pod::of("p", "7g.40gb")).await?;
        system.remove("p").await?;
        system.unlabel("a")?;
        given_back(system).await?;
        assert!(mig_mode(system)?);
        assert!(system.instances("a")?.is_empty());
        Ok(())
    })
}

#[test]
fn a_label_that_comes_back_in_the_middle_turns_everything_round() -> Verdict {
    scenario(Spec::new().node(theirs("A100-40GB:1")), async |system| {
        let _operator = system.gpu_operator();
        system.hand_over("a")?;
        for name in ["stays", "ends"] {
            system.run(&Pod::of(name, "3g.20gb")).await?;
        }
        system.remove("ends").await?;
        system.unlabel("a")?;
        system.problem("a", "given back once").await?;
        system.hand_over("a")?;
        system.run(&Pod::of("again", "3g.20gb")).await?;
        system.remove("again").await?;
        system.remove("stays").await?;
        system.consistent().await?;
        system.unlabel("a")?;
        given_back(system).await
    })
}

#[test]
fn a_node_goes_back_although_agent_and_controller_die_on_the_way() -> Verdict {
    let node = theirs("A100-40GB:1").latency(100, 400);
    scenario(Spec::new().node(node), async |system| {
        let _operator = system.gpu_operator();
        system.hand_over("a")?;
        for name in ["a0", "a1", "a2", "stays"] {
            system.run(&Pod::of(name, "1g.5gb")).await?;
        }
        for name in ["a0", "a1", "a2"] {
            system.remove(name).await?;
        }
        let kept = system.device("stays").await?;
        system.unlabel("a")?;
        let fewer = async || (system.instances("a").ok()?.len() < 4).then_some(());
        system.until("the first instance is gone", fewer).await?;
        system.kill_agent("a").await?;
        system.kill_controller().await?;
        let one = async || (system.instances("a").ok()?.len() == 1).then_some(());
        system.until("the idle ones are gone", one).await?;
        assert_eq!(system.device("stays").await?, kept);
        system.remove("stays").await?;
        let empty = async || system.instances("a").ok()?.is_empty().then_some(());
        system.until("the last one is gone", empty).await?;
        system.kill_controller().await?;
        given_back(system).await?;
        assert!(!mig_mode(system)?);
        Ok(())
    })
}

#[test]
fn a_gpu_that_needs_a_reset_says_so_on_the_node() -> Verdict {
    let node = theirs("A100-40GB:1").driver("reset_works = false\n");
    scenario(Spec::new().node(node), async |system| {
        system.hand_over("a")?;
        system.problem("a", "needs a reset or a reboot").await?;
        system.run(&Pod::of("whole", "gpu")).await?;
        Ok(())
    })
}

#[test]
fn where_mig_mode_is_not_to_be_touched_gpus_are_offered_whole() -> Verdict {
    let spec = Spec::gpus("H100-80GB:1").controller_arg("--no-mig-mode");
    scenario(spec, async |system| {
        system.run(&Pod::of("whole", "gpu")).await?;
        assert!(!mig_mode(system)?);
        system.consistent().await
    })
}

#[test]
fn pods_keep_their_slices_while_the_driver_is_replaced_around_them() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("stays", "3g.20gb")).await?;
        let kept = system.device("stays").await?;
        system.label(
            "a",
            "nvidia.com/gpu-driver-upgrade-state",
            Some("cordon-required"),
        )?;
        system.create(&Pod::of("waits", "2g.10gb"))?;
        system.event("waits", "NoRoom").await?;
        system.begin_driver_upgrade("a").await?;
        system.end_driver_upgrade("a")?;
        let waits = system.running("waits").await?;
        assert_eq!(object::text(&waits, "/spec/nodeName"), "a");
        assert_eq!(system.device("stays").await?, kept);
        system.consistent().await
    })
}
