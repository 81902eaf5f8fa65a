//! GET, lists, pages, selectors, metadata only, discovery, errors.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ListParams, PostParams, VersionMatch};
use kube::{Api, ResourceExt};
use simcluster::api::Fault;
use simcluster::store::Status;

use super::{Server, code, pod};

async fn with_pods(count: usize) -> (Server, Api<Pod>) {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    for index in 0..count {
        pods.create(&PostParams::default(), &pod(&format!("p{index}")))
            .await
            .unwrap();
    }
    (server, pods)
}

#[tokio::test]
async fn the_server_introduces_itself() {
    let server = Server::start().await;
    let version = server.client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "33")
    );
    let groups = server.client.list_api_groups().await.unwrap();
    let names: Vec<&str> = groups
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "admissionregistration.k8s.io",
            "apps",
            "batch",
            "coordination.k8s.io",
            "events.k8s.io",
            "scheduling.k8s.io"
        ]
    );
    let core = server.client.list_core_api_resources("v1").await.unwrap();
    assert!(
        core.resources
            .iter()
            .any(|resource| resource.name == "pods/binding")
    );
}

#[tokio::test]
async fn what_does_not_exist_is_a_404() {
    let (server, pods) = with_pods(0).await;
    assert_eq!(code(pods.get("none").await), 404);
    assert!(pods.get_opt("none").await.unwrap().is_none());
    let elsewhere: Api<Pod> = Api::namespaced(server.client.clone(), "nowhere");
    assert_eq!(
        code(elsewhere.create(&PostParams::default(), &pod("p")).await),
        404
    );
}

#[tokio::test]
async fn pages_of_a_list_show_one_moment_though_the_world_goes_on() {
    let (server, pods) = with_pods(5).await;
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    let token = first.metadata.continue_.clone().unwrap();
    pods.create(&PostParams::default(), &pod("p3a"))
        .await
        .unwrap();
    pods.delete("p4", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let rest = pods
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    let names: Vec<String> = first
        .iter()
        .chain(rest.iter())
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
    assert_eq!(
        rest.metadata.resource_version,
        first.metadata.resource_version
    );
    server.store.compact();
    let late = pods
        .list(&ListParams::default().continue_token(&token))
        .await;
    assert_eq!(code(late), 410);
}

#[tokio::test]
async fn an_exact_version_is_served_from_history_and_a_future_one_is_not() {
    let (server, pods) = with_pods(1).await;
    let version = server.store.version();
    pods.create(&PostParams::default(), &pod("later"))
        .await
        .unwrap();
    let exact = ListParams::default()
        .at(&version.to_string())
        .matching(VersionMatch::Exact);
    assert_eq!(pods.list(&exact).await.unwrap().items.len(), 1);
    let future = ListParams::default()
        .at("999999")
        .matching(VersionMatch::NotOlderThan);
    assert_eq!(code(pods.list(&future).await), 504);
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let (server, pods) = with_pods(3).await;
    server
        .store
        .modify(simcluster::store::Kind::Pod, "default", "p1", |pod| {
            pod["metadata"]["labels"] = serde_json::json!({ "app": "x" });
            pod["status"]["phase"] = "Running".into();
        })
        .unwrap();
    for params in [
        ListParams::default().labels("app=x"),
        ListParams::default().fields("status.phase=Running"),
        ListParams::default()
            .fields("metadata.name=p1")
            .labels("app in (x, y)"),
    ] {
        let found = pods.list(&params).await.unwrap();
        assert_eq!(
            found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
            ["p1"]
        );
    }
    assert_eq!(
        code(pods.list(&ListParams::default().fields("spec.foo=1")).await),
        400
    );
    assert_eq!(
        code(pods.list(&ListParams::default().labels("a b")).await),
        400
    );
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let (_server, pods) = with_pods(2).await;
    let list = pods.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 2);
    assert_eq!(pods.get_metadata("p0").await.unwrap().name_any(), "p0");
}

#[tokio::test]
async fn cluster_scoped_kinds_have_no_namespace() {
    let server = Server::start().await;
    let namespaces: Api<Namespace> = Api::all(server.client.clone());
    let names = namespaces.list(&ListParams::default()).await.unwrap();
    assert_eq!(names.items.len(), 4);
    let nodes: Api<Node> = Api::all(server.client.clone());
    let node = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "n" }, "status": { "capacity": { "cpu": "4" } },
    }));
    let made = nodes
        .create(&PostParams::default(), &node.unwrap())
        .await
        .unwrap();
    assert_eq!(made.namespace(), None);
    assert_eq!(made.status.unwrap().allocatable.unwrap()["cpu"].0, "4");
}

#[tokio::test]
async fn injected_faults_strike_as_often_as_asked() {
    let (server, pods) = with_pods(1).await;
    for answer in [Status::too_many_requests(1), Status::unavailable()] {
        server.faults.add(Fault {
            method: None,
            path: "/pods".into(),
            answer,
            times: 1,
        });
    }
    assert_eq!(code(pods.get("p0").await), 429);
    assert_eq!(code(pods.get("p0").await), 503);
    pods.get("p0").await.unwrap();
}
