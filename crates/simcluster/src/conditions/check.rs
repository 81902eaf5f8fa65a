//! What can be said of an expression before it is evaluated, as far as the server's type checker
//! would say it: that it names only variables that exist, and that a boolean comes out.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// Names of types are values, too.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];
/// Operators and functions that give a boolean.
const PREDICATES: [&str; 17] = [
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
    "bool",
    "contains",
    "endsWith",
    "hasValue",
    "matches",
    "startsWith",
];

/// A boolean comes out, and nothing else can.
pub(super) fn gives_boolean(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(LiteralValue::Boolean(_)) => true,
        Expr::Select(select) => select.test,
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            call.args.iter().all(|arg| gives_boolean(&arg.expr))
        }
        Expr::Call(call) => PREDICATES.contains(&call.func_name.as_str()),
        Expr::Comprehension(all) => match &all.result.expr {
            Expr::Ident(name) if *name == all.accu_var => gives_boolean(&all.accu_init.expr),
            result => gives_boolean(result),
        },
        _ => false,
    }
}

/// The first name that is neither one of these variables, nor a type, nor bound in the expression.
pub(super) fn unknown_variable<'e>(expression: &'e Expr, known: &[&'e str]) -> Option<&'e str> {
    Scope {
        names: known.to_vec(),
    }
    .unknown(expression)
}

struct Scope<'e> {
    names: Vec<&'e str>,
}

impl<'e> Scope<'e> {
    fn unknown(&mut self, expression: &'e Expr) -> Option<&'e str> {
        match expression {
            Expr::Unspecified | Expr::Literal(_) => None,
            Expr::Ident(name) => {
                let name = name.as_str();
                let known = self.names.contains(&name) || TYPES.contains(&name);
                (!known).then_some(name)
            }
            Expr::Select(select) => self.unknown(&select.operand.expr),
            Expr::Call(call) => {
                // `optional.of(x)` is a function, not a member of something.
                let target = call.target.iter().filter(
                    |target| !matches!(&target.expr, Expr::Ident(name) if name == "optional"),
                );
                let target = target.map(AsRef::as_ref);
                self.any(target.chain(&call.args))
            }
            Expr::List(list) => self.any(&list.elements),
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(object) => self.entries(object.entries.iter().map(|entry| &entry.expr)),
            Expr::Comprehension(all) => self.comprehension(all),
        }
    }

    fn any(&mut self, expressions: impl IntoIterator<Item = &'e IdedExpr>) -> Option<&'e str> {
        expressions
            .into_iter()
            .find_map(|expression| self.unknown(&expression.expr))
    }

    fn entries(&mut self, entries: impl Iterator<Item = &'e EntryExpr>) -> Option<&'e str> {
        let mut parts = entries.flat_map(|entry| match entry {
            EntryExpr::StructField(field) => vec![&field.value],
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        });
        parts.find_map(|part| self.unknown(&part.expr))
    }

    fn comprehension(&mut self, all: &'e ComprehensionExpr) -> Option<&'e str> {
        if let Some(unknown) = self.any([&all.iter_range, &all.accu_init]) {
            return Some(unknown);
        }
        let outer = self.names.len();
        self.names.extend([all.iter_var.as_str(), &all.accu_var]);
        self.names.extend(all.iter_var2.as_deref());
        let unknown = self.any([&all.loop_cond, &all.loop_step, &all.result]);
        self.names.truncate(outer);
        unknown
    }
}
