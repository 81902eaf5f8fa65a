//! Defaults of webhooks (pkg/apis/admissionregistration/v1/defaults.go).

use serde_json::{Value, json};

use crate::store::object::set_default;

pub(super) fn fill(configuration: &mut Value) {
    let hooks = configuration
        .get_mut("webhooks")
        .and_then(Value::as_array_mut);
    for hook in hooks.into_iter().flatten() {
        set_default(hook, "failurePolicy", "Fail");
        set_default(hook, "matchPolicy", "Equivalent");
        set_default(hook, "namespaceSelector", json!({}));
        set_default(hook, "objectSelector", json!({}));
        set_default(hook, "timeoutSeconds", 10);
        set_default(hook, "reinvocationPolicy", "Never");
        if let Some(service) = hook.pointer_mut("/clientConfig/service") {
            set_default(service, "port", 443);
        }
        let rules = hook.get_mut("rules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            set_default(rule, "scope", "*");
        }
    }
}
