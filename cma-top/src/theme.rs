//! Glyphs and styles: with and without colour, with and without Unicode.

use crate::cells::Fill;
use ratatui::style::{Color, Modifier, Style};
use std::env;

/// The colours of owners; red is for problems.
const OWNERS: [Color; 10] = [
    Color::Cyan,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::LightCyan,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
];

/// How the screen looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Whether there is colour. Without it, glyphs and bold type say all.
    pub(crate) colour: bool,
    /// Whether the terminal draws more than ASCII.
    pub(crate) unicode: bool,
}

impl Theme {
    /// That of the environment: `NO_COLOR`, and the character set of the locale.
    pub(crate) fn of_environment() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(|name| is_set(name));
        let locale = locale.and_then(|name| env::var(name).ok()).unwrap_or_default();
        Theme { colour: !is_set("NO_COLOR"), unicode: is_utf8(&locale) }
    }

    pub(crate) fn glyph(self, fill: Fill) -> &'static str {
        match (fill, self.unicode) {
            (Fill::Full, true) => "█",
            (Fill::Partly, true) => "▒",
            (Fill::Free, true) => "·",
            (Fill::Full, false) => "#",
            (Fill::Partly, false) => "+",
            (Fill::Free, false) => ".",
        }
    }

    /// What stands for text that is cut.
    pub(crate) fn more(self) -> char {
        if self.unicode { '…' } else { '~' }
    }

    pub(crate) fn rule(self) -> &'static str {
        if self.unicode { "─" } else { "-" }
    }

    pub(crate) fn marker(self) -> &'static str {
        if self.unicode { "▶ " } else { "> " }
    }

    /// The style of owner number `n`.
    pub(crate) fn owner(self, n: usize) -> Style {
        self.coloured(OWNERS[n % OWNERS.len()])
    }

    pub(crate) fn problem(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Whether the locale of that name has UTF-8, as `C.UTF-8` and `de_DE.utf8`.
fn is_utf8(locale: &str) -> bool {
    let set = locale.split(['.', '@']).nth(1).unwrap_or_default();
    set.eq_ignore_ascii_case("utf-8") || set.eq_ignore_ascii_case("utf8")
}

#[cfg(test)]
mod tests {
    use super::is_utf8;

    #[test]
    fn the_character_set_of_a_locale_is_behind_the_point() {
        assert_eq!(["C.UTF-8", "de_DE.utf8", "en_US.UTF-8@x"].map(is_utf8), [true; 3]);
        assert_eq!(["", "C", "POSIX", "de_DE.ISO-8859-1", "utf8"].map(is_utf8), [false; 5]);
    }
}
