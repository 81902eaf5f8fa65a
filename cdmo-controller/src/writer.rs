//! Carries decisions to the API server.
//!
//! Every write is one call with a time limit; how many there can be is bounded by what the world decides (one status
//! patch per node, one annotation per pod) and by a number of permits. Annotations of pods and Events, of which thousands
//! may be due at once, stand in line for a few tasks, and hold up each other at most. The world hears how writes to nodes
//! ended.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    locking::lock,
    names::{CONTROLLER, PLAN_ANNOTATION, PROBLEMS_ANNOTATION, PodKey, SCHEDULING_GATE},
    node_status::Answer,
    objects::{NodeLite, PodLite},
    words::Note,
    world::Input,
};

/// Time for one call.
const CALL: Duration = Duration::from_secs(10);
/// Calls at once, those for annotations of pods and for Events aside.
const CALLS: usize = 32;
/// Calls for annotations of pods at once: nobody is shown any device before node status is written.
const ANNOTATIONS: usize = 8;
/// Calls for Events at once: they must not keep the others waiting.
const EVENTS: usize = 4;
/// Attempts for what nothing else repeats.
const ATTEMPTS: u32 = 3;

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    me: Arc<str>,
    calls: Arc<Semaphore>,
    annotations: Arc<Mutex<Annotations>>,
    events: Arc<Mutex<Line<Note>>>,
    inputs: mpsc::Sender<Input>,
    tasks: TaskTracker,
}

/// What a pod's annotation is to say. Thousands may wait for their turns, so that it is kept as text.
#[derive(Debug)]
struct Planned {
    uid: Box<str>,
    plan: Box<str>,
    /// Attempts in vain.
    failures: u32,
}

/// What waits for its turn with a few tasks. A task for each would take up far more.
#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    tasks: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            tasks: 0,
        }
    }
}

impl<T> Line<T> {
    /// One more; whether another task is to be started for it, of which there may be so many.
    fn join(&mut self, one: T, most: usize) -> bool {
        self.waiting.push_back(one);
        let starts = self.tasks < most;
        self.tasks += usize::from(starts);
        starts
    }

    /// Whose turn it is; nothing if the task that asks is one too many.
    fn next(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.tasks -= 1;
            if self.tasks == 0 {
                // There may have been thousands.
                self.waiting.shrink_to_fit();
            }
        }
        next
    }
}

/// Annotations that wait for their turns.
#[derive(Debug, Default)]
struct Annotations {
    line: Line<PodKey>,
    /// The newest annotation of each pod in the line, and of those that are being written, if there is a newer one.
    newest: HashMap<PodKey, Option<Planned>>,
}

impl Annotations {
    /// What is to be written onto the pod whose turn it is; nothing once there is nothing new.
    fn take(&mut self, pod: &PodKey) -> Option<Planned> {
        self.newest.get_mut(pod).and_then(Option::take)
    }

    /// The annotation could not be written: it is to be written later, unless there is a newer one. Returns whether.
    fn put_back(&mut self, pod: &PodKey, planned: Planned) -> bool {
        let newest = self.newest.entry(pod.clone()).or_default();
        let is_newest = newest.is_none();
        newest.get_or_insert(planned);
        is_newest
    }

    /// The turn of the pod is over, if there is nothing new to be written onto it.
    fn is_over(&mut self, pod: &PodKey) -> bool {
        let over = self.newest.get(pod).is_none_or(Option::is_none);
        if over {
            self.newest.remove(pod);
            if self.newest.is_empty() {
                self.newest.shrink_to_fit();
            }
        }
        over
    }
}

impl Writer {
    /// A writer that reports to `inputs`.
    pub fn new(
        client: Client,
        me: String,
        inputs: mpsc::Sender<Input>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            client,
            me: me.into(),
            calls: Arc::new(Semaphore::new(CALLS)),
            annotations: Arc::default(),
            events: Arc::default(),
            inputs,
            tasks,
        }
    }

    /// Patches a node's status; the answer comes as [`Input::StatusAnswer`].
    pub fn patch_status(&self, node: String, patch: Value) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let api = Api::<NodeLite>::all(this.client.clone());
            let params = PatchParams::default();
            let patch = Patch::Merge(patch);
            let (answer, written) =
                match this.call(|| api.patch_status(&node, &params, &patch)).await {
                    Ok(node) => (Answer::Written, Some(Box::new(node))),
                    Err(Failure {
                        code: Some(409), ..
                    }) => (Answer::Conflict, None),
                    Err(failure) => {
                        tracing::warn!(node, "failed to write node status: {}", failure.text);
                        (Answer::Failed, None)
                    }
                };
            this.tell(Input::StatusAnswer {
                node,
                answer,
                written,
            })
            .await;
        });
    }

    /// Patches a node's labels and annotations; the answer comes as [`Input::TakeoverAnswer`].
    pub fn patch_node(&self, node: String, patch: Value) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let api = Api::<NodeLite>::all(this.client.clone());
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            let (answer, written) = match this.call(|| api.patch(&node, &params, &patch)).await {
                Ok(node) => (Answer::Written, Some(Box::new(node))),
                Err(Failure {
                    code: Some(409), ..
                }) => (Answer::Conflict, None),
                Err(failure) => {
                    tracing::warn!(node, "failed to label the node: {}", failure.text);
                    (Answer::Failed, None)
                }
            };
            this.tell(Input::TakeoverAnswer {
                node,
                answer,
                written,
            })
            .await;
        });
    }

    /// Writes or removes a node's annotation about problems; the answer comes as
    /// [`Input::ProblemsAnswer`].
    pub fn patch_problems(&self, node: String, text: Option<String>) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let api = Api::<NodeLite>::all(this.client.clone());
            let patch = json!({"metadata": {"annotations": {PROBLEMS_ANNOTATION: text}}});
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            let written = match this.call(|| api.patch(&node, &params, &patch)).await {
                Ok(_) => true,
                Err(failure) => {
                    tracing::warn!(node, "failed to annotate the node: {}", failure.text);
                    false
                }
            };
            this.tell(Input::ProblemsAnswer { node, written }).await;
        });
    }

    /// Reads the pods bound to a node; the answer comes as [`Input::Bound`].
    pub fn list_bound(&self, operation: String, node: String) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let api = Api::<PodLite>::all(this.client.clone());
            // Without a resource version the list is read from etcd, not from a cache.
            let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
            let pods = match this.call(|| api.list(&params)).await {
                Ok(list) => Ok(list.items),
                Err(failure) => Err(format!(
                    "the pods of node {node} cannot be read: {}",
                    failure.text
                )),
            };
            this.tell(Input::Bound { operation, pods }).await;
        });
    }

    /// Writes the plan annotation of a pod; instead of an older one, should that still wait for its turn.
    pub fn annotate_pod(&self, pod: PodKey, uid: &str, plan: &Value) {
        let planned = Planned {
            uid: uid.into(),
            plan: plan.to_string().into(),
            failures: 0,
        };
        let known = lock(&self.annotations)
            .newest
            .insert(pod.clone(), Some(planned));
        if known.is_none() {
            self.line_up(pod);
        }
    }

    /// It will be the turn of a pod.
    fn line_up(&self, pod: PodKey) {
        if !lock(&self.annotations).line.join(pod, ANNOTATIONS) {
            return;
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            loop {
                let Some(pod) = lock(&this.annotations).line.next() else {
                    return;
                };
                this.write_annotations(&pod).await;
            }
        });
    }

    /// Writes what is to be written onto a pod, until there is nothing new or it cannot be written now.
    async fn write_annotations(&self, pod: &PodKey) {
        loop {
            let Some(planned) = lock(&self.annotations).take(pod) else {
                return;
            };
            match limited(Box::pin(self.annotate(pod, &planned))).await {
                Ok(_) => tracing::debug!(%pod, "annotated"),
                // Gone, or another pod: nobody misses the annotation.
                Err(Failure {
                    code: Some(404 | 409 | 422),
                    ..
                }) => {}
                Err(failure) => {
                    let failures = planned.failures + 1;
                    tracing::warn!(
                        %pod, attempt = failures, "failed to annotate the pod: {}", failure.text
                    );
                    let planned = Planned {
                        failures,
                        ..planned
                    };
                    if failures < ATTEMPTS && lock(&self.annotations).put_back(pod, planned) {
                        self.line_up_after(Duration::from_millis(200) * failures, pod.clone());
                        return;
                    }
                }
            }
            if lock(&self.annotations).is_over(pod) {
                return;
            }
        }
    }

    /// The same after a pause, in which others have their turns.
    fn line_up_after(&self, pause: Duration, pod: PodKey) {
        let this = self.clone();
        self.tasks.spawn(async move {
            sleep(pause).await;
            this.line_up(pod);
        });
    }

    async fn annotate(&self, pod: &PodKey, planned: &Planned) -> kube::Result<PodLite> {
        let api = Api::<PodLite>::namespaced(self.client.clone(), pod.namespace());
        // The uid makes the patch fail on another pod of that name.
        let patch = json!({"metadata": {
            "uid": planned.uid, "annotations": {PLAN_ANNOTATION: planned.plan},
        }});
        let params = PatchParams::default();
        api.patch(pod.name(), &params, &Patch::Merge(patch)).await
    }

    /// Takes our scheduling gate off a pod, which is the one at this position. Whoever watches the pod
    /// sees whether it is gone; one that has moved meanwhile, or is gone, stays as it is.
    pub fn open_gate(&self, pod: PodKey, uid: &str, at: usize) {
        let this = self.clone();
        let gate = format!("/spec/schedulingGates/{at}");
        let operations = serde_json::from_value(json!([
            // Another pod of that name is not meant.
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": format!("{gate}/name"), "value": SCHEDULING_GATE},
            {"op": "remove", "path": gate},
        ]));
        let Ok(operations) = operations else {
            return;
        };
        self.tasks.spawn(async move {
            let api = Api::<PodLite>::namespaced(this.client.clone(), pod.namespace());
            let (params, patch) = (PatchParams::default(), Patch::Json::<()>(operations));
            match this.call(|| api.patch(pod.name(), &params, &patch)).await {
                Ok(_) => tracing::debug!(%pod, "took the scheduling gate off"),
                Err(Failure { code: Some(404 | 409 | 422), .. }) => {}
                Err(failure) => {
                    tracing::warn!(%pod, "failed to take the scheduling gate off: {}", failure.text);
                }
            }
        });
    }

    /// Sends an Event.
    pub fn publish(&self, note: Note) {
        if !lock(&self.events).join(note, EVENTS) {
            return;
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            loop {
                let Some(note) = lock(&this.events).next() else {
                    return;
                };
                this.send_event(&note).await;
            }
        });
    }

    async fn send_event(&self, note: &Note) {
        let api = Api::<Event>::namespaced(self.client.clone(), note.pod.namespace());
        let event = event(note, &self.me);
        for attempt in 1..=ATTEMPTS {
            let params = PostParams::default();
            let call = Box::pin(api.create(&params, &event));
            let text = match timeout(CALL, call).await {
                Ok(Ok(_)) => return,
                // It came through, though the answer did not.
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {CALL:?}"),
            };
            tracing::warn!(pod = %note.pod, attempt, "failed to send an Event: {text}");
            sleep(Duration::from_millis(200) * attempt).await;
        }
    }

    async fn tell(&self, input: Input) {
        // Nobody listens only while the whole controller ends.
        let _ = self.inputs.send(input).await;
    }

    /// Thousands may wait for their turns, and each call takes kilobytes from its beginning to its end.
    async fn call<T, C>(&self, call: impl FnOnce() -> C) -> Result<T, Failure>
    where
        C: Future<Output = kube::Result<T>>,
    {
        let _permit = self.calls.acquire().await;
        limited(Box::pin(call())).await
    }
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Failure {
            code: Some(status.code),
            text: status.message,
        }),
        Ok(Err(error)) => Err(Failure {
            code: None,
            text: error.to_string(),
        }),
        Err(_) => Err(Failure {
            code: None,
            text: format!("no answer in {CALL:?}"),
        }),
    }
}

struct Failure {
    code: Option<u16>,
    text: String,
}

/// A name of 253 bytes at most, as the API demands, although a pod's own may be that long.
fn event_name(pod: &str, now: Timestamp) -> String {
    // Names are ASCII; should one not be, the API refuses the Event as it would have refused the pod.
    let start = pod.get(..pod.len().min(230)).unwrap_or_default();
    let start = start.trim_end_matches(['.', '-']);
    format!("{start}.{:x}", now.as_nanosecond())
}

/// The Event as the API takes it (events.k8s.io/v1).
fn event(note: &Note, me: &str) -> Event {
    let now = Timestamp::now();
    let namespace = Some(note.pod.namespace().to_owned());
    Event {
        action: Some("Partition".to_owned()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            name: Some(event_name(note.pod.name(), now)),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        note: Some(note.text.clone()),
        reason: Some(note.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(note.pod.name().to_owned()),
            namespace,
            uid: Some(note.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(me.to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_pod_with_a_long_name_have_valid_names() {
        let pod = format!("{}-{}", "a".repeat(229), "b".repeat(23));
        let name = event_name(&pod, Timestamp::now());
        assert!(name.len() <= 253 && !name.contains("-."), "{name}");
        assert!(event_name("pod", Timestamp::now()).starts_with("pod."));
    }

    /// A writer, what it writes onto pods, and what lets the calls for that end.
    fn writer() -> (Writer, mpsc::UnboundedReceiver<Value>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let (sender, written) = mpsc::unbounded_channel();
        let api = tower::service_fn({
            let gate = Arc::clone(&gate);
            move |request: http::Request<kube::client::Body>| {
                let (gate, sender) = (Arc::clone(&gate), sender.clone());
                async move {
                    if request.uri().path().contains("/pods/") {
                        let body = request.into_body().collect_bytes().await?;
                        let patch: Value = serde_json::from_slice(&body)?;
                        sender.send(patch["metadata"]["annotations"][PLAN_ANNOTATION].clone())?;
                        gate.acquire().await?.forget();
                    }
                    let answer = kube::client::Body::from(b"{\"metadata\":{}}".to_vec());
                    Ok::<_, tower::BoxError>(http::Response::new(answer))
                }
            }
        });
        let (inputs, _) = mpsc::channel(1);
        let client = Client::new(api, "default");
        let writer = Writer::new(client, "me".into(), inputs, TaskTracker::new());
        (writer, written, gate)
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_newest_annotation_of_a_pod_is_written_when_its_turn_comes() {
        let (writer, mut written, gate) = writer();
        for number in 0..ANNOTATIONS {
            let pod = PodKey::new("ns", &format!("pod-{number}"));
            writer.annotate_pod(pod, "uid", &json!("first"));
            assert_eq!(written.recv().await, Some(json!("\"first\"")));
        }
        let last = PodKey::new("ns", "last");
        for plan in ["old", "new"] {
            writer.annotate_pod(last.clone(), "uid", &json!(plan));
        }
        gate.add_permits(ANNOTATIONS + 1);
        assert_eq!(written.recv().await, Some(json!("\"new\"")));
        writer.tasks.close();
        writer.tasks.wait().await;
        assert!(written.try_recv().is_err() && lock(&writer.annotations).newest.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_annotation_that_could_not_be_written_does_not_replace_a_newer_one() {
        let (sender, mut written) = mpsc::unbounded_channel();
        let api = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let sender = sender.clone();
            async move {
                let body = request.into_body().collect_bytes().await?;
                let patch: Value = serde_json::from_slice(&body)?;
                let plan = patch["metadata"]["annotations"][PLAN_ANNOTATION].clone();
                let fails = plan == json!("\"old\"");
                sender.send(plan)?;
                let answer = kube::client::Body::from(b"{\"metadata\":{}}".to_vec());
                let mut answer = http::Response::new(answer);
                if fails {
                    *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<_, tower::BoxError>(answer)
            }
        });
        let (inputs, _) = mpsc::channel(1);
        let client = Client::new(api, "default");
        let writer = Writer::new(client, "me".into(), inputs, TaskTracker::new());
        let pod = PodKey::new("ns", "pod");
        writer.annotate_pod(pod.clone(), "uid", &json!("old"));
        assert_eq!(written.recv().await, Some(json!("\"old\"")));
        writer.annotate_pod(pod, "uid", &json!("new"));
        writer.tasks.close();
        writer.tasks.wait().await;
        assert_eq!(written.recv().await, Some(json!("\"new\"")));
        assert!(written.try_recv().is_err() && lock(&writer.annotations).newest.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_cannot_be_annotated_let_others_have_their_turns_between_attempts() {
        let (sender, mut written) = mpsc::unbounded_channel();
        let api = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let sender = sender.clone();
            async move {
                let path = request.uri().path().to_owned();
                let mut answer =
                    http::Response::new(kube::client::Body::from(b"{\"metadata\":{}}".to_vec()));
                if path.contains("bad") {
                    *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                }
                sender.send(path)?;
                Ok::<_, tower::BoxError>(answer)
            }
        });
        let (inputs, _) = mpsc::channel(1);
        let client = Client::new(api, "default");
        let writer = Writer::new(client, "me".into(), inputs, TaskTracker::new());
        let bad = 2 * ANNOTATIONS;
        for number in 0..bad {
            let pod = PodKey::new("ns", &format!("bad-{number}"));
            writer.annotate_pod(pod, "uid", &json!("plan"));
        }
        writer.annotate_pod(PodKey::new("ns", "good"), "uid", &json!("plan"));
        let begin = tokio::time::Instant::now();
        for _ in 0..bad {
            assert!(written.recv().await.unwrap().contains("bad"));
        }
        assert!(written.recv().await.unwrap().ends_with("good"));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        writer.tasks.close();
        writer.tasks.wait().await;
        let again = std::iter::from_fn(|| written.try_recv().ok());
        assert_eq!(again.count(), bad * 2, "three attempts each");
        assert!(lock(&writer.annotations).newest.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn node_status_does_not_wait_for_annotations_of_pods() {
        let (writer, mut written, _gate) = writer();
        for number in 0..2 * CALLS {
            let pod = PodKey::new("ns", &format!("pod-{number}"));
            writer.annotate_pod(pod, "uid", &json!("plan"));
        }
        written.recv().await.unwrap();
        let (inputs, mut answers) = mpsc::channel(1);
        let writer = Writer { inputs, ..writer };
        writer.patch_status("node".into(), json!({}));
        let answer = answers.recv().await.unwrap();
        let written = |input: &Input| matches!(input, Input::StatusAnswer { answer, .. } if *answer == Answer::Written);
        assert!(written(&answer));
    }
}
