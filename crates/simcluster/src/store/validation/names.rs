//! Names, labels and resource names, with the explanations that Kubernetes gives
//! (k8s.io/apimachinery/pkg/util/validation). Each check returns what is wrong, or nothing.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
     characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
     or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
     '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
     'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
     '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || c == '-')
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// DNS label, such as a container's name.
pub(super) fn label(text: &str) -> Option<String> {
    match text {
        text if text.len() > 63 => Some(too_long(63)),
        text if !is_label(text) => Some(LABEL.to_owned()),
        _ => None,
    }
}

/// DNS subdomain, such as most objects' names.
pub(super) fn subdomain(text: &str) -> Option<String> {
    match text {
        text if text.len() > 253 => Some(too_long(253)),
        text if !text.split('.').all(is_label) => Some(SUBDOMAIN.to_owned()),
        _ => None,
    }
}

/// A service's name.
pub(super) fn service(text: &str) -> Option<String> {
    match text {
        text if text.len() > 63 => Some(too_long(63)),
        text if !is_label(text) || text.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(SERVICE.to_owned())
        }
        _ => None,
    }
}

/// `prefix/name`, such as a label's key or a resource.
pub(super) fn qualified(text: &str) -> Option<String> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".to_owned());
            }
            if let Some(why) = subdomain(prefix) {
                return Some(format!("prefix part {why}"));
            }
            name
        }
        None => text,
    };
    match name {
        "" => Some("name part must be non-empty".to_owned()),
        name if name.len() > 63 => Some(format!("name part {}", too_long(63))),
        name if !is_word(name) => Some(QUALIFIED.to_owned()),
        _ => None,
    }
}

/// A label's value.
pub(super) fn label_value(text: &str) -> Option<String> {
    match text {
        "" => None,
        text if text.len() > 63 => Some(too_long(63)),
        text if !is_word(text) => Some(LABEL_VALUE.to_owned()),
        _ => None,
    }
}
