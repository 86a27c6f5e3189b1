//! Sizes, times and rates in few characters.

use std::time::Duration;

/// A size in at most six characters, such as `12.5M`: rounded down, so that what is free is never
/// overstated.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    while unit + 1 < units.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    if unit == 0 {
        return format!("{bytes}B");
    }
    let tenths = ((bytes >> (10 * (unit - 1))) & 1023) * 10 / 1024;
    if whole >= 100 || tenths == 0 && whole << (10 * unit) == bytes {
        format!("{whole}{}", units[unit])
    } else {
        format!("{whole}.{tenths}{}", units[unit])
    }
}

/// A time in at most five characters, such as `1.5s`, `12m` or `3d`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_millis() as f64 / 1000.0),
        10..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", (seconds / 86_400).min(9999)),
    }
}

/// A rate per second in at most five characters.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        r if r < 0.05 => "0".to_string(),
        r if r < 99.95 => format!("{r:.1}"),
        r if r < 9_999.5 => format!("{r:.0}"),
        r if r < 999_500.0 => format!("{:.0}k", r / 1e3),
        r => format!("{:.0}M", (r / 1e6).min(9999.0)),
    }
}

/// A part of a whole in percent, rounded down but never to 0 or up to 100.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    match percent {
        0 if part > 0 => "<1%".to_string(),
        percent => format!("{percent}%"),
    }
}

/// `text` without control characters, which could be commands to the terminal, in at most `width`
/// columns; a text that is cut ends with `more`.
pub(crate) fn fit(text: &str, width: usize, more: char) -> String {
    use ratatui::text::Span;
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if Span::raw(plain.as_str()).width() <= width {
        return plain;
    }
    if width == 0 {
        return String::new();
    }
    let mut cut = String::new();
    for c in plain.chars() {
        cut.push(c);
        if Span::raw(cut.as_str()).width() > width - 1 {
            cut.pop();
            break;
        }
    }
    cut.push(more);
    cut
}

/// The same, filled with blanks to `width` columns.
pub(crate) fn left(text: &str, width: usize, more: char) -> String {
    let text = fit(text, width, more);
    let blanks = width - ratatui::text::Span::raw(text.as_str()).width().min(width);
    text + &" ".repeat(blanks)
}

/// The same, with the blanks before it.
pub(crate) fn right(text: &str, width: usize, more: char) -> String {
    let text = fit(text, width, more);
    let blanks = width - ratatui::text::Span::raw(text.as_str()).width().min(width);
    " ".repeat(blanks) + &text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_short_and_never_overstated() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (4096, "4K"),
            (10 << 20, "10M"),
            ((10 << 20) + 1, "10.0M"),
            ((1 << 30) - 1, "1023M"),
            ((100 << 20) - 1, "99.9M"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_rates_and_percentages_are_short() {
        let times = [0, 1_500, 9_999, 10_000, 99_000, 100_000, 7_200_000, 1 << 60];
        let texts = ["0.0s", "1.5s", "10.0s", "10s", "99s", "1m", "2h", "9999d"];
        assert_eq!(times.map(|ms| time(Duration::from_millis(ms))), texts);
        let rates = [0.0, 0.04, 1.25, 99.9, 100.4, 12_345.0, 1e7, f64::MAX];
        assert_eq!(rates.map(rate), ["0", "0", "1.2", "99.9", "100", "12k", "10M", "9999M"]);
        assert_eq!(
            [(0, 5), (1, 1000), (1, 3), (5, 5), (0, 0)].map(|(a, b)| percent(a, b)),
            ["0%", "<1%", "33%", "100%", "0%"]
        );
    }

    proptest! {
        #[test]
        fn a_text_in_a_column_has_its_width_and_no_control_characters(
            text in "(\\PC|[\\x00-\\x1f漢字é\u{301}]){0,30}",
            width in 0..20_usize,
        ) {
            for text in [left(&text, width, '~'), right(&text, width, '~')] {
                prop_assert_eq!(ratatui::text::Span::raw(text.as_str()).width(), width, "{:?}", text);
                prop_assert!(!text.chars().any(char::is_control));
            }
        }

        #[test]
        fn every_figure_is_short(bytes: u64, ms: u64, per_second in 0.0..1e18_f64) {
            prop_assert!(size(bytes).len() <= 6, "{}", size(bytes));
            prop_assert!(time(Duration::from_millis(ms)).len() <= 5);
            prop_assert!(rate(per_second).len() <= 5);
        }
    }
}
