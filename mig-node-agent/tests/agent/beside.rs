//! Beside NVIDIA's device plugin, after it, and before it.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use cdmo_proto::agent as api;
use cdmo_proto::agent::instance::State;
use cdmo_proto::agent::plan_progress::Stage;

use crate::controller::reference;
use crate::host::{Host, ONE_A100};

const GPU: &str = "nvidia.com/gpu";
const THREE: &str = "nvidia.com/mig-3g.20gb";
const DIVIDED: &str = "[[gpu]]\nboard = \"A100-SXM4-40GB\"\nmig = true\n\
    [[instance]]\nprofile = \"3g.20gb\"\nstart = 0\n[[instance]]\nprofile = \"3g.20gb\"\nstart = 4\n";

/// Somebody listens on a plugin's socket.
struct Plugin {
    listener: Option<UnixListener>,
    socket: PathBuf,
}

impl Plugin {
    fn listen(host: &Host, name: &str) -> Self {
        let socket = host.kubelet.plugin_dir().join(name);
        let listener = Some(UnixListener::bind(&socket).unwrap());
        Self { listener, socket }
    }

    /// It ends as it should, and removes its socket.
    fn end(mut self) {
        self.listener = None;
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// It is killed; the socket stays.
    fn kill(mut self) {
        self.listener = None;
    }
}

fn says_so(snapshot: &api::Snapshot) -> bool {
    let mut problems = snapshot.problems.iter();
    problems.any(|problem| problem.contains("NVIDIA's device plugin still runs here"))
}

#[tokio::test]
async fn nothing_is_registered_until_nvidias_plugin_has_ended() {
    let host = Host::new("[[gpu]]\nboard = \"A100-SXM4-40GB\"\n");
    let plugin = Plugin::listen(&host, "nvidia-gpu.sock");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.pods(Vec::new()).await;
    controller.until("it is said", says_so).await;
    controller.quiet().await;
    assert_eq!(host.kubelet.healthy(THREE), None);
    assert_eq!(host.kubelet.healthy(GPU), None);
    assert_eq!(controller.snapshot.gpus[0].mig_mode(), api::MigMode::Off);
    plugin.end();
    controller.settle().await;
    assert!(!says_so(&controller.snapshot));
    controller.make(&[("3g.20gb", 0)]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_socket_that_a_killed_plugin_left_behind_holds_nothing_up() {
    let host = Host::new(ONE_A100);
    Plugin::listen(&host, "nvidia-mig-3g.20gb.sock").kill();
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    controller.make(&[("3g.20gb", 0)]).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_pods_have_from_nvidias_plugin_is_held_and_the_rest_is_given_out() {
    let host = Host::new(DIVIDED);
    let state = host.hardware().state().unwrap();
    let ids: Vec<_> = state.gpus[0]
        .instances
        .iter()
        .map(|instance| instance.compute[0].uuid.clone())
        .collect();
    let plugin = Plugin::listen(&host, "nvidia-mig-3g.20gb.sock");
    host.kubelet.has_from_others("theirs", THREE, &ids[0]);
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.until("it is said", says_so).await;
    plugin.end();
    controller.settle().await;
    controller.until_state(&ids[0], State::Held).await;
    let given = host.kubelet.start_pod("ours", THREE).await.unwrap();
    assert_eq!(given, ids[1]);
    let mut plan = controller.plan(0);
    plan.gpus[0]
        .give_up
        .push(reference(&controller.snapshot, &ids[0]));
    let report = controller.carry_out(plan).await;
    assert_eq!(
        (report.stage(), &*report.category),
        (Stage::Refused, "held")
    );
    assert_eq!(host.layout().len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_node_given_back_ends_its_registrations_and_its_mig_mode() {
    let host = Host::new("[[gpu]]\nboard = \"H100-80GB-HBM3\"\n");
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 1).await;
    controller.settle().await;
    let made = controller.make(&[("3g.40gb", 0)]).await;
    controller
        .intend(api::NodeIntent {
            give_back: true,
            ..api::NodeIntent::default()
        })
        .await;
    controller.quiet().await;
    assert!(!controller.snapshot.given_back);
    controller
        .until_state(&made[0].device_id, State::Idle)
        .await;
    let mut plan = controller.plan(0);
    let idle = reference(&controller.snapshot, &made[0].device_id);
    plan.gpus[0].give_up.push(idle);
    let id = plan.id.clone();
    controller.carry_out(plan).await;
    assert_eq!(controller.commit(&id).await.stage(), Stage::Done);
    controller
        .until("everything is given back", |snapshot| snapshot.given_back)
        .await;
    assert!(!host.hardware().state().unwrap().gpus[0].mig_mode);
    assert_eq!(controller.snapshot.resources, []);
    assert_eq!(host.kubelet.listed(GPU), Vec::<String>::new());
    agent.stop().await;

    // The next agent keeps to it before any controller comes.
    let agent = host.agent().await;
    let mut controller = host.controller(agent.address, 2).await;
    controller
        .until("it still is", |snapshot| {
            let whole = snapshot.gpus.first().and_then(|gpu| gpu.whole.as_ref());
            whole.is_some_and(|whole| (whole.state(), &*whole.resource) == (State::Parked, ""))
        })
        .await;
    agent.stop().await;
}
