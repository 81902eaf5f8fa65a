//! What clients asked for, in the words in which an authorizer decides about it.
//!
//! The server itself lets everybody do everything. From these calls a test sees which rights a client
//! would have needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Query;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Uri};

/// A request for objects, as rules of RBAC speak of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, with the subresource, if any, behind a slash: `nodes/status`.
    pub resource: String,
    /// Empty if it was for all namespaces, or for what has none.
    pub namespace: String,
    /// Empty if no single object was named.
    pub name: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        if self.namespace.is_empty() {
            f.write_str(" in all namespaces")
        } else {
            write!(f, " in namespace {:?}", self.namespace)
        }
    }
}

/// The calls to one server; clones share them. Nothing is remembered before [`Audit::start`].
#[derive(Debug, Clone, Default)]
pub struct Audit {
    calls: Arc<Mutex<Option<ByUser>>>,
}

type ByUser = BTreeMap<String, BTreeSet<Call>>;

impl Audit {
    /// Remembers each different call from now on.
    pub fn start(&self) {
        self.locked().get_or_insert_default();
    }

    /// What was asked with this bearer token, or without any if it is empty.
    pub fn calls(&self, token: &str) -> BTreeSet<Call> {
        let calls = self.locked();
        let calls = calls.as_ref().and_then(|calls| calls.get(token));
        calls.cloned().unwrap_or_default()
    }

    pub(super) fn note(&self, method: &Method, uri: &Uri, headers: &HeaderMap) {
        let mut calls = self.locked();
        if let (Some(calls), Some(call)) = (calls.as_mut(), call(method, uri)) {
            let token = token(headers).to_owned();
            calls.entry(token).or_default().insert(call);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<ByUser>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(headers: &HeaderMap) -> &str {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|header| header.to_str().ok());
    header
        .and_then(|header| header.strip_prefix("Bearer "))
        .unwrap_or_default()
}

/// What a request is about, if it is about objects; as the real server sees it before it looks whether
/// there is such a resource (apiserver/pkg/endpoints/request/requestinfo.go).
fn call(method: &Method, uri: &Uri) -> Option<Call> {
    let parts: Vec<&str> = uri
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let (group, rest): (_, &[&str]) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace] | ["namespaces", namespace, "status" | "finalize"] => {
            (*namespace, rest)
        }
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        _ => ("", rest),
    };
    let (resource, rest) = rest.split_first()?;
    let (name, subresource) = match rest {
        [] => ("", None),
        [name] => (*name, None),
        [name, subresource, ..] => (*name, Some(*subresource)),
    };
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted);
    let is_set = |wanted| value(wanted).is_some_and(|(_, value)| value == "true" || value == "1");
    let verb = match *method {
        Method::GET | Method::HEAD if !name.is_empty() => "get",
        Method::GET | Method::HEAD if is_set("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    };
    // Whoever asks for the one object of a name asks for no more than that object.
    let selected = value("fieldSelector")
        .filter(|_| name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection"))
        .and_then(|(_, fields)| {
            let mut fields = fields.split(',');
            fields.find_map(|field| field.strip_prefix("metadata.name="))
        });
    Some(Call {
        verb,
        group: group.to_owned(),
        resource: subresource.map_or_else(
            || (*resource).to_owned(),
            |subresource| format!("{resource}/{subresource}"),
        ),
        namespace: namespace.to_owned(),
        name: selected.unwrap_or(name).trim_start_matches('=').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: &Method, uri: &str) -> Option<String> {
        call(method, &uri.parse().unwrap()).map(|call| call.to_string())
    }

    #[test]
    fn requests_are_told_in_the_words_of_rules() {
        for (method, uri, words) in [
            (
                Method::GET,
                "/api/v1/pods?limit=5",
                "list pods in all namespaces",
            ),
            (
                Method::GET,
                "/api/v1/nodes?watch=true",
                "watch nodes in all namespaces",
            ),
            (
                Method::PATCH,
                "/api/v1/nodes/a/status",
                r#"patch nodes/status "a" in all namespaces"#,
            ),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/team/events",
                r#"create events.events.k8s.io in namespace "team""#,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/own/pods/p:7445/proxy/status.json",
                r#"get pods/proxy "p:7445" in namespace "own""#,
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/own/deployments/d",
                r#"delete deployments.apps "d" in namespace "own""#,
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/own/pods",
                r#"deletecollection pods in namespace "own""#,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/own",
                r#"get namespaces "own" in namespace "own""#,
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/own/finalize",
                r#"update namespaces/finalize "own" in namespace "own""#,
            ),
        ] {
            assert_eq!(said(&method, uri).as_deref(), Some(words), "{uri}");
        }
    }

    #[test]
    fn a_list_of_one_name_asks_for_that_name_only() {
        let uri = "/api/v1/namespaces/own/secrets?watch=1&fieldSelector=metadata.name%3Dours";
        assert_eq!(
            said(&Method::GET, uri).as_deref(),
            Some(r#"watch secrets "ours" in namespace "own""#)
        );
    }

    #[test]
    fn discovery_needs_no_right() {
        for uri in [
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps/v1",
            "/version",
            "/openapi/v3",
        ] {
            assert_eq!(said(&Method::GET, uri), None, "{uri}");
        }
    }

    #[test]
    fn nothing_is_remembered_before_the_start_nor_twice() {
        let audit = Audit::default();
        let uri = Uri::from_static("/api/v1/pods");
        let ask = || audit.note(&Method::GET, &uri, &HeaderMap::new());
        ask();
        audit.start();
        assert!(audit.calls("").is_empty());
        ask();
        ask();
        assert_eq!(audit.calls("").len(), 1);
    }

    #[test]
    fn calls_are_told_apart_by_the_token_they_came_with() {
        let audit = Audit::default();
        audit.start();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer jane".parse().unwrap())]);
        let uri = Uri::from_static("/api/v1/pods");
        audit.note(&Method::GET, &uri, &headers);
        assert_eq!(audit.calls("jane").len(), 1);
        assert!(audit.calls("").is_empty() && audit.calls("joe").is_empty());
    }
}
