//! GPUs as rows of memory slices.

use std::fmt::Display;

use plotters::prelude::*;

use crate::{ChartError, FONT, colour};

/// Width of a GPU's row and height of it, in pixels.
const ROW: (i32, i32) = (176, 18);
/// Most rows below each other before another column begins.
const ROWS: usize = 32;
const TOP: i32 = 34;
const BOTTOM: i32 = 30;
/// Room for a GPU's number, and between columns.
const NUMBER: i32 = 40;

/// One instance on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First memory slice.
    pub start: u8,
    /// Number of memory slices.
    pub size: u8,
    /// Its profile.
    pub name: String,
    /// Whether somebody uses it; else it is idle and drawn pale.
    pub used: bool,
}

/// One GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its memory slices; rows of all GPUs are equally wide.
    pub slices: u8,
    /// What stands on it.
    pub pieces: Vec<Piece>,
}

/// What stands on each GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// What it shows.
    pub title: String,
    /// All profiles, in the order in which they get their colours.
    pub profiles: Vec<String>,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
}

impl Map {
    /// The map as SVG.
    ///
    /// # Errors
    /// If there is no GPU.
    pub fn svg(&self) -> Result<String, ChartError> {
        if self.gpus.is_empty() {
            return Err(ChartError::Nothing {
                title: self.title.clone(),
            });
        }
        let mut svg = String::new();
        self.draw(&mut svg)?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), ChartError> {
        let columns = self.gpus.len().div_ceil(ROWS);
        let rows = pixels(self.gpus.len().min(ROWS));
        let width = (pixels(columns) * (ROW.0 + NUMBER) + 16).max(640);
        let height = TOP + rows * ROW.1 + BOTTOM;
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|why| self.failed(why))?;
        let title = Text::new(self.title.clone(), (8, 8), (FONT, 16).into_font());
        root.draw(&title).map_err(|why| self.failed(why))?;
        for (index, gpu) in self.gpus.iter().enumerate() {
            let slices = i32::from(gpu.slices.max(1));
            let x = pixels(index / ROWS) * (ROW.0 + NUMBER) + NUMBER;
            let y = TOP + pixels(index % ROWS) * ROW.1;
            let number = Text::new(index.to_string(), (x - 30, y + 3), (FONT, 10).into_font());
            root.draw(&number).map_err(|why| self.failed(why))?;
            let edge = RGBColor(170, 170, 170);
            let row = Rectangle::new([(x, y), (x + ROW.0, y + ROW.1 - 3)], edge);
            root.draw(&row).map_err(|why| self.failed(why))?;
            for piece in &gpu.pieces {
                let at = |slice: u8| x + ROW.0 * i32::from(slice) / slices;
                let corners = [
                    (at(piece.start), y),
                    (at(piece.start.saturating_add(piece.size)), y + ROW.1 - 3),
                ];
                let paint = self.colour(piece);
                let filled = Rectangle::new(corners, paint.filled());
                root.draw(&filled).map_err(|why| self.failed(why))?;
                let edge = Rectangle::new(corners, WHITE);
                root.draw(&edge).map_err(|why| self.failed(why))?;
            }
        }
        for (number, name) in self.profiles.iter().enumerate() {
            let (x, y) = (8 + pixels(number) * 100, height - 20);
            let sample = Rectangle::new([(x, y), (x + 12, y + 12)], colour(number).filled());
            root.draw(&sample).map_err(|why| self.failed(why))?;
            let name = Text::new(name.clone(), (x + 17, y), (FONT, 12).into_font());
            root.draw(&name).map_err(|why| self.failed(why))?;
        }
        root.present().map_err(|why| self.failed(why))
    }

    fn colour(&self, piece: &Piece) -> RGBAColor {
        let number = self.profiles.iter().position(|name| *name == piece.name);
        let strength = if piece.used { 1.0 } else { 0.25 };
        colour(number.unwrap_or(self.profiles.len())).mix(strength)
    }

    fn failed(&self, why: impl Display) -> ChartError {
        ChartError::Draw {
            title: self.title.clone(),
            why: why.to_string(),
        }
    }
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_is_where_it_stands_and_idle_ones_are_pale() {
        let piece = |start, size, name: &str, used| Piece {
            start,
            size,
            name: name.to_owned(),
            used,
        };
        let map = Map {
            title: "GPUs at the end".to_owned(),
            profiles: vec!["3g.40gb".to_owned(), "1g.10gb".to_owned()],
            gpus: vec![
                Gpu {
                    slices: 8,
                    pieces: vec![piece(0, 4, "3g.40gb", true), piece(4, 1, "1g.10gb", false)],
                },
                Gpu {
                    slices: 4,
                    pieces: vec![],
                },
            ],
        };
        insta::assert_snapshot!(map.svg().unwrap());
    }

    #[test]
    fn a_map_of_no_gpu_says_so() {
        assert!(Map::default().svg().is_err());
    }
}
