//! A controller that does what a test says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cdmo_proto::agent as api;
use cdmo_proto::agent::agent_client::AgentClient;
use cdmo_proto::agent::agent_message::Message as FromAgent;
use cdmo_proto::agent::controller_message::Message as ToAgent;
use cdmo_proto::agent::plan_progress::Stage;
use cdmo_proto::pieces::Pieces;
use mtls::{Reloading, TlsFiles};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::PATIENCE;

pub(crate) struct Controller {
    out: mpsc::Sender<api::ControllerMessage>,
    incoming: Streaming<api::AgentMessage>,
    pieces: Pieces,
    pub(crate) hello: api::AgentHello,
    pub(crate) snapshot: api::Snapshot,
    pub(crate) reports: Vec<api::PlanProgress>,
    pods: u64,
    plans: u32,
    intended: bool,
}

/// A channel to an agent, with the certificates of a directory.
pub(crate) async fn dial(
    tls: &Path,
    agent: SocketAddr,
) -> Result<Channel, tonic::transport::Error> {
    let files = TlsFiles {
        ca: tls.join("ca.crt"),
        cert: tls.join("tls.crt"),
        key: tls.join("tls.key"),
    };
    let tls = Reloading::load(files).unwrap();
    let connector = tls.connector(mtls::SERVER_NAME).unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{agent}")).unwrap();
    endpoint.connect_with_connector(connector).await
}

impl Controller {
    /// Connects and says Hello, without waiting for what becomes of it.
    pub(crate) async fn connect(tls: &Path, agent: SocketAddr, epoch: u64) -> Result<Self, Status> {
        let channel = dial(tls, agent)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let (out, messages) = mpsc::channel(16);
        let mut client = AgentClient::new(channel);
        let session = client.session(ReceiverStream::new(messages)).await?;
        let mut controller = Self {
            out,
            incoming: session.into_inner(),
            pieces: Pieces::new(1 << 20),
            hello: api::AgentHello::default(),
            snapshot: api::Snapshot::default(),
            reports: Vec::new(),
            pods: 0,
            plans: 0,
            intended: false,
        };
        match controller.next().await? {
            Some(FromAgent::Hello(hello)) => controller.hello = hello,
            other => panic!("the agent began with {other:?}"),
        }
        controller
            .say(ToAgent::Hello(api::ControllerHello {
                epoch,
                controller: "test".into(),
                takes_pieces: true,
            }))
            .await;
        Ok(controller)
    }

    pub(crate) async fn say(&self, message: ToAgent) {
        let message = api::ControllerMessage {
            message: Some(message),
        };
        // An agent that hung up says so on the other half.
        let _ = self.out.send(message).await;
    }

    async fn next(&mut self) -> Result<Option<FromAgent>, Status> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await;
            let message = message.unwrap_or_else(|_| Err(Status::deadline_exceeded("silence")))?;
            let Some(message) = message else {
                return Ok(None);
            };
            if let Some(whole) = self.pieces.put(message).unwrap() {
                let whole = whole.read().unwrap();
                return Ok(whole.message);
            }
        }
    }

    /// Takes one message in.
    pub(crate) async fn step(&mut self) -> Result<bool, Status> {
        match self.next().await? {
            Some(FromAgent::Snapshot(snapshot)) => self.snapshot = snapshot,
            Some(FromAgent::Progress(report)) => self.reports.push(report),
            other @ Some(FromAgent::Hello(_) | FromAgent::Piece(_)) => {
                panic!("out of turn: {other:?}")
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// How the session ends.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// Waits for a state of the node.
    pub(crate) async fn until(&mut self, what: &str, there: impl Fn(&api::Snapshot) -> bool) {
        let wait = async {
            while !there(&self.snapshot) {
                let step = self.step().await;
                assert!(
                    matches!(step, Ok(true)),
                    "{step:?} before: {what}; the last snapshot is {:#?}",
                    self.snapshot
                );
            }
        };
        let waited = tokio::time::timeout(2 * PATIENCE, wait).await;
        assert!(waited.is_ok(), "never came: {what}");
    }

    /// Says what is to become of the node.
    pub(crate) async fn intend(&mut self, intent: api::NodeIntent) {
        self.intended = true;
        self.say(ToAgent::Intent(intent)).await;
    }

    /// Sends a pod table; the first time also, as a controller by default, that MIG mode may be turned on.
    pub(crate) async fn pods(&mut self, pods: Vec<api::Pod>) {
        if !self.intended {
            self.intend(api::NodeIntent {
                turn_mig_on: true,
                ..api::NodeIntent::default()
            })
            .await;
        }
        self.pods += 1;
        let revision = self.pods;
        self.say(ToAgent::Pods(api::PodTable { revision, pods }))
            .await;
    }

    /// Connected, with no pods, and every GPU in MIG mode and offered.
    pub(crate) async fn settle(&mut self) {
        self.pods(Vec::new()).await;
        self.until("all GPUs in MIG mode, all instances settled", |snapshot| {
            let on = |gpu: &api::Gpu| gpu.mig_mode() == api::MigMode::On;
            !snapshot.gpus.is_empty()
                && snapshot.gpus.iter().all(on)
                && !snapshot.resources.is_empty()
                && instances(snapshot).all(|i| i.state() != api::instance::State::Offering)
        })
        .await;
    }

    pub(crate) fn plan(&mut self, gpu: usize) -> api::Plan {
        self.plans += 1;
        let gpu = &self.snapshot.gpus[gpu];
        api::Plan {
            id: format!("plan-{}", self.plans),
            gpus: vec![api::GpuPlan {
                gpu_uuid: gpu.uuid.clone(),
                state_version: gpu.state_version,
                ..Default::default()
            }],
        }
    }

    /// Sends a plan and waits for a stage of it, the last or WITHDRAWN.
    pub(crate) async fn carry_out(&mut self, plan: api::Plan) -> api::PlanProgress {
        let id = plan.id.clone();
        self.say(ToAgent::Plan(plan)).await;
        self.next_report(&id).await
    }

    pub(crate) async fn next_report(&mut self, plan: &str) -> api::PlanProgress {
        let before = self.reports.len();
        let wait = async {
            loop {
                assert!(self.step().await.unwrap(), "the session ended");
                let report = self.reports[before..].iter().find(|r| r.plan_id == plan);
                if let Some(report) = report {
                    return report.clone();
                }
            }
        };
        let report = tokio::time::timeout(PATIENCE, wait).await;
        report.unwrap_or_else(|_| panic!("no report of {plan}"))
    }

    pub(crate) async fn commit(&mut self, plan: &str) -> api::PlanProgress {
        let commit = api::Commit {
            plan_id: plan.into(),
            pods_revision: self.pods,
        };
        self.say(ToAgent::Commit(commit)).await;
        self.next_report(plan).await
    }

    pub(crate) async fn abort(&mut self, plan: &str) -> api::PlanProgress {
        let plan_id = plan.to_owned();
        self.say(ToAgent::Abort(api::Abort { plan_id })).await;
        self.next_report(plan).await
    }

    /// Makes instances on the first GPU.
    pub(crate) async fn make(&mut self, wanted: &[(&str, u32)]) -> Vec<api::Made> {
        let mut plan = self.plan(0);
        plan.gpus[0].create = wanted.iter().map(|(p, start)| create(p, *start)).collect();
        let report = self.carry_out(plan).await;
        assert_eq!(report.stage(), Stage::Done, "{report:?}");
        report.made
    }

    /// A plan that moves devices of the first GPU to a resource name.
    pub(crate) fn moving(&mut self, devices: &[&str], resource: &str) -> api::Plan {
        let mut plan = self.plan(0);
        let moved = devices.iter().map(|device| api::Expose {
            instance: Some(reference(&self.snapshot, device)),
            resource: resource.into(),
        });
        plan.gpus[0].expose = moved.collect();
        plan
    }

    /// Moves devices of the first GPU to a resource name.
    pub(crate) async fn expose(&mut self, devices: &[&str], resource: &str) {
        let plan = self.moving(devices, resource);
        let id = plan.id.clone();
        let report = self.carry_out(plan).await;
        assert_eq!(report.stage(), Stage::Withdrawn, "{report:?}");
        let report = self.commit(&id).await;
        assert_eq!(report.stage(), Stage::Done, "{report:?}");
    }

    /// The state of the instance with a device id.
    pub(crate) fn state(&self, device: &str) -> Option<api::instance::State> {
        let found = instances(&self.snapshot).find(|i| i.device_id == device);
        found.map(api::Instance::state)
    }

    /// Waits for a state of an instance.
    pub(crate) async fn until_state(&mut self, device: &str, state: api::instance::State) {
        let what = format!("{device} is {state:?}");
        self.until(&what, |snapshot| {
            instances(snapshot).any(|i| i.device_id == device && i.state() == state)
        })
        .await;
    }

    /// Waits until podresources has shown who holds a device.
    pub(crate) async fn until_holder(&mut self, device: &str, pod: &str) {
        self.until(&format!("{device} is held by {pod}"), |snapshot| {
            let found = instances(snapshot).find(|i| i.device_id == device);
            found.is_some_and(|i| {
                i.holders
                    .iter()
                    .any(|h| h.pod == pod && h.container == "main")
            })
        })
        .await;
    }

    /// Nothing more comes for a moment: enough for anything wrong to show.
    pub(crate) async fn quiet(&mut self) {
        let moment = Duration::from_millis(300);
        while let Ok(Ok(true)) = tokio::time::timeout(moment, self.step()).await {}
    }
}

pub(crate) fn create(profile: &str, start: u32) -> api::Create {
    api::Create {
        profile: profile.into(),
        start,
        resource: String::new(),
    }
}

pub(crate) fn instances(snapshot: &api::Snapshot) -> impl Iterator<Item = &api::Instance> {
    snapshot
        .gpus
        .iter()
        .flat_map(|gpu| gpu.instances.iter().chain(&gpu.whole))
}

pub(crate) fn reference(snapshot: &api::Snapshot, device: &str) -> api::InstanceRef {
    let instance = instances(snapshot).find(|i| i.device_id == device).unwrap();
    api::InstanceRef {
        gpu_instance_id: instance.gpu_instance_id,
        profile: instance.profile.clone(),
        start: instance.start,
    }
}
