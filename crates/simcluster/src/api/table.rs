//! The tables of `kubectl get`: the server makes them, so that every client shows the same.
//!
//! Columns and wording follow pkg/printers/internalversion/printers.go.

mod age;
mod event;
mod node;
mod other;
mod pod;
mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::respond;
use crate::store::Kind;

/// What each row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "None" => Self::Nothing,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// Name, type, and 1 if it is shown only by `-o wide`.
type Column = (&'static str, &'static str, u8);

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Pod => pod::COLUMNS,
        Kind::Node => node::COLUMNS,
        Kind::Event => event::COLUMNS,
        other => other::columns(other),
    }
}

/// The row of one object.
pub(super) fn row(kind: Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    let cells = match kind {
        Kind::Pod => pod::cells(object, now),
        Kind::Node => node::cells(object, now),
        Kind::Event => event::cells(object, now),
        other => other::cells(other, object, now),
    };
    let mut row = json!({ "cells": cells });
    match include {
        Include::Nothing => {}
        Include::Metadata => row["object"] = respond::metadata(object),
        Include::Object => row["object"] = object.clone(),
    }
    row
}

/// A `Table` of rows.
pub(super) fn table(kind: Kind, metadata: &Value, rows: &[Value], headed: bool) -> Value {
    let columns: Vec<Value> = columns(kind)
        .iter()
        .map(|(name, kind, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({
                "name": name,
                "type": kind,
                "format": format,
                "description": "",
                "priority": priority,
            })
        })
        .collect();
    let mut table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    });
    if !headed {
        table["columnDefinitions"] = json!([]);
    }
    table
}

/// `<none>` for what is empty.
fn or_none(text: &str) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests;
