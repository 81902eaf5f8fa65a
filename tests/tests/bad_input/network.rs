//! Ports that are taken, and peers that talk nonsense.

use anyhow::Context as _;
use scenarios::{NodeSpec, Outcome, Pod, Spec, System, Verdict, scenario};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::others_are_served;

const AGENT_PORT: u16 = 7443;

#[test]
fn a_port_in_use_is_one_sentence_and_the_agent_starts_when_it_is_free() -> Verdict {
    let spec = Spec::new()
        .node(NodeSpec::new("good", "A100-40GB:1"))
        .node(NodeSpec::new("bad", "A100-40GB:1").not_handed_over());
    scenario(spec, async |system| {
        let taken = TcpListener::bind((system.node("bad")?.ip(), AGENT_PORT)).await?;
        system.hand_over("bad")?;
        assert_eq!(system.agent_exit("bad").await?, 67);
        let log = system.agent_log("bad");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("mig-node-agent: "), "{log}");
        assert!(last.contains(&taken.local_addr()?.to_string()), "{last}");
        system.problem("bad", "agent").await?;
        others_are_served(system).await?;
        drop(taken);
        let pod = Pod::of("p", "7g.40gb").on_nodes_with("kubernetes.io/hostname", "bad");
        system.run(&pod).await?;
        system.consistent().await
    })
}

/// Sends bytes and waits until the agent hangs up.
async fn say(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    nonsense: &[u8],
) {
    // The agent may hang up before it has read everything.
    let _ = stream.write_all(nonsense).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn nonsense(system: &System) -> Outcome {
    let address = (system.node("a")?.ip(), AGENT_PORT);
    let texts = [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        &[0; 1],
        &[0x16, 3, 1, 0xff, 0xff],
    ];
    for text in texts {
        say(&mut TcpStream::connect(address).await?, text).await;
    }
    // The same from somebody with the controller's certificate.
    let tls = system.folder().join("tls");
    let files = mtls::TlsFiles {
        ca: tls.join("ca.crt"),
        cert: tls.join("tls.crt"),
        key: tls.join("tls.key"),
    };
    let connector = mtls::Reloading::load(files)?.connector(mtls::SERVER_NAME)?;
    let uri: http::Uri = format!("http://{}:{AGENT_PORT}", address.0).parse()?;
    for text in texts {
        let stream = connector
            .clone()
            .oneshot(uri.clone())
            .await
            .context("no TLS")?;
        say(&mut stream.into_inner(), text).await;
    }
    Ok(())
}

#[test]
fn garbled_messages_cost_only_whoever_sent_them() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("before", "3g.20gb")).await?;
        nonsense(system).await?;
        system.run(&Pod::of("after", "2g.10gb")).await?;
        assert_eq!(system.agent_starts("a")?, 1, "the agent never ended");
        system.consistent().await
    })
}
