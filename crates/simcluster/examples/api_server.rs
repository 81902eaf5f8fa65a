//! The API server alone, for trying kubectl against it:
//! `cargo run -p simcluster --example api_server -- 127.0.0.1:6443`.

use simcluster::api::{ApiConfig, serve};
use simcluster::store::Store;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("kubectl --server http://{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    serve(listener, Store::default(), ApiConfig::default(), shutdown).await?;
    Ok(())
}
