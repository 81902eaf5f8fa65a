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
    page(router, &format!("{}{query}", status_report::PATH)).await
}

async fn page(router: &Router, uri: &str) -> (StatusCode, String) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The next question, which is about the status.
async fn asked(desk: &mut Desk) -> (Option<Vec<String>>, oneshot::Sender<Option<Report>>) {
    match desk.asks.recv().await.unwrap() {
        Ask::Status { nodes, answer } => (nodes, answer),
        other @ Ask::WhatIf { .. } => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_page_shows_what_the_loop_answers() {
    let (router, mut desk) = open();
    let page = tokio::spawn(async move { get(&router, "?nodes=a,b").await });
    let (nodes, answer) = asked(&mut desk).await;
    assert_eq!(nodes, Some(vec!["a".to_owned(), "b".to_owned()]));
    answer.send(Some(report(3))).unwrap();
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
    let (_, answer) = asked(&mut desk).await;
    answer.send(Some(report(8))).unwrap();
    assert_eq!(page.await.unwrap().0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_waits_in_vain_is_answered_all_the_same() {
    let (router, mut desk) = open();
    let page = tokio::spawn(async move { get(&router, "?after=0").await });
    let (_, answer) = asked(&mut desk).await;
    answer.send(Some(report(0))).unwrap();
    assert_eq!(page.await.unwrap().0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_knows_nothing_yet_or_hangs_says_so() {
    let (router, mut desk) = open();
    let page = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "").await }
    });
    asked(&mut desk).await.1.send(None).unwrap();
    let (status, text) = page.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("not all listed"), "{text}");
    let (status, text) = get(&router, "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("busy"), "{text}");
    drop(desk);
    assert!(get(&router, "").await.1.contains("ending"));
}

fn what_if(pods: &str) -> String {
    let pods = pods
        .bytes()
        .fold(String::new(), |pods, byte| format!("{pods}%{byte:02x}"));
    format!("{}?pods={pods}", status_report::WHAT_IF_PATH)
}

#[tokio::test]
async fn a_question_about_pods_reaches_the_loop_and_its_answer_the_reader() {
    let (router, mut desk) = open();
    let uri = what_if(r#"[{"name": "train", "count": 3, "spec": {"priority": 7}}]"#);
    let asker = tokio::spawn(async move { page(&router, &uri).await });
    let Ask::WhatIf { pods, answer } = desk.asks.recv().await.unwrap() else {
        panic!("a question about the status");
    };
    let [pod] = pods.as_slice() else {
        panic!("{pods:?}");
    };
    assert_eq!((pod.name.as_str(), pod.count), ("train", 3));
    assert_eq!(pod.spec.priority, Some(7));
    let told = WhatIf {
        api_version: status_report::API_VERSION.into(),
        time: Timestamp::UNIX_EPOCH,
        pods: Vec::new(),
    };
    answer.send(Some(told.clone())).unwrap();
    let (status, text) = asker.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<WhatIf>(&text).unwrap(), told);
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_in_a_sentence() {
    let (router, mut desk) = open();
    let cases = [
        (
            "{",
            StatusCode::BAD_REQUEST,
            "failed to read the query's pods",
        ),
        ("[{}]", StatusCode::BAD_REQUEST, "missing field `spec`"),
        (
            r#"[{"spec": {}, "count": 1001}]"#,
            StatusCode::BAD_REQUEST,
            "about 1001 pods; ask about 1000 at most",
        ),
        (
            r#"[{"spec": {}, "count": 18446744073709551615}, {"spec": {}}]"#,
            StatusCode::BAD_REQUEST,
            "ask about 1000 at most",
        ),
        (
            r#"[{"spec": {}, "count": -1}]"#,
            StatusCode::BAD_REQUEST,
            "failed to read the query's pods",
        ),
    ];
    for (pods, expected, words) in cases {
        let (status, text) = page(&router, &what_if(pods)).await;
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let (status, _) = page(&router, status_report::WHAT_IF_PATH).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(desk.asks.try_recv().is_err(), "the loop was asked");
}
