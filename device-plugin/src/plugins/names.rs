//! Which names the kubelet and the API server would take.

use crate::EnsureError;

/// Longest domain: the API server checks it with "requests." in front, as quotas spell it.
const LONGEST_DOMAIN: usize = 253 - "requests.".len();
const LONGEST_NAME: usize = 63;

/// The rules of the API server for extended resources (Kubernetes: `IsExtendedResourceName`).
pub(super) fn check_resource(resource: &str) -> Result<(), EnsureError> {
    let why = match resource.split_once('/') {
        None => "it has no domain; use a name such as nvidia.com/gpu",
        Some((domain, _)) if domain.ends_with("kubernetes.io") => {
            "the domain kubernetes.io is reserved; use a name such as nvidia.com/gpu"
        }
        Some((domain, _)) if domain.starts_with("requests.") => {
            "the domain begins with \"requests.\"; leave that out"
        }
        Some((domain, _)) if !is_domain(domain) => {
            "its domain is not a DNS name in lower case; use a name such as nvidia.com/gpu"
        }
        Some((_, name)) if !is_name(name) => {
            "after the domain it needs 1 to 63 letters, digits, '-', '_' or '.', with a letter or \
             digit at both ends"
        }
        Some(_) => return Ok(()),
    };
    Err(EnsureError::ResourceName {
        resource: resource.to_owned(),
        why,
    })
}

/// Ids become file names in containers.
pub(super) fn is_device_id(id: &str) -> bool {
    is_name(id)
}

/// Prefixes become part of file names.
pub(super) fn is_prefix(prefix: &str) -> bool {
    !prefix.is_empty()
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= LONGEST_DOMAIN && domain.split('.').all(label)
}

fn is_name(name: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= LONGEST_NAME
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvidias_names_are_resources() {
        for good in [
            "nvidia.com/gpu",
            "nvidia.com/mig-1g.5gb.me",
            "nvidia.com/mig-1g.24gb-me",
        ] {
            assert!(check_resource(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_in_one_sentence() {
        let long = format!("nvidia.com/{}", "x".repeat(64));
        for bad in [
            "gpu",
            "kubernetes.io/gpu",
            "node.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            "NVIDIA.com/gpu",
            "nvidia..com/gpu",
            "/gpu",
            "nvidia.com/",
            "nvidia.com/a/b",
            "nvidia.com/mig-1g.5gb+me",
            "nvidia.com/-gpu",
            &long,
        ] {
            let error = check_resource(bad).unwrap_err();
            assert!(
                error.to_string().starts_with("failed to serve resource"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn ids_that_could_leave_their_directory_are_no_device_ids() {
        assert!(is_device_id("MIG-8443519f-66f7-5962-8955-60dba0866f3a"));
        for bad in ["", ".", "..", "a/b", "a,b", &"x".repeat(64)] {
            assert!(!is_device_id(bad), "{bad}");
        }
    }
}
