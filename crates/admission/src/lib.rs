//! What the mutating webhook does, without I/O: an admission review in, an answer out.
//!
//! The API server takes extended resources in whole numbers only, so `clear.ml/fraction-1: "0.5"`
//! never reaches a pod unless somebody rewrites it first. [`review()`] turns it, in pods and in the
//! templates of workloads, into a resource of ours (`cdmo.clear.ml/fraction-0.500: 1`), keeps the
//! user's words in an annotation ([`RECORD_ANNOTATION`]), and sets `CLEARML_AGENT_GPU_FRACTIONS` so
//! that ClearML reports the right share. [`answer`] does the same for the bytes of an
//! `AdmissionReview`.
//!
//! An object may come by any number of times: the pods of a changed template, the same manifest
//! applied again, a controller's updates. What the webhook wrote once it does not write again, what
//! it wrote it takes back when the user's words are gone, and where it cannot tell it leaves things
//! alone. Time and memory are linear in the size of the review.
//!
//! ```
//! use serde_json::json;
//!
//! let request = json!({
//!     "operation": "CREATE",
//!     "namespace": "tenant-a",
//!     "resource": {"group": "", "version": "v1", "resource": "pods"},
//!     "object": {"spec": {"containers": [
//!         {"name": "main", "resources": {"limits": {"clear.ml/fraction-1": "500m"}}},
//!     ]}},
//! });
//! let decision = admission::review(&request, &admission::Options::default());
//! assert_eq!(decision.denial, None);
//! assert_eq!(decision.patch[0].path(), "/spec/containers/0/resources");
//! ```

#![forbid(unsafe_code)]

mod applied;
mod container;
mod devices;
mod envelope;
mod environment;
mod operation;
mod plan;
mod quantity;
mod record;
mod review;
mod template;
mod warnings;
mod weight;
mod words;

pub use envelope::{Answer, ReviewError, answer};
pub use environment::FRACTIONS_VARIABLE;
pub use operation::Operation;
pub use record::RECORD_ANNOTATION;
pub use review::{resources, review};
pub use weight::weight;
pub use words::{ANNOTATION, LABEL, is_fraction};

/// What an administrator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Our own namespace, where nothing is ever touched.
    pub own_namespace: String,
    /// Whether the pod label `clearml-injector/fraction` counts. ClearML's fractional GPU injector
    /// reads it, too; where that one serves it, this must be off.
    pub label: bool,
    /// Whether the pod annotation `gpu-fraction` counts. Other schedulers know an annotation of that
    /// name.
    pub annotation: bool,
    /// The scheduling gate that new pods get that ask for slices, if any. Only where the API server
    /// knows scheduling gates (Kubernetes 1.27), and somebody removes it again.
    pub gate: Option<String>,
}

impl Default for Options {
    /// The namespace of the chart, all forms, no gate.
    fn default() -> Self {
        Self {
            own_namespace: "cdmo-operator".into(),
            label: true,
            annotation: true,
            gate: None,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Changes to the object; none if it is denied.
    pub patch: Vec<Operation>,
    /// Sentences that kubectl prints.
    pub warnings: Vec<String>,
    /// Why it is refused, in a sentence that names the field, what is wrong and what is allowed.
    pub denial: Option<String>,
}
