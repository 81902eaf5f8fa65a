use std::cell::Cell;
use std::io::{Cursor, Read};
use std::rc::Rc;

use mig::{GpuModel, ProfileIndex};
use proptest::prelude::*;

use super::*;

fn a100() -> GpuModel {
    GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap()
}

fn arrivals(text: &str) -> Result<Vec<Arrival>, TraceError> {
    Arrivals::new(text.as_bytes(), &a100())?.collect()
}

fn message<T: std::fmt::Debug>(result: Result<T, TraceError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let text = "\u{feff}Profile , arrival,note,lifetime,count\n 3g.40gb,2.5,x,10,2\n";
    let rows = arrivals(text).unwrap();
    let (profile, _) = a100().find(&"3g.40gb".parse().unwrap()).unwrap();
    assert_eq!(
        rows,
        [Arrival {
            arrival: 2.5,
            lifetime: Some(10.0),
            profile,
            count: 2,
            priority: 0
        }]
    );
}

#[test]
fn a_fraction_becomes_the_profile_of_its_class() {
    let rows = arrivals("arrival,lifetime,fraction,priority\n0,,0.4,-3\n0,5,2,\n").unwrap();
    let name = |profile: ProfileIndex| a100().profile(profile).unwrap().name.to_string();
    assert_eq!(name(rows[0].profile), "3g.40gb");
    assert_eq!((rows[0].lifetime, rows[0].priority), (None, -3));
    assert_eq!(
        (name(rows[1].profile), rows[1].count),
        ("7g.80gb".into(), 2)
    );
}

#[test]
fn every_error_is_one_sentence_with_its_line() {
    let head = "arrival,lifetime,profile,count\n";
    let row = |row: &str| message(arrivals(&format!("{head}0,1,1g.10gb,1\n{row}\n")));
    let openb = |row: &str| {
        let text = format!("name,cpu_milli,memory_mib,num_gpu,gpu_milli\n{row}\n");
        message(
            Pods::new(text.as_bytes())
                .unwrap()
                .collect::<Result<Vec<_>, _>>(),
        )
    };
    let messages = [
        message(arrivals("")),
        message(arrivals("\n\n")),
        message(arrivals(head)),
        message(arrivals("arrival,lifetime\n0,1\n")),
        message(arrivals("arrival,arrival,lifetime,profile\n")),
        row("-1,1,1g.10gb,1"),
        row("soon,1,1g.10gb,1"),
        row(",1,1g.10gb,1"),
        row("1,inf,1g.10gb,1"),
        row("1,-5,1g.10gb,1"),
        row("1,1,5g.50gb,1"),
        row("1,1,gpu,1"),
        row("1,1,,1"),
        row("1,1,1g.10gb,0"),
        row("1,1,1g.10gb,99999"),
        row("1,1,1g.10gb"),
        message(arrivals(&format!("{head}5,1,1g.10gb,1\n4,1,1g.10gb,1\n"))),
        message(arrivals("arrival,lifetime,fraction\n0,1,1.5\n")),
        message(arrivals(
            "arrival,lifetime,fraction,profile\n0,1,1,1g.10gb\n",
        )),
        openb("p,-4,1,0,0"),
        openb("p,4,1,2,500"),
        openb("p,4,1,1,1001"),
        openb("p,4,1,0,5"),
        openb("p,4,1,1,0"),
        openb("p,4,1,999,1000"),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line() {
    let bytes: &[u8] = b"arrival,lifetime,profile\n0,1,1g.10gb\n0,1,\xff\n";
    let model = a100();
    let rows: Vec<_> = Arrivals::new(bytes, &model).unwrap().collect();
    assert_eq!(rows.len(), 2);
    assert!(matches!(rows[1], Err(TraceError::NotText { line: 3 })));
}

#[test]
fn nothing_follows_an_error() {
    let text = "arrival,lifetime,profile\n0,1,9g.1gb\n0,1,1g.10gb\n";
    let model = a100();
    assert_eq!(Arrivals::new(text.as_bytes(), &model).unwrap().count(), 1);
}

/// A trace of a million rows that is made while it is read; it remembers how far it was read.
struct Endless {
    row: Cursor<Vec<u8>>,
    made: Rc<Cell<u32>>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.row.read(buffer)?;
        if read > 0 || self.made.get() == 1_000_000 {
            return Ok(read);
        }
        self.row = Cursor::new(format!("{},60,1g.10gb\n", self.made.get()).into_bytes());
        self.made.set(self.made.get() + 1);
        self.row.read(buffer)
    }
}

#[test]
fn a_million_rows_are_read_as_they_are_asked_for() {
    let made = Rc::new(Cell::new(0));
    let reader = Endless {
        row: Cursor::new(b"arrival,lifetime,profile\n".to_vec()),
        made: Rc::clone(&made),
    };
    let model = a100();
    let mut rows = Arrivals::new(reader, &model).unwrap();
    assert!((rows.next().unwrap().unwrap().arrival).abs() < f64::EPSILON);
    // Had it read ahead without bound, all rows would be made by now.
    assert!(made.get() < 10_000);
    assert_eq!(rows.map(Result::unwrap).count(), 999_999);
}

#[test]
fn openb_lists_are_read_with_their_models_and_times() {
    let nodes = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\n";
    let nodes: Vec<Node> = Nodes::new(nodes.as_bytes())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!((nodes[0].gpus, nodes[0].model.as_str()), (2, "P100"));
    let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n\
                p0,6000,12288,1,460,V100M16|V100M32,5,9\np1,1000,1,0,0,,0,\n";
    let pods: Vec<Pod> = Pods::new(pods.as_bytes())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(pods[0].models, ["V100M16", "V100M32"]);
    assert_eq!((pods[0].created, pods[0].deleted), (Some(5.0), Some(9.0)));
    assert_eq!((pods[1].gpus, pods[1].deleted), (0, None));
}

#[test]
fn shares_become_profiles_by_three_rules() {
    let model = a100();
    let name = |rule: Mapping, milli| {
        let profile = rule.profile(&model, milli).unwrap();
        model.profile(profile).unwrap().name.to_string()
    };
    let row = |milli| {
        format!(
            "{milli}: {} {} {}",
            name(Mapping::Compute, milli),
            name(Mapping::Nearest, milli),
            name(Mapping::Memory, milli)
        )
    };
    let rows: Vec<String> = [1, 142, 143, 250, 320, 470, 590, 650, 810, 1000]
        .map(row)
        .to_vec();
    insta::assert_snapshot!(rows.join("\n"));
}

proptest! {
    #[test]
    fn no_text_is_too_strange_to_be_read_or_refused(text in ".{0,300}") {
        let model = a100();
        if let Ok(rows) = Arrivals::new(text.as_bytes(), &model) {
            let _ = rows.count();
        }
        let with_head = format!("name,cpu_milli,memory_mib,num_gpu,gpu_milli\n{text}");
        if let Ok(rows) = Pods::new(with_head.as_bytes()) {
            let _ = rows.count();
        }
    }

    #[test]
    fn by_compute_and_by_memory_nobody_gets_less_than_he_asks_for(milli in 1_u32..=1000) {
        let model = a100();
        let compute = model.profile(Mapping::Compute.profile(&model, milli).unwrap()).unwrap();
        prop_assert!(u32::from(compute.name.compute_slices()) * 1000 >= milli * 7);
        let memory = model.profile(Mapping::Memory.profile(&model, milli).unwrap()).unwrap();
        prop_assert!(u32::from(memory.size()) * 1000 >= milli * 8);
    }
}

/// A table whose second row opens a quotation that nothing closes.
struct Unclosed {
    head: Cursor<&'static [u8]>,
    given: Rc<Cell<u64>>,
}

impl Read for Unclosed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = match self.head.read(buffer)? {
            0 => {
                buffer.fill(b'x');
                buffer.len()
            }
            read => read,
        };
        self.given.set(self.given.get() + read as u64);
        Ok(read)
    }
}

#[test]
fn a_row_that_never_ends_is_refused_before_it_fills_the_memory() {
    for (head, line) in [
        ("arrival,lifetime,profile\n0,1,1g.10gb\n1,1,\"7g", "line 3:"),
        ("", "line 1:"),
    ] {
        let given = Rc::new(Cell::new(0));
        let unclosed = Unclosed {
            head: Cursor::new(head.as_bytes()),
            given: Rc::clone(&given),
        };
        let read =
            Arrivals::new(unclosed, &a100()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let said = message(read);
        assert!(
            said.starts_with(line) && said.contains("quotation mark"),
            "{said}"
        );
        assert!(given.get() <= bounded::LONGEST + 10_000, "{}", given.get());
    }
}

#[test]
fn a_long_trace_of_short_rows_is_read_to_its_end() {
    let mut text = "arrival,lifetime,profile\n".to_owned();
    while text.len() as u64 <= 2 * bounded::LONGEST {
        text.push_str("1,10,1g.10gb\n");
    }
    let rows = text.lines().count() - 1;
    assert_eq!(arrivals(&text).unwrap().len(), rows);
}
