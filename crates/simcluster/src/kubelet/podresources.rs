//! The kubelet's podresources server: who has which devices, for whoever is on the node.

use std::collections::BTreeMap;

use cdmo_proto::podresources as api;
use cdmo_proto::podresources::pod_resources_lister_server::PodResourcesLister;
use serde_json::Value;
use tonic::{Request, Response, Status};

use crate::resources::is_sidecar;
use crate::store::object;

use super::Kubelet;
use super::devices::Ids;
use super::devices::held::Grant;

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    /// Active pods only, without their uids and without init containers that run to an end.
    async fn list(
        &self,
        _: Request<api::ListPodResourcesRequest>,
    ) -> Result<Response<api::ListPodResourcesResponse>, Status> {
        let singly = self.behaviour().lists_devices_singly();
        let table = self.table();
        let mut devices = self.devices();
        devices.release_inactive(&table.active_uids());
        let container = |uid: &str, name: &str| api::ContainerResources {
            name: name.to_owned(),
            devices: devices
                .held()
                .container(uid, name)
                .map(|grants| listed(grants, singly))
                .unwrap_or_default(),
        };
        let pods = table.active().map(|(uid, pod)| api::PodResources {
            name: object::name(pod).to_owned(),
            namespace: object::namespace(pod).to_owned(),
            containers: shown_containers(pod)
                .map(|name| container(uid, name))
                .collect(),
        });
        let pod_resources = pods.collect();
        Ok(Response::new(api::ListPodResourcesResponse {
            pod_resources,
        }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<api::AllocatableResourcesRequest>,
    ) -> Result<Response<api::AllocatableResourcesResponse>, Status> {
        if !self.behaviour().allocatable_resources() {
            return Err(Status::unimplemented(
                "unknown method GetAllocatableResources for service v1.PodResourcesLister",
            ));
        }
        let devices = self.devices();
        let all = devices
            .allocatable()
            .iter()
            .filter(|(_, ids)| !ids.is_empty());
        let devices = all
            .flat_map(|(name, ids)| entries(name, ids, true))
            .collect();
        Ok(Response::new(api::AllocatableResourcesResponse { devices }))
    }
}

fn shown_containers(pod: &Value) -> impl Iterator<Item = &str> {
    let sidecars = object::array(pod, "/spec/initContainers")
        .iter()
        .filter(|c| is_sidecar(c));
    let all = sidecars.chain(object::array(pod, "/spec/containers"));
    all.map(|container| object::text(container, "/name"))
}

fn listed(grants: &BTreeMap<String, Grant>, singly: bool) -> Vec<api::ContainerDevices> {
    grants
        .iter()
        .flat_map(|(name, grant)| entries(name, &grant.ids, singly))
        .collect()
}

fn entries(name: &str, ids: &Ids, singly: bool) -> Vec<api::ContainerDevices> {
    let entry = |device_ids: Vec<String>| api::ContainerDevices {
        resource_name: name.to_owned(),
        device_ids,
    };
    if singly {
        ids.iter().map(|id| entry(vec![id.clone()])).collect()
    } else {
        vec![entry(ids.iter().cloned().collect())]
    }
}
