//! The kubelet's podresources List, asked directly: for GPUs that no endpoint of ours serves.

use std::path::PathBuf;
use std::time::Duration;

use cdmo_proto::podresources::ListPodResourcesRequest;
use cdmo_proto::podresources::pod_resources_lister_client::PodResourcesListerClient;
use device_plugin::Listing;
use tonic::transport::Endpoint;

/// Longest that the kubelet may take. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers grow with the pods of a node; the kubelet's own clients allow 16 MiB.
const LARGEST: usize = 16 << 20;

/// A client that connects anew for every question; there are few.
#[derive(Clone, Debug)]
pub struct PodResources {
    socket: PathBuf,
}

impl PodResources {
    /// For the socket of that path.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Who has which device.
    ///
    /// # Errors
    /// Why the kubelet cannot be asked, as half a sentence.
    pub async fn list(&self) -> Result<Listing, String> {
        let answer = tokio::time::timeout(PATIENCE, self.ask()).await;
        let why = match answer {
            Ok(Ok(listing)) => return Ok(listing),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        let socket = self.socket.display();
        Err(format!("the kubelet's {socket} cannot be asked: {why}"))
    }

    async fn ask(&self) -> Result<Listing, String> {
        let uri = format!("unix://{}", self.socket.display());
        let endpoint = Endpoint::from_shared(uri).map_err(|e| e.to_string())?;
        let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
        let mut client = PodResourcesListerClient::new(channel).max_decoding_message_size(LARGEST);
        let answer = client.list(ListPodResourcesRequest {}).await;
        Ok(answer
            .map_err(|s| s.message().to_owned())?
            .into_inner()
            .into())
    }
}
