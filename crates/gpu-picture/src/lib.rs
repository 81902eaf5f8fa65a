//! GPUs as pictures: rows of memory slices with what stands on them.
//!
//! Whoever knows the GPUs (the simulated driver, the controller's report) makes [`Node`]s of them;
//! [`draw()`] makes text of those, with colours that a plain-text output may drop: nothing is told
//! by colour alone.

#![forbid(unsafe_code)]

mod draw;
pub mod style;

pub use draw::{Drawing, draw};

/// The GPUs of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name of the node.
    pub name: String,
    /// Its GPUs, by index.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Index on the node.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Memory slices; 0 on a GPU without MIG.
    pub slices: u8,
    /// What is on its row of slices, from the left, without gaps.
    pub cells: Vec<Cell>,
}

impl Gpu {
    /// A row of slices: these pieces of it, and between them slices that are [`Kind::Free`] where
    /// `reachable` says that an instance could still use them, and [`Kind::Wasted`] elsewhere.
    /// Pieces that overlap others or the end of the row are left out.
    pub fn row(
        index: u32,
        name: String,
        slices: u8,
        mut pieces: Vec<Cell>,
        reachable: impl Fn(u8) -> bool,
    ) -> Self {
        pieces.sort_by_key(|piece| piece.start);
        let mut cells: Vec<Cell> = Vec::new();
        let mut at = 0;
        let fill = |cells: &mut Vec<Cell>, from: u8, to: u8| {
            cells.extend((from..to).map(|start| Cell {
                start,
                size: 1,
                kind: if reachable(start) {
                    Kind::Free
                } else {
                    Kind::Wasted
                },
            }));
        };
        for mut piece in pieces {
            piece.size = piece.size.max(1);
            let end = piece.start.saturating_add(piece.size);
            if piece.start < at || end > slices {
                continue;
            }
            fill(&mut cells, at, piece.start);
            cells.push(piece);
            at = end;
        }
        fill(&mut cells, at, slices);
        Self {
            index,
            name,
            slices,
            cells,
        }
    }

    /// A GPU that is not divided.
    pub fn whole(index: u32, name: String, slices: u8, tenant: Tenant) -> Self {
        let cell = Cell {
            start: 0,
            size: slices.max(1),
            kind: Kind::Whole { tenant },
        };
        Self {
            index,
            name,
            slices,
            cells: vec![cell],
        }
    }
}

/// A piece of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
    /// What is there.
    pub kind: Kind,
}

/// What a piece of a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A GPU instance.
    Instance {
        /// Its profile.
        profile: String,
        /// Who has it.
        tenant: Tenant,
    },
    /// A free slice that some instance could still use.
    Free,
    /// A free slice that no instance can use as the GPU is laid out now.
    Wasted,
    /// The whole GPU: MIG is off.
    Whole {
        /// Who has it.
        tenant: Tenant,
    },
}

/// Who has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// The pod of this name.
    Pod(String),
    /// Nobody: it can be given out, or given up.
    Nobody,
    /// It is coming or going, as this word says.
    Changing(&'static str),
    /// It is out of service, as this word says.
    Faulty(&'static str),
}

impl Tenant {
    /// The pod, if there is one; else nobody.
    pub fn of(pod: Option<String>) -> Self {
        pod.map_or(Self::Nobody, Self::Pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u8, size: u8) -> Cell {
        let kind = Kind::Instance {
            profile: "p".into(),
            tenant: Tenant::Nobody,
        };
        Cell { start, size, kind }
    }

    fn signs(gpu: &Gpu) -> String {
        let sign = |cell: &Cell| match cell.kind {
            Kind::Instance { .. } => format!("[{}]", cell.size),
            Kind::Free => ".".to_owned(),
            Kind::Wasted => "x".to_owned(),
            Kind::Whole { .. } => "whole".to_owned(),
        };
        gpu.cells.iter().map(sign).collect()
    }

    #[test]
    fn a_row_has_no_gaps() {
        let row = |pieces| Gpu::row(0, "A100".into(), 8, pieces, |slice| slice < 7);
        assert_eq!(signs(&row(vec![piece(4, 2), piece(0, 2)])), "[2]..[2].x");
        assert_eq!(signs(&row(Vec::new())), ".......x");
    }

    #[test]
    fn pieces_that_cannot_be_true_do_not_break_the_row() {
        let pieces = vec![piece(0, 4), piece(2, 2), piece(6, 4), piece(7, 0)];
        let gpu = Gpu::row(0, "A100".into(), 8, pieces, |_| true);
        assert_eq!(signs(&gpu), "[4]...[1]");
        assert_eq!(gpu.cells.iter().map(|c| u32::from(c.size)).sum::<u32>(), 8);
    }
}
