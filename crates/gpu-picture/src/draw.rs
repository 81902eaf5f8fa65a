//! The map of the GPUs: each GPU a row of memory slices with what stands on them, drawn as plain
//! text with colours on top.

use std::fmt::Write as _;

use crate::style::{self, column, fit, paint, short_name};
use crate::{Cell, Gpu, Kind, Node, Tenant};

/// Columns before a row of slices.
const LABEL: usize = 6;
/// A row is a multiple of this wide, so that 4, 8 and 12 slices all come out even.
const UNIT: usize = 24;

/// The map of all nodes for a terminal that is `width` columns wide, with a legend.
pub fn draw(nodes: &[Node], width: usize) -> String {
    let drawing = Drawing::new(width);
    let mut text = String::new();
    for node in nodes {
        text.push_str(&drawing.node(node));
    }
    text.push_str(&Drawing::legend(nodes));
    text
}

/// Draws pictures that are all of one width.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    /// Columns of a row of slices.
    row: usize,
}

impl Drawing {
    /// For a terminal that is `width` columns wide.
    pub fn new(width: usize) -> Self {
        Self {
            row: row_width(width),
        }
    }

    /// A node: a heading, and below it a row for each GPU.
    pub fn node(self, node: &Node) -> String {
        let mut text = String::new();
        draw_node(&mut text, node, self.row);
        text
    }

    /// How many slices are what, and what the signs mean, in one line.
    pub fn legend(nodes: &[Node]) -> String {
        legend(nodes)
    }
}

/// How wide a row of slices is: from two to four units, as many as fit.
fn row_width(width: usize) -> usize {
    UNIT * (width.saturating_sub(LABEL + 1) / UNIT).clamp(2, 4)
}

fn draw_node(text: &mut String, node: &Node, row: usize) {
    // Writing to a String cannot fail; so for all `write!` here.
    let _ = writeln!(
        text,
        "{}  {}",
        paint(style::strong(), &node.name),
        models(&node.gpus)
    );
    let rows: Vec<Row> = node.gpus.iter().map(|gpu| Row::new(gpu, row)).collect();
    let slices = node.gpus.first().map_or(0, |gpu| gpu.slices);
    if slices > 0 && node.gpus.iter().all(|gpu| gpu.slices == slices) {
        let _ = writeln!(text, "{}", paint(style::faint(), &ruler(slices, row)));
    }
    let mut above: Option<&Row> = None;
    for (gpu, row_of_gpu) in node.gpus.iter().zip(&rows) {
        draw_border(text, above, Some(row_of_gpu), row);
        row_of_gpu.draw(text, &format!("GPU {}", gpu.index));
        above = Some(row_of_gpu);
    }
    draw_border(text, above, None, row);
}

/// `4x NVIDIA A100-SXM4-40GB`.
fn models(gpus: &[Gpu]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for gpu in gpus {
        match counts.iter_mut().find(|(name, _)| *name == gpu.name) {
            Some((_, count)) => *count += 1,
            None => counts.push((&gpu.name, 1)),
        }
    }
    let each = counts
        .iter()
        .map(|(name, count)| format!("{count}x {name}"));
    each.collect::<Vec<_>>().join(", ")
}

/// The numbers of the memory slices above their columns.
fn ruler(slices: u8, row: usize) -> String {
    let width = row / usize::from(slices);
    let numbers = (0..slices).map(|slice| format!("{slice:<width$}"));
    format!("{:LABEL$} {}", "", numbers.collect::<String>())
        .trim_end()
        .to_owned()
}

/// One GPU, ready to be drawn.
struct Row {
    pieces: Vec<Piece>,
    /// Columns at which pieces begin, the first one's not included.
    edges: Vec<usize>,
}

/// Cells that are drawn as one.
struct Piece {
    /// Columns, its right edge included.
    width: usize,
    /// Slices.
    count: usize,
    kind: Kind,
}

impl Row {
    fn new(gpu: &Gpu, row: usize) -> Self {
        let slice = row / usize::from(gpu.slices.max(1));
        let mut pieces: Vec<Piece> = Vec::new();
        for Cell { size, kind, .. } in &gpu.cells {
            let (count, width) = (usize::from(*size), usize::from(*size) * slice);
            match pieces.last_mut() {
                Some(last) if last.kind == *kind && matches!(kind, Kind::Free | Kind::Wasted) => {
                    last.width += width;
                    last.count += count;
                }
                _ => pieces.push(Piece {
                    width,
                    count,
                    kind: kind.clone(),
                }),
            }
        }
        let mut edge = 0;
        let mut edges: Vec<usize> = pieces
            .iter()
            .map(|piece| {
                edge += piece.width;
                edge
            })
            .collect();
        edges.pop();
        Self { pieces, edges }
    }

    fn draw(&self, text: &mut String, label: &str) {
        let bar = paint(style::faint(), "│");
        for (line, label) in [(0, label), (1, "")] {
            let _ = write!(text, "{label:LABEL$}{bar}");
            for piece in &self.pieces {
                let _ = write!(text, "{}{bar}", piece.line(line));
            }
            text.push('\n');
        }
    }
}

impl Piece {
    fn line(&self, line: usize) -> String {
        let room = self.width - 1;
        let (profile, title, tenant) = match &self.kind {
            Kind::Free if line == 0 => return paint(style::faint(), &self.dotted()),
            Kind::Free => return padded("", room),
            Kind::Wasted => return paint(style::faint(), &"╱".repeat(room)),
            Kind::Instance { profile, tenant } => (profile.as_str(), profile.as_str(), tenant),
            Kind::Whole {
                tenant: Tenant::Nobody,
            } => {
                return padded(if line == 0 { "MIG is off" } else { "" }, room);
            }
            Kind::Whole { tenant } => ("", "whole GPU", tenant),
        };
        let (style, below) = match tenant {
            Tenant::Pod(pod) => (style::held(profile), short_name(pod)),
            Tenant::Nobody => (style::idle(profile), "idle"),
            Tenant::Changing(word) => (style::busy(), *word),
            Tenant::Faulty(word) => (style::bad(), *word),
        };
        match (line, tenant) {
            (0, _) => paint(style.bold(), &padded(title, room)),
            (_, Tenant::Nobody) => paint(style.dimmed(), &padded(below, room)),
            _ => paint(style, &padded(below, room)),
        }
    }

    /// A dot in the middle of each slice.
    fn dotted(&self) -> String {
        let slice = self.width / self.count.max(1);
        let dots = format!("{:^slice$}", "·").repeat(self.count);
        dots.chars().take(self.width - 1).collect()
    }
}

fn padded(text: &str, room: usize) -> String {
    column(&format!(" {}", fit(text, room.saturating_sub(1))), room)
}

fn draw_border(text: &mut String, above: Option<&Row>, below: Option<&Row>, row: usize) {
    let is_edge = |row: Option<&Row>, at: usize| row.is_some_and(|row| row.edges.contains(&at));
    let mut line = String::new();
    for at in 0..=row {
        line.push(match (at, above, below) {
            (0, None, _) => '┌',
            (0, Some(_), Some(_)) => '├',
            (0, Some(_), None) => '└',
            (at, None, _) if at == row => '┐',
            (at, Some(_), Some(_)) if at == row => '┤',
            (at, Some(_), None) if at == row => '┘',
            _ => match (is_edge(above, at), is_edge(below, at)) {
                (true, true) => '┼',
                (true, false) => '┴',
                (false, true) => '┬',
                (false, false) => '─',
            },
        });
    }
    let _ = writeln!(text, "{:LABEL$}{}", "", paint(style::faint(), &line));
}

fn legend(nodes: &[Node]) -> String {
    let [
        mut held,
        mut idle,
        mut free,
        mut wasted,
        mut changing,
        mut faulty,
    ] = [0_usize; 6];
    let cells = nodes
        .iter()
        .flat_map(|node| &node.gpus)
        .filter(|gpu| gpu.slices > 0)
        .flat_map(|gpu| &gpu.cells);
    for cell in cells {
        let count = match &cell.kind {
            Kind::Instance { tenant, .. } | Kind::Whole { tenant } => match (tenant, &cell.kind) {
                (Tenant::Pod(_), _) => &mut held,
                (Tenant::Nobody, Kind::Whole { .. }) => &mut free,
                (Tenant::Nobody, _) => &mut idle,
                (Tenant::Changing(_), _) => &mut changing,
                (Tenant::Faulty(_), _) => &mut faulty,
            },
            Kind::Free => &mut free,
            Kind::Wasted => &mut wasted,
        };
        *count += usize::from(cell.size);
    }
    let total = held + idle + free + wasted + changing + faulty;
    let mut text =
        format!("{total} memory slices: {held} held by pods, {idle} idle, {free} free (·)");
    for (count, words) in [
        (wasted, "out of reach (╱)"),
        (changing, "coming or going"),
        (faulty, "out of service"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {words}");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
