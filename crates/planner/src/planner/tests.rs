use super::*;
use crate::pass::tests::{a100, mk_cluster, mk_demand, mk_node};
use crate::{Eligibility, Outcome, RefusalKind, Usage, plan};

fn cluster() -> Cluster {
    let half = || a100(&[("3g.20gb", 0, Usage::Held), ("1g.5gb", 4, Usage::Idle)]);
    mk_cluster((0..3).map(|_| mk_node(vec![half(), a100(&[])])).collect())
}

/// So many demands, all of which ask for something else.
fn demands(cluster: &Cluster, count: usize) -> Vec<Demand> {
    let wants = |n: usize| {
        let (ones, twos) = (
            u32::try_from(n % 16).unwrap(),
            u32::try_from(n / 16).unwrap(),
        );
        mk_demand(cluster, &[("1g.5gb", ones + 1), ("2g.10gb", twos + 1)])
    };
    (0..count).map(wants).collect()
}

#[test]
fn what_is_remembered_of_wishes_is_bounded_and_changes_no_answer() {
    let cluster = cluster();
    let many = demands(&cluster, 2 * MOST_WISHES);
    let mut planner = Planner::from(&cluster);
    let first = planner.plan(&many);
    assert_eq!(planner.answers.len(), MOST_WISHES);
    assert_eq!(planner.wishes.len(), MOST_WISHES);
    assert_eq!(first, plan(&cluster, &many));
    assert_eq!(planner.plan(&many), first);
}

#[test]
fn the_wishes_that_were_used_last_are_remembered() {
    let cluster = cluster();
    let many = demands(&cluster, MOST_WISHES + 1);
    let mut planner = Planner::from(&cluster);
    planner.plan(&many[..MOST_WISHES]);
    planner.plan(&many[MOST_WISHES..]);
    assert!(
        planner
            .wishes
            .contains_key(many[MOST_WISHES].wants.as_ref())
    );
}

#[test]
fn refusals_are_remembered_for_the_constraints_of_the_last_pass_only() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])])]);
    let mut planner = Planner::from(&cluster);
    for _ in 0..10 {
        // Each of them has constraints of its own.
        let outcome = planner.plan(&[mk_demand(&cluster, &[("1g.5gb", 1)])]);
        assert!(matches!(outcome[..], [Outcome::Refused(_)]));
    }
    assert_eq!(planner.answers[0].refusals(), 1);
}

#[test]
fn pods_that_are_refused_for_the_same_reasons_share_the_sentence() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[("7g.40gb", 0, Usage::Held)])])]);
    let mut planner = Planner::from(&cluster);
    let demand = mk_demand(&cluster, &[("1g.5gb", 1)]);
    let mut texts = Vec::new();
    for _ in 0..2 {
        for outcome in planner.plan(&[demand.clone(), demand.clone()]) {
            if let Outcome::Refused(refusal) = outcome {
                texts.push(refusal.text);
            }
        }
    }
    assert_eq!(texts.len(), 4);
    assert!(texts.iter().all(|text| Arc::ptr_eq(text, &texts[0])));
}

#[test]
fn a_node_with_the_name_is_found_by_it() {
    let named = |name: &str| Node {
        name: name.to_owned(),
        ..Node::default()
    };
    let planner = Planner::from(&mk_cluster(vec![named("a"), named("c")]));
    assert_eq!(planner.find("c"), Ok(1));
    assert_eq!(planner.find("b"), Err(1));
    assert_eq!(planner.node(1).map(|node| node.name.as_str()), Some("c"));
    assert!(planner.node(2).is_none());
}

#[test]
fn a_node_that_came_in_between_is_planned_for() {
    let cluster = cluster();
    let mut planner = Planner::from(&mk_cluster(Vec::new()));
    let mut demand = mk_demand(&cluster, &[("7g.40gb", 1)]);
    assert!(matches!(
        planner.plan(&[demand.clone()])[..],
        [Outcome::Refused(_)]
    ));
    planner.insert(0, cluster.nodes[0].clone());
    assert!(
        matches!(&planner.plan(&[demand.clone()])[..], [Outcome::Plan(plan)] if plan.node == 0)
    );
    demand.nodes = Arc::new(
        [Eligibility::Excluded("cordoned".into())]
            .into_iter()
            .collect(),
    );
    assert!(matches!(planner.plan(&[demand])[..], [Outcome::Refused(_)]));
}

#[test]
fn a_demand_of_too_many_ways_is_answered_over_several_passes() {
    // Every node is another, so that what one could do says nothing of the next.
    let node = |held: usize| {
        let gpus = (0..4).map(|number| {
            if number < held {
                a100(&[("7g.40gb", 0, Usage::Held)])
            } else {
                a100(&[])
            }
        });
        mk_node(gpus.collect())
    };
    let cluster = mk_cluster([4, 3, 2, 1, 0].map(node).into());
    let wants = [("1g.5gb", 7), ("2g.10gb", 5), ("3g.20gb", 3)];
    let demands = [mk_demand(&cluster, &wants)];
    let mut planner = Planner::from(&cluster);
    planner.sums = 12_000;
    let mut passes = 0;
    let outcome = loop {
        passes += 1;
        assert!(passes < 100, "it never ends");
        let outcome = planner.plan(&demands).remove(0);
        match &outcome {
            Outcome::Refused(refusal) if refusal.kind == RefusalKind::TooComplex => {}
            _ => break outcome,
        }
    };
    assert!(passes > 1, "one pass was enough");
    assert_eq!([outcome][..], plan(&cluster, &demands)[..]);
}

#[test]
fn values_that_are_set_decide_from_the_next_pass_on_and_stay_when_all_is_forgotten() {
    let cluster = mk_cluster(vec![mk_node(vec![a100(&[])])]);
    let demand = [mk_demand(&cluster, &[("1g.5gb", 1)])];
    let geometry = Arc::new(Geometry::new(&a100(&[]).model).unwrap());
    let start = |outcomes: &[Outcome]| match outcomes {
        [Outcome::Plan(plan)] => plan.gpus[0].create[0].placement.start,
        other => panic!("{other:?}"),
    };
    // All slices are precious but one.
    let all_but = |cheap: u16| -> Arc<[i32]> {
        let free = |mask: u16| -> i32 {
            let free = (0..8).filter(|slice| mask & 1 << slice == 0);
            free.map(|slice| if slice == cheap { 1 } else { 9 }).sum()
        };
        geometry.masks().map(free).collect()
    };
    let mut planner = Planner::from(&cluster);
    for cheap in [3, 5] {
        planner.set_values(&geometry, &all_but(cheap));
        assert_eq!(u16::from(start(&planner.plan(&demand))), cheap);
        planner.forget_all();
        assert_eq!(u16::from(start(&planner.plan(&demand))), cheap);
    }
}
