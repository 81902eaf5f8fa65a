use serde_json::json;

use super::*;

/// What an expression says of an object.
fn says(expression: &str, object: &Value) -> Result<bool, String> {
    let hook = json!({ "matchConditions": [{ "name": "c", "expression": expression }] });
    held(&hook, object)
}

fn held(hook: &Value, object: &Value) -> Result<bool, String> {
    let request = json!({
        "operation": "CREATE", "namespace": "team", "name": "p",
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "userInfo": { "username": "me", "groups": ["system:masters"] },
    });
    let variables = Variables {
        object,
        old: &Value::Null,
        request: &request,
    };
    Conditions::default().hold(hook, variables)
}

fn pod(limits: &Value) -> Value {
    json!({
        "metadata": { "name": "p", "labels": { "a": "b" }, "generateName": null },
        "spec": { "containers": [
            { "name": "plain", "resources": {} },
            { "name": "main", "resources": { "limits": limits } },
        ]},
    })
}

#[test]
fn expressions_of_real_charts_are_understood() {
    let half = pod(&json!({ "clear.ml/fraction-1": "500m", "cpu": "1" }));
    let plain = pod(&json!({ "cpu": "1" }));
    let fractions = "object.spec.containers.exists(c, has(c.resources) && has(c.resources.limits) \
                     && c.resources.limits.exists(name, name.startsWith('clear.ml/fraction')))";
    assert_eq!(says(fractions, &half), Ok(true));
    assert_eq!(says(fractions, &plain), Ok(false));
    for (expression, wanted) in [
        ("true", true),
        (
            "!(request.namespace in ['kube-system', 'cdmo-operator'])",
            true,
        ),
        (
            "request.resource.group == '' && request.resource.resource == 'pods'",
            true,
        ),
        (
            "request.operation == 'CREATE' ? has(object.spec) : false",
            true,
        ),
        ("oldObject == null", true),
        ("'a' in object.metadata.labels", true),
        ("has(object.metadata.annotations)", false),
        ("has(object.metadata.generateName)", false),
        (
            "has(object.metadata.labels) && object.metadata.labels['a'] == 'c'",
            false,
        ),
        (
            "object.spec.containers.all(c, c.name.matches('^[a-z]+$'))",
            true,
        ),
        (
            "object.spec.containers.filter(c, has(c.resources.limits)).size() == 1",
            true,
        ),
        (
            "object.spec.containers.map(c, c.name) == ['plain', 'main']",
            true,
        ),
        ("size(object.spec.containers) > 1", true),
        ("object.metadata.?labels.a.orValue('') == 'b'", true),
        ("object.?spec.?template.hasValue()", false),
        ("'system:masters' in request.userInfo.groups", true),
        (
            "!request.userInfo.username.startsWith('system:serviceaccount:kube-system:')",
            true,
        ),
    ] {
        assert_eq!(fault(expression), None, "{expression}");
        assert_eq!(says(expression, &half), Ok(wanted), "{expression}");
    }
}

#[test]
fn templates_are_reached_through_the_kinds_that_have_them() {
    let job =
        json!({ "spec": { "jobTemplate": { "spec": { "template": pod(&json!({ "x": "1" })) } } } });
    let deep = "has(object.spec.jobTemplate) && \
                object.spec.jobTemplate.spec.template.spec.containers.exists(c, 'x' in c.resources.limits)";
    // The first container has no limits: an error, but the second one settles it.
    assert_eq!(says(deep, &job), Ok(true));
    assert_eq!(says(deep, &json!({ "spec": {} })), Ok(false));
}

#[test]
fn numbers_compare_whatever_they_are_written_as() {
    let object = json!({ "spec": { "replicas": 3, "share": 0.5, "most": u64::MAX } });
    for expression in [
        "object.spec.replicas == 3",
        "object.spec.replicas > 2",
        "object.spec.share < 1.0",
        "object.spec.replicas < 3.5",
        "object.spec.most > 0",
    ] {
        assert_eq!(says(expression, &object), Ok(true), "{expression}");
    }
}

#[test]
fn an_error_names_expression_and_reason() {
    let none = json!({ "spec": {} });
    assert_eq!(
        says("object.spec.hostNetwork == true", &none),
        Err(
            "expression 'object.spec.hostNetwork == true' resulted in error: no such key: \
             hostNetwork"
                .to_owned()
        )
    );
    assert_eq!(
        says("has(object.spec.a) && object.spec.a", &none),
        Ok(false)
    );
    assert_eq!(says("object.spec.a || true", &none), Ok(true));
}

#[test]
fn one_false_condition_outweighs_errors_and_true_ones() {
    let conditions = |expressions: &[&str]| {
        let all = expressions
            .iter()
            .map(|e| json!({ "name": "c", "expression": e }));
        json!({ "matchConditions": all.collect::<Vec<_>>() })
    };
    let object = json!({});
    assert_eq!(held(&json!({}), &object), Ok(true));
    assert_eq!(held(&conditions(&["true", "1 < 2"]), &object), Ok(true));
    assert_eq!(
        held(&conditions(&["object.a == 1", "false"]), &object),
        Ok(false)
    );
    let error = held(
        &conditions(&["object.a == 1", "true", "object.b == 1"]),
        &object,
    );
    let error = error.unwrap_err();
    assert!(error.starts_with("[expression 'object.a == 1'"), "{error}");
    assert!(error.ends_with("no such key: b]"), "{error}");
}

#[test]
fn what_cannot_be_a_condition_is_known_before_it_is_used() {
    for (expression, why) in [
        (
            "object.spec.containers.exists(c, ",
            "compilation failed: ERROR: <input>:1:",
        ),
        ("objekt.spec.x == 1", "undeclared reference to 'objekt'"),
        (
            "object.spec.containers.all(c, d.name == '')",
            "undeclared reference to 'd'",
        ),
        ("{'a': foo}.size() == 1", "undeclared reference to 'foo'"),
        ("object.metadata.name", "must evaluate to bool"),
        (
            "object.spec.containers.map(c, c.name)",
            "must evaluate to bool",
        ),
        ("true ? 'a' : 'b'", "must evaluate to bool"),
        ("", "compilation failed"),
    ] {
        let fault = fault(expression).unwrap_or_default();
        assert!(fault.contains(why), "{expression}: {fault}");
    }
    for expression in [
        "object.spec.containers.exists_one(c, c.name == '')",
        "type(object.spec) == map",
        "optional.of(1).hasValue()",
        "[1, 2].exists(x, [x].exists(y, x == y))",
    ] {
        assert_eq!(fault(expression), None, "{expression}");
    }
}
