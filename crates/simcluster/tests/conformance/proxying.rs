//! What the API server passes on to pods.

use axum::extract::RawQuery;
use axum::routing::get;
use kube::Error;
use serde_json::json;
use simcluster::store::Kind;
use tokio::net::TcpListener;

use crate::Server;

/// A pod at whose port somebody answers; returns the port.
async fn pod(server: &Server) -> u16 {
    let page = async |RawQuery(query): RawQuery| format!("query {}", query.unwrap_or_default());
    let broken = async || (axum::http::StatusCode::IM_A_TEAPOT, "short and stout");
    let pages = axum::Router::new()
        .route("/a/page", get(page))
        .route("/broken", get(broken));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, pages).await });
    let manifest = json!({
        "metadata": { "name": "web" },
        "spec": { "containers": [{
            "name": "main", "image": "web", "ports": [{ "name": "http", "containerPort": port }],
        }]},
    });
    server.store.create(Kind::Pod, "default", manifest).unwrap();
    server
        .store
        .modify(Kind::Pod, "default", "web", |pod| {
            pod["status"]["podIP"] = json!("127.0.0.1");
        })
        .unwrap();
    port
}

async fn ask(server: &Server, path: &str) -> Result<String, Error> {
    let path = format!("/api/v1/namespaces/default/pods/{path}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    server.client.request_text(request).await
}

#[tokio::test]
async fn a_page_of_a_pod_is_read_through_the_api_server() {
    let server = Server::start().await;
    let port = pod(&server).await;
    for name in [
        "web".to_owned(),
        "web:http".to_owned(),
        format!("http:web:{port}"),
    ] {
        let page = ask(&server, &format!("{name}/proxy/a/page?x=1&y")).await;
        assert_eq!(page.unwrap(), "query x=1&y", "{name}");
    }
}

#[tokio::test]
async fn what_a_pod_answers_is_passed_on_as_it_is() {
    let server = Server::start().await;
    pod(&server).await;
    let Err(Error::Api(status)) = ask(&server, "web/proxy/broken").await else {
        panic!("the pod's own failure is no success");
    };
    assert_eq!(status.code, 418);
    assert_eq!(status.message, "short and stout");
}

#[tokio::test]
async fn a_pod_that_does_not_listen_or_exist_is_told_apart() {
    let server = Server::start().await;
    pod(&server).await;
    // Nobody may listen on port 1 without being root.
    let Err(Error::Api(deaf)) = ask(&server, "web:1/proxy/").await else {
        panic!("nobody listens there");
    };
    assert_eq!(deaf.code, 503);
    assert!(
        deaf.message.starts_with("error trying to reach service: "),
        "{}",
        deaf.message
    );
    let Err(Error::Api(missing)) = ask(&server, "nobody:80/proxy/").await else {
        panic!("there is no such pod");
    };
    assert_eq!(missing.code, 404);
}
