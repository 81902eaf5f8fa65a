//! Fractions of a GPU on their way through the API server: what is stored, what is refused, and what is
//! left alone.

use scenarios::{Answer, Ground, Needs, Verdict, Way, api_scenario};
use serde_json::{Value, json};

const PODS: (&str, &str) = ("api/v1", "pods");
const DEPLOYMENTS: (&str, &str) = ("apis/apps/v1", "deployments");
const JOBS: (&str, &str) = ("apis/batch/v1", "jobs");

const HALF: &str = "cdmo.clear.ml/fraction-0.500";
const QUARTER: &str = "cdmo.clear.ml/fraction-0.250";
const RECORD: &str = "cdmo.clear.ml/fractions";
const VARIABLE: &str = "CLEARML_AGENT_GPU_FRACTIONS";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The spec of a pod whose container has these limits.
fn spec(limits: &Value) -> Value {
    let command = ["sh", "-c", "sleep 1000000"];
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "main", "image": "localhost/busybox:cdmo", "command": command,
            "resources": { "limits": limits },
        }],
    })
}

fn half() -> Value {
    json!({ "clear.ml/fraction-1": "0.5" })
}

fn pod(name: &str, limits: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec(limits),
    })
}

fn deployment(name: &str, limits: &Value) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec(limits) },
        },
    })
}

fn job(name: &str, limits: &Value) -> Value {
    let mut spec = spec(limits);
    spec["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": { "template": { "spec": spec } },
    })
}

async fn send(
    ground: &Ground,
    way: Way,
    kind: (&str, &str),
    object: &Value,
) -> anyhow::Result<Answer> {
    ground.send(way, kind.0, kind.1, object).await
}

async fn stored(ground: &Ground, kind: (&str, &str), name: &str) -> anyhow::Result<Value> {
    let found = ground.stored(kind.0, kind.1, name).await?;
    found.ok_or_else(|| anyhow::anyhow!("there is no {} {name}", kind.1))
}

/// A pod or a template asks for this class and says what the user wrote.
fn assert_stands_for(template: &Value, class: &str, share: &str) {
    let container = &template["spec"]["containers"][0];
    for list in ["limits", "requests"] {
        let amounts = &container["resources"][list];
        assert_eq!(amounts[class], "1", "{list} of {container}");
        assert!(!amounts.to_string().contains("\"clear.ml/"), "{amounts}");
    }
    let variable = json!({ "name": VARIABLE, "value": share });
    assert_eq!(container["env"], json!([variable]), "{container}");
    let record = template["metadata"]["annotations"][RECORD].as_str();
    let record: Value = serde_json::from_str(record.unwrap_or_default()).unwrap_or_default();
    let words = json!({ "clear.ml/fraction-1": share });
    assert_eq!(record["main"]["asked"], words, "{template}");
}

#[test]
fn a_pod_with_a_fraction_is_stored_with_the_class_that_stands_for_it() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let made = send(ground, Way::Create, PODS, &pod("half", &half())).await?;
        assert!(made.warnings.is_empty(), "{:?}", made.warnings);
        assert_stands_for(&made.done()?, HALF, "0.5");
        assert_stands_for(&stored(ground, PODS, "half").await?, HALF, "0.5");
        Ok(())
    })
}

#[test]
fn the_template_of_a_deployment_is_stored_and_so_are_its_pods() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let made = send(
            ground,
            Way::Create,
            DEPLOYMENTS,
            &deployment("serve", &half()),
        )
        .await?;
        assert_stands_for(&made.done()?["spec"]["template"], HALF, "0.5");
        let pods = ground.pods_with("app", "serve", 1).await?;
        assert_stands_for(&serde_json::to_value(&pods[0])?, HALF, "0.5");
        Ok(())
    })
}

#[test]
fn the_template_of_a_job_is_stored_and_can_be_applied_again() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let job = job("train", &half());
        let made = send(ground, Way::Apply, JOBS, &job).await?.done()?;
        assert_stands_for(&made["spec"]["template"], HALF, "0.5");
        let again = send(ground, Way::Apply, JOBS, &job).await?.done()?;
        assert_eq!(again["spec"]["template"], made["spec"]["template"]);
        Ok(())
    })
}

#[test]
fn a_manifest_that_is_applied_twice_changes_nothing_the_second_time() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        for (kind, manifest) in [
            (DEPLOYMENTS, deployment("serve", &half())),
            (PODS, pod("half", &half())),
        ] {
            let made = send(ground, Way::Apply, kind, &manifest).await?.done()?;
            let again = send(ground, Way::Apply, kind, &manifest).await?.done()?;
            if kind == PODS {
                // The pod is on its way to a node meanwhile.
                let containers = |object: &Value| object["spec"]["containers"].clone();
                assert_eq!(containers(&again), containers(&made), "{again}");
                continue;
            }
            assert_eq!(again["spec"], made["spec"], "{again}");
            let generation = |object: &Value| object["metadata"]["generation"].clone();
            assert_eq!(generation(&again), generation(&made));
        }
        Ok(())
    })
}

#[test]
fn a_fraction_that_is_applied_anew_replaces_the_first_and_goes_when_it_is_taken_out() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let apply = async |limits: &Value| {
            let manifest = deployment("serve", limits);
            let applied = send(ground, Way::Apply, DEPLOYMENTS, &manifest).await?;
            anyhow::Ok(applied.done()?["spec"]["template"].clone())
        };
        assert_stands_for(&apply(&half()).await?, HALF, "0.5");
        let quarter = apply(&json!({ "clear.ml/fraction-1": "0.25" })).await?;
        assert_stands_for(&quarter, QUARTER, "0.25");
        assert!(!quarter["spec"].to_string().contains(HALF), "{quarter}");
        let without = apply(&json!({ "cpu": "10m" })).await?;
        assert_nothing_of_ours(&without);
        Ok(())
    })
}

fn assert_nothing_of_ours(template: &Value) {
    for word in ["cdmo.clear.ml/", VARIABLE, "clear.ml/fraction"] {
        assert!(!template.to_string().contains(word), "{word} in {template}");
    }
}

#[test]
fn the_patches_of_kubectl_apply_change_a_fraction_and_take_it_away() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let manifest = |limits: &Value| {
            let bare = deployment("serve", limits);
            let mut whole = bare.clone();
            whole["metadata"]["annotations"][LAST_APPLIED] = bare.to_string().into();
            whole
        };
        // What kubectl makes of two manifests that differ in their limits.
        let change = |limits: &Value, difference: &Value| {
            let last = manifest(limits)["metadata"]["annotations"][LAST_APPLIED].clone();
            let container = json!({ "name": "main", "resources": { "limits": difference } });
            json!({
                "metadata": { "name": "serve", "annotations": { LAST_APPLIED: last } },
                "spec": { "template": { "spec": { "containers": [container] } } },
            })
        };
        let first = json!({ "clear.ml/fraction-1": "0.5", "cpu": "10m" });
        send(ground, Way::Create, DEPLOYMENTS, &manifest(&first))
            .await?
            .done()?;
        let second = json!({ "clear.ml/fraction-1": "0.25", "cpu": "10m" });
        let patch = change(&second, &json!({ "clear.ml/fraction-1": "0.25" }));
        let patched = send(ground, Way::Patch, DEPLOYMENTS, &patch)
            .await?
            .done()?;
        let template = &patched["spec"]["template"];
        assert_stands_for(template, QUARTER, "0.25");
        assert!(!template["spec"].to_string().contains(HALF), "{template}");
        let patch = change(
            &json!({ "cpu": "10m" }),
            &json!({ "clear.ml/fraction-1": null }),
        );
        let patched = send(ground, Way::Patch, DEPLOYMENTS, &patch)
            .await?
            .done()?;
        assert_nothing_of_ours(&patched["spec"]["template"]);
        Ok(())
    })
}

#[test]
fn a_dry_run_shows_what_would_be_stored_and_stores_nothing() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let shown = send(ground, Way::DryRun, PODS, &pod("half", &half())).await?;
        assert_stands_for(&shown.done()?, HALF, "0.5");
        let found = ground.stored(PODS.0, PODS.1, "half").await?;
        assert_eq!(found, None);
        Ok(())
    })
}

#[test]
fn a_fraction_that_nobody_can_have_is_denied_in_a_sentence() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let wrong = json!({ "clear.ml/fraction-1": "1.3" });
        let denied = "admission webhook \"fractions.cdmo.clear.ml\" denied the request: ";
        for (kind, object, outer) in [
            (PODS, pod("p", &wrong), "spec"),
            (DEPLOYMENTS, deployment("p", &wrong), "spec.template.spec"),
        ] {
            let why = send(ground, Way::Create, kind, &object).await?.refusal()?;
            assert_eq!(
                why,
                format!(
                    "{denied}{outer}.containers[0].resources.limits[\"clear.ml/fraction-1\"] \
                     (container \"main\") is \"1.3\", but above 1 only whole numbers of GPUs can be had: \
                     ask for a share of one GPU, like \"0.5\", or for a whole number of GPUs, at most 32"
                )
            );
        }
        Ok(())
    })
}

#[test]
fn a_label_that_disagrees_with_the_limits_is_warned_of() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        let mut both = pod("both", &half());
        both["metadata"]["labels"]["clearml-injector/fraction"] = json!("0.25");
        let answer = send(ground, Way::Create, PODS, &both).await?;
        assert_eq!(answer.warnings.len(), 1, "{:?}", answer.warnings);
        assert!(
            answer.warnings[0].contains("the limits count"),
            "{:?}",
            answer.warnings
        );
        assert_stands_for(&answer.done()?, HALF, "0.5");
        Ok(())
    })
}

#[test]
fn a_label_or_an_annotation_alone_is_served_as_well() -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.fractions_are_served().await?;
        for (list, name) in [
            ("labels", "clearml-injector/fraction"),
            ("annotations", "gpu-fraction"),
        ] {
            let mut asking = pod(list, &json!({}));
            asking["metadata"][list][name] = json!("0.250");
            let made = send(ground, Way::Create, PODS, &asking).await?.done()?;
            let limits = &made["spec"]["containers"][0]["resources"]["limits"];
            assert_eq!(limits[QUARTER], "1", "{made}");
        }
        Ok(())
    })
}

#[test]
fn what_asks_for_no_fraction_is_stored_as_it_is_also_while_a_webhook_is_down() -> Verdict {
    api_scenario(Needs::Machine, async |ground| {
        ground.fractions_are_served().await?;
        let limits = json!({ "cpu": "10m" });
        let plain = |name: &str| pod(name, &limits);
        let before = send(ground, Way::Create, PODS, &plain("before"))
            .await?
            .done()?;
        ground.kill_webhook().await?;
        let after = send(ground, Way::Create, PODS, &plain("after"))
            .await?
            .done()?;
        for made in [&before, &after] {
            assert_nothing_of_ours(made);
            let resources = &made["spec"]["containers"][0]["resources"];
            assert_eq!(resources["limits"], limits);
            assert_eq!(made["spec"].get("schedulingGates"), None);
        }
        ground.fractions_are_served().await?;
        let made = send(ground, Way::Create, PODS, &pod("half", &half())).await?;
        assert_stands_for(&made.done()?, HALF, "0.5");
        Ok(())
    })
}
