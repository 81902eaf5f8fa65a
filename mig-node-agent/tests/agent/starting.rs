//! Starting: on every kind of node, and where it cannot be.

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;

use crate::host::{Host, ONE_A100, get};

async fn refused(host: &Host, flags: &[&str]) -> (Option<i32>, String) {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let (code, text) = host.process(&flags).ended().await;
    let sentence = text.lines().last().unwrap_or_default().to_owned();
    (code, sentence)
}

#[tokio::test]
async fn mig_mode_is_turned_on_where_it_is_off_and_nobody_uses_the_gpu() {
    let host = Host::new("[[gpu]]\nboard = \"H100-80GB-HBM3\"\ncount = 2\n");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    assert_eq!(controller.snapshot.gpus.len(), 2);
    assert_eq!(controller.snapshot.problems, Vec::<String>::new());
    controller.make(&[("3g.40gb", 4)]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_gpu_with_a_process_stays_whole_and_the_reason_is_said() {
    let host = Host::new("[[gpu]]\nboard = \"A100-SXM4-40GB\"\n[[process]]\npid = 4711\n");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.pods(Vec::new()).await;
    controller
        .until("it is offered whole", |snapshot| {
            let whole = snapshot.gpus.first().and_then(|gpu| gpu.whole.as_ref());
            whole.is_some_and(|whole| whole.state() == State::Idle)
        })
        .await;
    assert_eq!(controller.snapshot.gpus[0].mig_mode(), api::MigMode::Off);
    assert!(
        controller.snapshot.problems[0].contains("4711"),
        "{:?}",
        controller.snapshot.problems
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_gpu_that_cannot_do_mig_is_offered_whole() {
    let host = Host::new("[[gpu]]\nboard = \"T4\"\n");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller
        .until("it is offered whole", |snapshot| {
            let whole = snapshot.gpus.first().and_then(|gpu| gpu.whole.as_ref());
            whole.is_some_and(|whole| whole.state() == State::Idle)
        })
        .await;
    let problems = &controller.snapshot.problems;
    assert!(problems[0].contains("cannot do MIG"), "{problems:?}");
    host.kubelet
        .start_pod("one", "nvidia.com/gpu")
        .await
        .unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_node_without_gpus_stays_up_and_says_so() {
    let host = Host::new("[[gpu]]\ncount = 0\n");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller
        .until("it is said", |s| {
            s.problems.iter().any(|p| p.contains("no GPU"))
        })
        .await;
    assert!(get(agent.http, "/readyz").await.unwrap().contains("200 OK"));
    agent.stop().await;
}

#[tokio::test]
async fn health_and_metrics_tell_what_the_agent_does() {
    let host = Host::new(ONE_A100);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    crate::eventually("ready", async || {
        get(agent.http, "/readyz")
            .await
            .filter(|answer| answer.contains("200 OK"))
    })
    .await;
    let metrics = get(agent.http, "/metrics").await.unwrap();
    for line in [
        "cdmo_agent_nvml_operations_total{code=\"success\",operation=\"create\"} 1",
        "cdmo_agent_instances{profile=\"3g.20gb\",state=\"idle\"} 1",
        "cdmo_agent_controller_connected 1",
        "cdmo_agent_plans_total{category=\"\",stage=\"done\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn no_driver_library_is_one_sentence_and_exit_code_65() {
    let host = Host::new(ONE_A100);
    let (code, sentence) = refused(&host, &["--nvml-library=/nonexistent/libnvidia-ml.so.1"]).await;
    assert_eq!(code, Some(65), "{sentence}");
    assert!(
        sentence.contains("/nonexistent/libnvidia-ml.so.1"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_missing_certificate_is_one_sentence_and_exit_code_66() {
    let host = Host::new(ONE_A100);
    let (code, sentence) = refused(&host, &["--tls-cert=/nonexistent/tls.crt"]).await;
    assert_eq!(code, Some(66), "{sentence}");
    assert!(sentence.contains("/nonexistent/tls.crt"), "{sentence}");
}

#[tokio::test]
async fn an_expired_certificate_is_one_sentence_and_exit_code_66() {
    let host = Host::new(ONE_A100);
    host.authority
        .issue_until(&host.path("tls"), mtls::SERVER_NAME, 2020);
    let (code, sentence) = refused(&host, &[]).await;
    assert_eq!(code, Some(66), "{sentence}");
    assert!(sentence.contains("expired"), "{sentence}");
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence_and_exit_code_67() {
    let host = Host::new(ONE_A100);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let args = [format!("--listen={address}")];
    let error = host.try_agent(&args).await.map(drop).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!(error.code(), std::process::ExitCode::from(67));
}

#[tokio::test]
async fn a_journal_of_a_newer_agent_is_one_sentence_and_exit_code_68() {
    let host = Host::new(ONE_A100);
    std::fs::create_dir_all(host.path("state")).unwrap();
    std::fs::write(host.path("state/journal"), "cdmo-journal 99\n").unwrap();
    let (code, sentence) = refused(&host, &[]).await;
    assert_eq!(code, Some(68), "{sentence}");
    assert!(sentence.contains("format 99"), "{sentence}");
}

#[tokio::test]
async fn a_flag_that_does_not_exist_is_exit_code_64() {
    let host = Host::new(ONE_A100);
    let (code, _) = refused(&host, &["--no-such-flag"]).await;
    assert_eq!(code, Some(64));
}
