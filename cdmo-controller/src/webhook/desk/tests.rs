use std::convert::Infallible;

use futures::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;

fn desk(registry: &Registry) -> Desk {
    let metrics = Metrics::new(registry).unwrap();
    Desk::new(admission::Options::default(), metrics)
}

fn review(pod: &Value) -> String {
    let request = json!({
        "uid": "u", "operation": "CREATE", "namespace": "team",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        .to_string()
}

fn pod(share: &str) -> Value {
    json!({"spec": {"containers": [
        {"name": "main", "resources": {"limits": {"clear.ml/fraction-1": share}}},
    ]}})
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post("/mutate?timeout=3s").header(CONTENT_TYPE, "application/json");
    request.body(Full::new(body.into())).unwrap()
}

async fn said(desk: &Desk, request: Request<Full<Bytes>>) -> (u16, String) {
    words_of(desk.reply(request).await).await
}

async fn words_of(response: Response<Full<Bytes>>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn counted(registry: &Registry) -> Vec<(String, u64)> {
    let families = registry.gather();
    let requests = families
        .iter()
        .find(|family| family.name() == "cdmo_webhook_requests_total");
    let mut all: Vec<_> = requests
        .iter()
        .flat_map(|family| family.get_metric())
        .map(|metric| {
            let outcome = metric.get_label()[0].value().to_owned();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small count"
            )]
            let count = metric.get_counter().get_value() as u64;
            (outcome, count)
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_review_is_answered_by_the_rules_and_counted_by_its_outcome() {
    let registry = Registry::new();
    let desk = desk(&registry);
    let mut contradiction = pod("500m");
    contradiction["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.5gb"] =
        json!("1");
    for (object, wanted) in [
        (pod("500m"), "\"patchType\":\"JSONPatch\""),
        (json!({"spec": {"containers": []}}), "\"allowed\":true"),
        (
            pod("1300m"),
            "above 1 only whole numbers of GPUs can be had",
        ),
        (contradiction, "\"warnings\":["),
    ] {
        let (code, text) = said(&desk, post(review(&object))).await;
        assert_eq!(code, 200);
        assert!(text.contains(wanted), "{text}");
    }
    assert_eq!(said(&desk, post("{")).await.0, 400);
    let one = |outcome: &str| (outcome.to_owned(), 1);
    let all = ["changed", "denied", "malformed", "unchanged", "warned"];
    assert_eq!(counted(&registry), all.map(one));
}

#[tokio::test]
async fn what_is_no_review_is_turned_away_in_one_sentence() {
    let desk = desk(&Registry::new());
    let whole = review(&pod("500m"));
    let request = |method: &str, path: &str, kind: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        request.body(Full::new(Bytes::from(whole.clone()))).unwrap()
    };
    let json = Some("application/json");
    for (request, code, words) in [
        (request("POST", "/", json), 404, "takes reviews at /mutate"),
        (
            request("POST", "/mutate/x", json),
            404,
            "takes reviews at /mutate",
        ),
        (request("GET", "/mutate", json), 405, "by POST, not by GET"),
        (
            request("POST", "/mutate", None),
            415,
            "must be application/json",
        ),
        (
            request("POST", "/mutate", Some("application/yaml")),
            415,
            "application/json",
        ),
        (
            post(""),
            400,
            "as JSON, which must be one whole AdmissionReview",
        ),
        (
            post(whole[..whole.len() / 2].to_owned()),
            400,
            "EOF while parsing",
        ),
        (
            post("{}"),
            400,
            "its kind is missing, and it must be AdmissionReview",
        ),
        (
            post(vec![0xff; 20]),
            400,
            "failed to read the request body as JSON",
        ),
    ] {
        let (got, text) = said(&desk, request).await;
        assert_eq!(got, code, "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
    }
    let utf8 = Some("Application/JSON; charset=utf-8");
    assert_eq!(said(&desk, request("POST", "/mutate", utf8)).await.0, 200);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_whether_its_length_is_announced_or_not() {
    let desk = desk(&Registry::new());
    let sentence = "the request body is longer than 8 MiB, the most that the webhook reads\n";
    let (code, text) = said(&desk, post(vec![b' '; MOST_BYTES + 1])).await;
    assert_eq!((code, text.as_str()), (413, sentence));
    let pieces = |count: usize| {
        let piece = Bytes::from(vec![b' '; 1024 * 1024]);
        let frames = (0..count).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone())));
        let request = Request::post("/mutate").header(CONTENT_TYPE, "application/json");
        request.body(StreamBody::new(stream::iter(frames))).unwrap()
    };
    let (code, text) = words_of(desk.reply(pieces(9)).await).await;
    assert_eq!((code, text.as_str()), (413, sentence));
    assert_eq!(words_of(desk.reply(pieces(8)).await).await.0, 400);
}

#[tokio::test]
async fn an_object_as_large_as_they_get_is_changed() {
    let desk = desk(&Registry::new());
    let mut large = pod("500m");
    large["metadata"]["annotations"]["padding"] = json!("x".repeat(3_000_000));
    let (code, text) = said(&desk, post(review(&large))).await;
    assert_eq!(code, 200);
    assert!(text.contains("JSONPatch") && text.len() < 10_000);
}

/// An update of a pod with many variables.
fn update(variables: usize) -> String {
    let mut pod = pod("500m");
    let env: Vec<_> = (0..variables).map(|_| json!({"name": ""})).collect();
    pod["spec"]["containers"][0]["env"] = env.into();
    let mut whole: Value = serde_json::from_str(&review(&pod)).unwrap();
    whole["request"]["operation"] = json!("UPDATE");
    whole["request"]["oldObject"] = pod;
    whole.to_string()
}

#[tokio::test]
async fn what_would_take_too_much_memory_is_refused_before_it_is_parsed() {
    let registry = Registry::new();
    let desk = desk(&registry);
    let nothing_else = "{\"\":0},".repeat(MOST_BYTES / 7);
    for body in [nothing_else, update(110_000)] {
        assert!(body.len() <= MOST_BYTES);
        let (code, text) = said(&desk, post(body)).await;
        assert_eq!(code, 413, "{text}");
        assert_eq!(
            text,
            "the request body has so many objects and lists that it would take more than 40 MiB, the most that the \
             webhook has for a review\n"
        );
    }
    assert_eq!(counted(&registry), [("malformed".to_owned(), 2)]);
}

#[tokio::test]
async fn the_largest_objects_that_api_servers_send_have_room() {
    let desk = desk(&Registry::new());
    let containers: Vec<Value> = (0..10_000)
        .map(|n| {
            json!({"name": format!("c{n}"), "resources": {"limits": {"clear.ml/fraction-1": "500m"}}})
        })
        .collect();
    let (code, text) = said(
        &desk,
        post(review(&json!({"spec": {"containers": containers}}))),
    )
    .await;
    assert_eq!(code, 200, "{text}");
    assert!(text.contains("10000 containers with fractions"), "{text}");
    assert_eq!(said(&desk, post(update(20_000))).await.0, 200);
}

#[tokio::test]
async fn reviews_at_the_same_time_take_no_more_than_there_is_and_then_give_it_back() {
    let desk = Arc::new(desk(&Registry::new()));
    let body = Bytes::from(update(20_000));
    let weight = admission::weight(&body);
    assert!(weight > LIGHT && 6 * weight > MOST_ANSWERED);
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let (desk, body) = (desk.clone(), body.clone());
            tokio::spawn(async move { said(&desk, post(body)).await.0 })
        })
        .collect();
    for code in asked {
        let code = code.await.unwrap();
        assert!(code == 200 || code == 503, "{code}");
    }
    assert_eq!(desk.answers.available_permits(), MOST_ANSWERED / UNIT);
    assert_eq!(desk.bodies.available_permits(), MOST_HELD / UNIT);
}

/// A request whose body begins like this and then does not come.
fn stuck(
    begin: Vec<u8>,
) -> Request<impl Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static> {
    let begin = stream::iter([Ok(Frame::data(Bytes::from(begin)))]);
    let body = begin.chain(stream::pending());
    let request = Request::post("/mutate").header(CONTENT_TYPE, "application/json");
    request.body(StreamBody::new(Box::pin(body))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let desk = desk(&Registry::new());
    let (code, text) = words_of(desk.reply(stuck(Vec::new())).await).await;
    assert_eq!(code, 408);
    assert_eq!(text, "the request body did not come within 3s\n");
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_come_hold_up_nobody() {
    let desk = Arc::new(desk(&Registry::new()));
    // Many more than there is room for; none of them says how long it is.
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let desk = desk.clone();
            tokio::spawn(async move { desk.reply(stuck(vec![b' '; FREE_BYTES])).await.status() })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let mut large = pod("500m");
    large["metadata"]["annotations"]["padding"] = json!("x".repeat(3_000_000));
    for object in [pod("500m"), large] {
        assert_eq!(said(&desk, post(review(&object))).await.0, 200);
    }
    assert!(began.elapsed() < READING);
    assert!(slow.iter().all(|request| !request.is_finished()));
    for request in slow {
        assert_eq!(request.await.unwrap().as_u16(), 408);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_take_all_room_hold_up_large_ones_for_a_second_and_small_ones_never() {
    let registry = Registry::new();
    let desk = Arc::new(desk(&registry));
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let desk = desk.clone();
            let most = vec![b' '; MOST_BYTES];
            tokio::spawn(async move { desk.reply(stuck(most)).await.status() })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(said(&desk, post(review(&pod("500m")))).await.0, 200);
    let began = Instant::now();
    let (code, text) = said(&desk, post(vec![b' '; MOST_BYTES])).await;
    assert_eq!(code, 503);
    assert_eq!(text, "the webhook has too much to do: try again\n");
    assert_eq!(began.elapsed().as_secs(), 1);
    for request in slow {
        assert_eq!(request.await.unwrap().as_u16(), 408);
    }
    assert_eq!(said(&desk, post(vec![b' '; MOST_BYTES])).await.0, 400);
    let busy = counted(&registry)
        .into_iter()
        .find(|(word, _)| word == "busy");
    assert_eq!(busy, Some(("busy".to_owned(), 1)));
}
