use axum::{body::Body, http::Request};
use jiff::Timestamp;
use status_report::Controller;
use tower::ServiceExt as _;

use super::*;

fn report(revision: u64) -> Report {
    Report {
        api_version: status_report::API_VERSION.into(),
        revision,
        time: Timestamp::UNIX_EPOCH,
        controller: Controller {
            name: "c".into(),
            version: "0".into(),
            since: Timestamp::UNIX_EPOCH,
        },
        nodes: Vec::new(),
        waiting: Vec::new(),
    }
}

async fn get(router: &Router, query: &str) -> (StatusCode, String) {
    let uri = format!("{}{query}", status_report::PATH);
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn the_page_shows_what_the_loop_answers() {
    let (router, mut desk) = open();
    let page = tokio::spawn(async move { get(&router, "?nodes=a,b").await });
    let ask = desk.asks.recv().await.unwrap();
    assert_eq!(ask.nodes, Some(vec!["a".to_owned(), "b".to_owned()]));
    ask.answer.send(Some(report(3))).unwrap();
    let (status, text) = page.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report(3));
}

#[tokio::test]
async fn a_reader_who_knows_the_revision_waits_for_the_next() {
    let (router, mut desk) = open();
    desk.revision.send_replace(7);
    let page = tokio::spawn(async move { get(&router, "?after=7").await });
    tokio::task::yield_now().await;
    assert!(desk.asks.try_recv().is_err(), "nothing has changed");
    desk.revision.send_replace(8);
    let ask = desk.asks.recv().await.unwrap();
    ask.answer.send(Some(report(8))).unwrap();
    assert_eq!(page.await.unwrap().0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_waits_in_vain_is_answered_all_the_same() {
    let (router, mut desk) = open();
    let page = tokio::spawn(async move { get(&router, "?after=0").await });
    let ask = desk.asks.recv().await.unwrap();
    ask.answer.send(Some(report(0))).unwrap();
    assert_eq!(page.await.unwrap().0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_knows_nothing_yet_or_hangs_says_so() {
    let (router, mut desk) = open();
    let page = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "").await }
    });
    desk.asks.recv().await.unwrap().answer.send(None).unwrap();
    let (status, text) = page.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("not all listed"), "{text}");
    let (status, text) = get(&router, "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("busy"), "{text}");
    drop(desk);
    assert!(get(&router, "").await.1.contains("ending"));
}
