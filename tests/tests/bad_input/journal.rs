//! A journal that was cut off or scribbled over.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

#[test]
fn a_journal_that_is_none_is_a_problem_of_the_node_and_the_node_serves() -> Verdict {
    let node = NodeSpec::new("a", "A100-40GB:1").journal(&[0xff; 3000]);
    scenario(Spec::new().node(node), async |system| {
        system.problem("a", "journal").await?;
        system.run(&Pod::of("p", "3g.20gb")).await?;
        system.consistent().await
    })
}

#[test]
fn a_journal_cut_in_the_middle_costs_no_pod_its_slice() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        for (name, profile) in [("stays", "3g.20gb"), ("too", "2g.10gb")] {
            system.run(&Pod::of(name, profile)).await?;
        }
        let kept = [system.device("stays").await?, system.device("too").await?];
        system.begin_driver_upgrade("a").await?;
        let journal = system.node("a")?.host_root().join("var/lib/cdmo/journal");
        let bytes = std::fs::read(&journal)?;
        std::fs::write(&journal, &bytes[..bytes.len() / 2])?;
        system.end_driver_upgrade("a")?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        system.event("large", "NoRoom").await?;
        assert_eq!(
            [system.device("stays").await?, system.device("too").await?],
            kept
        );
        system.remove("stays").await?;
        system.remove("too").await?;
        system.running("large").await?;
        system.consistent().await
    })
}
