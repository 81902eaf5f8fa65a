//! CMA-ES: a search by samples whose spread follows what was found.
//!
//! After Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772), without its negative
//! updates. Small, and deterministic: sums in a fixed order, functions of `libm`.

use crate::random::Random;

/// A search in progress.
pub(super) struct Search {
    mean: Vec<f64>,
    step: f64,
    /// Covariance, row by row.
    covariance: Vec<Vec<f64>>,
    /// Eigenvectors by column, and square roots of the eigenvalues.
    axes: Vec<Vec<f64>>,
    lengths: Vec<f64>,
    path_step: Vec<f64>,
    path_shape: Vec<f64>,
    constants: Constants,
    generation: u32,
}

struct Constants {
    samples: usize,
    shares: Vec<f64>,
    effective: f64,
    pull_step: f64,
    pull_shape: f64,
    learn_path: f64,
    learn_samples: f64,
    damping: f64,
    expected_length: f64,
}

/// A proposal: the point, and its distance from the mean in steps.
pub(super) struct Proposal {
    pub(super) point: Vec<f64>,
    offset: Vec<f64>,
}

impl Search {
    /// Starts at a point with a spread in every direction.
    pub(super) fn new(start: Vec<f64>, step: f64) -> Self {
        let n = start.len();
        let unit =
            |at: usize| -> Vec<f64> { (0..n).map(|to| f64::from(u8::from(at == to))).collect() };
        let axes: Vec<Vec<f64>> = (0..n).map(unit).collect();
        Self {
            step,
            covariance: axes.clone(),
            axes,
            lengths: vec![1.0; n],
            path_step: vec![0.0; n],
            path_shape: vec![0.0; n],
            constants: Constants::new(n),
            generation: 0,
            mean: start,
        }
    }

    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    pub(super) fn step(&self) -> f64 {
        self.step
    }

    /// One generation of proposals.
    pub(super) fn propose(&self, random: &mut Random) -> Vec<Proposal> {
        (0..self.constants.samples)
            .map(|_| self.sample(random))
            .collect()
    }

    fn sample(&self, random: &mut Random) -> Proposal {
        let stretched: Vec<f64> = self
            .lengths
            .iter()
            .map(|length| length * random.normal())
            .collect();
        let offset: Vec<f64> = self.axes.iter().map(|row| dot(row, &stretched)).collect();
        let pairs = self.mean.iter().zip(&offset);
        Proposal {
            point: pairs
                .map(|(mean, offset)| mean + self.step * offset)
                .collect(),
            offset,
        }
    }

    /// Learns from a generation; `losses` are those of the proposals, smaller is better.
    pub(super) fn learn(&mut self, proposals: &[Proposal], losses: &[f64]) {
        self.generation += 1;
        let mut order: Vec<usize> = (0..proposals.len().min(losses.len())).collect();
        order.sort_by(|one, other| losses[*one].total_cmp(&losses[*other]).then(one.cmp(other)));
        let best: Vec<&Proposal> = order.iter().map(|at| &proposals[*at]).collect();
        let n = self.mean.len();
        let constants = &self.constants;

        let mut shift = vec![0.0; n];
        for (proposal, share) in best.iter().zip(&constants.shares) {
            add(&mut shift, &proposal.offset, *share);
        }
        add(&mut self.mean, &shift, self.step);

        let whitened = self.whiten(&shift);
        let keep = 1.0 - constants.pull_step;
        let gain = (constants.pull_step * (2.0 - constants.pull_step) * constants.effective).sqrt();
        scale(&mut self.path_step, keep);
        add(&mut self.path_step, &whitened, gain);
        let length = norm(&self.path_step);
        let fading = 1.0 - libm::pow(keep, 2.0 * f64::from(self.generation));
        let limit = (1.4 + 2.0 / (float(n) + 1.0)) * constants.expected_length;
        let is_calm = length / fading.sqrt() < limit;

        let keep = 1.0 - constants.pull_shape;
        let gain =
            (constants.pull_shape * (2.0 - constants.pull_shape) * constants.effective).sqrt();
        scale(&mut self.path_shape, keep);
        if is_calm {
            add(&mut self.path_shape, &shift, gain);
        }
        let lost = if is_calm {
            0.0
        } else {
            constants.learn_path * constants.pull_shape * (2.0 - constants.pull_shape)
        };
        let keep = 1.0 - constants.learn_path - constants.learn_samples + lost;
        for row in 0..n {
            for column in 0..=row {
                let mut value = keep * self.covariance[row][column];
                value += constants.learn_path * self.path_shape[row] * self.path_shape[column];
                for (proposal, share) in best.iter().zip(&constants.shares) {
                    let product = proposal.offset[row] * proposal.offset[column];
                    value += constants.learn_samples * share * product;
                }
                self.covariance[row][column] = value;
                self.covariance[column][row] = value;
            }
        }
        let growth =
            (constants.pull_step / constants.damping) * (length / constants.expected_length - 1.0);
        self.step *= libm::exp(growth.min(1.0));
        self.turn();
    }

    /// A shift as it would be if the spread were the same in every direction.
    fn whiten(&self, shift: &[f64]) -> Vec<f64> {
        let n = shift.len();
        let along = (0..n).map(|axis| {
            let sum: f64 = (0..n).map(|row| self.axes[row][axis] * shift[row]).sum();
            sum / self.lengths[axis]
        });
        let along: Vec<f64> = along.collect();
        self.axes.iter().map(|row| dot(row, &along)).collect()
    }

    /// Axes and lengths of the covariance as it is now.
    fn turn(&mut self) {
        let (values, vectors) = eigen(&self.covariance);
        self.axes = vectors;
        self.lengths = values.iter().map(|value| value.max(1e-20).sqrt()).collect();
    }
}

impl Constants {
    fn new(dimensions: usize) -> Self {
        let n = float(dimensions);
        // More than the usual 4 + 3 ln n: losses are noisy.
        let samples = 4 + 3 * (usize::BITS - dimensions.leading_zeros()) as usize;
        let parents = samples / 2;
        let mut shares: Vec<f64> = (1..=parents)
            .map(|rank| libm::log(float(parents) + 0.5) - libm::log(float(rank)))
            .collect();
        let sum: f64 = shares.iter().sum();
        scale(&mut shares, 1.0 / sum);
        let effective = 1.0 / shares.iter().map(|share| share * share).sum::<f64>();
        let pull_step = (effective + 2.0) / (n + effective + 5.0);
        let learn_path = 2.0 / ((n + 1.3) * (n + 1.3) + effective);
        let learn_samples =
            2.0 * (effective - 2.0 + 1.0 / effective) / ((n + 2.0) * (n + 2.0) + effective);
        Self {
            samples,
            shares,
            effective,
            pull_step,
            pull_shape: (4.0 + effective / n) / (n + 4.0 + 2.0 * effective / n),
            learn_path,
            learn_samples: learn_samples.min(1.0 - learn_path),
            damping: 1.0
                + 2.0 * (((effective - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0)
                + pull_step,
            expected_length: n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "dimensions are few")]
fn float(count: usize) -> f64 {
    count as f64
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

fn scale(vector: &mut [f64], factor: f64) {
    for value in vector {
        *value *= factor;
    }
}

fn add(vector: &mut [f64], other: &[f64], factor: f64) {
    for (value, part) in vector.iter_mut().zip(other) {
        *value += factor * part;
    }
}

/// Eigenvalues and eigenvectors (by column) of a symmetric matrix, by Jacobi's rotations.
pub(super) fn eigen(matrix: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut rest = matrix.to_vec();
    let mut vectors: Vec<Vec<f64>> = vec![vec![0.0; n]; n];
    for (at, row) in vectors.iter_mut().enumerate() {
        row[at] = 1.0;
    }
    for _ in 0..30 {
        let beside = |row: usize| -> f64 { rest[row][..row].iter().map(|x| x * x).sum() };
        let off: f64 = (0..n).map(beside).sum();
        let all: f64 = (0..n).map(|at| rest[at][at] * rest[at][at]).sum();
        if off <= 1e-24 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut rest, &mut vectors, p, q);
            }
        }
    }
    ((0..n).map(|at| rest[at][at]).collect(), vectors)
}

/// Turns the plane of two axes so that the matrix has nothing between them; `first < second`.
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], first: usize, second: usize) {
    let between = matrix[first][second];
    if between == 0.0 {
        return;
    }
    let theta = (matrix[second][second] - matrix[first][first]) / (2.0 * between);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let turn = |one: f64, other: f64| (cosine * one - sine * other, sine * one + cosine * other);
    for row in matrix.iter_mut() {
        (row[first], row[second]) = turn(row[first], row[second]);
    }
    let (upper, lower) = matrix.split_at_mut(second);
    for (one, other) in upper[first].iter_mut().zip(lower[0].iter_mut()) {
        (*one, *other) = turn(*one, *other);
    }
    for row in vectors.iter_mut() {
        (row[first], row[second]) = turn(row[first], row[second]);
    }
}
