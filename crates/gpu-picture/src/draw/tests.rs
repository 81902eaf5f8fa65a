use anstream::adapter::strip_str;

use super::*;

fn held(start: u8, size: u8, profile: &str, holder: &str) -> Cell {
    let kind = Kind::Instance {
        profile: profile.into(),
        tenant: Tenant::Pod(holder.into()),
    };
    Cell { start, size, kind }
}

fn idle(start: u8, size: u8, profile: &str) -> Cell {
    Cell {
        start,
        size,
        kind: Kind::Instance {
            profile: profile.into(),
            tenant: Tenant::Nobody,
        },
    }
}

fn slice(start: u8, kind: Kind) -> Cell {
    Cell {
        start,
        size: 1,
        kind,
    }
}

fn gpu(index: u32, name: &str, slices: u8, cells: Vec<Cell>) -> Gpu {
    Gpu {
        index,
        name: name.into(),
        slices,
        cells,
    }
}

fn cluster() -> Vec<Node> {
    const A100: &str = "NVIDIA A100-SXM4-40GB";
    let task = |digits: &str| format!("clearml-id-{digits}4e5f60718293a4b5c6d7e8f9");
    let rows = vec![
        gpu(0, A100, 8, vec![held(0, 8, "7g.40gb", &task("0a1b2c3d"))]),
        gpu(
            1,
            A100,
            8,
            vec![
                held(0, 4, "3g.20gb", &task("1a1b2c3d")),
                idle(4, 4, "3g.20gb"),
            ],
        ),
        gpu(
            2,
            A100,
            8,
            vec![
                held(0, 2, "2g.10gb", &task("2a1b2c3d")),
                held(2, 2, "2g.10gb", "a-pod-with-a-rather-long-name"),
                idle(4, 2, "2g.10gb"),
                held(6, 1, "1g.5gb", "tiny"),
                slice(7, Kind::Wasted),
            ],
        ),
        gpu(
            3,
            A100,
            8,
            (0..8).map(|start| slice(start, Kind::Free)).collect(),
        ),
    ];
    let a30 = vec![
        held(0, 2, "2g.12gb", "half"),
        held(2, 1, "1g.6gb+me", "video"),
        slice(3, Kind::Free),
    ];
    let whole = Cell {
        start: 0,
        size: 8,
        kind: Kind::Whole {
            tenant: Tenant::Nobody,
        },
    };
    vec![
        Node {
            name: "a".into(),
            gpus: rows,
        },
        Node {
            name: "b".into(),
            gpus: vec![
                gpu(0, "NVIDIA A30", 4, a30),
                gpu(1, "NVIDIA H100 80GB HBM3", 8, vec![whole]),
            ],
        },
    ]
}

#[test]
fn a_map_at_80_columns() {
    let map = strip_str(&draw(&cluster(), 80)).to_string();
    assert!(map.lines().all(|line| line.chars().count() <= 80));
    insta::assert_snapshot!(map);
}

#[test]
fn a_map_on_a_narrow_and_on_a_wide_terminal() {
    for (width, widest) in [(20, 55), (60, 55), (100, 79), (300, 103)] {
        let map = strip_str(&draw(&cluster(), width)).to_string();
        let found = map
            .lines()
            .filter(|l| !l.contains("slices"))
            .map(|l| l.chars().count())
            .max();
        assert_eq!(found, Some(widest), "at {width} columns");
    }
}

#[test]
fn colours_come_and_go_with_the_profile() {
    let map = draw(&cluster(), 80);
    assert!(
        map.contains("\u{1b}[48;5;183m"),
        "all slices of a GPU have a ground of their own"
    );
    let signs = |text: &str| strip_str(text).to_string();
    assert!(signs(&map).contains("idle") && signs(&map).contains('╱') && signs(&map).contains('·'));
}
