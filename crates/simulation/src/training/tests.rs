use super::cmaes::{Search, eigen};
use super::*;
use crate::demand::Demand;
use crate::loss::Loss;
use crate::random::{Purpose, Random};
use crate::testing::a100;

#[test]
fn a_matrix_is_the_product_of_its_axes_and_lengths() {
    let matrix = vec![
        vec![4.0, 1.0, -2.0],
        vec![1.0, 3.0, 0.5],
        vec![-2.0, 0.5, 5.0],
    ];
    let (values, vectors) = eigen(&matrix);
    for row in 0..3 {
        for column in 0..3 {
            let product: f64 = (0..3)
                .map(|axis| vectors[row][axis] * values[axis] * vectors[column][axis])
                .sum();
            assert!((product - matrix[row][column]).abs() < 1e-9);
        }
    }
}

#[test]
fn the_search_finds_the_bottom_of_a_bent_valley() {
    // Rosenbrock's function, whose valley no fixed spread follows.
    let height = |x: &[f64]| -> f64 {
        let steps = x.windows(2).map(|pair| {
            let (bend, far) = (pair[1] - pair[0] * pair[0], 1.0 - pair[0]);
            100.0 * bend * bend + far * far
        });
        steps.sum()
    };
    let mut random = Random::new(1, Purpose::Training);
    let mut search = Search::new(vec![0.0; 5], 0.3);
    for _ in 0..600 {
        let proposals = search.propose(&mut random);
        let heights: Vec<f64> = proposals.iter().map(|p| height(&p.point)).collect();
        search.learn(&proposals, &heights);
    }
    assert!(height(search.mean()) < 1e-6, "{:?}", search.mean());
}

fn small_goal() -> Goal {
    let geometry = a100();
    let mut loss = Loss::new(8, 1.0);
    loss.measured = 40.0;
    let cells = Demand::mixes(&geometry)
        .into_iter()
        .map(|(_, demand)| Cell {
            demand,
            scene: Scene::Loss(loss),
            weight: 1.0,
        });
    let words = "the four mixes on 8 GPUs".to_owned();
    Goal::of(&geometry, Aim::Loss, cells.collect(), words).unwrap()
}

#[test]
fn a_search_follows_from_its_seed() {
    let goal = small_goal();
    let training = Training::new(&goal, Detail::Coarse);
    let mut heard = 0;
    let mut run = |seed| training.search(seed, 3, &mut |_| heard += 1).unwrap();
    let trained = run(1);
    assert_eq!(trained, run(1));
    assert_ne!(trained.weights, run(2).weights);
    assert_eq!(heard, 9);
}

#[test]
fn a_table_survives_being_written_down() {
    let goal = small_goal();
    let training = Training::new(&goal, Detail::Coarse);
    let trained = training.search(1, 1, &mut |_| {}).unwrap();
    let text = training
        .text(&trained, "ours", "cargo xtask train")
        .unwrap();
    let (table, origin) = placement::ScoreTable::from_text(&text, &a100()).unwrap();
    assert_eq!(origin.seed, Some(1));
    assert!(
        origin.made.contains("by cargo xtask train;"),
        "{}",
        origin.made
    );
    assert!(
        origin.made.contains("the four mixes on 8 GPUs"),
        "{}",
        origin.made
    );
    let made = training.table(&trained.weights).unwrap();
    assert_eq!(table.values(), made.values());
}

#[test]
fn the_rule_without_training_rates_about_one() {
    let goal = small_goal();
    let table = placement::policy::fewest_blocked(&a100());
    let rates = (0..10).map(|seed| goal.rate(&table, seed).unwrap());
    let mean: f64 = rates.sum::<f64>() / 10.0;
    assert!((mean - 1.0).abs() < 0.1, "{mean}");
}

#[test]
fn a_table_is_made_again_from_its_header_byte_for_byte() {
    for (cut, aim) in [(Cut::Eight, Aim::Fill), (Cut::Four, Aim::Loss)] {
        let recipe = |seed| Recipe {
            cut,
            aim,
            seed,
            generations: 2,
            length: 2,
        };
        let make = |seed| recipe(seed).make(&mut |_| {}).unwrap();
        let text = make(3);
        assert_eq!(text, make(3));
        assert_ne!(text, make(4));
        let command = format!(
            "by cargo xtask train --geometry {} --for {} --seed 3 --generations 2 --length 2;",
            cut.name(),
            aim.name()
        );
        assert!(text.contains(&command), "{text}");
        placement::ScoreTable::from_text(&text, &cut.geometry().unwrap()).unwrap();
    }
}

#[test]
fn to_fill_the_longest_run_without_training_rates_about_one() {
    let goal = Goal::usual(&a100(), Aim::Fill, 0.5).unwrap();
    let table = Aim::Fill.untrained(&a100());
    let mean: f64 = (0..4)
        .map(|seed| goal.rate(&table, seed).unwrap())
        .sum::<f64>()
        / 4.0;
    assert!((mean - 1.0).abs() < 0.1, "{mean}");
    // MFI's rule, which is good in the long run, loses more here.
    let other = placement::policy::fewest_blocked(&a100());
    assert!(goal.rate(&other, 1).unwrap() > 1.3);
}
