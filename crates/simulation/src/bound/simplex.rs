//! Linear programmes small enough for a table.

/// Differences below this are rounding.
const TINY: f64 = 1e-10;
/// More steps than a programme of a few hundred columns takes by Bland's rule.
const MOST_STEPS: usize = 100_000;

/// The largest value of the objective over variables that are not negative and keep every row: the
/// sum of its factors is at most its limit. Limits are not negative, so that all zeros are a start.
/// The programme must be bounded; otherwise the value reached so far comes back.
pub(super) fn maximum(objective: &[f64], rows: Vec<(Vec<f64>, f64)>) -> f64 {
    let (width, height) = (objective.len(), rows.len());
    // One column per variable, one per row for what is left of its limit, and the limits.
    let mut table: Vec<Vec<f64>> = rows
        .into_iter()
        .enumerate()
        .map(|(at, (mut row, limit))| {
            row.resize(width + height + 1, 0.0);
            row[width + at] = 1.0;
            row[width + height] = limit.max(0.0);
            row
        })
        .collect();
    let mut cost: Vec<f64> = objective.iter().map(|factor| -factor).collect();
    cost.resize(width + height + 1, 0.0);
    let mut basis: Vec<usize> = (width..width + height).collect();

    for _ in 0..MOST_STEPS {
        // Bland's rule: the first column that helps, so that no step repeats for ever.
        let Some(column) = cost[..width + height].iter().position(|c| *c < -TINY) else {
            break;
        };
        let ratio = |row: &Vec<f64>| row[width + height] / row[column];
        let candidates = (0..height).filter(|at| table[*at][column] > TINY);
        let leaving = candidates.min_by(|one, other| {
            let (one, other) = (*one, *other);
            let order = ratio(&table[one]).total_cmp(&ratio(&table[other]));
            order.then(basis[one].cmp(&basis[other]))
        });
        let Some(pivot) = leaving else {
            break;
        };
        let factor = table[pivot][column];
        table[pivot].iter_mut().for_each(|value| *value /= factor);
        let row = table[pivot].clone();
        for (at, other) in table.iter_mut().enumerate() {
            if at != pivot {
                eliminate(other, &row, column);
            }
        }
        eliminate(&mut cost, &row, column);
        basis[pivot] = column;
    }
    cost[width + height]
}

fn eliminate(row: &mut [f64], pivot: &[f64], column: usize) {
    let factor = row[column];
    if factor != 0.0 {
        for (value, part) in row.iter_mut().zip(pivot) {
            *value -= factor * part;
        }
    }
}
