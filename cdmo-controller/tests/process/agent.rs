//! An agent that carries every plan out at once, behind real mutual TLS.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use cdmo_proto::agent::{
    self, AgentHello, AgentMessage, ControllerMessage, Instance, Made, MigMode, PlanProgress,
    ResourceState, Snapshot,
    agent_message::Message as FromAgent,
    agent_server::{Agent, AgentServer},
    controller_message::Message as ToAgent,
    instance::State,
    plan_progress::Stage,
};
use futures::stream::BoxStream;
use mig::GpuModel;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The GPU that every played agent has.
const PRODUCT: &str = "NVIDIA A100-SXM4-40GB";

struct Played {
    state: Arc<Mutex<Snapshot>>,
    /// The highest epoch heard; whoever brought a lower one is hung up on.
    highest: watch::Sender<u64>,
}

/// Starts an agent; returns where it listens.
pub(crate) async fn start(files: mtls::TlsFiles, shutdown: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = mtls::Reloading::load(files).unwrap();
    let incoming = tls.accept(listener, shutdown);
    let played = Played {
        state: Arc::new(Mutex::new(empty())),
        highest: watch::Sender::new(0),
    };
    let service = AgentServer::new(played);
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(service, incoming));
    address
}

fn empty() -> Snapshot {
    let model = GpuModel::known(PRODUCT).unwrap();
    let profile = |p: &mig::Profile| agent::Profile {
        name: p.name.to_string(),
        id: p.id,
        starts: p.placements.iter().map(|p| p.start.into()).collect(),
        size: p.size().into(),
        max_instances: p.max_instances.into(),
        multiprocessors: p.multiprocessors,
        memory_mib: p.memory_mib,
    };
    Snapshot {
        models: vec![agent::Model {
            name: model.name.clone(),
            slices: model.slices.into(),
            profiles: model.profiles.iter().map(profile).collect(),
        }],
        gpus: vec![agent::Gpu {
            uuid: "GPU-0".into(),
            mig_mode: MigMode::On.into(),
            state_version: 1,
            name: PRODUCT.into(),
            ..agent::Gpu::default()
        }],
        ..Snapshot::default()
    }
}

#[tonic::async_trait]
impl Agent for Played {
    type SessionStream = BoxStream<'static, Result<AgentMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (say, said) = mpsc::channel(16);
        let state = self.state.clone();
        let mut heard = request.into_inner();
        let highest = self.highest.clone();
        tokio::spawn(async move {
            let send = |message| {
                say.send(Ok(AgentMessage {
                    message: Some(message),
                }))
            };
            let mut newer = highest.subscribe();
            let highest_epoch = *highest.borrow();
            let hello = AgentHello {
                highest_epoch,
                ..AgentHello::default()
            };
            let _ = send(FromAgent::Hello(hello)).await;
            let mut epoch = u64::MAX;
            loop {
                let replaced = async {
                    let _ = newer.wait_for(|highest| *highest > epoch).await.map(|_| ());
                };
                let message = tokio::select! {
                    message = heard.message() => message,
                    () = replaced => {
                        let _ = say.send(Err(Status::aborted("another session took over"))).await;
                        return;
                    }
                };
                let Ok(Some(message)) = message else { return };
                match message.message {
                    Some(ToAgent::Hello(hello)) => {
                        epoch = hello.epoch;
                        highest.send_if_modified(|known| {
                            let higher = epoch > *known;
                            *known = epoch.max(*known);
                            higher
                        });
                        let snapshot = state.lock().unwrap().clone();
                        let _ = send(FromAgent::Snapshot(snapshot)).await;
                    }
                    Some(ToAgent::Plan(plan)) => {
                        let (snapshot, done) = make(&mut state.lock().unwrap(), &plan);
                        let _ = send(FromAgent::Snapshot(snapshot)).await;
                        let _ = send(FromAgent::Progress(done)).await;
                    }
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

fn make(state: &mut Snapshot, plan: &agent::Plan) -> (Snapshot, PlanProgress) {
    let model = GpuModel::known(PRODUCT).unwrap();
    let mut made = Vec::new();
    let gpu = &mut state.gpus[0];
    for create in plan.gpus.iter().flat_map(|gpu| &gpu.create) {
        let size = model
            .find(&create.profile.parse().unwrap())
            .unwrap()
            .1
            .size();
        let device_id = format!("MIG-{}", create.start);
        gpu.instances.push(Instance {
            gpu_instance_id: create.start + 1,
            profile: create.profile.clone(),
            start: create.start,
            size: size.into(),
            device_id: device_id.clone(),
            resource: create.resource.clone(),
            state: State::Idle.into(),
            ..Instance::default()
        });
        made.push(Made {
            gpu_uuid: gpu.uuid.clone(),
            profile: create.profile.clone(),
            start: create.start,
            device_id,
            resource: create.resource.clone(),
        });
        match state
            .resources
            .iter_mut()
            .find(|r| r.resource == create.resource)
        {
            Some(counts) => {
                counts.capacity += 1;
                counts.allocatable += 1;
            }
            None => state.resources.push(ResourceState {
                resource: create.resource.clone(),
                capacity: 1,
                allocatable: 1,
            }),
        }
    }
    gpu.state_version += 1;
    let done = PlanProgress {
        plan_id: plan.id.clone(),
        stage: Stage::Done.into(),
        made,
        ..PlanProgress::default()
    };
    (state.clone(), done)
}
