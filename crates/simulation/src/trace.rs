//! Reads what others recorded: the openb trace of Alibaba, and any trace in a plain table.
//!
//! Rows are read one by one, so that a trace of any length needs no more memory than its longest
//! row, and one of more than a megabyte is refused. Columns are found by their names in the first line, in any order; others are ignored.

mod arrivals;
mod bounded;
mod mapping;
mod openb;
mod table;

pub use arrivals::{Arrival, Arrivals};
pub use mapping::Mapping;
pub use openb::{Node, Nodes, Pod, Pods};

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no first line.
    #[error("the trace is empty: its first line must name the columns")]
    Empty,
    /// There is nothing below the first line.
    #[error("line 1: no row follows the names of the columns, so there is nothing to replay")]
    NoRows,
    /// A column that is needed is not named in the first line.
    #[error("line 1: the column {name:?} is missing among {found:?}; add it or rename one")]
    MissingColumn {
        /// What was looked for.
        name: &'static str,
        /// What the first line says, shortened.
        found: String,
    },
    /// A column is named twice, so that it is open which one counts.
    #[error("line 1: the column {name:?} is there twice; remove or rename one of them")]
    TwiceColumn {
        /// Its name.
        name: String,
    },
    /// A field that cannot be what it says.
    #[error("line {line}: {column} {value:?} {problem}")]
    Value {
        /// Line in the file, from 1.
        line: u64,
        /// Name of the column.
        column: &'static str,
        /// What is there, shortened.
        value: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A row is longer or shorter than the first line.
    #[error("line {line}: the row has {found} fields where the first line has {expected}")]
    Fields {
        /// Line in the file, from 1.
        line: u64,
        /// Fields of the row.
        found: u64,
        /// Fields of the first line.
        expected: u64,
    },
    /// A row that does not end, mostly for want of a quotation mark.
    #[error(
        "line {line}: the row is longer than a megabyte; is a quotation mark missing, or is this no trace?"
    )]
    TooLong {
        /// Line in the file on which it begins, from 1.
        line: u64,
    },
    /// Bytes that are no text.
    #[error("line {line}: the row is not UTF-8; save the trace as UTF-8")]
    NotText {
        /// Line in the file, from 1.
        line: u64,
    },
    /// The caller's reader failed.
    #[error("failed to read the trace")]
    Read(#[source] std::io::Error),
}

#[cfg(test)]
mod tests;
