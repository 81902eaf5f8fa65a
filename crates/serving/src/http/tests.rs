//! The server over a real socket, asked with hand-written HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::*;

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn start(router: Router) -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap(), "tests", "--none")
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, shutdown.clone()));
    Server {
        address,
        shutdown,
        task,
    }
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readyz_names_the_condition_that_is_missing() {
    let readiness = Readiness::new();
    let nvml = readiness.condition("nvml");
    let server = start(router(registry(), readiness)).await;

    nvml.unmet("libnvidia-ml.so.1 was not found");
    let answer = fetch(server.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("nvml: libnvidia-ml.so.1 was not found"),
        "{answer}"
    );
    assert!(
        fetch(server.address, "/livez")
            .await
            .starts_with("HTTP/1.1 200")
    );

    nvml.met();
    assert!(
        fetch(server.address, "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn metrics_carry_the_resident_memory() {
    let server = start(router(registry(), Readiness::new())).await;
    let answer = fetch(server.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("process_resident_memory_bytes"), "{answer}");
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence_with_address_and_flag() {
    let server = start(Router::new()).await;
    let error = bind(server.address, "metrics", "--http-listen")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to listen on {} for metrics: the port is already in use; stop the other \
             process or choose another port with --http-listen",
            server.address
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_does_not_hold_up_the_shutdown() {
    let server = start(router(registry(), Readiness::new())).await;
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    stuck.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
}
