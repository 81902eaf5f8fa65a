//! The state file.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{SLOT, SLOTS_AT, Store};
use crate::config::{Config, Error};
use crate::host::State;

fn config(folder: &Path, text: &str) -> Config {
    Config::parse(text, &folder.join("host.toml"), &folder.join("state")).unwrap()
}

fn open(folder: &Path, text: &str) -> Result<Store, Error> {
    let config = config(folder, text);
    Store::open(&config.state, &config.first)
}

fn serial(store: &Store) -> u64 {
    store.load().unwrap().next_serial
}

#[test]
fn what_one_opener_changes_all_see_and_the_next_finds() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (
        open(folder.path(), "").unwrap(),
        open(folder.path(), "").unwrap(),
    );
    one.update(State::serial).unwrap();
    assert_eq!(serial(&other), 2);
    other.update(State::serial).unwrap();
    assert_eq!(serial(&one), 3);
    drop((one, other));
    assert_eq!(serial(&open(folder.path(), "").unwrap()), 3);
}

#[test]
fn a_refused_change_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), "").unwrap();
    let refused: Result<(), &str> = store
        .try_update(|state| {
            state.serial();
            Err("no")
        })
        .unwrap();
    assert_eq!(refused, Err("no"));
    assert_eq!(serial(&store), 1);
}

#[test]
fn other_hardware_starts_afresh_but_other_latencies_do_not() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), "")
        .unwrap()
        .update(State::serial)
        .unwrap();
    let slower = open(folder.path(), "[latency_ms]\ndefault = 1").unwrap();
    assert_eq!(serial(&slower), 2);
    let bigger = open(folder.path(), "[[gpu]]\ncount = 2").unwrap();
    assert_eq!(serial(&bigger), 1);
}

#[test]
fn a_half_written_new_state_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), "")
        .unwrap()
        .update(State::serial)
        .unwrap();
    // The next change goes to the slot that does not count: here another process died half-way.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("state"))
        .unwrap();
    file.write_all_at(b"\xff\xff\xff\xff{\"fingerpr", SLOTS_AT + SLOT)
        .unwrap();
    let store = open(folder.path(), "").unwrap();
    assert_eq!(serial(&store), 2);
    store.update(State::serial).unwrap();
    assert_eq!(serial(&store), 3);
}

#[test]
fn a_creator_that_died_before_it_was_done_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("state")).unwrap();
    file.write_all_at(b"\x10\0\0\0\0\0\0\0{\"fin", SLOTS_AT + SLOT)
        .unwrap();
    assert_eq!(serial(&open(folder.path(), "").unwrap()), 1);
}

#[test]
fn what_one_reader_knows_of_a_gpu_is_not_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[gpu]]\ncount = 3";
    let (one, other) = (
        open(folder.path(), text).unwrap(),
        open(folder.path(), text).unwrap(),
    );
    for gpu in [2, 0, 1, 2] {
        one.update(|state| {
            let mode = &mut state.gpu_mut(gpu).unwrap().mode;
            mode.pending = !mode.pending;
        })
        .unwrap();
        assert_eq!(one.load().unwrap(), other.load().unwrap());
    }
    let fresh = open(folder.path(), text).unwrap();
    assert_eq!(fresh.load().unwrap(), other.load().unwrap());
    let state = fresh.load().unwrap();
    let pending: Vec<_> = state.gpus.iter().map(|gpu| gpu.mode.pending).collect();
    assert_eq!(pending, [true, true, false]);
}

#[test]
fn a_foreign_state_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "my diary").unwrap();
    let refusal = open(folder.path(), "").unwrap_err().to_string();
    assert!(refusal.contains("delete it to start afresh"), "{refusal}");
    assert_eq!(
        std::fs::read(folder.path().join("state")).unwrap(),
        b"my diary"
    );
}

#[test]
fn a_place_that_cannot_be_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let config = config(folder.path(), "[host]\nstate = 'file/state'");
    let refusal = Store::open(&config.state, &config.first)
        .unwrap_err()
        .to_string();
    assert!(
        refusal.starts_with("failed to create the folder"),
        "{refusal}"
    );
}

#[test]
fn changes_of_many_threads_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = open(folder.path(), "").unwrap();
                for _ in 0..50 {
                    store.update(State::serial).unwrap();
                }
            });
        }
    });
    assert_eq!(serial(&open(folder.path(), "").unwrap()), 201);
}
