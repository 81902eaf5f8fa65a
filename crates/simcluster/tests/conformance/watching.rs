//! Watches: order, selectors, bookmarks, ends, and kube's own watcher on top.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use simcluster::store::{Kind, StoreOptions};

use super::{Server, code, pod};

type Events = std::pin::Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Pod>>> + Send>>;

async fn watch(server: &Server, params: WatchParams, version: &str) -> Events {
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    Box::pin(pods.watch(&params, version).await.unwrap())
}

async fn next(events: &mut Events) -> String {
    let event = tokio::time::timeout(Duration::from_mins(1), events.next())
        .await
        .unwrap();
    match event {
        None => "END".into(),
        Some(Ok(WatchEvent::Added(pod))) => format!("ADDED {}", pod.name_any()),
        Some(Ok(WatchEvent::Modified(pod))) => format!("MODIFIED {}", pod.name_any()),
        Some(Ok(WatchEvent::Deleted(pod))) => format!("DELETED {}", pod.name_any()),
        Some(Ok(WatchEvent::Bookmark(mark))) => {
            let initial = mark
                .metadata
                .annotations
                .contains_key("k8s.io/initial-events-end");
            if initial {
                "SYNCED".into()
            } else {
                "BOOKMARK".into()
            }
        }
        Some(Ok(WatchEvent::Error(status))) => format!("ERROR {}", status.code),
        Some(Err(error)) => format!("BROKEN {error}"),
    }
}

fn relabel(server: &Server, name: &str, value: &str) {
    server
        .store
        .modify(Kind::Pod, "default", name, |pod| {
            pod["metadata"]["labels"] = json!({ "app": value });
        })
        .unwrap();
}

async fn create(server: &Server, name: &str) {
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    pods.create(&PostParams::default(), &pod(name))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_watch_from_a_version_shows_what_comes_after_it() {
    let server = Server::start().await;
    create(&server, "a").await;
    let version = server.store.version().to_string();
    let mut events = watch(&server, WatchParams::default(), &version).await;
    create(&server, "b").await;
    relabel(&server, "a", "x");
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    for wanted in ["ADDED b", "MODIFIED a", "DELETED a"] {
        assert_eq!(next(&mut events).await, wanted);
    }
}

#[tokio::test]
async fn a_watch_from_zero_begins_with_what_exists() {
    let server = Server::start().await;
    create(&server, "a").await;
    let mut events = watch(&server, WatchParams::default(), "0").await;
    assert_eq!(next(&mut events).await, "ADDED a");
    create(&server, "b").await;
    assert_eq!(next(&mut events).await, "ADDED b");
}

#[tokio::test]
async fn what_comes_to_match_a_selector_is_added_and_what_ceases_to_is_deleted() {
    let server = Server::start().await;
    create(&server, "a").await;
    let version = server.store.version().to_string();
    let mut events = watch(&server, WatchParams::default().labels("app=x"), &version).await;
    for value in ["y", "x", "x2", "x"] {
        relabel(&server, "a", value);
    }
    for wanted in ["ADDED a", "DELETED a", "ADDED a"] {
        assert_eq!(next(&mut events).await, wanted);
    }
}

#[tokio::test]
async fn a_watch_from_before_history_gets_410() {
    let server = Server::with(StoreOptions {
        history: 2,
        seed: None,
        ..StoreOptions::default()
    })
    .await;
    let version = server.store.version().to_string();
    for name in ["a", "b", "c"] {
        create(&server, name).await;
    }
    let mut events = watch(&server, WatchParams::default(), &version).await;
    assert_eq!(next(&mut events).await, "ERROR 410");
    assert_eq!(next(&mut events).await, "END");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_at_intervals_and_at_the_end_of_the_time() {
    let server = Server::in_process();
    let mut events = watch(&server, WatchParams::default().timeout(25), "1").await;
    for wanted in ["BOOKMARK", "BOOKMARK", "BOOKMARK", "END"] {
        assert_eq!(next(&mut events).await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_no_bookmarks_gets_none() {
    let server = Server::in_process();
    let params = WatchParams::default().disable_bookmarks().timeout(25);
    assert_eq!(next(&mut watch(&server, params, "1").await).await, "END");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_of_their_own() {
    let server = Server::start().await;
    create(&server, "a").await;
    let mut events = watch(&server, WatchParams::default().initial_events(), "0").await;
    assert_eq!(next(&mut events).await, "ADDED a");
    assert_eq!(next(&mut events).await, "SYNCED");
    create(&server, "b").await;
    assert_eq!(next(&mut events).await, "ADDED b");
}

#[tokio::test]
async fn a_broken_off_watch_is_an_error_and_kubes_watcher_recovers() {
    let server = Server::start().await;
    create(&server, "a").await;
    let mut events = watch(&server, WatchParams::default(), "0").await;
    assert_eq!(next(&mut events).await, "ADDED a");
    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    let mut applied = watcher(pods, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let first = applied.try_next().await.unwrap().unwrap();
    assert_eq!(first.name_any(), "a");
    // The watch after the list must be open before it can be broken off.
    relabel(&server, "a", "seen");
    assert_eq!(
        applied.try_next().await.unwrap().unwrap().labels()["app"],
        "seen"
    );
    assert_eq!(next(&mut events).await, "MODIFIED a");
    server.faults.drop_watches();
    assert!(matches!(
        next(&mut events).await.split(' ').next(),
        Some("BROKEN" | "END")
    ));
    create(&server, "b").await;
    let found = applied.filter_map(|event| async { event.ok() });
    let mut found = std::pin::pin!(found.filter(|pod| {
        let wanted = pod.name_any() == "b";
        async move { wanted }
    }));
    tokio::time::timeout(Duration::from_mins(1), found.next())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn kubes_watcher_starts_over_after_410() {
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let server = Server::with(StoreOptions {
            history: 1,
            seed: None,
            ..StoreOptions::default()
        })
        .await;
        create(&server, "a").await;
        let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
        let mut applied = watcher(pods, config)
            .default_backoff()
            .applied_objects()
            .boxed();
        assert_eq!(applied.try_next().await.unwrap().unwrap().name_any(), "a");
        for value in 0..50 {
            relabel(&server, "a", &value.to_string());
        }
        create(&server, "b").await;
        let waiting = async {
            loop {
                match applied.next().await.unwrap() {
                    Ok(pod) if pod.name_any() == "b" => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let server = Server::start().await;
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true";
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    assert_eq!(code(server.client.request::<Pod>(request).await), 422);
}
