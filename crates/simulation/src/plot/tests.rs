use std::sync::Arc;

use placement::{After, GpuPlace, Index, Pool, policy};
use proptest::prelude::*;

use super::*;
use crate::testing::a100;

fn chart(points: &[(f64, f64)]) -> LineChart {
    LineChart {
        title: "Accepted pods & slices".into(),
        across: "load".into(),
        up: "accepted, %".into(),
        dots: true,
        series: vec![
            Series {
                name: "ours".into(),
                points: points.to_vec(),
            },
            Series {
                name: "a <first fit>".into(),
                points: vec![(0.7, 99.5), (1.15, 85.0)],
            },
        ],
    }
}

#[test]
fn a_chart_of_lines_looks_as_it_did() {
    let svg = chart(&[(0.7, 100.0), (0.85, 99.4), (1.0, 95.7), (1.15, 85.1)]).svg();
    insta::assert_snapshot!(svg);
}

#[test]
fn a_map_of_gpus_looks_as_it_did() {
    let geometry = a100();
    let table = policy::fewest_blocked(&geometry);
    let index = Arc::new(Index::new(&geometry, &table).unwrap());
    let mut pool = Pool::new(Arc::clone(&geometry), index);
    let gpus: Vec<_> = (0..4).map(|_| pool.add(GpuPlace::default())).collect();
    let spot = |name: &str, start| {
        let profile = geometry.find(&name.parse().unwrap()).unwrap();
        geometry.spot_at(profile, start).unwrap()
    };
    pool.hold(gpus[0], spot("7g.80gb", 0)).unwrap();
    pool.hold(gpus[1], spot("3g.40gb", 4)).unwrap();
    pool.hold(gpus[1], spot("1g.10gb", 0)).unwrap();
    pool.release(gpus[1], spot("1g.10gb", 0), After::Idle)
        .unwrap();
    pool.set_reserved(gpus[2], 0b1111).unwrap();
    let map = GpuMap {
        title: "Four GPUs".into(),
        columns: 2,
    };
    insta::assert_snapshot!(map.svg(&pool));
}

#[test]
fn a_chart_without_points_is_still_a_chart() {
    let mut empty = chart(&[]);
    empty.series.clear();
    assert!(empty.svg().ends_with("</svg>\n"));
}

proptest! {
    #[test]
    fn every_tag_is_closed_whatever_is_drawn(
        points in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        title in "\\PC{0,40}",
    ) {
        let mut chart = chart(&points);
        chart.title = title;
        let svg = chart.svg();
        prop_assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        prop_assert!(!svg.contains("inf") && !svg.contains("NaN"));
    }
}
