//! How a table that is checked in is made: all that it follows from, and the command that says so.

use std::sync::Arc;

use mig::GpuModel;
use placement::{Geometry, GeometryError};

use super::goal::{Aim, Goal};
use super::search::{Detail, Progress, Training, TrainingError};

/// How GPUs are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Eight memory slices, six profiles: A100, H100, H200, B200 and their kin.
    Eight,
    /// Four memory slices, three profiles: A30; and RTX PRO 6000, whose twelve are cut alike.
    Four,
}

impl Cut {
    /// As in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eight => "eight",
            Self::Four => "four",
        }
    }

    /// The geometry of these GPUs.
    ///
    /// # Errors
    /// [`RecipeError`] if the model that stands for them is not known, which tests rule out.
    pub fn geometry(self) -> Result<Arc<Geometry>, RecipeError> {
        let name = match self {
            Self::Eight => "NVIDIA A100-SXM4-80GB",
            Self::Four => "NVIDIA A30",
        };
        let model = GpuModel::known(name).ok_or(RecipeError::Model(name))?;
        Ok(Arc::new(Geometry::new(&model)?))
    }
}

/// Why a table cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// No such GPU.
    #[error("failed to find the GPU model {0}")]
    Model(&'static str),
    /// Its slices cannot be dealt with.
    #[error("failed to describe the GPU model")]
    Geometry(#[from] GeometryError),
    /// The search failed.
    #[error("failed to train")]
    Training(#[from] TrainingError),
}

/// All that a table follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// For which GPUs.
    pub cut: Cut,
    /// What it is to be good at.
    pub aim: Aim,
    /// Where the search starts to draw.
    pub seed: u64,
    /// How many generations it takes, at least 1.
    pub generations: u32,
    /// How long simulated runs are, in percent of the usual; at least 1.
    pub length: u32,
}

impl Recipe {
    /// The command that makes this table again.
    pub fn command(&self) -> String {
        let length = match self.length {
            100 => String::new(),
            percent => format!(" --length {percent}"),
        };
        format!(
            "cargo xtask train --geometry {} --for {} --seed {} --generations {}{length}",
            self.cut.name(),
            self.aim.name(),
            self.seed,
            self.generations
        )
    }

    /// The name of the file that such a table is checked in as; none to fill GPUs with four slices, which
    /// the rule without training fills to the last slice.
    pub fn file(&self) -> Option<&'static str> {
        match (self.cut, self.aim) {
            (Cut::Eight, Aim::Loss) => Some("eight-slices.txt"),
            (Cut::Eight, Aim::Fill) => Some("eight-slices-fill.txt"),
            (Cut::Four, Aim::Loss) => Some("four-slices.txt"),
            (Cut::Four, Aim::Fill) => None,
        }
    }

    /// Makes the table, as text: the same bytes each time. `progress` is told after each generation.
    ///
    /// # Errors
    /// If a simulation fails.
    pub fn make(&self, progress: &mut dyn FnMut(Progress)) -> Result<String, RecipeError> {
        let geometry = self.cut.geometry()?;
        let goal = Goal::usual(&geometry, self.aim, f64::from(self.length) / 100.0)?;
        let training = Training::new(&goal, Detail::Halves);
        let trained = training.search(self.seed, self.generations, progress)?;
        let name = match self.aim {
            Aim::Loss => "ours",
            Aim::Fill => "ours, to fill",
        };
        Ok(training.text(&trained, name, &self.command())?)
    }
}
