//! Fractions on nodes with GPUs of several models, and through the death of agents.

use std::collections::BTreeMap;

use scenarios::{NAMESPACE, NodeSpec, Pod, Spec, System, Verdict, scenario};
use serde_json::json;
use simcluster::store::{Kind, object};

const QUARTER: &str = "cdmo.clear.ml/fraction-0.250";
const HALF: &str = "cdmo.clear.ml/fraction-0.500";
const PRODUCT: &str = "nvidia.com/gpu.product";

/// Node, GPUs, the name that GPU feature discovery gives them, and what a half of one is.
const NODES: [(&str, &str, &str, &str); 4] = [
    ("a30", "A30:1", "NVIDIA-A30", "2g.12gb"),
    ("a100", "A100-40GB:1", "NVIDIA-A100-SXM4-40GB", "3g.20gb"),
    ("a100-80", "A100-80GB:1", "NVIDIA-A100-SXM4-80GB", "3g.40gb"),
    ("h100", "H100-80GB:1", "NVIDIA-H100-80GB-HBM3", "3g.40gb"),
];

/// One node of each model.
fn mixed() -> Spec {
    NODES
        .into_iter()
        .fold(Spec::new(), |spec, (name, gpus, product, _)| {
            spec.node(NodeSpec::new(name, gpus).label(PRODUCT, product))
        })
}

async fn runs_on(system: &System, pod: &str) -> anyhow::Result<(String, Vec<String>)> {
    let object = system.running(pod).await?;
    let node = object::text(&object, "/spec/nodeName").to_owned();
    Ok((node, system.profiles(pod).await?))
}

#[test]
fn one_deployment_fills_gpus_of_four_models() -> Verdict {
    scenario(mixed(), async |system| {
        let pod = Pod::of("half", HALF).object();
        let mut spec = pod["spec"].clone();
        spec["restartPolicy"] = "Always".into();
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "halves", "namespace": NAMESPACE},
            "spec": {
                // Two on each GPU.
                "replicas": 8,
                "selector": {"matchLabels": {"app": "halves"}},
                "template": {"metadata": {"labels": {"app": "halves"}}, "spec": spec},
            },
        });
        system
            .store()
            .create(Kind::Deployment, NAMESPACE, deployment)?;
        let names = system
            .until("eight pods are there", async || {
                let (pods, _) = system.store().list(Kind::Pod, Some(NAMESPACE));
                let names: Vec<_> = pods
                    .iter()
                    .map(|pod| object::name(pod).to_owned())
                    .collect();
                (names.len() == 8).then_some(names)
            })
            .await?;
        let mut found: BTreeMap<(String, String), u32> = BTreeMap::new();
        for name in &names {
            let (node, mut profiles) = runs_on(system, name).await?;
            *found.entry((node, profiles.remove(0))).or_default() += 1;
            assert!(profiles.is_empty());
        }
        let expected = NODES.map(|(node, _, _, half)| ((node.to_owned(), half.to_owned()), 2));
        assert_eq!(found, BTreeMap::from(expected));
        system.consistent().await
    })
}

#[test]
fn a_selector_of_a_product_keeps_a_fraction_on_that_model() -> Verdict {
    scenario(mixed(), async |system| {
        for (node, _, product, half) in NODES {
            let pod = Pod::of(node, HALF).on_nodes_with(PRODUCT, product);
            system.create(&pod)?;
            assert_eq!(
                runs_on(system, node).await?,
                (node.to_owned(), vec![half.to_owned()])
            );
        }
        system.consistent().await
    })
}

#[test]
fn the_smallest_instance_of_an_a30_is_an_eighth_and_a_quarter_in_turn() -> Verdict {
    const EIGHTH: &str = "cdmo.clear.ml/fraction-0.125";
    scenario(Spec::gpus("A30:1"), async |system| {
        system.run(&Pod::of("eighth", EIGHTH)).await?;
        system.remove("eighth").await?;
        let standing = system.instances("a")?;
        for (pod, resource) in [
            ("quarter", QUARTER),
            ("eighth", EIGHTH),
            ("profile", "1g.6gb"),
        ] {
            system.idle("a").await?;
            system.run(&Pod::of(pod, resource)).await?;
            assert_eq!(system.profiles(pod).await?, ["1g.6gb"]);
            assert_eq!(
                system.instances("a")?,
                standing,
                "nothing was made for {pod}"
            );
            system.remove(pod).await?;
        }
        system.consistent().await
    })
}

#[test]
fn an_agent_killed_while_a_device_changes_its_name_loses_nothing() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("stays", HALF)).await?;
        let kept = system.device("stays").await?;
        system.run(&Pod::of("first", "3g.20gb")).await?;
        system.remove("first").await?;
        system.holding("a", 1).await?;
        let standing = system.instances("a")?;
        system.create(&Pod::of("half", HALF))?;
        system.event("half", "SlicePlanned").await?;
        system.kill_agent("a").await?;
        system.running("half").await?;
        assert_eq!(
            system.instances("a")?,
            standing,
            "nothing was made or destroyed"
        );
        assert_eq!(system.device("stays").await?, kept);
        assert_eq!(system.device("half").await?.resource, HALF);
        system.consistent().await
    })
}
