//! Match conditions: CEL expressions by which a webhook says what it wants to hear of, beyond its
//! rules and selectors (k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions).
//!
//! The language comes from a library. Here is what the API server adds to it: which variables there
//! are, that an expression must give a boolean, and how JSON becomes values. Three things of the real
//! server are not modelled: the variable `authorizer`, the limit on what an expression may cost, and
//! the functions that only Kubernetes has. Optional fields (`object.?a.?b`) are understood by every
//! version that has conditions; the real one has them from 1.29.

mod check;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use crate::store::object::{array, text};

/// What expressions may speak of.
const VARIABLES: [&str; 3] = ["object", "oldObject", "request"];
/// More expressions than any configuration has; who has more pays for compiling them again.
const KNOWN: usize = 256;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Why an expression cannot be a condition; none if it can.
pub(crate) fn fault(expression: &str) -> Option<String> {
    compile(expression).err()
}

fn compile(expression: &str) -> Result<Program, String> {
    let program = ENVIRONMENT
        .compile(expression)
        .map_err(|errors| format!("compilation failed: {errors}"))?;
    let root = &program.expression().expr;
    if let Some(unknown) = check::unknown_variable(root, &VARIABLES) {
        return Err(format!(
            "compilation failed: ERROR: <input>: undeclared reference to '{unknown}' (in container \
             '')"
        ));
    }
    if !check::gives_boolean(root) {
        return Err("must evaluate to bool".to_owned());
    }
    Ok(program)
}

/// Evaluates conditions; what it has compiled once it keeps. Clones share that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    compiled: Arc<Mutex<BTreeMap<String, Arc<Program>>>>,
}

impl Conditions {
    /// Whether all conditions of a webhook hold; it is not asked if one does not, whatever becomes of
    /// the others.
    ///
    /// # Errors
    /// One has an error, and none is false. What follows from it is for the failure policy to say.
    pub(crate) fn hold(&self, hook: &Value, variables: Variables<'_>) -> Result<bool, String> {
        let conditions = array(hook, "/matchConditions");
        if conditions.is_empty() {
            return Ok(true);
        }
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for (name, value) in variables.named() {
            context.add_variable_from_value(name, to_cel(value));
        }
        let mut errors = Vec::new();
        for condition in conditions {
            let expression = text(condition, "/expression");
            match self.evaluate(expression, &context) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(why) => errors.push(format!(
                    "expression '{expression}' resulted in error: {why}"
                )),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    fn evaluate(&self, expression: &str, context: &Context<'_, '_>) -> Result<bool, String> {
        match self.program(expression)?.execute(context) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("must evaluate to bool".to_owned()),
            Err(ExecutionError::NoSuchKey(key)) => Err(format!("no such key: {key}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn program(&self, expression: &str) -> Result<Arc<Program>, String> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = compiled.get(expression) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(compile(expression)?);
        if compiled.len() >= KNOWN {
            compiled.clear();
        }
        compiled.insert(expression.to_owned(), Arc::clone(&program));
        Ok(program)
    }
}

/// What a request looks like to conditions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variables<'a> {
    /// The object as it shall be.
    pub(crate) object: &'a Value,
    /// As it was; null if it is new.
    pub(crate) old: &'a Value,
    /// The request of an `AdmissionReview`; of it, conditions see neither objects nor uid.
    pub(crate) request: &'a Value,
}

impl<'a> Variables<'a> {
    fn named(self) -> [(&'static str, &'a Value); 3] {
        let [object, old, request] = VARIABLES;
        [
            (object, self.object),
            (old, self.old),
            (request, self.request),
        ]
    }
}

/// As the server's Go types would show it: members that are null are not there.
fn to_cel(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => cel::Value::Int(number),
            (None, Some(number), _) => cel::Value::UInt(number),
            (None, None, number) => cel::Value::Float(number.unwrap_or_default()),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), to_cel(value)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}

#[cfg(test)]
mod tests;
