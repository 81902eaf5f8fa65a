//! A server and a client that meet over loopback, and the log that both write.

use std::{
    io,
    sync::{Arc, Mutex},
};

use mtls::{Refusal, Reloading, SERVER_NAME};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::subscriber::DefaultGuard;

/// A server that says "hi" first, as HTTP/2 servers speak first, and then echoes one byte.
pub(crate) async fn serve(tls: &Reloading) -> (http::Uri, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let shutdown = CancellationToken::new();
    let mut accepted = tls.accept(listener, shutdown.clone());
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = accepted.next().await {
            tokio::spawn(async move {
                stream.write_all(b"hi").await?;
                let byte = stream.read_u8().await?;
                stream.write_u8(byte).await
            });
        }
    });
    (uri, shutdown)
}

/// Connects, and exchanges a few bytes if that works.
pub(crate) async fn call(tls: &Reloading, uri: &http::Uri) -> Result<(), Refusal> {
    call_as(tls, uri, SERVER_NAME).await
}

pub(crate) async fn call_as(tls: &Reloading, uri: &http::Uri, name: &str) -> Result<(), Refusal> {
    let mut connector = tls.connector(name).unwrap();
    let mut stream = connector.call(uri.clone()).await?.into_inner();
    let mut hi = [0; 2];
    stream.read_exact(&mut hi).await.unwrap();
    assert_eq!(&hi, b"hi");
    stream.write_u8(7).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 7);
    Ok(())
}

/// What is logged on this thread while it lives; the tests' runtimes have one thread.
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn capture() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(lines.clone());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }

    /// Waits until a line contains the words.
    pub(crate) async fn says(&self, words: &str) {
        let found = async {
            while !self.text().contains(words) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let limit = std::time::Duration::from_mins(1);
        let in_time = tokio::time::timeout(limit, found).await.is_ok();
        assert!(in_time, "the log never said {words:?}:\n{}", self.text());
    }
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
