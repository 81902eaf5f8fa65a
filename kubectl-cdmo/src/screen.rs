//! A text that is drawn anew in place, on a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};

/// Standard output.
pub struct Screen {
    out: AutoStream<std::io::Stdout>,
    /// Whether it is a terminal on which lines can be drawn again.
    live: bool,
    /// Lines that are drawn now.
    drawn: usize,
}

impl Default for Screen {
    fn default() -> Self {
        let stdout = std::io::stdout();
        // Colours may be unwanted on a terminal that can very well move its cursor.
        let live = stdout.is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Self {
            live,
            out: anstream::stdout(),
            drawn: 0,
        }
    }
}

impl Screen {
    /// Whether it is a terminal on which lines can be drawn again.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Columns to write for, and whether lines are cut there.
    pub fn width(&self) -> (usize, bool) {
        (size().0, self.live)
    }

    /// Text that stays. False if nobody reads any more.
    pub fn put(&mut self, text: &str) -> bool {
        self.wipe();
        let written = self.out.write_all(text.as_bytes());
        written.and_then(|()| self.out.flush()).is_ok()
    }

    /// Draws a text in place of the one before, as much of it as fits.
    pub fn draw(&mut self, text: &str) -> bool {
        let lines: Vec<&str> = text.lines().collect();
        let (_, height) = size();
        let room = height.saturating_sub(1).max(2);
        let mut picture = String::new();
        if self.drawn > 0 {
            let _ = write!(picture, "\x1b[{}A", self.drawn);
        }
        let (shown, hidden) = if lines.len() > room {
            lines.split_at(room - 1)
        } else {
            (&lines[..], &[][..])
        };
        // Each line is cleared behind its end, so that nothing flickers.
        for line in shown {
            let _ = writeln!(picture, "{line}\x1b[K");
        }
        if !hidden.is_empty() {
            let _ = writeln!(
                picture,
                "... {} more lines; --node shows one node\x1b[K",
                hidden.len()
            );
        }
        picture.push_str("\x1b[J");
        self.drawn = shown.len() + usize::from(!hidden.is_empty());
        self.raw(&picture)
    }

    /// Takes the picture away, so that text can follow what stood before it.
    pub fn wipe(&mut self) {
        if self.drawn > 0 {
            let up = format!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
            self.raw(&up);
        }
    }

    /// Where colours are unwanted, the cursor must be moved all the same.
    fn raw(&mut self, text: &str) -> bool {
        let plain;
        let text = if self.out.current_choice() == ColorChoice::Never {
            plain = without_colours(text);
            &plain
        } else {
            text
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes());
        written.and_then(|()| out.flush()).is_ok()
    }
}

/// Leaves out escapes that end in `m`.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        plain.push_str(&rest[..at]);
        let escape = &rest[at..];
        let end = escape[2..].find(|c: char| c.is_ascii_alphabetic());
        let end = end.map_or(escape.len(), |end| end + 3);
        if !escape[..end].ends_with('m') {
            plain.push_str(&escape[..end]);
        }
        rest = &escape[end..];
    }
    plain.push_str(rest);
    plain
}

/// Columns and lines of the terminal; 80 by 24 where there is none.
fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or((80, 24), |(width, height)| {
        (usize::from(width.0).max(40), usize::from(height.0).max(4))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_where_colours_are_unwanted() {
        let text = "\x1b[2A\x1b[1mbold\x1b[0m and \x1b[38;5;16mink\x1b[0m\x1b[K\n\x1b[J";
        assert_eq!(without_colours(text), "\x1b[2Abold and ink\x1b[K\n\x1b[J");
    }
}
