//! What can go wrong, one sentence each: what, where, what to do.

use kube::config::KubeconfigError;

use crate::simulate::input::InputError;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable kubeconfig.
    #[error(
        "failed to find the cluster: {}; name a kubeconfig with --kubeconfig or KUBECONFIG, and a \
         context in it with --context",
        first_line(source)
    )]
    Kubeconfig {
        /// What is wrong.
        source: KubeconfigError,
    },
    /// Certificates or credentials in it cannot be used.
    #[error("failed to make a client for {url}: {why}; check the credentials in the kubeconfig")]
    Client {
        /// The API server.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// No answer.
    #[error(
        "failed to reach the API server at {url}: {why}; check that the cluster runs and that the \
         kubeconfig names its address"
    )]
    Unreachable {
        /// The API server.
        url: String,
        /// What happened.
        why: String,
    },
    /// Unauthorized.
    #[error(
        "the API server at {url} does not accept your credentials; log in again or check the \
         kubeconfig"
    )]
    Unauthorized {
        /// The API server.
        url: String,
    },
    /// Forbidden.
    #[error(
        "you may not look at the controller: {why}; ask for a role that allows to list pods and to \
         get pods/proxy in namespace {namespace}"
    )]
    Forbidden {
        /// What the API server says.
        why: String,
        /// Where the role is needed.
        namespace: String,
    },
    /// Anything else that the API server refuses.
    #[error("the API server at {url} refuses to tell: {why}")]
    Refused {
        /// The API server.
        url: String,
        /// What it says.
        why: String,
    },
    /// No controller.
    #[error(
        "there is no controller in namespace {namespace} (no pod with label {selector}); install \
         the chart, or name its namespace with --namespace"
    )]
    NoController {
        /// Where it was looked for.
        namespace: String,
        /// By what.
        selector: String,
    },
    /// A controller that does not run.
    #[error(
        "the controller {pod} does not run: {why}; look at `kubectl -n {namespace} describe pod \
         {name}`",
        namespace = pod.split('/').next().unwrap_or_default(),
        name = pod.rsplit('/').next().unwrap_or_default()
    )]
    NotRunning {
        /// Its pod.
        pod: String,
        /// Its phase, or what its container waits for.
        why: String,
    },
    /// A controller that has just started.
    #[error("the controller {pod} is not ready: {why}; try again in a moment")]
    NotReady {
        /// Its pod.
        pod: String,
        /// What it says.
        why: String,
    },
    /// The API server gets no answer from it.
    #[error(
        "the controller {pod} does not answer the API server: {why}; look into its log, and at \
         network policies for its port {port}"
    )]
    Silent {
        /// Its pod.
        pod: String,
        /// Its port.
        port: u16,
        /// What the API server says.
        why: String,
    },
    /// A controller without such a page.
    #[error(
        "the controller {pod} cannot tell its status: it is older than this plugin; upgrade the \
         chart, or use the kubectl-cdmo of its release"
    )]
    Old {
        /// Its pod.
        pod: String,
    },
    /// A document of another version.
    #[error(
        "the controller {pod} answers in version {found}, and this plugin reads {ours} only; use \
         the kubectl-cdmo of its release"
    )]
    Version {
        /// Its pod.
        pod: String,
        /// Version of the document.
        found: String,
        /// The one that is known here.
        ours: &'static str,
    },
    /// An answer that is none.
    #[error("the answer of {pod} is no status: {why}; check what listens at its port {port}")]
    Garbled {
        /// Its pod.
        pod: String,
        /// Its port.
        port: u16,
        /// What is wrong with it.
        why: String,
    },
    /// Nodes that nobody knows.
    #[error("the controller knows no node {names} with GPUs; leave --node out to see all")]
    NoSuchNode {
        /// Their names.
        names: String,
    },
    /// A pod that the controller does not know.
    #[error(
        "the controller knows no pod {pod} that waits for a slice, a fraction or a GPU, or holds one; \
         look at it with `kubectl -n {namespace} describe pod {name}`",
        namespace = pod.split('/').next().unwrap_or_default(),
        name = pod.rsplit('/').next().unwrap_or_default()
    )]
    NoSuchPod {
        /// Namespace and name.
        pod: String,
    },
    /// A name that cannot be a pod's.
    #[error("{name:?} names no pod; write NAMESPACE/POD, or POD alone")]
    PodName {
        /// What was written.
        name: String,
    },
    /// Something is wrong in a file.
    #[error(transparent)]
    Manifest(#[from] manifest_files::ManifestError),
    /// The controller does not take the question.
    #[error("the controller does not take the question: {why}")]
    Question {
        /// What it says.
        why: String,
    },
    /// Options or a trace that cannot be simulated.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A simulation that failed.
    #[error("failed to simulate: {why}")]
    Simulation {
        /// What happened.
        why: String,
    },
    /// A file that cannot be written.
    #[error("failed to write {place}: {why}; name another folder with --out")]
    Write {
        /// The file or folder.
        place: String,
        /// What happened.
        why: String,
    },
    /// What no user can have caused.
    #[error("failed to wait for signals: {0}")]
    Signals(#[from] std::io::Error),
}

impl Error {
    /// How the program ends: 2 if what was given cannot be used, as for a wrong option, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            _ => 1,
        }
    }
}

/// A parser's message shows the place in the file over several lines; the first says what and where.
fn first_line(error: &KubeconfigError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What an error comes down to.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
