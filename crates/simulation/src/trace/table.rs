//! A table of text with named columns, read row by row.

use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::TraceError;
use super::bounded::Bounded;

/// Longest quotation from a trace in a message.
const QUOTED: usize = 60;

/// The table; each row replaces the one before.
pub(super) struct Table<R> {
    reader: csv::Reader<Bounded<R>>,
    names: Vec<String>,
    row: StringRecord,
    rows: u64,
    over: bool,
}

/// A row of a table and its place in the file.
pub(super) struct Row<'a> {
    fields: &'a StringRecord,
    line: u64,
}

/// Where a column is, and its name.
#[derive(Clone, Copy)]
pub(super) struct Column {
    at: usize,
    pub(super) name: &'static str,
}

impl<R: Read> Table<R> {
    pub(super) fn new(reader: R) -> Result<Self, TraceError> {
        let mut reader = ReaderBuilder::new()
            .trim(Trim::All)
            .from_reader(Bounded::new(reader));
        let names: Vec<String> = reader
            .headers()
            .map_err(|why| error(why, 1))?
            .iter()
            .map(str::to_lowercase)
            .collect();
        if names.iter().all(String::is_empty) {
            return Err(TraceError::Empty);
        }
        for (at, name) in names.iter().enumerate() {
            if !name.is_empty() && names[..at].contains(name) {
                return Err(TraceError::TwiceColumn {
                    name: shorten(name),
                });
            }
        }
        Ok(Self {
            reader,
            names,
            row: StringRecord::new(),
            rows: 0,
            over: false,
        })
    }

    pub(super) fn optional(&self, name: &'static str) -> Option<Column> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(Column { at, name })
    }

    pub(super) fn column(&self, name: &'static str) -> Result<Column, TraceError> {
        self.optional(name)
            .ok_or_else(|| TraceError::MissingColumn {
                name,
                found: shorten(&self.names.join(",")),
            })
    }

    /// The next row; nothing after the last one and after an error.
    pub(super) fn next(&mut self) -> Option<Result<Row<'_>, TraceError>> {
        if self.over {
            return None;
        }
        self.reader.get_mut().next_row();
        let line = self.reader.position().line();
        let read = self.reader.read_record(&mut self.row);
        match read.map_err(|why| error(why, line)) {
            Ok(true) => {
                self.rows += 1;
                let line = self.row.position().map_or(0, csv::Position::line);
                Some(Ok(Row {
                    fields: &self.row,
                    line,
                }))
            }
            Ok(false) => {
                self.over = true;
                (self.rows == 0).then_some(Err(TraceError::NoRows))
            }
            Err(error) => {
                self.over = true;
                Some(Err(error))
            }
        }
    }

    /// Ends the table: a row was wrong, and what follows cannot be trusted.
    pub(super) fn stop(&mut self) {
        self.over = true;
    }
}

impl<'a> Row<'a> {
    pub(super) fn text(&self, column: Column) -> &'a str {
        self.fields.get(column.at).unwrap_or("")
    }

    pub(super) fn wrong(&self, column: Column, problem: impl Into<String>) -> TraceError {
        TraceError::Value {
            line: self.line,
            column: column.name,
            value: shorten(self.text(column)),
            problem: problem.into(),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, column: Column) -> Result<u64, TraceError> {
        let text = self.text(column);
        if text.starts_with('-') {
            return Err(self.wrong(column, "is negative; give 0 or more"));
        }
        text.parse()
            .map_err(|_| self.wrong(column, "is no whole number; give one such as 4"))
    }

    /// A time in seconds, or nothing where the field is empty.
    pub(super) fn time(&self, column: Column) -> Result<Option<f64>, TraceError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let seconds: f64 = text
            .parse()
            .map_err(|_| self.wrong(column, "is no number; give seconds such as 12.5"))?;
        if !seconds.is_finite() {
            return Err(self.wrong(column, "is not finite; leave it empty for never"));
        }
        if seconds < 0.0 {
            return Err(self.wrong(column, "is negative; give seconds from 0"));
        }
        Ok(Some(seconds))
    }
}

/// `from` is the line on which the row begins.
fn error(error: csv::Error, from: u64) -> TraceError {
    let line = error.position().map_or(1, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            TraceError::TooLong { line: from }
        }
        ErrorKind::Io(error) => TraceError::Read(error),
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => TraceError::Fields {
            line,
            found: len,
            expected: expected_len,
        },
        _ => TraceError::NotText { line },
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= QUOTED {
        return text.to_owned();
    }
    text.chars().take(QUOTED).chain(['…']).collect()
}
