//! Requests as they are on the wire: what typed clients hide is the warnings, and objects that their
//! types could not say.

use anyhow::Context as _;
use http::Request;
use kube::client::Body;
use serde_json::{Value, json};
use testbed::manifests::WEBHOOK;

use super::{Ground, LIMIT, TICK};

/// An answer of the API server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its code.
    pub code: u16,
    /// An object, or a status.
    pub body: Value,
    /// What kubectl would print.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The object, if the request went through.
    ///
    /// # Errors
    /// It was refused.
    pub fn done(self) -> anyhow::Result<Value> {
        anyhow::ensure!(self.code < 300, "refused with {}: {}", self.code, self.body);
        Ok(self.body)
    }

    /// Why it was refused.
    ///
    /// # Errors
    /// It was not.
    pub fn refusal(self) -> anyhow::Result<String> {
        anyhow::ensure!(self.code >= 400, "not refused: {}", self.body);
        Ok(self.body["message"].as_str().unwrap_or_default().to_owned())
    }
}

/// How an object is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `kubectl create`.
    Create,
    /// `kubectl create --dry-run=server`.
    DryRun,
    /// `kubectl apply --server-side` by one and the same user.
    Apply,
    /// The patch of `kubectl apply` from the client's side.
    Patch,
}

impl Ground {
    /// Sends an object of the story, for example to `api/v1` `pods`.
    pub async fn send(
        &self,
        way: Way,
        api: &str,
        resource: &str,
        object: &Value,
    ) -> anyhow::Result<Answer> {
        let all = format!("/{api}/namespaces/{}/{resource}", self.namespace());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let one = format!("{all}/{name}");
        let (method, path, kind) = match way {
            Way::Create => ("POST", all, "application/json"),
            Way::DryRun => ("POST", format!("{all}?dryRun=All"), "application/json"),
            Way::Apply => (
                "PATCH",
                format!("{one}?fieldManager=somebody&force=true"),
                "application/apply-patch+yaml",
            ),
            Way::Patch => ("PATCH", one, "application/strategic-merge-patch+json"),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("content-type", kind)
            .header("accept", "application/json")
            .body(Body::from(object.to_string().into_bytes()))?;
        let sent = tokio::time::timeout(LIMIT, self.client.send(request)).await;
        let response = sent
            .with_context(|| format!("no answer within {LIMIT:?}"))?
            .with_context(|| format!("failed to send {resource} {name}"))?;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").into_iter();
        let warnings = warnings
            .filter_map(|warning| warning.to_str().ok())
            .map(str::to_owned)
            .collect();
        let bytes = response.into_body().collect_bytes().await?;
        let body = serde_json::from_slice(&bytes).context("the answer is no JSON")?;
        Ok(Answer {
            code,
            body,
            warnings,
        })
    }

    /// An object of the story as it is; none if there is none.
    pub async fn stored(
        &self,
        api: &str,
        resource: &str,
        name: &str,
    ) -> anyhow::Result<Option<Value>> {
        let path = format!("/{api}/namespaces/{}/{resource}/{name}", self.namespace());
        let request = Request::get(path).header("accept", "application/json");
        let response = self.client.send(request.body(Body::empty())?).await?;
        let found = response.status().is_success();
        let bytes = response.into_body().collect_bytes().await?;
        let body = serde_json::from_slice(&bytes).context("the answer is no JSON")?;
        Ok(found.then_some(body))
    }

    /// Waits until fractions are served in the story's namespace.
    pub async fn fractions_are_served(&self) -> anyhow::Result<()> {
        let limits = json!({ "clear.ml/fraction-1": "0.5" });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe" },
            "spec": { "containers": [
                { "name": "main", "image": "any", "resources": { "limits": limits } },
            ]},
        });
        let wait = async {
            loop {
                let answer = self.send(Way::DryRun, "api/v1", "pods", &pod).await;
                if answer.is_ok_and(|answer| answer.code == 201) {
                    return;
                }
                tokio::time::sleep(TICK).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        waited.with_context(|| format!("no fraction is served within {LIMIT:?}"))
    }

    /// `kill -9` of a webhook; it is started again, and others may go on.
    pub async fn kill_webhook(&self) -> anyhow::Result<()> {
        self.kill(WEBHOOK).await
    }
}
