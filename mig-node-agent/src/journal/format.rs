//! The journal as bytes: a line that names the format, then one checksummed line a record.
//!
//! Lines are text, so that an administrator can read them; the checksum is the CRC-32 of the JSON
//! after it, in eight hexadecimal digits.

use super::record::{Record, Recorded};

/// The format that this code writes.
pub const VERSION: u32 = 1;
const NAME: &str = "cdmo-journal ";

/// What was found in a journal's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the readable records add up to.
    pub recorded: Recorded,
    /// Bytes of an unfinished record at the end: a crash during a write, whose act was therefore
    /// never begun.
    pub torn: usize,
    /// Lines before the last that are not records: damage. Facts may be missing.
    pub damaged_lines: usize,
    /// Line number of the first of them, from 1.
    pub first_damaged: usize,
}

/// The journal is from a newer version of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newer(pub u32);

/// A whole journal that adds up to the given state.
pub fn render(recorded: &Recorded) -> Vec<u8> {
    let mut bytes = header().into_bytes();
    for record in recorded.records() {
        encode(&record, &mut bytes);
    }
    bytes
}

fn header() -> String {
    format!("{NAME}{VERSION}\n")
}

/// Appends one record's line.
pub fn encode(record: &Record, to: &mut Vec<u8>) {
    // Records hold strings and numbers only: they cannot fail to become JSON.
    let json = serde_json::to_vec(record).unwrap_or_default();
    to.extend_from_slice(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
    to.extend_from_slice(&json);
    to.push(b'\n');
}

fn decode(line: &[u8]) -> Option<Record> {
    let (sum, rest) = line.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?;
    let sum = u32::from_str_radix(str::from_utf8(sum).ok()?, 16).ok()?;
    (crc32fast::hash(json) == sum)
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

/// Reads a journal, keeping every record that is whole.
///
/// Records stand for themselves, so those behind a damaged line count as well: a grant that is kept
/// needlessly is disproved later, one that is dropped could cost a pod its device.
///
/// # Errors
/// [`Newer`], if the first line names a format above [`VERSION`].
pub fn read(bytes: &[u8]) -> Result<Reading, Newer> {
    let mut reading = Reading::default();
    let damage = |line: usize, reading: &mut Reading| {
        reading.damaged_lines += 1;
        if reading.first_damaged == 0 {
            reading.first_damaged = line;
        }
    };
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    reading.torn = bytes.len() - whole;
    let Some(body) = bytes[..whole].strip_suffix(b"\n") else {
        // A crash can have cut the first line short, but not made another one of it.
        if !header().as_bytes().starts_with(bytes) {
            reading.torn = 0;
            damage(1, &mut reading);
        }
        return Ok(reading);
    };
    let mut lines = body.split(|b| *b == b'\n').enumerate().peekable();
    if let Some((_, first)) = lines.next() {
        match version(first) {
            Some(version) if version > VERSION => return Err(Newer(version)),
            Some(_) => {}
            None => damage(1, &mut reading),
        }
    }
    while let Some((at, line)) = lines.next() {
        match decode(line) {
            Some(record) => reading.recorded.apply(&record),
            // A write that was cut short can end in a stray newline, too.
            None if lines.peek().is_none() && reading.torn == 0 => reading.torn = line.len() + 1,
            None => damage(at + 1, &mut reading),
        }
    }
    Ok(reading)
}

fn version(line: &[u8]) -> Option<u32> {
    str::from_utf8(line).ok()?.strip_prefix(NAME)?.parse().ok()
}

#[cfg(test)]
mod tests;
