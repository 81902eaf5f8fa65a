//! Lets API servers trust the webhook: the certificates of our authorities in its configuration.
//!
//! The chart makes the configuration without them, and whoever applies it again leaves a field alone
//! that he never wrote. Should somebody take them out nevertheless, they are put back at once.

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::{
    ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

use super::{Error, call};
use crate::names::CONTROLLER;

/// Keeps one configuration.
#[derive(Clone)]
pub struct Trust {
    api: Api<Configuration>,
    name: String,
}

impl Trust {
    /// For the configuration of that name.
    pub fn new(client: Client, name: &str) -> Self {
        Self {
            api: Api::all(client),
            name: name.to_owned(),
        }
    }

    /// Something for each change of the configuration, without end.
    pub fn changes(&self) -> BoxStream<'static, ()> {
        watcher::watch_object(self.api.clone(), &self.name)
            .default_backoff()
            .map(drop)
            .boxed()
    }

    /// Writes these certificates into the configuration where they are not in it.
    pub async fn settle(&self, bundle: &str) -> Result<(), Error> {
        let name = &self.name;
        let what = || {
            format!(
                "the MutatingWebhookConfiguration {name}, which says whom API servers trust as webhook"
            )
        };
        let found = call("read", what(), self.api.get_opt(name)).await?;
        let found = found.ok_or_else(|| Error::NoConfiguration { name: name.clone() })?;
        let Some(patch) = due(&found, bundle) else {
            return Ok(());
        };
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(patch);
        call("write", what(), self.api.patch(name, &params, &patch)).await?;
        tracing::info!(configuration = name, "wrote whom API servers trust");
        Ok(())
    }
}

/// The change that is due; none if all is as it should be. It names webhooks one by one, so that
/// nothing else in the configuration is touched, whoever writes at the same time.
fn due(configuration: &Configuration, bundle: &str) -> Option<Value> {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    let wrong = webhooks.iter().filter(|webhook| {
        let trusted = webhook.client_config.ca_bundle.as_ref();
        trusted.is_none_or(|trusted| trusted.0 != bundle.as_bytes())
    });
    let bytes = ByteString(bundle.as_bytes().to_vec());
    let all: Vec<Value> = wrong
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bytes}}))
        .collect();
    (!all.is_empty()).then(|| json!({"webhooks": all}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(webhooks: &Value) -> Configuration {
        serde_json::from_value(json!({"webhooks": webhooks})).unwrap()
    }

    fn webhook(name: &str, bundle: Option<&str>) -> Value {
        let bundle = bundle.map(|text| ByteString(text.into()));
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"caBundle": bundle, "service": {"name": "s", "namespace": "n"}},
        })
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let found = configuration(&json!([webhook("a", Some("one"))]));
        assert_eq!(due(&found, "one"), None);
        assert_eq!(due(&configuration(&json!([])), "one"), None);
    }

    #[test]
    fn only_webhooks_that_trust_somebody_else_are_changed_and_nothing_else_in_them() {
        let all = json!([
            webhook("a", Some("one")),
            webhook("b", Some("two")),
            webhook("c", None)
        ]);
        let bytes = ByteString("one".into());
        let change = |name: &str| json!({"name": name, "clientConfig": {"caBundle": bytes}});
        let wanted = json!({"webhooks": [change("b"), change("c")]});
        assert_eq!(due(&configuration(&all), "one"), Some(wanted));
    }
}
