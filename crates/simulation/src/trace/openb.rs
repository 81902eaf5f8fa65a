//! The openb trace: nodes and pods of a production GPU cluster of Alibaba, 2023.
//!
//! Published with the FGD paper (Weng et al., USENIX ATC 2023): a list of nodes and, for several
//! workloads, lists of pods. A pod asks for whole GPUs, or for thousandths of one GPU.

use std::io::Read;

use super::TraceError;
use super::table::{Column, Row, Table};

/// Thousandths of a whole GPU.
const WHOLE: u64 = 1000;
/// No node of any list has more GPUs, and a pod cannot ask for more than a node has.
const MOST_GPUS: u64 = 64;

/// One node of the list of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the trace.
    pub name: String,
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of GPUs.
    pub gpus: u32,
    /// Model of its GPUs, as the trace calls it; empty without GPUs.
    pub model: String,
}

/// One pod of a list of pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name in the trace.
    pub name: String,
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of GPUs, 0 for a pod without.
    pub gpus: u32,
    /// Thousandths of each of them, 1 to 1000; 0 without GPUs. Below 1000 `gpus` is 1.
    pub gpu_milli: u32,
    /// GPU models that it may run on; all if empty.
    pub models: Vec<String>,
    /// When it was made, in seconds of the trace, where the list says so.
    pub created: Option<f64>,
    /// When it was deleted, in seconds of the trace, where the list says so.
    pub deleted: Option<f64>,
}

/// The rows of a list of nodes.
pub struct Nodes<R> {
    table: Table<R>,
    columns: [Column; 5],
}

impl<R: Read> Nodes<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// If it is missing or lacks a column.
    pub fn new(reader: R) -> Result<Self, TraceError> {
        let table = Table::new(reader)?;
        let columns = [
            table.column("sn")?,
            table.column("cpu_milli")?,
            table.column("memory_mib")?,
            table.column("gpu")?,
            table.column("model")?,
        ];
        Ok(Self { table, columns })
    }
}

impl<R: Read> Iterator for Nodes<R> {
    type Item = Result<Node, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.table.next()?.and_then(|row| node(&row, self.columns));
        if row.is_err() {
            self.table.stop();
        }
        Some(row)
    }
}

fn node(row: &Row<'_>, columns: [Column; 5]) -> Result<Node, TraceError> {
    let [name, cpu, memory, gpus, model] = columns;
    Ok(Node {
        name: row.text(name).to_owned(),
        cpu_milli: row.count(cpu)?,
        memory_mib: row.count(memory)?,
        gpus: count_of_gpus(row, gpus)?,
        model: row.text(model).to_owned(),
    })
}

/// The rows of a list of pods.
pub struct Pods<R> {
    table: Table<R>,
    columns: [Column; 5],
    models: Option<Column>,
    created: Option<Column>,
    deleted: Option<Column>,
}

impl<R: Read> Pods<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// If it is missing or lacks a column.
    pub fn new(reader: R) -> Result<Self, TraceError> {
        let table = Table::new(reader)?;
        let columns = [
            table.column("name")?,
            table.column("cpu_milli")?,
            table.column("memory_mib")?,
            table.column("num_gpu")?,
            table.column("gpu_milli")?,
        ];
        Ok(Self {
            columns,
            models: table.optional("gpu_spec"),
            created: table.optional("creation_time"),
            deleted: table.optional("deletion_time"),
            table,
        })
    }
}

impl<R: Read> Iterator for Pods<R> {
    type Item = Result<Pod, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let optional = [self.models, self.created, self.deleted];
        let row = self
            .table
            .next()?
            .and_then(|row| pod(&row, self.columns, optional));
        if row.is_err() {
            self.table.stop();
        }
        Some(row)
    }
}

fn pod(
    row: &Row<'_>,
    columns: [Column; 5],
    [models, created, deleted]: [Option<Column>; 3],
) -> Result<Pod, TraceError> {
    let [name, cpu, memory, count, milli] = columns;
    let gpus = count_of_gpus(row, count)?;
    let share = row.count(milli)?;
    if share > WHOLE {
        return Err(row.wrong(milli, "is more than 1000 thousandths of a GPU"));
    }
    match (gpus, share) {
        (0, 1..) => return Err(row.wrong(milli, "is asked of no GPU; num_gpu must be 1")),
        (1.., 0) => return Err(row.wrong(milli, "is nothing of a GPU; give 1 to 1000")),
        (2.., 1..WHOLE) => {
            return Err(row.wrong(milli, "is a part of several GPUs; only one can be shared"));
        }
        _ => {}
    }
    let time = |column: Option<Column>| column.map_or(Ok(None), |column| row.time(column));
    let (made, gone) = (time(created)?, time(deleted)?);
    if let (Some(column), Some(made), Some(gone)) = (deleted, made, gone)
        && gone < made
    {
        return Err(row.wrong(column, format!("is before the pod was made ({made})")));
    }
    Ok(Pod {
        name: row.text(name).to_owned(),
        cpu_milli: row.count(cpu)?,
        memory_mib: row.count(memory)?,
        gpus,
        gpu_milli: u32::try_from(share).unwrap_or(0),
        models: models
            .map_or("", |column| row.text(column))
            .split('|')
            .filter(|model| !model.is_empty())
            .map(str::to_owned)
            .collect(),
        created: made,
        deleted: gone,
    })
}

fn count_of_gpus(row: &Row<'_>, column: Column) -> Result<u32, TraceError> {
    let gpus = row.count(column)?;
    if gpus > MOST_GPUS {
        return Err(row.wrong(column, "is more GPUs than a machine has"));
    }
    Ok(u32::try_from(gpus).unwrap_or(0))
}
