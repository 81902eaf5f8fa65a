//! Who holds a device, and what the agent contributes: the journal and three of the four proofs.
//!
//! A hold begins before a grant is answered and ends only on proof. A pod's phase or deletion is a
//! hint, never proof: a force-deleted pod leaves podresources while its containers still run.

use futures::future::BoxFuture;

use crate::Listing;

/// One container of one pod. podresources does not say UIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
}

impl Holder {
    /// Both are containers of the pod of that name.
    pub(crate) fn is_of_pod(&self, other: &Self) -> bool {
        (&self.namespace, &self.pod) == (&other.namespace, &other.pod)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.pod, self.container)
    }
}

/// A device that was granted to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Resource name under which it was granted.
    pub resource: String,
    /// Device id.
    pub id: String,
    /// Containers that podresources showed with it since the hold began, oldest first; the last one
    /// is the present one. Empty for a grant that podresources has not shown yet.
    pub holders: Vec<Holder>,
}

/// What a [`Ledger`] may fail with; only its text is used.
pub type LedgerError = Box<dyn std::error::Error + Send + Sync>;

/// The journal of holds. Calls never overlap: one ends before the next begins, also one that took
/// longer than [`Timing::ledger_timeout`](crate::Timing::ledger_timeout) and that nobody waits for
/// any more.
pub trait Ledger: Send + Sync + 'static {
    /// Writes and syncs that these ids are held, before the grant is answered. An id that is held
    /// already may be granted again.
    fn grant<'a>(
        &'a self,
        resource: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<(), LedgerError>>;

    /// Writes that the hold ended. If it fails the hold goes on and ends later.
    fn release<'a>(
        &'a self,
        resource: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), LedgerError>>;

    /// podresources now shows this container with the id. Worth writing down, because a pod that is
    /// deleted by force while the agent is down is never shown again.
    fn held_by<'a>(
        &'a self,
        _resource: &'a str,
        _id: &'a str,
        _holder: &'a Holder,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The former holders of an id that was granted anew, or may have been before our start, are proven
    /// to be gone ([`Evidence::contested`]); `present` is whom podresources showed with it then. Worth
    /// writing down, or the next start of the agent would put them to the proof again. Nothing waits
    /// for it to be on disk.
    fn settled<'a>(
        &'a self,
        _resource: &'a str,
        _id: &'a str,
        _present: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<(), LedgerError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The proofs of a hold's end that the kubelet's podresources cannot give.
pub trait Evidence: Send + Sync + 'static {
    /// Why the device may still be held, as half a sentence, or `None` when all of these are proven:
    /// every pod of the node that is not terminal and asks for the resource, init containers
    /// included, is accounted for in `shown`; no live process belongs to a former holder; NVML shows
    /// no process on the device. No answer within
    /// [`Timing::evidence_timeout`](crate::Timing::evidence_timeout) counts as doubt.
    fn still_held<'a>(
        &'a self,
        device: &'a Hold,
        shown: &'a Listing,
    ) -> BoxFuture<'a, Option<String>>;

    /// The kubelet gave the device to another pod before the end of its hold was proven, or may have
    /// done so before our start, and a container of the new pod is to start with it: why processes of
    /// former holders may still use it, as half a sentence, or `None` when both are proven: no live
    /// process belongs to a former holder (`device.holders`, and whoever is `unseen`); NVML shows no
    /// process of another pod on the device. The new pod's own processes say nothing.
    fn contested<'a>(&'a self, device: &'a Hold, claim: Claim<'a>)
    -> BoxFuture<'a, Option<String>>;
}

/// What is known of the pods that may use a device that was granted while it was held.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The new pod, once podresources shows it, whether or not it is among the holders.
    pub present: Option<&'a Holder>,
    /// Another pod than the known holders may have started a container with the device, and was never
    /// shown with it.
    pub unseen: bool,
    /// What podresources showed last.
    pub shown: &'a Listing,
}
