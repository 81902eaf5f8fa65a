//! Kubernetes objects in YAML files, as `kubectl apply -f` takes them, with the lines where they begin:
//! a slip in a file is one sentence with file and line.

#![forbid(unsafe_code)]

use std::io::Read as _;

use serde_json::Value;
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter as _};

/// An object of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The line where it begins, counted from 1; that of the list for one in a `List`.
    pub line: usize,
    /// The object, of whatever kind.
    pub value: Value,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ManifestError {
    /// The file, and the line where it is known.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl ManifestError {
    /// Something is wrong in a line of a file.
    pub fn at(file: &str, line: usize, message: String) -> Self {
        Self {
            place: format!("{file}:{line}"),
            message,
        }
    }

    /// Something is wrong with a file as a whole.
    pub fn of(file: &str, message: impl Into<String>) -> Self {
        Self {
            place: file.to_owned(),
            message: message.into(),
        }
    }
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn text(file: &str) -> Result<String, ManifestError> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| ManifestError::of(file, format!("failed to read it: {error}")))
}

/// The objects of a text, those of a `List` one by one; `file` is what it is called in errors.
///
/// # Errors
/// It is not YAML.
pub fn objects(file: &str, text: &str) -> Result<Vec<Object>, ManifestError> {
    let mut all = Vec::new();
    for (first, document) in documents(text) {
        let value: Value = serde_saphyr::from_str(&document).map_err(|error| {
            let line = error
                .location()
                .map_or(0, |place| place.line().saturating_sub(1));
            let message = DefaultMessageFormatter.format_message(error.without_snippet());
            let line = first + usize::try_from(line).unwrap_or(0);
            ManifestError::at(file, line, format!("not YAML: {message}"))
        })?;
        let values = match (value["kind"].as_str(), &value["items"]) {
            _ if value.is_null() => Vec::new(),
            (Some("List"), Value::Array(items)) => items.clone(),
            _ => vec![value],
        };
        // The line of the first thing in the document, not of the separator before it.
        let line = first + leading(&document);
        all.extend(values.into_iter().map(|value| Object { line, value }));
    }
    Ok(all)
}

/// The documents of a YAML stream with the numbers of their first lines, counted from 1.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (line, number) in text.lines().zip(1..) {
        if line == "---" || line.starts_with("--- ") {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

fn leading(document: &str) -> usize {
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    document.lines().take_while(blank).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_lines_where_they_begin() {
        let text = "# first\nkind: A\n---\n\nkind: List\nitems: [{kind: B}, {kind: C}]\n---\n";
        let read = objects("f.yaml", text).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|object| (object.line, object.value["kind"].as_str().unwrap()))
            .collect();
        assert_eq!(read, [(2, "A"), (5, "B"), (5, "C")]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = text("/no/such/file").unwrap_err().to_string();
        assert!(
            error.starts_with("/no/such/file: failed to read it"),
            "{error}"
        );
    }
}
