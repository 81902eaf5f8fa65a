//! GET of one object and of a list: selectors, pages, and lists as of an earlier version.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::accept::Form;
use super::params::Params;
use super::path::Target;
use super::{Server, respond, table};
use crate::store::selector::{Fields, Labels};
use crate::store::{Cause, Status, object};

/// Which objects of a kind a client wants.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    namespace: Option<String>,
    name: Option<String>,
    labels: Labels,
    fields: Fields,
}

impl Filter {
    pub(super) fn new(target: &Target, params: &Params) -> Result<Self, Status> {
        Ok(Self {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: Labels::parse(&params.labels)?,
            fields: Fields::parse(target.kind, &params.fields)?,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|wanted| wanted == object::namespace(object))
            && self
                .name
                .as_deref()
                .is_none_or(|wanted| wanted == object::name(object))
            && self.labels.matches(object)
            && self.fields.matches(object)
    }

    fn is_selective(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }
}

pub(super) fn one(server: &Server, target: &Target, form: Form) -> Result<Response, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let found = server.store.find(target.kind, target.namespace(), name)?;
    Ok(respond::object(
        server,
        target,
        form,
        StatusCode::OK,
        &found,
    ))
}

/// A page of a list.
struct Page {
    items: Vec<Arc<Value>>,
    version: u64,
    next: Option<String>,
    remaining: Option<usize>,
}

pub(super) fn many(
    server: &Server,
    target: &Target,
    params: &Params,
    form: Form,
) -> Result<Response, Status> {
    if params.initial_events.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        let cause = Cause::forbidden("sendInitialEvents", why);
        return Err(Status::invalid_options("ListOptions.meta.k8s.io", &cause));
    }
    let page = page(server, target, params)?;
    Ok(respond::bytes(
        StatusCode::OK,
        "application/json",
        render(server, target, form, &page),
    ))
}

fn page(server: &Server, target: &Target, params: &Params) -> Result<Page, Status> {
    let filter = Filter::new(target, params)?;
    let namespace = target.namespace.as_deref();
    let (mut items, version, start) = if params.from.is_empty() {
        let (items, version) = snapshot(server, target, params)?;
        (items, version, None)
    } else {
        let (version, start) = decode_token(&params.from)?;
        let items = server.store.list_at(target.kind, namespace, version).map_err(|_| {
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            )
        })?;
        (items, version, Some(start))
    };
    items.retain(|item| {
        let position = (object::namespace(item), object::name(item));
        let after = start
            .as_ref()
            .is_none_or(|(namespace, name)| position > (namespace, name));
        after && filter.matches(item)
    });
    let mut next = None;
    let mut remaining = None;
    if params.limit > 0 && items.len() > params.limit {
        if !filter.is_selective() {
            remaining = Some(items.len() - params.limit);
        }
        items.truncate(params.limit);
        next = items.last().map(|last| encode_token(version, last));
    }
    Ok(Page {
        items,
        version,
        next,
        remaining,
    })
}

fn snapshot(
    server: &Server,
    target: &Target,
    params: &Params,
) -> Result<(Vec<Arc<Value>>, u64), Status> {
    let namespace = target.namespace.as_deref();
    let (items, current) = server.store.list(target.kind, namespace);
    if params.version.is_empty() && !params.version_match.is_empty() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        let cause = Cause::forbidden("resourceVersionMatch", why);
        return Err(Status::invalid_options("ListOptions.meta.k8s.io", &cause));
    }
    let asked = version_number(&params.version)?;
    if asked > current {
        return Err(Status::version_too_large(asked, current));
    }
    if params.version_match != "Exact" {
        return Ok((items, current));
    }
    if asked == 0 {
        let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
        let cause = Cause::forbidden("resourceVersionMatch", why);
        return Err(Status::invalid_options("ListOptions.meta.k8s.io", &cause));
    }
    Ok((server.store.list_at(target.kind, namespace, asked)?, asked))
}

/// A resource version from a query; 0 if there is none.
pub(super) fn version_number(text: &str) -> Result<u64, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let why = "must be a whole number";
        let cause = Cause::invalid("resourceVersion", &text.into(), why);
        Status::invalid_options("ListOptions.meta.k8s.io", &cause)
    })
}

fn encode_token(version: u64, last: &Value) -> String {
    format!(
        "{version}.{}/{}",
        object::namespace(last),
        object::name(last)
    )
}

fn decode_token(token: &str) -> Result<(u64, (String, String)), Status> {
    let parts = token.split_once('.').and_then(|(version, position)| {
        let (namespace, name) = position.split_once('/')?;
        Some((
            version.parse().ok()?,
            (namespace.to_owned(), name.to_owned()),
        ))
    });
    parts.ok_or_else(|| Status::bad_request("continue key is not valid"))
}

fn render(server: &Server, target: &Target, form: Form, page: &Page) -> String {
    let mut list = json!({ "resourceVersion": page.version.to_string() });
    if let Some(next) = &page.next {
        list["continue"] = next.clone().into();
    }
    if let Some(remaining) = page.remaining {
        list["remainingItemCount"] = remaining.into();
    }
    if form == Form::Table {
        let now = server.store.now();
        let include = table::Include::Metadata;
        let rows: Vec<Value> = page
            .items
            .iter()
            .map(|item| table::row(target.kind, item, include, now))
            .collect();
        return table::table(target.kind, &list, &rows, true).to_string();
    }
    let (kind, version) = match form {
        Form::Metadata => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
        _ => (
            format!("{}List", target.kind),
            target.face.api_version(target.kind),
        ),
    };
    let items: Vec<String> = page
        .items
        .iter()
        .map(|item| match form {
            Form::Metadata => respond::metadata(item).to_string(),
            _ => target.face.show(item).to_string(),
        })
        .collect();
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{list},\"items\":[{}]}}",
        items.join(",")
    )
}
