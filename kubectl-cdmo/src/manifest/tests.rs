use super::*;

fn pods(text: &str) -> Vec<Pods> {
    parse("pods.yaml", text).unwrap()
}

fn error(text: &str) -> String {
    let sentence = parse("pods.yaml", text).unwrap_err().to_string();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence
}

fn workload(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n  {spec}\n  template:\n    \
         spec:\n      containers: [{{name: main, resources: {{limits: {{nvidia.com/mig-1g.5gb: 1}}}}}}]\n"
    )
}

#[test]
fn workloads_make_as_many_pods_as_they_say() {
    let cases = [
        ("Deployment", "replicas: 3", 3),
        ("ReplicaSet", "replicas: 0", 0),
        ("StatefulSet", "serviceName: web", 1),
        ("Job", "completions: 10", 1),
        ("Job", "parallelism: 4", 4),
        ("Job", "{parallelism: 4, completions: 3}", 3),
    ];
    for (kind, spec, count) in cases {
        let text = workload(kind, spec);
        let text = text.replace(
            "{parallelism: 4, completions: 3}",
            "parallelism: 4\n  completions: 3",
        );
        let read = pods(&text);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].count, count, "{text}");
        assert_eq!(read[0].name, format!("{}/web", kind.to_lowercase()));
    }
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec:\n  jobTemplate:\n    \
                spec:\n      parallelism: 2\n      template: {spec: {containers: [{name: main}]}}\n";
    assert_eq!(pods(cron)[0].count, 2);
}

#[test]
fn a_fraction_becomes_what_the_webhook_makes_of_it() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: half}\nspec:\n  containers:\n    - name: main\n      \
                image: secret\n      env: [{name: A, value: b}]\n      resources: {limits: {clear.ml/fraction-1: \"0.5\"}}\n";
    let read = pods(text).remove(0);
    let limits = &read.spec["containers"][0]["resources"]["limits"];
    assert_eq!(limits, &json!({ "cdmo.clear.ml/fraction-0.500": "1" }));
    assert_eq!(read.spec["containers"][0].get("image"), None);
    assert_eq!(read.spec["containers"][0].get("env"), None);
}

#[test]
fn what_the_webhook_refuses_is_refused_here_and_what_it_warns_of_is_told() {
    let bad = "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: main, resources: {limits: {clear.ml/fraction: \"1.3\"}}}]}";
    let sentence = error(bad);
    assert!(sentence.starts_with("pods.yaml:1: Pod x: "), "{sentence}");
    assert!(sentence.contains("1.3"), "{sentence}");
    let odd = "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: main, resources: {limits: \
               {clear.ml/fraction: \"0.5\", nvidia.com/mig-7g.40gb: 1}}}]}";
    assert_eq!(pods(odd)[0].warnings.len(), 1, "{:?}", pods(odd));
}

#[test]
fn what_makes_no_pods_is_passed_over_but_a_file_without_any_is_refused() {
    let service = "apiVersion: v1\nkind: Kustomization\nresources: [web.yaml]\n";
    let both = format!("{service}---\n{}", workload("Deployment", "replicas: 1"));
    assert_eq!(pods(&both).len(), 1);
    assert!(error(service).contains("nothing in it makes pods"));
    assert!(error("").contains("nothing in it makes pods"));
}

#[test]
fn a_slip_is_told_with_its_line() {
    let cases = [
        (
            "---\nkind: Pod\nmetadata: {name: x\n",
            "pods.yaml:",
            "not YAML",
        ),
        (
            "\n# words\nkind: Pod\nspec: {}\n",
            "pods.yaml:3: ",
            "no metadata.name",
        ),
        ("name: x\n", "pods.yaml:1: ", "no Kubernetes object"),
        (
            "kind: Pod\nmetadata: {name: x}\n",
            "pods.yaml:1: ",
            "no spec",
        ),
        (
            "kind: DaemonSet\nmetadata: {name: x}\n",
            "pods.yaml:1: ",
            "ask about one of its pods",
        ),
        (
            "kind: Deployment\nmetadata: {name: x}\nspec: {replicas: many}\n",
            "pods.yaml:1: ",
            "give it a whole number",
        ),
        (
            "kind: Deployment\nmetadata: {name: x}\nspec: {replicas: -1}\n",
            "pods.yaml:1: ",
            "give it a whole number",
        ),
    ];
    for (text, place, words) in cases {
        let sentence = error(text);
        assert!(sentence.starts_with(place), "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
    let sentence = read("/no/such/file").unwrap_err().to_string();
    assert!(
        sentence.starts_with("/no/such/file: failed to read it"),
        "{sentence}"
    );
}

#[test]
fn a_field_without_a_value_is_as_one_that_is_not_there() {
    let text = "kind: Pod\nmetadata: {name: x}\nspec:\n  tolerations:\n  nodeSelector:\n  containers:\n    - name: main\n      \
                resources: {limits: {nvidia.com/mig-1g.5gb: 1}, requests: }\n";
    let expected = json!({
        "containers": [{ "name": "main", "resources": { "limits": { "nvidia.com/mig-1g.5gb": 1 } } }],
    });
    assert_eq!(pods(text)[0].spec, expected);
}
