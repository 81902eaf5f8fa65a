//! The state as text: its length, one line for the host, one for each GPU.
//!
//! Lines that did not change since they were last read or written are neither parsed nor printed
//! again, so that a change on one GPU costs the same however large the host is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::host::State;

/// Bytes in front of the text: its length.
const HEAD: usize = 8;

/// What was read or written last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    fresh: Vec<u8>,
    known: Vec<u8>,
    state: Option<Arc<State>>,
}

fn lines(slot: &[u8]) -> impl Iterator<Item = &[u8]> {
    slot.get(HEAD..)
        .unwrap_or_default()
        .split(|&byte| byte == b'\n')
}

impl Cache {
    /// Reads a slot. What it contains is nonsense if somebody writes there at the same time.
    pub(super) fn read_slot(&mut self, file: &File, at: u64, longest: u64) -> io::Result<()> {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, at)?;
        let length = u64::from_ne_bytes(head).min(longest - HEAD as u64);
        let whole = HEAD + usize::try_from(length).map_err(io::Error::other)?;
        self.fresh.resize(whole, 0);
        self.fresh[..HEAD].copy_from_slice(&head);
        file.read_exact_at(&mut self.fresh[HEAD..], at + HEAD as u64)
    }

    /// The state that was read.
    pub(super) fn understand(&mut self) -> Result<Arc<State>, serde_json::Error> {
        let Self {
            fresh,
            known,
            state,
        } = self;
        if let Some(state) = state
            && fresh == known
        {
            return Ok(Arc::clone(state));
        }
        let parsed = parse(fresh, known, state.as_deref())?;
        std::mem::swap(fresh, known);
        Ok(Arc::clone(state.insert(Arc::new(parsed))))
    }

    /// The text of a new state, which from here on is the known one.
    pub(super) fn express(&mut self, new: State) -> Result<&[u8], serde_json::Error> {
        let Self {
            fresh,
            known,
            state,
        } = self;
        fresh.clear();
        fresh.extend([0; HEAD]);
        serde_json::to_writer(&mut *fresh, &new)?;
        print_gpus(fresh, &new, known, state.as_deref())?;
        let length = (fresh.len() - HEAD) as u64;
        fresh[..HEAD].copy_from_slice(&length.to_ne_bytes());
        std::mem::swap(fresh, known);
        *state = Some(Arc::new(new));
        Ok(known)
    }
}

/// Parses a slot, taking over what `known`, the text of `state`, says in the same words.
fn parse(fresh: &[u8], known: &[u8], state: Option<&State>) -> Result<State, serde_json::Error> {
    let mut fresh_lines = lines(fresh);
    let mut parsed: State = serde_json::from_slice(fresh_lines.next().unwrap_or_default())?;
    let mut old_lines = lines(known).skip(1);
    let mut old_gpus = state.into_iter().flat_map(|state| &state.gpus);
    for line in fresh_lines {
        let same = old_lines.next() == Some(line);
        let gpu = match old_gpus.next() {
            Some(gpu) if same => Arc::clone(gpu),
            _ => Arc::new(serde_json::from_slice(line)?),
        };
        parsed.gpus.push(gpu);
    }
    Ok(parsed)
}

/// Adds the lines of all GPUs to `fresh`, copying those of GPUs that `state` shares.
fn print_gpus(
    fresh: &mut Vec<u8>,
    new: &State,
    known: &[u8],
    state: Option<&State>,
) -> Result<(), serde_json::Error> {
    let mut old_lines = lines(known).skip(1);
    let mut old_gpus = state.into_iter().flat_map(|state| &state.gpus);
    for gpu in &new.gpus {
        fresh.push(b'\n');
        match (old_gpus.next(), old_lines.next()) {
            (Some(same), Some(line)) if Arc::ptr_eq(same, gpu) => fresh.extend_from_slice(line),
            _ => serde_json::to_writer(&mut *fresh, gpu.as_ref())?,
        }
    }
    Ok(())
}
