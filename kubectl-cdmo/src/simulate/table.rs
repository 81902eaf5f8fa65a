//! The table, for a terminal of any width or for a file.

use std::fmt::Write as _;

use gpu_picture::style::{paint, strong};
use simulation::statistics::Estimate;

use super::summary::{Enough, Row, Summary};
use crate::text::wrapped;

/// Between columns.
const GAP: usize = 2;

struct Column {
    head: String,
    cells: Vec<String>,
    /// Those with the highest number are left out first where the terminal is narrow.
    rank: u8,
}

/// The summary as text. With a width, lines are not longer: the columns that matter least are left
/// out, and named.
pub fn text(summary: &Summary, width: Option<usize>) -> String {
    let mut columns = columns(summary);
    let mut left_out = Vec::new();
    while width.is_some_and(|width| wide(&columns) > width) {
        let Some(at) = (2..columns.len()).max_by_key(|at| columns[*at].rank) else {
            break;
        };
        left_out.push(columns.remove(at).head);
    }
    let line = width.unwrap_or(100);
    let mut text = wrapped(line, "", "", &summary.heading);
    text.push('\n');
    let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
    let _ = writeln!(text, "{}", paint(strong(), &row(&columns, &heads)));
    for number in 0..summary.rows.len() {
        if number > 0 && summary.rows[number].load != summary.rows[number - 1].load {
            text.push('\n');
        }
        let cells = columns.iter().map(|column| column.cells[number].as_str());
        let _ = writeln!(text, "{}", row(&columns, &cells.collect::<Vec<_>>()));
    }
    if !left_out.is_empty() {
        left_out.reverse();
        let words = format!("Left out, for want of width: {}.", left_out.join(", "));
        let _ = write!(text, "\n{}", wrapped(line, "", "", &words));
    }
    text
}

fn columns(summary: &Summary) -> Vec<Column> {
    let column = |head: &str, rank, of: &dyn Fn(&Row) -> String| Column {
        head: head.to_owned(),
        cells: summary.rows.iter().map(of).collect(),
        rank,
    };
    let mut columns = vec![
        column("LOAD", 0, &|row| {
            row.load
                .map_or_else(|| "trace".to_owned(), |load| format!("{load:.2}"))
        }),
        column("POLICY", 0, &|row| row.policy.to_owned()),
    ];
    if summary.queue {
        let unit = if summary.seconds { " (s)" } else { "" };
        columns.extend([
            column(&format!("MEAN WAIT{unit}"), 1, &|row| short(row.wait)),
            column(&format!("99 % WAIT{unit}"), 2, &|row| short(row.late)),
            column("STILL WAIT", 3, &|row| format!("{:.0}", row.left.mean)),
        ]);
    } else {
        columns.extend([
            column("PODS %", 1, &|row| bar(row.pods)),
            column("SLICES %", 2, &|row| bar(row.slices)),
            column("LARGEST %", 4, &|row| bar(row.whole)),
        ]);
    }
    columns.extend([
        column("IN USE %", 5, &|row| format!("{:.1}", row.used.mean)),
        column("GPUS BUSY", 6, &|row| format!("{:.1}", row.active.mean)),
        column("MADE", 7, &|row| format!("{:.2}", row.made.mean)),
    ]);
    if let Some(percent) = summary.accept {
        columns.push(column(
            &format!("GPUS FOR {percent} %"),
            1,
            &|row| match row.enough {
                Enough::Gpus(gpus) => gpus.to_string(),
                Enough::NotFound => "not found".to_owned(),
                Enough::Unknown => "-".to_owned(),
            },
        ));
    }
    columns
}

/// A mean, and half of the bar that holds the true mean in 95 of 100 repetitions.
fn bar(estimate: Estimate) -> String {
    match estimate.samples {
        0 => "-".to_owned(),
        1 => format!("{:.2}", estimate.mean),
        _ => format!(
            "{:.2} ±{:.2}",
            estimate.mean,
            estimate.bar().1 - estimate.mean
        ),
    }
}

/// The same with as many digits as a time needs.
fn short(estimate: Estimate) -> String {
    let digits = if estimate.mean < 10.0 { 3 } else { 0 };
    match estimate.samples {
        0 => "-".to_owned(),
        1 => format!("{:.digits$}", estimate.mean),
        _ => {
            let half = estimate.bar().1 - estimate.mean;
            format!("{:.digits$} ±{half:.digits$}", estimate.mean)
        }
    }
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().chain([&self.head]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

fn wide(columns: &[Column]) -> usize {
    let widths: usize = columns.iter().map(Column::width).sum();
    widths + GAP * columns.len().saturating_sub(1)
}

fn row(columns: &[Column], cells: &[&str]) -> String {
    let mut line = String::new();
    for (number, (column, cell)) in columns.iter().zip(cells).enumerate() {
        if number > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let width = column.width();
        let _ = write!(line, "{cell:<width$}");
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests;
