use crate::store::StoreOptions;

use super::*;

struct Fixture {
    store: Store,
    times: Timelines,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn start(options: Options) -> Fixture {
    let store = Store::new(&StoreOptions::default());
    let (times, shutdown) = (Timelines::default(), CancellationToken::new());
    tokio::spawn(run(store.clone(), options, times.clone(), shutdown.clone()));
    Fixture {
        store,
        times,
        shutdown,
    }
}

impl Fixture {
    fn node(&self, name: &str, devices: u32) {
        let allocatable = json!({
            "cpu": "8", "memory": "16Gi", "pods": "110",
            "example.com/device": devices.to_string(),
        });
        let status = json!({ "allocatable": allocatable, "capacity": allocatable });
        if self.store.get(Kind::Node, "", name).is_none() {
            let node = json!({ "metadata": { "name": name } });
            self.store.create(Kind::Node, "", node).unwrap();
        }
        self.store
            .modify(Kind::Node, "", name, |node| node["status"] = status)
            .unwrap();
    }

    fn pod(&self, name: &str, devices: u32) -> Arc<Value> {
        let mut pod = json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
        });
        if devices > 0 {
            pod["spec"]["containers"][0]["resources"] =
                json!({ "limits": { "example.com/device": devices.to_string() } });
        }
        self.store.create(Kind::Pod, "default", pod).unwrap()
    }

    /// Waits until the pod satisfies a condition, and returns it.
    async fn until(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Arc<Value> {
        let (pods, mut watch) = self.store.list_and_watch(Kind::Pod);
        let is_it = |pod: &Value| object::name(pod) == name && holds(pod);
        if let Some(pod) = pods.into_iter().find(|pod| is_it(pod)) {
            return pod;
        }
        let wait = async {
            loop {
                let event = watch.next().await.unwrap();
                if is_it(&event.object) {
                    return event.object.clone();
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(10), wait)
            .await
            .expect("the pod never got there")
    }

    async fn node_of(&self, name: &str) -> String {
        let pod = self
            .until(name, |pod| !object::text(pod, "/spec/nodeName").is_empty())
            .await;
        object::text(&pod, "/spec/nodeName").to_owned()
    }
}

fn refused(pod: &Value) -> bool {
    object::array(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "Unschedulable")
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_is_bound_and_says_so_in_an_event() {
    let cluster = start(Options::default());
    cluster.node("a", 1);
    let pod = cluster.pod("p", 1);
    assert_eq!(cluster.node_of("p").await, "a");
    let timeline = cluster.times.of(object::uid(&pod)).unwrap();
    assert!(timeline.scheduled.is_some() && timeline.unschedulable.is_none());
    let (events, _) = cluster.store.list(Kind::Event, Some("default"));
    let messages: Vec<&str> = events.iter().map(|e| object::text(e, "/message")).collect();
    assert_eq!(messages, ["Successfully assigned default/p to a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_room_says_why_and_is_bound_when_room_comes() {
    let cluster = start(Options::default());
    cluster.node("a", 0);
    cluster.pod("p", 1);
    let pod = cluster.until("p", refused).await;
    assert_eq!(
        pod["status"]["conditions"][0]["message"],
        "0/1 nodes are available: 1 Insufficient example.com/device."
    );
    cluster.node("a", 1);
    assert_eq!(cluster.node_of("p").await, "a");
}

#[tokio::test(start_paused = true)]
async fn the_same_refusal_again_is_counted_not_repeated() {
    let cluster = start(Options {
        behaviour: Behaviour::V1_20,
        ..Options::default()
    });
    cluster.node("a", 0);
    cluster.pod("p", 1);
    cluster.until("p", refused).await;
    let counted = async {
        let (_, mut watch) = cluster.store.list_and_watch(Kind::Event);
        while watch.next().await.unwrap().object["count"] != 3 {}
    };
    tokio::time::timeout(Duration::from_mins(10), counted)
        .await
        .unwrap();
    assert_eq!(cluster.store.list(Kind::Event, None).0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn room_during_back_off_is_taken_at_once_on_1_33_and_later_on_1_28() {
    for (behaviour, at_once) in [(Behaviour::V1_28, false), (Behaviour::V1_33, true)] {
        let cluster = start(Options {
            behaviour,
            ..Options::default()
        });
        cluster.node("a", 0);
        cluster.pod("p", 1);
        cluster.until("p", refused).await;
        let before = Instant::now();
        cluster.node("a", 1);
        cluster.node_of("p").await;
        assert_eq!(
            before.elapsed() < Duration::from_millis(10),
            at_once,
            "{behaviour:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_annotation_on_the_waiting_pod_ends_its_back_off_on_1_20() {
    let cluster = start(Options {
        behaviour: Behaviour::V1_20,
        ..Options::default()
    });
    cluster.node("a", 0);
    cluster.pod("p", 1);
    cluster.until("p", refused).await;
    let before = Instant::now();
    cluster.node("a", 1);
    let annotate = |pod: &mut Value| pod["metadata"]["annotations"] = json!({ "x": "y" });
    cluster
        .store
        .modify(Kind::Pod, "default", "p", annotate)
        .unwrap();
    cluster.node_of("p").await;
    assert!(before.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_pod_in_pre_bind_holds_its_room_against_others() {
    let pre_bind = Duration::from_mins(2);
    let cluster = start(Options {
        pre_bind,
        ..Options::default()
    });
    cluster.node("a", 1);
    cluster.pod("first", 1);
    tokio::task::yield_now().await;
    cluster.pod("second", 1);
    let second = cluster.until("second", refused).await;
    assert_eq!(object::text(&second, "/spec/nodeName"), "");
    assert_eq!(cluster.node_of("first").await, "a");
}

#[tokio::test(start_paused = true)]
async fn the_room_of_a_pod_deleted_in_pre_bind_goes_to_the_next() {
    let pre_bind = Duration::from_secs(5);
    let cluster = start(Options {
        pre_bind,
        ..Options::default()
    });
    cluster.node("a", 1);
    cluster.pod("first", 1);
    tokio::task::yield_now().await;
    cluster.pod("second", 1);
    cluster.until("second", refused).await;
    cluster
        .store
        .delete(
            Kind::Pod,
            "default",
            "first",
            &crate::store::DeleteOptions::now(),
        )
        .unwrap();
    assert_eq!(cluster.node_of("second").await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_gives_its_room_back() {
    let cluster = start(Options::default());
    cluster.node("a", 1);
    cluster.pod("first", 1);
    cluster.node_of("first").await;
    cluster.pod("second", 1);
    cluster.until("second", refused).await;
    let end = |pod: &mut Value| pod["status"]["phase"] = "Succeeded".into();
    cluster
        .store
        .modify(Kind::Pod, "default", "first", end)
        .unwrap();
    assert_eq!(cluster.node_of("second").await, "a");
}

#[tokio::test(start_paused = true)]
async fn pods_go_on_being_scheduled_after_history_was_lost() {
    let cluster = start(Options::default());
    cluster.node("a", 4);
    cluster.pod("p", 1);
    cluster.node_of("p").await;
    cluster.pod("q", 1);
    cluster.store.compact();
    assert_eq!(cluster.node_of("q").await, "a");
}
