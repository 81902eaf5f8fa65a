//! One authority for the cluster's lifetime, and what it vouches for.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::network::{self, API_SERVICE, NODE};
use super::place;

/// The node's name.
pub(super) const NODE_NAME: &str = "cdmo-node";

/// Somebody who talks to the API server, and the groups that Kubernetes' own roles are bound to.
struct Client {
    file: &'static str,
    name: &'static str,
    group: Option<&'static str>,
}

const ADMIN: &str = "admin";
const CLIENTS: [Client; 5] = [
    Client {
        file: ADMIN,
        name: "cdmo-cluster-admin",
        group: Some("system:masters"),
    },
    Client {
        file: "kube-controller-manager",
        name: "system:kube-controller-manager",
        group: None,
    },
    Client {
        file: "kube-scheduler",
        name: "system:kube-scheduler",
        group: None,
    },
    Client {
        file: "kube-proxy",
        name: "system:kube-proxy",
        group: None,
    },
    Client {
        file: "kubelet",
        name: "system:node:cdmo-node",
        group: Some("system:nodes"),
    },
];

/// A file of this folder.
pub(super) fn file(name: &str) -> String {
    place::home_text(&format!("pki/{name}"))
}

/// The kubeconfig of one of the programs.
pub(super) fn kubeconfig(name: &str) -> String {
    place::home_text(&format!("pki/{name}.kubeconfig"))
}

/// Makes all keys, certificates and kubeconfigs.
pub(super) fn make() -> anyhow::Result<()> {
    place::make(Path::new(&file("")))?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
        .distinguished_name
        .push(DnType::CommonName, "cdmo-cluster");
    write("ca.crt", &params.self_signed(&key)?.pem())?;
    write("ca.key", &key.serialize_pem())?;
    let authority = Issuer::new(params, key);

    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        NODE,
        API_SERVICE,
        "127.0.0.1",
    ];
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    issue(
        &authority,
        "kube-apiserver",
        "kube-apiserver",
        None,
        &names,
        server.clone(),
    )?;
    issue(
        &authority,
        "kubelet-server",
        NODE_NAME,
        None,
        &[NODE_NAME, NODE],
        server,
    )?;
    for Client { file, name, group } in CLIENTS {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        issue(&authority, file, name, group, &[], usage)?;
        let path = kubeconfig(file);
        secret(Path::new(&path), &config(file))?;
    }
    secret(&place::kubeconfig(), &config(ADMIN))?;

    // The API server signs the tokens of service accounts with the one and checks with the other.
    let tokens = KeyPair::generate()?;
    write("tokens.key", &tokens.serialize_pem())?;
    write("tokens.pub", &tokens.public_key_pem())
}

fn issue(
    authority: &Issuer<'_, KeyPair>,
    file: &str,
    name: &str,
    group: Option<&str>,
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        let kind = DnType::OrganizationName;
        params.distinguished_name.push(kind, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, authority)?;
    write(&format!("{file}.crt"), &certificate.pem())?;
    write(&format!("{file}.key"), &key.serialize_pem())
}

/// A kubeconfig; JSON is YAML, too.
fn config(client: &str) -> String {
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cdmo-cluster", "cluster": {
            "server": network::api(),
            "certificate-authority": file("ca.crt"),
        }}],
        "users": [{"name": client, "user": {
            "client-certificate": file(&format!("{client}.crt")),
            "client-key": file(&format!("{client}.key")),
        }}],
        "contexts": [{"name": "cdmo-cluster", "context": {
            "cluster": "cdmo-cluster",
            "user": client,
        }}],
        "current-context": "cdmo-cluster",
    });
    format!("{content:#}\n")
}

fn write(name: &str, content: &str) -> anyhow::Result<()> {
    secret(Path::new(&file(name)), content)
}

/// Writes a file that only root can read.
fn secret(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}
