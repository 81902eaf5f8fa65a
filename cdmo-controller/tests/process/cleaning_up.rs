//! Taking the system out of a cluster.

use cdmo_controller::{Args, args::Command, cleanup};
use clap::Parser as _;
use serde_json::{Value, json};
use simcluster::store::Kind;

use crate::cluster::Cluster;

const NAMESPACE: &str = "cdmo-operator";

async fn clean_up(cluster: &Cluster) {
    let kubeconfig = cluster.dir.path().join("kubeconfig");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let args = Args::parse_from(["cdmo-controller", &kubeconfig, "clean-up", "--patience=0"]);
    let Some(Command::CleanUp(options)) = args.command.clone() else {
        panic!("no options in {args:?}");
    };
    let shutdown = cluster.shutdown.clone();
    cleanup::run(args, options, shutdown).await.unwrap();
}

#[tokio::test]
async fn agents_lease_and_annotations_go_and_the_administrators_label_stays() {
    let cluster = Cluster::start().await;
    cluster.node("a");
    let annotate = |node: &mut Value| {
        node["metadata"]["annotations"] = json!({"cdmo.clear.ml/problems": "x", "other": "y"});
    };
    cluster.store.modify(Kind::Node, "", "a", annotate).unwrap();
    let labels = json!({"app.kubernetes.io/name": "mig-node-agent"});
    let agents = json!({
        "metadata": {"name": "mig-node-agent"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "agent", "image": "agent"}]},
        }},
    });
    let lease = json!({"metadata": {"name": "cdmo-controller"}});
    for (kind, object) in [(Kind::DaemonSet, agents), (Kind::Lease, lease)] {
        cluster.store.create(kind, NAMESPACE, object).unwrap();
    }
    let hooks = Kind::MutatingWebhookConfiguration;
    for name in ["cdmo-webhook", "theirs"] {
        let configuration = json!({"metadata": {"name": name}});
        cluster.store.create(hooks, "", configuration).unwrap();
    }
    clean_up(&cluster).await;
    let left = cluster.store.list(hooks, None).0;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["name"], "theirs");
    assert!(cluster.store.list(Kind::DaemonSet, None).0.is_empty());
    assert!(cluster.store.list(Kind::Lease, None).0.is_empty());
    let node = cluster.store.find(Kind::Node, "", "a").unwrap();
    assert_eq!(node["metadata"]["annotations"], json!({"other": "y"}));
    assert_eq!(
        node["metadata"]["labels"]["cdmo.clear.ml/gpu-partitioning"],
        "mig"
    );
    // What is gone is no obstacle.
    clean_up(&cluster).await;
}

#[tokio::test]
async fn pods_do_not_stay_behind_a_gate_that_nobody_takes_away_any_more() {
    let cluster = Cluster::start().await;
    let gates = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "main", "image": "app"}],
            "schedulingGates": gates(&["theirs", "cdmo.clear.ml/partitioning"]),
        },
    });
    cluster.store.create(Kind::Pod, "default", pod).unwrap();
    clean_up(&cluster).await;
    let pod = cluster.store.find(Kind::Pod, "default", "p").unwrap();
    assert_eq!(pod["spec"]["schedulingGates"], gates(&["theirs"]));
}

/// Somebody else's webhook that is away and without which no pod of the namespace may be changed.
fn nobody_may_change_pods_of(cluster: &Cluster, namespace: &str) {
    let labels = json!({"closed": "yes"});
    let modified = cluster
        .store
        .modify(Kind::Namespace, "", namespace, |namespace| {
            namespace["metadata"]["labels"] = labels.clone();
        });
    modified.unwrap();
    let configuration = json!({
        "metadata": {"name": "theirs"},
        "webhooks": [{
            "name": "pods.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": {"service": {"name": "away", "namespace": "theirs"}},
            "namespaceSelector": {"matchLabels": labels},
            "rules": [{
                "operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            }],
        }],
    });
    let kind = Kind::MutatingWebhookConfiguration;
    cluster.store.create(kind, "", configuration).unwrap();
}

#[tokio::test]
async fn a_pod_that_may_not_be_changed_holds_up_neither_the_others_nor_the_nodes() {
    let cluster = Cluster::start().await;
    cluster.node("a");
    let annotate = |node: &mut Value| {
        node["metadata"]["annotations"] = json!({"cdmo.clear.ml/problems": "x", "other": "y"});
    };
    cluster.store.modify(Kind::Node, "", "a", annotate).unwrap();
    let gates = json!([{"name": "cdmo.clear.ml/partitioning"}]);
    let lease = json!({"metadata": {"name": "cdmo-controller"}});
    cluster.store.create(Kind::Lease, NAMESPACE, lease).unwrap();
    for namespace in ["closed", "open"] {
        let named = json!({"metadata": {"name": namespace}});
        cluster.store.create(Kind::Namespace, "", named).unwrap();
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "main", "image": "app"}], "schedulingGates": gates},
        });
        cluster.store.create(Kind::Pod, namespace, pod).unwrap();
    }
    nobody_may_change_pods_of(&cluster, "closed");
    clean_up(&cluster).await;
    let gates_of = |namespace| {
        let pod = cluster.store.find(Kind::Pod, namespace, "p").unwrap();
        pod["spec"]["schedulingGates"].clone()
    };
    assert_eq!(gates_of("closed"), gates);
    assert_ne!(gates_of("open"), gates);
    let node = cluster.store.find(Kind::Node, "", "a").unwrap();
    assert_eq!(node["metadata"]["annotations"], json!({"other": "y"}));
    assert!(cluster.store.list(Kind::Lease, None).0.is_empty());
}
