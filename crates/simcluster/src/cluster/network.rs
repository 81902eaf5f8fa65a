//! A loopback network for each cluster: whoever binds the API server's address has it.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;

/// Port of the API server.
const PORT: u16 = 6443;
/// Networks tried before giving up.
const TRIES: u32 = 512;
/// Networks `127.1.0.0/24` to `127.254.255.0/24`.
const NETWORKS: u32 = 254 * 256;

/// Takes a free network: its listener at `.1:6443`, and the first three bytes of its addresses.
pub(super) async fn claim() -> std::io::Result<(TcpListener, [u8; 3])> {
    // Clusters that start together do not all begin at the same network.
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    let first = u32::from_be_bytes([a, b, c, d]);
    let mut refused = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for offset in 0..TRIES {
        let number = first.wrapping_add(offset) % NETWORKS;
        let [_, _, high, low] = number.to_be_bytes();
        let network = [127, high + 1, low];
        let address = Ipv4Addr::new(127, high + 1, low, 1);
        match TcpListener::bind((address, PORT)).await {
            Ok(listener) => return Ok((listener, network)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// A kubeconfig without credentials: the server asks for none.
pub(super) fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: simcluster
  cluster:
    server: {url}
contexts:
- name: simcluster
  context:
    cluster: simcluster
    user: simcluster
users:
- name: simcluster
  user: {{}}
current-context: simcluster
"
    )
}
