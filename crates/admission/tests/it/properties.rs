//! What holds for every pod that users may write.

use mig::fraction::Share;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::server::{Stored, containers, create, store, update, variable};

/// A share as people write it, mostly one that can be served.
fn share() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..=8_u64).prop_map(|eighths| Share::from_nanos(eighths * 125_000_000).to_string()),
        (1..=1000_u64).prop_map(|thousandths| format!("{thousandths}m")),
        (1..=4_u64).prop_map(|gpus| gpus.to_string()),
        (1..=999_u64).prop_map(|digits| format!("{digits}e-3")),
    ]
}

fn limits() -> impl Strategy<Value = Map<String, Value>> {
    let fraction = ("clear\\.ml/fraction(-[0-9]{1,2})?", share())
        .prop_map(|(name, share)| (name, json!(share)));
    let profile = (
        prop::sample::select(vec![
            "1g.5gb",
            "2g.10gb",
            "3g.20gb",
            "1g.10gb",
            "7g.80gb",
            "1g.5gb.me",
        ]),
        1..3_u8,
    )
        .prop_map(|(profile, count)| {
            (
                format!("nvidia.com/mig-{profile}"),
                json!(count.to_string()),
            )
        });
    let other = (
        prop::sample::select(vec!["cpu", "memory", "nvidia.com/gpu"]),
        1..3_u8,
    )
        .prop_map(|(name, count)| (name.to_owned(), json!(count.to_string())));
    let own = prop::sample::select(vec!["0.125", "0.250", "0.500", "1.000"])
        .prop_map(|class| (format!("cdmo.clear.ml/fraction-{class}"), json!("1")));
    let one = prop_oneof![4 => fraction, 1 => profile, 2 => other, 1 => own];
    prop::collection::vec(one, 0..4).prop_map(|amounts| amounts.into_iter().collect())
}

fn container(name: usize) -> impl Strategy<Value = Value> {
    let env = prop::option::weighted(
        0.2,
        prop_oneof![
            Just(json!([])),
            Just(json!([{"name": "A", "value": "b"}])),
            Just(json!([{"name": "CLEARML_AGENT_GPU_FRACTIONS", "value": "0.9"}])),
        ],
    );
    (limits(), env, any::<[bool; 3]>()).prop_map(move |(limits, env, [has, requests, sidecar])| {
        let mut container = json!({"name": format!("c{name}")});
        if has {
            container["resources"] = json!({"limits": limits});
            if requests {
                container["resources"]["requests"] = json!(limits);
            }
        }
        if let Some(env) = env {
            container["env"] = env;
        }
        if sidecar {
            container["restartPolicy"] = json!("Always");
        }
        container
    })
}

prop_compose! {
    fn pod()(
        containers in (container(0), container(1), container(2)),
        count in 1..=3_usize,
        init in prop::option::of(container(3)),
        label in prop::option::weighted(0.3, share()),
        annotation in prop::option::weighted(0.3, share()),
    ) -> Value {
        let (a, b, c) = containers;
        let containers = &[a, b, c][..count];
        let mut pod = json!({"metadata": {}, "spec": {"containers": containers}});
        if let Some(init) = init {
            pod["spec"]["initContainers"] = json!([init]);
        }
        if let Some(label) = label {
            pod["metadata"]["labels"] = json!({"clearml-injector/fraction": label});
        }
        if let Some(annotation) = annotation {
            pod["metadata"]["annotations"] = json!({"gpu-fraction": annotation});
        }
        pod
    }
}

fn deployment(pod: &Value) -> Value {
    json!({"spec": {"template": pod}})
}

/// What a container asks for by fractions.
fn asked(container: &Value) -> Vec<f64> {
    let resources = &container["resources"];
    let limits = resources["limits"].as_object().into_iter().flatten();
    limits
        .filter(|(name, _)| admission::is_fraction(name))
        .map(|(_, share)| number(share.as_str().unwrap()))
        .collect()
}

fn number(text: &str) -> f64 {
    text.strip_suffix('m').map_or_else(
        || text.parse().unwrap(),
        |milli| milli.parse::<f64>().unwrap() / 1000.0,
    )
}

fn has_nvidia(container: &Value) -> bool {
    let limits = container["resources"]["limits"].as_object();
    limits
        .into_iter()
        .flatten()
        .any(|(name, _)| name.starts_with("nvidia.com/"))
}

/// How much of GPUs a container is given by classes.
fn given(container: &Value) -> f64 {
    let limits = container["resources"]["limits"]
        .as_object()
        .into_iter()
        .flatten();
    limits
        .filter_map(|(name, count)| {
            let class = name.strip_prefix("cdmo.clear.ml/fraction-")?;
            Some(number(class) * number(count.as_str()?))
        })
        .sum()
}

fn both(pod: &Value) -> [(&'static str, Result<Stored, String>); 2] {
    [
        ("pods", create("pods", pod)),
        ("deployments", create("deployments", &deployment(pod))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_changed_once_is_not_changed_again(pod in pod()) {
        for (resource, stored) in both(&pod) {
            let Ok(stored) = stored else { continue };
            let again = create(resource, &stored.object).unwrap();
            prop_assert_eq!(again.patch, vec![], "created again");
            let mut touched = stored.object.clone();
            touched["metadata"]["touched"] = json!(true);
            let updated = update(resource, &stored.object, &touched).unwrap();
            prop_assert_eq!(updated.patch, vec![], "updated");
        }
    }

    #[test]
    fn no_fraction_is_left_and_our_limits_are_our_requests(pod in pod()) {
        for (resource, stored) in both(&pod) {
            // What the API server itself refuses comes back as an error, too.
            let Ok(stored) = stored else { continue };
            let before = if resource == "pods" { pod.clone() } else { deployment(&pod) };
            for (container, before) in containers(resource, &stored.object).into_iter().zip(containers(resource, &before)) {
                prop_assert_eq!(asked(container), Vec::<f64>::new());
                let wanted: f64 = asked(before).iter().sum();
                if wanted > 0.0 && has_nvidia(before) {
                    prop_assert!(given(container) < 1e-9, "the profile rules");
                } else if wanted > 0.0 {
                    prop_assert!(given(container) >= wanted - 1e-9);
                    prop_assert_eq!(&container["resources"]["limits"], &json!(container["resources"]["limits"]));
                    for (name, count) in container["resources"]["limits"].as_object().unwrap() {
                        if name.starts_with("cdmo.clear.ml/") {
                            prop_assert_eq!(&container["resources"]["requests"][name], count);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn clearml_is_told_what_was_asked(pod in pod()) {
        let Ok(stored) = create("pods", &pod) else { return Ok(()) };
        for (container, before) in containers("pods", &stored.object).into_iter().zip(containers("pods", &pod)) {
            let wanted = asked(before);
            if wanted.is_empty() || has_nvidia(before) || variable(before).is_some() {
                continue;
            }
            let told: Vec<f64> = variable(container).unwrap().split(',').map(|item| item.parse().unwrap()).collect();
            prop_assert!(told.iter().all(|share| *share <= 1.0));
            prop_assert!((told.iter().sum::<f64>() - wanted.iter().sum::<f64>()).abs() < 1e-6);
        }
    }

    #[test]
    fn what_asks_for_nothing_is_not_touched(mut pod in pod()) {
        pod["metadata"] = json!({});
        for list in ["containers", "initContainers"] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                for list in ["limits", "requests"] {
                    if let Some(amounts) = container["resources"][list].as_object_mut() {
                        amounts.retain(|name, _| !admission::is_fraction(name));
                    }
                }
                if container["resources"].is_null() {
                    container.as_object_mut().unwrap().remove("resources");
                }
            }
        }
        for resource in ["pods", "deployments"] {
            let object = if resource == "pods" { pod.clone() } else { deployment(&pod) };
            let options = admission::Options::default();
            let decision = admission::review(&crate::server::request(resource, &object, None), &options);
            prop_assert_eq!(decision, admission::Decision::default());
        }
    }

    #[test]
    fn from_any_template_to_any_other_nothing_breaks(one in pod(), two in pod()) {
        let Ok(live) = create("deployments", &deployment(&one)) else { return Ok(()) };
        let manifest = deployment(&two);
        let merged = crate::kubectl::apply(Some(&live.object), &manifest);
        if let Ok(stored) = store("deployments", &merged, Some(&live.object), &admission::Options::default()) {
            let again = create("deployments", &stored.object).unwrap();
            prop_assert_eq!(again.patch, vec![]);
        }
    }
}
