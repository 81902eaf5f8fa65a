//! Size of the stripped programs.

use anyhow::Context as _;
use testbed::binaries::Binaries;

use super::document::{Report, Table};
use super::numbers::verdict;

/// Promised, in bytes: 15 MB.
const TARGET: u64 = 15_000_000;

pub(super) fn measure(binaries: &Binaries) -> anyhow::Result<Report> {
    let mut table = Table::new(&["program", "size (MB)", "promised", ""]);
    for program in [&binaries.agent, &binaries.controller] {
        let size = std::fs::metadata(program)
            .with_context(|| format!("failed to look at {}", program.display()))?
            .len();
        let name = program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let tenths = size / 100_000;
        table.row(&[
            name.unwrap_or_default(),
            format!("{}.{}", tenths / 10, tenths % 10),
            "below 15".to_owned(),
            verdict(size < TARGET),
        ]);
    }
    Ok(Report {
        title: "Size of the programs".to_owned(),
        how: "Release builds, stripped as the profile in Cargo.toml says.".to_owned(),
        tables: vec![("Against what is promised:".to_owned(), table)],
    })
}
