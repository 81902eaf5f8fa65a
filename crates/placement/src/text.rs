//! Score tables as plain text, so that a trained table can be read, compared and checked in.
//!
//! ```text
//! cdmo placement table 1
//! name fewest blocked
//! made by hand from arXiv 2511.18906
//! seed none
//! unit 24
//! slices 8
//! profile 7g size 8 starts 0
//! ...
//! values
//! 00000000 0
//! 10000000 -7
//! ```
//!
//! Rows are in ascending order of the mask, written with slice 0 first. Behind `values` stands one
//! value per mask, behind `scores` one score per placement, `-` where it does not fit. Profiles are
//! described by what they are, not by what they are called: one table serves all GPUs cut alike.

use crate::{
    geometry::Geometry,
    placements,
    score::{INFEASIBLE, ScoreTable, TableError},
};

const FIRST_LINE: &str = "cdmo placement table 1";

/// How a table came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// In words, one line: by what means, on which demand.
    pub made: String,
    /// The seed that makes it again, if chance was involved.
    pub seed: Option<u64>,
}

/// A text that is no table for a geometry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the placement table, line {line}: {problem}")]
pub struct TextError {
    /// Line from 1; one past the last if the text ends too early.
    pub line: usize,
    /// What is wrong there.
    pub problem: TextProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    /// Not the line that belongs there.
    #[error("expected {0:?}")]
    Expected(String),
    /// Not a whole number in range.
    #[error("expected a whole number from {min} to {max}, found {found:?}")]
    Number {
        /// The smallest number allowed.
        min: i64,
        /// The largest number allowed.
        max: i64,
        /// What stands there.
        found: String,
    },
    /// The table is for GPUs that are cut otherwise.
    #[error("the table is for other GPUs: this one has {0:?}")]
    OtherGpu(String),
    /// The wrong count of numbers, or one where nothing fits.
    #[error("expected {wanted} numbers, and - exactly where the placement does not fit")]
    Row {
        /// How many numbers belong there.
        wanted: usize,
    },
    /// There is more than belongs to a table.
    #[error("expected the end of the table")]
    End,
    /// The values make no table.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl ScoreTable {
    /// The table as text.
    ///
    /// # Errors
    /// [`TableError::Shape`] if the table is for another geometry.
    pub fn to_text(&self, geometry: &Geometry, origin: &Origin) -> Result<String, TableError> {
        self.check(geometry)?;
        let mut text = String::new();
        let seed = origin
            .seed
            .map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        let mut line = |parts: &[&str]| {
            text.push_str(&parts.join(" "));
            text.push('\n');
        };
        line(&[FIRST_LINE]);
        line(&["name", &one_line(self.name())]);
        line(&["made", &one_line(&origin.made)]);
        line(&["seed", &seed]);
        line(&["unit", &self.unit().to_string()]);
        for shape in shape_lines(geometry) {
            line(&[&shape]);
        }
        line(&[if self.values().is_some() {
            "values"
        } else {
            "scores"
        }]);
        for mask in geometry.masks() {
            let mut row = vec![mask_text(geometry, mask)];
            match self.values() {
                Some(values) => row.push(values[usize::from(mask)].to_string()),
                None => row.extend(self.row(mask).iter().map(|score| match *score {
                    INFEASIBLE => "-".to_owned(),
                    score => score.to_string(),
                })),
            }
            line(&[&row.join(" ")]);
        }
        Ok(text)
    }

    /// Reads a table for a geometry, and how it came about.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn from_text(text: &str, geometry: &Geometry) -> Result<(Self, Origin), TextError> {
        let mut lines = Lines {
            lines: text.lines(),
            number: 0,
        };
        lines.exactly(FIRST_LINE)?;
        let name = lines.word("name")?.to_owned();
        let made = lines.word("made")?.to_owned();
        let seed = match lines.word("seed")? {
            "none" => None,
            seed => Some(
                seed.parse()
                    .map_err(|_| lines.bad_number(seed, 0, i64::MAX))?,
            ),
        };
        let unit = lines.word("unit")?;
        let unit = match unit.parse::<u32>() {
            Ok(unit) if unit > 0 => unit,
            _ => return Err(lines.bad_number(unit, 1, i64::from(u32::MAX))),
        };
        for shape in shape_lines(geometry) {
            if lines.next()? != shape {
                return Err(lines.error(TextProblem::OtherGpu(shape)));
            }
        }
        let mut table = match lines.next()? {
            "values" => lines.values(&name, geometry)?,
            "scores" => lines.scores(&name, geometry)?,
            _ => return Err(lines.error(TextProblem::Expected("values".to_owned()))),
        };
        if lines.lines.next().is_some() {
            lines.number += 1;
            return Err(lines.error(TextProblem::End));
        }
        table.set_unit(unit);
        Ok((table, Origin { made, seed }))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shape_lines(geometry: &Geometry) -> Vec<String> {
    let mut lines = vec![format!("slices {}", geometry.slices())];
    for profile in geometry.profiles() {
        let starts = placements(profile.windows).map(|id| geometry.spot(id).placement.start);
        let starts: Vec<String> = starts.map(|start| start.to_string()).collect();
        let line = format!(
            "profile {}g size {} starts {}",
            profile.name.compute_slices(),
            profile.size,
            starts.join(" ")
        );
        lines.push(line);
    }
    lines
}

fn mask_text(geometry: &Geometry, mask: u16) -> String {
    (0..geometry.slices())
        .map(|slice| if mask >> slice & 1 == 1 { '1' } else { '0' })
        .collect()
}

struct Lines<'a> {
    lines: std::str::Lines<'a>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn error(&self, problem: TextProblem) -> TextError {
        TextError {
            line: self.number,
            problem,
        }
    }

    fn bad_number(&self, found: &str, min: i64, max: i64) -> TextError {
        // What is quoted back stays short.
        let found = found.chars().take(40).collect();
        self.error(TextProblem::Number { min, max, found })
    }

    fn next(&mut self) -> Result<&'a str, TextError> {
        self.number += 1;
        let line = self.lines.next();
        line.ok_or_else(|| self.error(TextProblem::Expected("another line".to_owned())))
    }

    fn exactly(&mut self, wanted: &str) -> Result<(), TextError> {
        if self.next()? == wanted {
            return Ok(());
        }
        Err(self.error(TextProblem::Expected(wanted.to_owned())))
    }

    /// What stands behind a word.
    fn word(&mut self, word: &str) -> Result<&'a str, TextError> {
        let rest = self.next()?.strip_prefix(word);
        let rest = rest.and_then(|rest| {
            if rest.is_empty() {
                Some(rest)
            } else {
                rest.strip_prefix(' ')
            }
        });
        rest.ok_or_else(|| self.error(TextProblem::Expected(format!("{word} ..."))))
    }

    /// The numbers of a mask's row.
    fn row(&mut self, geometry: &Geometry, mask: u16) -> Result<Vec<Option<i32>>, TextError> {
        let wanted = mask_text(geometry, mask);
        let Some(numbers) = self.next()?.strip_prefix(&wanted) else {
            return Err(self.error(TextProblem::Expected(format!("{wanted} ..."))));
        };
        let number = |text: &str| match text {
            "-" => Ok(None),
            // The lowest number stands for what does not fit.
            _ => match text.parse::<i32>() {
                Ok(number) if number != INFEASIBLE => Ok(Some(number)),
                _ => Err(self.bad_number(text, i64::from(INFEASIBLE) + 1, i64::from(i32::MAX))),
            },
        };
        numbers.split_whitespace().map(number).collect()
    }

    fn values(&mut self, name: &str, geometry: &Geometry) -> Result<ScoreTable, TextError> {
        let mut values = Vec::with_capacity(geometry.mask_count());
        for mask in geometry.masks() {
            match self.row(geometry, mask)?.as_slice() {
                [Some(value)] => values.push(*value),
                _ => return Err(self.error(TextProblem::Row { wanted: 1 })),
            }
        }
        ScoreTable::from_values(name, geometry, &values).map_err(|error| self.error(error.into()))
    }

    fn scores(&mut self, name: &str, geometry: &Geometry) -> Result<ScoreTable, TextError> {
        let wanted = geometry.spots().len();
        let mut rows = Vec::with_capacity(geometry.mask_count());
        for mask in geometry.masks() {
            let row = self.row(geometry, mask)?;
            let bits = row
                .iter()
                .zip(0..)
                .fold(0, |set, (s, id)| set | u64::from(s.is_some()) << id);
            if row.len() != wanted || bits != geometry.free(mask) {
                return Err(self.error(TextProblem::Row { wanted }));
            }
            rows.push(row);
        }
        let score = |mask: u16, id: crate::PlacementId| {
            rows[usize::from(mask)][id.index()].unwrap_or(INFEASIBLE)
        };
        Ok(ScoreTable::from_fn(name, geometry, score))
    }
}

#[cfg(test)]
mod tests;
