//! Certificates that are missing, expired, or somebody else's.

use scenarios::{NodeSpec, Outcome, Spec, System, Tls, Verdict, scenario};

use crate::others_are_served;

fn agent_with(tls: Tls) -> Spec {
    Spec::new()
        .node(NodeSpec::new("good", "A100-40GB:1"))
        .node(NodeSpec::new("bad", "A100-40GB:1").tls(tls))
}

async fn agent_ends(system: &System, word: &str) -> Outcome {
    assert_eq!(system.agent_exit("bad").await?, 66);
    let log = system.agent_log("bad");
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("mig-node-agent: ") && last.contains(word),
        "{log}"
    );
    system.problem("bad", "agent").await?;
    others_are_served(system).await
}

#[test]
fn an_agent_without_certificate_ends_with_one_sentence() -> Verdict {
    scenario(agent_with(Tls::Missing), async |system| {
        agent_ends(system, "ca.crt").await
    })
}

#[test]
fn an_agent_with_an_expired_certificate_ends_with_one_sentence() -> Verdict {
    scenario(agent_with(Tls::Expired), async |system| {
        agent_ends(system, "expired").await
    })
}

#[test]
fn an_agent_with_a_certificate_of_another_authority_is_a_problem_of_its_node() -> Verdict {
    scenario(agent_with(Tls::Foreign), async |system| {
        let why = system
            .problem("bad", "no session with this node's agent")
            .await?;
        assert!(why.contains("certificate"), "{why}");
        assert!(system.instances("bad")?.is_empty());
        others_are_served(system).await
    })
}

async fn controller_ends(system: &System, word: &str) -> Outcome {
    assert_eq!(system.controller_exit().await?, 66);
    let log = system.controller_log();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("cdmo-controller: ") && last.contains(word),
        "{log}"
    );
    Ok(())
}

#[test]
fn a_controller_without_certificate_ends_with_one_sentence() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").controller_tls(Tls::Missing);
    scenario(spec, async |system| controller_ends(system, "ca.crt").await)
}

#[test]
fn a_controller_with_an_expired_certificate_ends_with_one_sentence() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").controller_tls(Tls::Expired);
    scenario(spec, async |system| {
        controller_ends(system, "expired").await
    })
}

#[test]
fn a_controller_of_another_authority_is_refused_and_says_so_on_the_node() -> Verdict {
    let spec = Spec::gpus("A100-40GB:1").controller_tls(Tls::Foreign);
    scenario(spec, async |system| {
        let why = system
            .problem("a", "no session with this node's agent")
            .await?;
        assert!(why.contains("certificate"), "{why}");
        let state = system.driver("a")?.state()?;
        assert!(!state.gpus[0].mig_mode, "nobody gave orders");
        Ok(())
    })
}
