//! `kubectl cdmo simulate` through the program, without any cluster.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it, too")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Small and quick: the figures do not matter here.
const SMALL: &str = "--gpus A100-80GB:4 --load 0.8..1.0 --runs 2 --policy mfi --policy ff";

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-cdmo"));
    command
        .arg("simulate")
        .args(line.split_whitespace())
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, line: &str) -> Output {
    command(folder, line).output().unwrap()
}

#[track_caller]
fn shown(folder: &Path, line: &str) -> String {
    let output = run(folder, line);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && err.is_empty(), "{line}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code 2, and one line on standard error with these in it.
#[track_caller]
fn refused(folder: &Path, line: &str, parts: &[&str]) {
    let output = run(folder, line);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}: {err}");
    assert!(output.stdout.is_empty(), "{line}");
    assert_eq!(err.lines().count(), 1, "one sentence: {err}");
    for part in parts {
        assert!(err.contains(part), "no {part:?} in: {err}");
    }
}

#[test]
fn a_table_compares_policies_by_load() {
    let dir = tempfile::tempdir().unwrap();
    let text = shown(dir.path(), SMALL);
    assert!(!text.contains('\u{1b}'), "no colours where no terminal is");
    insta::assert_snapshot!(text);
    assert_eq!(text, shown(dir.path(), SMALL), "equal seeds, equal tables");
    assert_ne!(text, shown(dir.path(), &format!("{SMALL} --seed 2")));
}

#[test]
fn tables_and_plots_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let text = shown(dir.path(), &format!("{SMALL} --out shown/here"));
    assert!(
        text.contains("Written to shown/here: results.csv"),
        "{text}"
    );
    let read =
        |name: &str| std::fs::read_to_string(dir.path().join("shown/here").join(name)).unwrap();
    insta::assert_snapshot!("results", read("results.csv"));
    assert_eq!(read("utilisation.csv").lines().count(), 1 + 2 * 241);
    for name in ["load.svg", "utilisation.svg", "gpus.svg"] {
        let plot = read(name);
        assert!(
            plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"),
            "{name}"
        );
    }
    insta::assert_snapshot!("plot_by_load", read("load.svg"));
    insta::assert_snapshot!("map_of_gpus", read("gpus.svg"));
}

#[test]
fn the_number_of_gpus_is_found_that_accepts_enough() {
    let dir = tempfile::tempdir().unwrap();
    let line = "--gpus A100-80GB:4 --mix 7g=1 --load 1 --runs 2 --policy ours";
    let text = shown(dir.path(), &format!("{line} --accept 90"));
    let last = text.lines().last().unwrap();
    let gpus: u32 = last.split_whitespace().last().unwrap().parse().unwrap();
    // Erlang's formula: 4 erlangs on 6 servers lose 11.7 %, on 7 servers 6.3 %.
    assert_eq!(gpus, 7, "{text}");
}

#[test]
fn pods_can_wait() {
    let dir = tempfile::tempdir().unwrap();
    let text = shown(dir.path(), &format!("{SMALL} --queue"));
    assert!(
        text.contains("MEAN WAIT") && text.contains("STILL WAIT"),
        "{text}"
    );
}

#[test]
fn several_models_serve_one_mix() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        "--gpus A30:4 --gpus h100-80gb:2 --mix 1g=0.5,2g=0.5 --load 0.9 --runs 1 --policy mfi";
    let text = shown(dir.path(), line);
    assert!(
        text.starts_with("4x A30 and 2x H100-80GB: mix 1g.6gb 50 %, 2g.12gb 50 %"),
        "{text}"
    );
}

#[test]
fn traces_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put(
        "own.csv",
        "arrival,lifetime,profile\n0,10,7g.80gb\n1,10,7g.80gb\n20,,1g.10gb\n30,5,1g.10gb\n",
    );
    let text = shown(
        dir.path(),
        "--gpus A100-80GB:1 --trace own.csv --policy ours",
    );
    // The second of four finds no place.
    assert!(
        text.contains("4 pods of own.csv") && text.contains("trace  ours    75.00"),
        "{text}"
    );
    let text = shown(
        dir.path(),
        "--gpus A100-80GB:1 --trace own.csv --policy ours --queue",
    );
    // It waits 9 s: 2.25 in the mean.
    assert!(
        text.contains("2.250") && text.contains("WAIT (s)"),
        "{text}"
    );
    put(
        "openb.csv",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time\n\
         a,1,1,2,1000,50,60\nb,1,1,1,400,0,10\nc,1,1,0,0,0,5\n",
    );
    let text = shown(
        dir.path(),
        "--gpus A100-80GB:2 --trace openb.csv --policy ours",
    );
    assert!(
        text.contains("3 pods of openb.csv") && text.contains("100.00"),
        "{text}"
    );
}

#[test]
fn a_long_trace_is_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "arrival,lifetime,profile\n".to_owned();
    for row in 0..200_000 {
        let profile = ["1g.10gb", "3g.40gb", "7g.80gb"][row % 3];
        writeln!(text, "{row},{},{profile}", row % 97).unwrap();
    }
    std::fs::write(dir.path().join("long.csv"), text).unwrap();
    let text = shown(
        dir.path(),
        "--gpus A100-80GB:32 --trace long.csv --policy ours",
    );
    assert!(text.contains("200000 pods of long.csv"), "{text}");
}

#[test]
fn what_is_wrong_with_a_trace_is_said_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let gpus = "--gpus A100-80GB:4 --trace t.csv";
    let cases: [(&str, &[&str]); 8] = [
        ("", &["t.csv", "is empty"]),
        ("arrival,lifetime,profile\n", &["t.csv", "line 1", "no row"]),
        ("arrival,profile\n0,7g.80gb\n", &["line 1", "lifetime"]),
        (
            "arrival,lifetime,profile\n0,1,7g.80gb\n1,-5,7g.80gb\n",
            &["line 3", "negative"],
        ),
        (
            "arrival,lifetime,profile\n0,1,5g.80gb\n",
            &["line 2", "5g.80gb", "7g.80gb"],
        ),
        (
            "arrival,lifetime,profile\n5,1,7g.80gb\n4,1,7g.80gb\n",
            &["line 3", "sort"],
        ),
        ("arrival,lifetime,profile\n5,1\n", &["line 2", "2 fields"]),
        (
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,1,1000\n",
            &["t.csv", "creation_time"],
        ),
    ];
    for (text, parts) in cases {
        std::fs::write(dir.path().join("t.csv"), text).unwrap();
        refused(dir.path(), gpus, parts);
    }
    std::fs::remove_file(dir.path().join("t.csv")).unwrap();
    refused(dir.path(), gpus, &["failed to read t.csv", "--trace"]);
}

#[test]
fn what_is_wrong_with_an_option_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 11] = [
        ("", &["--gpus"]),
        ("--gpus T4:3", &["T4", "A100-80GB"]),
        ("--gpus A30:0", &["1 to"]),
        ("--gpu A30:4", &["--gpus"]),
        ("--gpus A30:4 --polcy ours", &["--policy"]),
        ("--gpus A30:4 --policy best", &["best", "BF-BI"]),
        ("--gpus A30:4 --load 1..0.5", &["falls"]),
        ("--gpus A30:4 --mix 3g=1", &["3g", "4g.24gb"]),
        ("--gpus A30:4 --mix big", &["skew-big", "A30"]),
        ("--gpus A30:4 --lifetimes normal", &["log-normal"]),
        ("--gpus A30:4 --accept 99 --queue", &["--accept", "--queue"]),
    ];
    for (line, parts) in cases {
        refused(dir.path(), line, parts);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_no_error_of_the_input() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let output = run(dir.path(), &format!("{SMALL} --out file/below"));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("file/below") && err.contains("--out"), "{err}");
}
