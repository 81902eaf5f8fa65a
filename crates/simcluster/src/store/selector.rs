//! Label and field selectors: as strings in a query, and as `LabelSelector` objects.

use serde_json::Value;

use super::{Kind, Status, object};

/// Which labels an object must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<(String, Need)>,
    /// Matches nothing (a `LabelSelector` that is null).
    never: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Labels {
    /// From `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() && text.trim().is_empty() {
                continue;
            }
            let requirement = requirement(part).ok_or_else(|| {
                Status::bad_request(format!("unable to parse requirement: {part:?}"))
            })?;
            requirements.push(requirement);
        }
        Ok(Self {
            requirements,
            never: false,
        })
    }

    /// From `matchLabels` and `matchExpressions`; null matches nothing, `{}` everything.
    pub fn from_object(selector: &Value) -> Self {
        if selector.is_null() {
            return Self {
                requirements: Vec::new(),
                never: true,
            };
        }
        let equal = object::pairs(selector, "/matchLabels")
            .map(|(key, value)| (key.to_owned(), Need::In(vec![value.to_owned()])));
        let expressions = object::array(selector, "/matchExpressions")
            .iter()
            .map(|expression| {
                let values = object::array(expression, "/values")
                    .iter()
                    .filter_map(|value| Some(value.as_str()?.to_owned()))
                    .collect();
                let need = match object::text(expression, "/operator") {
                    "In" => Need::In(values),
                    "NotIn" => Need::NotIn(values),
                    "DoesNotExist" => Need::Absent,
                    _ => Need::Exists,
                };
                (object::text(expression, "/key").to_owned(), need)
            });
        Self {
            requirements: equal.chain(expressions).collect(),
            never: false,
        }
    }

    /// Every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.never
    }

    /// The object's labels match.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels").unwrap_or(&Value::Null);
        !self.never
            && self.requirements.iter().all(|(key, need)| {
                let found = labels.get(key).and_then(Value::as_str);
                let among = |values: &[String]| values.iter().any(|v| Some(v.as_str()) == found);
                match need {
                    Need::In(values) => among(values),
                    Need::NotIn(values) => !among(values),
                    Need::Exists => found.is_some(),
                    Need::Absent => found.is_none(),
                }
            })
    }
}

/// At commas outside brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Option<(String, Need)> {
    let word = |text: &str| {
        let text = text.trim();
        let fits = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        fits.then(|| text.to_owned())
    };
    let value = |text: &str| {
        if text.trim().is_empty() {
            Some(String::new())
        } else {
            word(text)
        }
    };
    if let Some(key) = text.strip_prefix('!') {
        return Some((word(key)?, Need::Absent));
    }
    if let Some((key, wanted)) = text.split_once("!=") {
        return Some((word(key)?, Need::NotIn(vec![value(wanted)?])));
    }
    if let Some((key, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some((word(key)?, Need::In(vec![value(wanted)?])));
    }
    if let Some((head, list)) = text.split_once('(') {
        let values: Option<Vec<String>> = list
            .trim()
            .strip_suffix(')')?
            .split(',')
            .map(value)
            .collect();
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?, words.next()?);
        return match (operator, words.next()) {
            ("in", None) => Some((word(key)?, Need::In(values?))),
            ("notin", None) => Some((word(key)?, Need::NotIn(values?))),
            _ => None,
        };
    }
    Some((word(text)?, Need::Exists))
}

/// Which fields an object must have: a few of each kind, as the real server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// JSON pointer, wanted value, and whether it must be that one.
    requirements: Vec<(String, String, bool)>,
}

impl Fields {
    /// From `spec.nodeName=a,status.phase!=Failed`.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (field, value, equal) = part
                .split_once("!=")
                .map(|(field, value)| (field, value, false))
                .or_else(|| {
                    let (field, value) = part.split_once("==").or_else(|| part.split_once('='))?;
                    Some((field, value, true))
                })
                .ok_or_else(|| {
                    Status::bad_request(format!(
                        "invalid selector: '{part}'; can't understand '{part}'"
                    ))
                })?;
            let pointer = pointer(kind, field).ok_or_else(|| {
                Status::bad_request(format!("field label not supported: {field}"))
            })?;
            requirements.push((pointer, value.to_owned(), equal));
        }
        Ok(Self { requirements })
    }

    /// Every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The object's fields match; a missing field is an empty string, or `false`.
    pub fn matches(&self, object: &Value) -> bool {
        self.requirements.iter().all(|(pointer, wanted, equal)| {
            let same = match object.pointer(pointer) {
                Some(Value::String(found)) => found == wanted,
                Some(Value::Bool(found)) => found.to_string() == *wanted,
                Some(Value::Number(found)) => found.to_string() == *wanted,
                _ => wanted.is_empty() || wanted == "false",
            };
            same == *equal
        })
    }
}

/// Where a selectable field is (pkg/apis/core/v1/conversion.go).
fn pointer(kind: Kind, field: &str) -> Option<String> {
    let fields: &[&str] = match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Namespace => &["status.phase"],
        Kind::Secret => &["type"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    };
    let field = match (kind, field) {
        (Kind::Event, "source") => return Some("/source/component".to_owned()),
        // The names of events.k8s.io/v1.
        (Kind::Event, "reportingController") => "reportingComponent".to_owned(),
        (Kind::Event, _) => field.replacen("regarding.", "involvedObject.", 1),
        _ => field.to_owned(),
    };
    let known = matches!(field.as_str(), "metadata.name" | "metadata.namespace")
        || fields.contains(&field.as_str());
    known.then(|| format!("/{}", field.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "e": ""}}});
        Labels::parse(selector).unwrap().matches(&object)
    }

    #[test]
    fn label_selectors_match_as_kubectl_users_expect() {
        for selector in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "app in (web,db)",
            "app notin (db)",
            "app",
            "!gone",
            "app=web,tier in (front, back)",
            "gone!=x",
            "e=",
            "x notin (y)",
        ] {
            assert!(matches(selector), "{selector}");
        }
        for selector in [
            "app=db",
            "app!=web",
            "gone",
            "!app",
            "gone=x",
            "app=web,tier=back",
        ] {
            assert!(!matches(selector), "{selector}");
        }
    }

    #[test]
    fn nonsense_in_a_selector_is_a_bad_request() {
        for selector in ["=", "a b", "a=b,", "a in b", "a in (b", "!", "a=b c", "a%"] {
            assert_eq!(Labels::parse(selector).unwrap_err().code, 400, "{selector}");
        }
        assert_eq!(
            Fields::parse(Kind::Pod, "spec.foo=1").unwrap_err().code,
            400
        );
        assert_eq!(Fields::parse(Kind::Pod, "nonsense").unwrap_err().code, 400);
    }

    #[test]
    fn a_missing_field_counts_as_empty() {
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Pending"}});
        let matches = |text| Fields::parse(Kind::Pod, text).unwrap().matches(&pod);
        assert!(matches("spec.nodeName="));
        assert!(matches(
            "spec.nodeName!=b,status.phase!=Failed,metadata.name=a"
        ));
        assert!(!matches("spec.nodeName=b"));
    }

    #[test]
    fn a_selector_object_needs_all_its_parts() {
        let selector = Labels::from_object(&json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
        }));
        assert!(selector.matches(&json!({"metadata": {"labels": {"a": "b", "c": "d"}}})));
        assert!(!selector.matches(&json!({"metadata": {"labels": {"a": "b"}}})));
        assert!(!Labels::from_object(&Value::Null).matches(&json!({})));
        assert!(Labels::from_object(&json!({})).matches(&json!({})));
    }
}
