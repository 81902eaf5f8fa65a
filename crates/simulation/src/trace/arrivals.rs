//! A trace in a plain table: when something arrives, what it asks for, and how long it stays.
//!
//! | column | meaning |
//! |---|---|
//! | `arrival` | seconds, never falling |
//! | `lifetime` | seconds; empty if it stays for ever |
//! | `profile` or `fraction` | `3g.40gb`, or a part of a GPU such as `0.5`; one of the two per row |
//! | `count` | how many of it at once, 1 if left out |
//! | `priority` | larger is more urgent, 0 if left out |

use std::io::Read;

use mig::fraction::Share;
use mig::{GpuModel, ProfileIndex, ProfileName};

use super::TraceError;
use super::table::{Column, Row, Table};

/// Most instances that one row may ask for.
const MOST: u64 = 10_000;

/// One row of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it arrives, in seconds; never before the row above.
    pub arrival: f64,
    /// How long it stays, in seconds; `None` for ever.
    pub lifetime: Option<f64>,
    /// What it asks for, in the model that the trace was read for.
    pub profile: ProfileIndex,
    /// How many of it, at least 1.
    pub count: u32,
    /// Larger is more urgent.
    pub priority: i32,
}

/// The rows of a trace in a plain table.
///
/// ```
/// use mig::GpuModel;
/// use simulation::trace::Arrivals;
///
/// let a100 = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
/// let text = "arrival,lifetime,profile\n0,60,3g.40gb\n1.5,,1g.10gb\n";
/// let rows: Result<Vec<_>, _> = Arrivals::new(text.as_bytes(), &a100)?.collect();
/// assert_eq!(rows?[1].lifetime, None);
/// # Ok::<(), simulation::trace::TraceError>(())
/// ```
pub struct Arrivals<'a, R> {
    table: Table<R>,
    model: &'a GpuModel,
    columns: Columns,
    last: f64,
}

#[derive(Clone, Copy)]
struct Columns {
    arrival: Column,
    lifetime: Column,
    profile: Option<Column>,
    fraction: Option<Column>,
    count: Option<Column>,
    priority: Option<Column>,
}

impl<'a, R: Read> Arrivals<'a, R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// If it is missing or lacks a column.
    pub fn new(reader: R, model: &'a GpuModel) -> Result<Self, TraceError> {
        let table = Table::new(reader)?;
        let fraction = table.optional("fraction");
        let profile = match fraction {
            Some(_) => table.optional("profile"),
            None => Some(table.column("profile")?),
        };
        let columns = Columns {
            arrival: table.column("arrival")?,
            lifetime: table.column("lifetime")?,
            profile,
            fraction,
            count: table.optional("count"),
            priority: table.optional("priority"),
        };
        Ok(Self {
            table,
            model,
            columns,
            last: 0.0,
        })
    }
}

impl<R: Read> Iterator for Arrivals<'_, R> {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.table.next()? {
            Ok(row) => read(&row, &self.columns, self.model, self.last),
            Err(error) => Err(error),
        };
        match &row {
            Ok(arrival) => self.last = arrival.arrival,
            Err(_) => self.table.stop(),
        }
        Some(row)
    }
}

fn read(
    row: &Row<'_>,
    columns: &Columns,
    model: &GpuModel,
    last: f64,
) -> Result<Arrival, TraceError> {
    let arrival = row
        .time(columns.arrival)?
        .ok_or_else(|| row.wrong(columns.arrival, "is empty; give seconds from 0"))?;
    if arrival < last {
        return Err(row.wrong(
            columns.arrival,
            format!("is before the row above ({last}); sort the trace by arrival"),
        ));
    }
    let lifetime = row.time(columns.lifetime)?;
    let (profile, each) = wanted(row, columns, model)?;
    let count = match columns.count.filter(|column| !row.text(*column).is_empty()) {
        None => 1,
        Some(column) => match row.count(column)? {
            0 => return Err(row.wrong(column, "asks for nothing; give 1 or more")),
            more if more > MOST => {
                return Err(row.wrong(column, format!("is more than {MOST}; use several rows")));
            }
            count => u32::try_from(count).unwrap_or(u32::MAX),
        },
    };
    let priority = match columns.priority.filter(|c| !row.text(*c).is_empty()) {
        None => 0,
        Some(column) => row
            .text(column)
            .parse()
            .map_err(|_| row.wrong(column, "is no whole number; give one such as 0"))?,
    };
    Ok(Arrival {
        arrival,
        lifetime,
        profile,
        count: count.saturating_mul(each),
        priority,
    })
}

/// What the row asks for and how many instances one of it needs.
fn wanted(
    row: &Row<'_>,
    columns: &Columns,
    model: &GpuModel,
) -> Result<(ProfileIndex, u32), TraceError> {
    let filled = |column: Option<Column>| column.filter(|column| !row.text(*column).is_empty());
    match (filled(columns.profile), filled(columns.fraction)) {
        (Some(column), None) => {
            let name: ProfileName = row
                .text(column)
                .parse()
                .map_err(|_| row.wrong(column, "is no MIG profile; give one such as 3g.40gb"))?;
            let (profile, _) = model
                .find(&name)
                .ok_or_else(|| unknown(row, column, model))?;
            Ok((profile, 1))
        }
        (None, Some(column)) => {
            let share: Share = row
                .text(column)
                .parse()
                .map_err(|_| row.wrong(column, "is no decimal; give a part of a GPU like 0.5"))?;
            let (class, each) = share
                .class()
                .map_err(|why| row.wrong(column, format!("cannot be served: {why}")))?;
            let (profile, _) = class
                .profile(model)
                .ok_or_else(|| unknown(row, column, model))?;
            Ok((profile, each))
        }
        (Some(column), Some(_)) => {
            Err(row.wrong(column, "stands beside a fraction; give one of the two"))
        }
        (None, None) => {
            let column = columns
                .profile
                .or(columns.fraction)
                .unwrap_or(columns.arrival);
            Err(row.wrong(column, "is empty; say what the row asks for"))
        }
    }
}

fn unknown(row: &Row<'_>, column: Column, model: &GpuModel) -> TraceError {
    let known: Vec<String> = model.profiles.iter().map(|p| p.name.to_string()).collect();
    row.wrong(
        column,
        format!(
            "is not a profile of {}, which has {}",
            model.name,
            known.join(", ")
        ),
    )
}
