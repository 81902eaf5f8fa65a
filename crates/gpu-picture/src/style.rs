//! Colours, in one place. All text goes through anstream, which drops them where they are not
//! wanted; nothing is told by colour alone.

use anstyle::{Ansi256Color, AnsiColor, Color, Style};

/// Black, on a coloured ground.
const INK: Ansi256Color = Ansi256Color(16);

/// Ground for one, two, three, four and all slices of compute: told apart by people who do not
/// see red and green alike, and bright enough for black ink.
const GROUNDS: [(char, u8); 5] = [('1', 117), ('2', 114), ('3', 222), ('4', 216), ('7', 183)];

fn tone(profile: &str) -> Ansi256Color {
    let first = profile.chars().next();
    let tone = GROUNDS.iter().find(|(slices, _)| Some(*slices) == first);
    Ansi256Color(tone.map_or(252, |(_, tone)| *tone))
}

/// An instance that a pod holds.
pub fn held(profile: &str) -> Style {
    Style::new()
        .fg_color(Some(Color::Ansi256(INK)))
        .bg_color(Some(Color::Ansi256(tone(profile))))
}

/// An instance that nobody holds.
pub fn idle(profile: &str) -> Style {
    Style::new().fg_color(Some(Color::Ansi256(tone(profile))))
}

/// Lines, rulers and everything that may stay in the background.
pub fn faint() -> Style {
    Style::new().dimmed()
}

/// Headings.
pub fn strong() -> Style {
    Style::new().bold()
}

/// All is well.
pub fn good() -> Style {
    Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)))
}

/// Under way.
pub fn busy() -> Style {
    Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)))
}

/// Something is wrong.
pub fn bad() -> Style {
    Style::new()
        .fg_color(Some(Color::Ansi(AnsiColor::Red)))
        .bold()
}

/// Text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The first `width` characters of a text, the last of them an ellipsis if any were lost.
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    match width {
        0 => String::new(),
        _ => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// [`fit`], filled up with blanks.
pub fn column(text: &str, width: usize) -> String {
    format!("{:width$}", fit(text, width))
}

/// What a pod is called where there is little room: `ClearML` names pods after tasks, and the
/// first digits of a task's id are enough to tell them apart.
pub fn short_name(pod: &str) -> &str {
    match pod.strip_prefix("clearml-id-") {
        Some(task) if task.len() == 32 && task.chars().all(|c| c.is_ascii_hexdigit()) => &task[..8],
        _ => pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_their_column() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcdef", 0), "");
        assert_eq!(column("ab", 4), "ab  ");
    }

    #[test]
    fn pods_of_clearml_go_by_the_first_digits_of_their_task() {
        assert_eq!(
            short_name("clearml-id-0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
            "0a1b2c3d"
        );
        assert_eq!(short_name("clearml-id-other"), "clearml-id-other");
        assert_eq!(short_name("train"), "train");
    }
}
