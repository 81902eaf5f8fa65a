//! A reader that gives out only so much for one row.
//!
//! A quotation mark that is never closed makes the rest of a file one field; a file that is no table may be one
//! line. Neither must be kept in memory to find out.

use std::io::{Error, ErrorKind, Read, Result};

/// Bytes of the longest row. Those of real traces have about a hundred.
pub(super) const LONGEST: u64 = 1 << 20;

/// The reader.
pub(super) struct Bounded<R> {
    inner: R,
    /// What may still be read for the row at hand.
    left: u64,
}

impl<R> Bounded<R> {
    /// The first row may be read.
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            left: LONGEST,
        }
    }

    /// The next row begins. What was read ahead for it does not count.
    pub(super) fn next_row(&mut self) {
        self.left = LONGEST;
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.left == 0 {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let room = buffer.len().min(most);
        let read = self.inner.read(&mut buffer[..room])?;
        self.left -= u64::try_from(read).unwrap_or(self.left).min(self.left);
        Ok(read)
    }
}
