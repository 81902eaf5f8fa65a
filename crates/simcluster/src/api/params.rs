//! The query of a request.

use axum::extract::Query;
use http::Uri;

use crate::store::{Propagation, Status, WriteOptions};

/// How unknown fields of a body are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum FieldValidation {
    /// The request fails.
    Strict,
    /// The answer carries a warning.
    #[default]
    Warn,
    /// Nobody hears of them.
    Ignore,
}

#[derive(Debug, Default)]
pub(super) struct Params {
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) limit: usize,
    pub(super) from: String,
    /// As sent; empty if none was.
    pub(super) version: String,
    pub(super) version_match: String,
    pub(super) watch: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) initial_events: Option<bool>,
    pub(super) include_object: String,
    pub(super) grace_period_seconds: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) write: Write,
    pub(super) log: Log,
}

/// How a write is done.
#[derive(Debug, Default)]
pub(super) struct Write {
    pub(super) dry_run: bool,
    pub(super) manager: String,
    pub(super) force: bool,
    pub(super) validation: FieldValidation,
}

/// Which part of a log is wanted.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) container: String,
    pub(super) tail_lines: Option<usize>,
    pub(super) follow: bool,
    pub(super) previous: bool,
}

impl Params {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Status> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let mut params = Self::default();
        for (name, value) in pairs {
            params.set(&name, value)?;
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Status> {
        match name {
            "labelSelector" => self.labels = value,
            "fieldSelector" => self.fields = value,
            "limit" => self.limit = number(name, &value)?,
            "continue" => self.from = value,
            "resourceVersion" => self.version = value,
            "resourceVersionMatch" => self.version_match = value,
            "watch" => self.watch = flag(name, &value)?,
            "timeoutSeconds" => self.timeout_seconds = Some(number(name, &value)?),
            "allowWatchBookmarks" => self.bookmarks = flag(name, &value)?,
            "sendInitialEvents" => self.initial_events = Some(flag(name, &value)?),
            "dryRun" if value == "All" => self.write.dry_run = true,
            "dryRun" => {
                return Err(Status::bad_request(format!(
                    "dryRun: {value:?} is not \"All\""
                )));
            }
            "fieldManager" => self.write.manager = value,
            "force" => self.write.force = flag(name, &value)?,
            "fieldValidation" => {
                self.write.validation = match value.as_str() {
                    "Strict" => FieldValidation::Strict,
                    "Ignore" => FieldValidation::Ignore,
                    _ => FieldValidation::Warn,
                }
            }
            "includeObject" => self.include_object = value,
            "gracePeriodSeconds" => self.grace_period_seconds = Some(number(name, &value)?),
            "propagationPolicy" => self.propagation = Some(propagation(&value)),
            "orphanDependents" if flag(name, &value)? => {
                self.propagation = Some(Propagation::Orphan);
            }
            "container" => self.log.container = value,
            "tailLines" => self.log.tail_lines = Some(number(name, &value)?),
            "follow" => self.log.follow = flag(name, &value)?,
            "previous" => self.log.previous = flag(name, &value)?,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn write_options(&self, user_agent: &str) -> WriteOptions {
        // As the real server does: the program's name from `kubectl/v1.33.0 (linux/amd64) ...`.
        let manager = match self.write.manager.as_str() {
            "" => user_agent.split('/').next().unwrap_or_default(),
            named => named,
        };
        WriteOptions {
            dry_run: self.write.dry_run,
            manager: manager.to_owned(),
            force: self.write.force,
        }
    }
}

pub(super) fn propagation(policy: &str) -> Propagation {
    if policy == "Orphan" {
        Propagation::Orphan
    } else {
        Propagation::Background
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Status> {
    match value {
        "" | "true" | "1" | "True" => Ok(true),
        "false" | "0" | "False" => Ok(false),
        other => Err(Status::bad_request(format!(
            "{name}: {other:?} is neither true nor false"
        ))),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Status> {
    value
        .parse()
        .map_err(|_| Status::bad_request(format!("{name}: {value:?} is not a valid number")))
}
