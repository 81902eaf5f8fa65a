//! What a person needs to see after a story went wrong, as files: objects, the controller's report,
//! and what our programs wrote.

use std::fmt::Debug;
use std::path::Path;

use k8s_openapi::api::core::v1::{Event, Node, Pod as Object};
use kube::api::{ListParams, LogParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ground, Place};

/// Lines of each log.
const TAIL: i64 = 5_000;

impl Ground {
    /// Writes everything into a folder; what cannot be read is told there.
    pub(super) async fn dump(&self, folder: &Path, error: &anyhow::Error) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let (namespace, why) = (&self.namespace, format!("{error:#}\n"));
        std::fs::write(
            folder.join("error.txt"),
            format!("{why}namespace {namespace}\n"),
        )?;
        let client = || self.client.clone();
        self.objects(folder, "pods", Api::<Object>::all(client()))
            .await?;
        self.objects(folder, "nodes", Api::<Node>::all(client()))
            .await?;
        self.objects(folder, "events", Api::<Event>::all(client()))
            .await?;
        let report = match self.report().await {
            Ok(report) => serde_json::to_string_pretty(&report).unwrap_or_default(),
            Err(error) => format!("{error:#}"),
        };
        std::fs::write(folder.join("status.json"), report)?;
        // The embedded cluster keeps logs beside this folder.
        if let Place::Real(_) = self.place {
            self.logs(folder).await?;
        }
        Ok(())
    }

    async fn objects<K>(&self, folder: &Path, name: &str, api: Api<K>) -> std::io::Result<()>
    where
        K: Resource + Clone + DeserializeOwned + Serialize + Debug,
    {
        let text = match api.list(&ListParams::default()).await {
            Ok(list) => serde_json::to_string_pretty(&list.items).unwrap_or_default(),
            Err(error) => format!("{error:#}"),
        };
        std::fs::write(folder.join(format!("{name}.json")), text)
    }

    async fn logs(&self, folder: &Path) -> std::io::Result<()> {
        let pods = self.own_pods();
        let list = pods.list(&ListParams::default()).await;
        for pod in list.map(|list| list.items).unwrap_or_default() {
            for (previous, suffix) in [(true, "-before"), (false, "")] {
                let name = pod.name_any();
                let wanted = LogParams {
                    previous,
                    tail_lines: Some(TAIL),
                    timestamps: true,
                    ..LogParams::default()
                };
                let text = match pods.logs(&name, &wanted).await {
                    Ok(text) => text,
                    // Most never restarted.
                    Err(_) if previous => continue,
                    Err(error) => format!("{error:#}"),
                };
                std::fs::write(folder.join(format!("{name}{suffix}.log")), text)?;
            }
        }
        Ok(())
    }
}
