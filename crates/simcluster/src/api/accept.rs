//! In which form a client wants its answer.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::store::Status;

/// The form of an answer; always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The object or the list as it is.
    Whole,
    /// Rows and columns, for `kubectl get`.
    Table,
    /// `metadata` alone.
    Metadata,
}

/// Takes the first form in the header that can be served.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Form, Status> {
    let mut any = false;
    for header in headers.get_all(ACCEPT) {
        for range in header.to_str().unwrap_or_default().split(',') {
            any = any || !range.trim().is_empty();
            if let Some(form) = form(range) {
                return Ok(form);
            }
        }
    }
    if any {
        Err(Status::not_acceptable())
    } else {
        Ok(Form::Whole)
    }
}

fn form(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let get = |name| {
        parameters
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| *value)
    };
    match get("as") {
        None => Some(Form::Whole),
        Some(_) if get("g") != Some("meta.k8s.io") || get("v") != Some("v1") => None,
        Some("Table") => Some(Form::Table),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Metadata),
        Some(_) => None,
    }
}

/// The client asks for aggregated discovery, and in which version.
pub(super) fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|header| header.to_str().ok());
    ranges
        .flat_map(|header| header.split(','))
        .filter(|range| range.contains("as=APIGroupDiscoveryList"))
        .find_map(|range| match range {
            range if range.contains("v=v2beta1") => Some("v2beta1"),
            range if range.contains("v=v2") => Some("v2"),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(accept: &str) -> Result<Form, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        negotiate(&headers).map_err(|status| status.code)
    }

    #[test]
    fn the_first_form_that_can_be_served_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(
            form_of(&format!("{table},application/json")),
            Ok(Form::Table)
        );
        assert_eq!(
            form_of(&format!("application/vnd.kubernetes.protobuf, {table}")),
            Ok(Form::Table)
        );
        assert_eq!(
            form_of("application/vnd.kubernetes.protobuf,application/json"),
            Ok(Form::Whole)
        );
        assert_eq!(
            form_of("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok(Form::Metadata)
        );
        assert_eq!(form_of("*/*"), Ok(Form::Whole));
        assert_eq!(negotiate(&HeaderMap::new()), Ok(Form::Whole));
    }

    #[test]
    fn protobuf_alone_is_not_acceptable() {
        assert_eq!(form_of("application/vnd.kubernetes.protobuf"), Err(406));
        assert_eq!(
            form_of("application/json;as=Table;v=v9;g=meta.k8s.io"),
            Err(406)
        );
    }
}
