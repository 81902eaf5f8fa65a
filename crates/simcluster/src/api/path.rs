//! From the path of a request to what it is about.

use super::face::Face;
use crate::store::Kind;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Target(Target),
    Health,
    Version,
    Discovery(Discovered),
    /// The index, or the document of one group and version.
    OpenApi(Option<String>),
    /// What came before it.
    OpenApiV2,
}

/// A level of discovery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Discovered {
    /// `/api`
    Core,
    /// `/apis`
    Groups,
    /// `/apis/apps`
    Group(String),
    /// `/api/v1` or `/apis/apps/v1`: group and version.
    Resources(String, String),
}

/// An object, or a collection of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) face: Face,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// What follows a subresource that has paths of its own.
    pub(super) rest: Option<String>,
}

impl Target {
    /// The namespace, or nothing where the kind has none.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

pub(super) fn parse(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Some(match parts.as_slice() {
        ["healthz" | "readyz" | "livez", ..] => Route::Health,
        ["version"] => Route::Version,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3"] => Route::OpenApi(None),
        ["openapi", "v3", rest @ ..] => Route::OpenApi(Some(rest.join("/"))),
        ["api"] => Route::Discovery(Discovered::Core),
        ["apis"] => Route::Discovery(Discovered::Groups),
        ["api", version] => {
            Route::Discovery(Discovered::Resources(String::new(), (*version).to_owned()))
        }
        ["apis", group] => Route::Discovery(Discovered::Group((*group).to_owned())),
        ["apis", group, version] => {
            let (group, version) = ((*group).to_owned(), (*version).to_owned());
            Route::Discovery(Discovered::Resources(group, version))
        }
        ["api", version, rest @ ..] => Route::Target(target("", version, rest)?),
        ["apis", group, version, rest @ ..] => Route::Target(target(group, version, rest)?),
        _ => return None,
    })
}

fn target(group: &str, version: &str, parts: &[&str]) -> Option<Target> {
    if let ["namespaces", namespace, plural, rest @ ..] = parts {
        if (group, version, *plural) == ("", "v1", "bindings") && rest.is_empty() {
            return Some(Target {
                kind: Kind::Pod,
                face: Face::Core,
                namespace: Some((*namespace).to_owned()),
                name: None,
                subresource: Some("binding".to_owned()),
                rest: None,
            });
        }
        if let Some((kind, face)) = find(group, version, plural)
            && kind.info().namespaced
        {
            return object(kind, face, Some(namespace), rest);
        }
    }
    let (plural, rest) = parts.split_first()?;
    let (kind, face) = find(group, version, plural)?;
    if kind.info().namespaced && !rest.is_empty() {
        return None;
    }
    object(kind, face, None, rest)
}

fn object(kind: Kind, face: Face, namespace: Option<&str>, rest: &[&str]) -> Option<Target> {
    let (name, subresource, rest) = match rest {
        [] => (None, None, None),
        [name] => (Some(*name), None, None),
        [name, "proxy", rest @ ..] => (Some(*name), Some("proxy"), Some(rest.join("/"))),
        [name, subresource] => (Some(*name), Some(*subresource), None),
        _ => return None,
    };
    if subresource.is_some_and(|subresource| !has_subresource(kind, subresource)) {
        return None;
    }
    Some(Target {
        kind,
        face,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
        rest,
    })
}

/// Those of the real server, whether they are served here or not.
fn has_subresource(kind: Kind, name: &str) -> bool {
    match (kind, name) {
        (kind, "status") => kind.info().status,
        (
            Kind::Pod,
            "binding"
            | "eviction"
            | "log"
            | "exec"
            | "attach"
            | "portforward"
            | "proxy"
            | "ephemeralcontainers"
            | "resize",
        )
        | (Kind::Node | Kind::Service, "proxy")
        | (Kind::Namespace, "finalize")
        | (Kind::ServiceAccount, "token")
        | (Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet, "scale") => true,
        _ => false,
    }
}

fn find(group: &str, version: &str, plural: &str) -> Option<(Kind, Face)> {
    if (group, version, plural) == ("events.k8s.io", "v1", "events") {
        return Some((Kind::Event, Face::EventsV1));
    }
    Kind::ALL
        .into_iter()
        .find(|kind| {
            let info = kind.info();
            (info.group, info.version, info.plural) == (group, version, plural)
        })
        .map(|kind| (kind, Face::Core))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Kind, Option<String>, Option<String>, Option<String>);

    fn found(path: &str) -> Option<Found> {
        match parse(path)? {
            Route::Target(t) => Some((t.kind, t.namespace, t.name, t.subresource)),
            _ => None,
        }
    }

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("/api/v1/pods"), Some((Kind::Pod, None, None, None)));
        assert_eq!(
            found("/api/v1/nodes/a/status"),
            Some((Kind::Node, None, some("a"), some("status")))
        );
        assert_eq!(
            found("/api/v1/namespaces/ns/pods/p/binding"),
            Some((Kind::Pod, some("ns"), some("p"), some("binding")))
        );
        assert_eq!(
            found("/api/v1/namespaces/ns"),
            Some((Kind::Namespace, None, some("ns"), None))
        );
        assert_eq!(
            found("/api/v1/namespaces/ns/status"),
            Some((Kind::Namespace, None, some("ns"), some("status")))
        );
        assert_eq!(
            found("/apis/events.k8s.io/v1/namespaces/ns/events"),
            Some((Kind::Event, some("ns"), None, None))
        );
    }

    #[test]
    fn what_follows_a_proxy_is_a_path_of_its_own() {
        let path = "/api/v1/namespaces/ns/pods/http:p:80/proxy/a/b.json";
        let Some(Route::Target(target)) = parse(path) else {
            panic!("{path} names a pod's proxy")
        };
        assert_eq!(target.name.as_deref(), Some("http:p:80"));
        assert_eq!(target.rest.as_deref(), Some("a/b.json"));
    }

    #[test]
    fn unknown_paths_name_nothing() {
        for path in [
            "/",
            "/api/v2/pods",
            "/apis/apps/v1/pods",
            "/api/v1/pods/p",
            "/apis/x/v1/y",
            "/api/v1/namespaces/ns/pods/p/a/b",
            "/api/v1/namespaces/ns/configmaps/c/status",
            "/api/v1/namespaces/ns/limitranges",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
