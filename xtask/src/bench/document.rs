//! Writes figures down: on the screen and below docs/benchmarks, with what they were measured on.

use std::fmt::Write as _;

use anyhow::Context as _;
use testbed::binaries::repository;

/// A table of text; the first row is its head.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&cell| cell.to_owned()).collect()])
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.0.push(cells.to_vec());
    }

    /// Whether there is not even a head: then the sentence above it says all.
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn draw(&self) -> String {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.0.iter().enumerate() {
            // Writing to a String cannot fail.
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in &widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Title, without a mark.
    pub(super) title: String,
    /// What was done, in a sentence or two.
    pub(super) how: String,
    /// The figures with what was promised.
    pub(super) tables: Vec<(String, Table)>,
}

/// Prints a report and writes it to `docs/benchmarks/NAME.md`.
pub(super) fn publish(name: &str, report: &Report) -> anyhow::Result<()> {
    let mut text = format!("# {}\n\n{}\n", report.title, report.how);
    for (heading, table) in &report.tables {
        let _ = writeln!(text, "\n{heading}");
        if !table.is_empty() {
            let _ = write!(text, "\n{}", table.draw());
        }
    }
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let _ = write!(
        text,
        "\nMeasured with `cargo xtask bench {name}` on {date}: {}.\n",
        machine()
    );
    anstream::println!("{text}");
    put(&format!("{name}.md"), &text)
}

/// Writes `docs/benchmarks/FILE`.
pub(super) fn put(file: &str, text: &str) -> anyhow::Result<()> {
    let folder = repository().join("docs/benchmarks");
    let file = folder.join(file);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, text))
        .with_context(|| format!("failed to write {}", file.display()))
}

/// Processor, cores and memory of this machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned)?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = value(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = value(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib.div_ceil(1024 * 1024));
    format!(
        "{} ({cores} cores, {memory} GiB)",
        processor.unwrap_or_else(|| "a machine".into())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_markdown() {
        let mut table = Table::new(&["what", "ms"]);
        table.row(&["p50".into(), "12.5".into()]);
        assert_eq!(
            table.draw(),
            "| what | ms   |\n|------|------|\n| p50  | 12.5 |\n"
        );
    }
}
