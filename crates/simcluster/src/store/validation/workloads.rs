//! What makes pods: selector, template, counts (pkg/apis/apps/validation, pkg/apis/batch/validation).

use serde_json::Value;

use super::pod;
use crate::store::object::{array, pairs, text};
use crate::store::selector::Labels;
use crate::store::{Cause, Kind};

const IMMUTABLE: &str = "field is immutable";

pub(super) fn check(kind: Kind, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    match kind {
        Kind::CronJob => cron_job(object, causes),
        Kind::Job => {
            job(spec, "spec", causes);
            selector(kind, spec, causes);
        }
        _ => {
            count(spec, "spec", "replicas", causes);
            selector(kind, spec, causes);
            template(spec, "spec", &["Always"], causes);
        }
    }
    if kind == Kind::Deployment {
        let (strategy, at) = (&spec["strategy"], "spec.strategy");
        let kinds = ["Recreate", "RollingUpdate"];
        match text(strategy, "/type") {
            "Recreate" if !strategy["rollingUpdate"].is_null() => {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                causes.push(Cause::forbidden(format!("{at}.rollingUpdate"), why));
            }
            known if kinds.contains(&known) => {}
            other => causes.push(Cause::unsupported(format!("{at}.type"), other, &kinds)),
        }
    }
}

/// What may change.
pub(super) fn change(kind: Kind, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let fixed: &[&str] = match kind {
        Kind::Job => &["completions", "selector", "template", "completionMode"],
        _ => &["selector"],
    };
    if kind == Kind::StatefulSet {
        return stateful_set_change(&old["spec"], &new["spec"], causes);
    }
    let suspended = old["spec"]["suspend"] == true;
    for member in fixed {
        let (before, after) = (&old["spec"][member], &new["spec"][member]);
        // A Job that is suspended may still be told where its pods shall run.
        if *member == "template" && suspended {
            continue;
        }
        if before != after {
            causes.push(Cause::invalid(format!("spec.{member}"), after, IMMUTABLE));
        }
    }
}

fn stateful_set_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let strip = |spec: &Value| {
        let mut spec = spec.clone();
        for member in MUTABLE {
            crate::store::object::remove(&mut spec, member);
        }
        spec
    };
    if strip(old) != strip(new) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                   'template', 'updateStrategy', 'revisionHistoryLimit', \
                   'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        causes.push(Cause::forbidden("spec", why));
    }
}

fn cron_job(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if text(object, "/metadata/name").len() > 52 {
        let name = &object["metadata"]["name"];
        let why = "must be no more than 52 characters";
        causes.push(Cause::invalid("metadata.name", name, why));
    }
    let schedule = text(spec, "/schedule");
    let macros = schedule.starts_with('@');
    let fields = schedule.split_whitespace().count();
    if schedule.is_empty() {
        causes.push(Cause::required("spec.schedule", ""));
    } else if !macros && fields != 5 {
        let why = format!("expected exactly 5 fields, found {fields}: [{schedule}]");
        causes.push(Cause::invalid("spec.schedule", &spec["schedule"], why));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    let policy = text(spec, "/concurrencyPolicy");
    if !policies.contains(&policy) {
        let field = "spec.concurrencyPolicy";
        causes.push(Cause::unsupported(field, policy, &policies));
    }
    let inner = &spec["jobTemplate"]["spec"];
    job(inner, "spec.jobTemplate.spec", causes);
    if !inner["selector"].is_null() {
        let field = "spec.jobTemplate.spec.selector";
        let why = "`selector` will be auto-generated";
        causes.push(Cause::invalid(field, &inner["selector"], why));
    }
}

fn job(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    for member in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        count(spec, at, member, causes);
    }
    template(spec, at, &["OnFailure", "Never"], causes);
}

fn count(spec: &Value, at: &str, member: &str, causes: &mut Vec<Cause>) {
    let found = &spec[member];
    if found.as_i64().is_some_and(|count| count < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid(format!("{at}.{member}"), found, why));
    }
}

fn selector(kind: Kind, spec: &Value, causes: &mut Vec<Cause>) {
    let selector = &spec["selector"];
    let template = &spec["template"];
    let labels = Labels::from_object(selector);
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    } else if labels.is_empty() {
        let of = match kind {
            Kind::DaemonSet => "daemonset",
            Kind::StatefulSet => "statefulset",
            // Of ReplicaSets, too.
            _ => "deployment",
        };
        let why = format!("empty selector is invalid for {of}");
        causes.push(Cause::invalid("spec.selector", selector, why));
    } else if !labels.matches(template) {
        let found = template.pointer("/metadata/labels").unwrap_or(&Value::Null);
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", found, why));
    }
}

fn template(spec: &Value, at: &str, policies: &[&str], causes: &mut Vec<Cause>) {
    let template = &spec["template"];
    let at = format!("{at}.template");
    labels(template, &at, causes);
    let policy = text(template, "/spec/restartPolicy");
    if !policies.contains(&policy) && template.get("spec").is_some() {
        let field = format!("{at}.spec.restartPolicy");
        causes.push(match policies {
            [_] => Cause::unsupported(field, policy, policies),
            _ => Cause::required(field, "valid values: \"OnFailure\", \"Never\""),
        });
    }
    if !array(template, "/spec/ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        causes.push(Cause::forbidden(
            format!("{at}.spec.ephemeralContainers"),
            why,
        ));
    }
    pod::spec(&template["spec"], &format!("{at}.spec"), causes);
}

fn labels(template: &Value, at: &str, causes: &mut Vec<Cause>) {
    for (key, value) in pairs(template, "/metadata/labels") {
        let field = format!("{at}.labels");
        if let Some(why) = super::names::qualified(key) {
            causes.push(Cause::invalid(field, &key.into(), why));
        } else if let Some(why) = super::names::label_value(value) {
            causes.push(Cause::invalid(field, &value.into(), why));
        }
    }
}
