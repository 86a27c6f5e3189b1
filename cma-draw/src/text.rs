//! Texts: their widths in the embedded font, and figures with units.

use std::sync::OnceLock;
use ttf_parser::Face;

/// DejaVu Sans, as far as pictures need it. Hosts may have no fonts.
const FONT: &[u8] = include_bytes!("../fonts/DejaVuSans-subset.ttf");

/// The embedded font.
pub(crate) fn font() -> &'static Face<'static> {
    static PARSED: OnceLock<Face<'static>> = OnceLock::new();
    PARSED.get_or_init(|| {
        Face::parse(FONT, 0).unwrap_or_else(|e| unreachable!("the embedded font is one: {e}"))
    })
}

/// The width of `text` in pixels, with letters of `size` pixels.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let font = font();
    let advance = |letter| {
        let glyph = font.glyph_index(letter).unwrap_or_default();
        f64::from(font.glyph_hor_advance(glyph).unwrap_or_default())
    };
    text.chars().map(advance).sum::<f64>() * size / f64::from(font.units_per_em())
}

/// `text` as far as it fits into `most` pixels, with an ellipsis in place of the rest; empty if not
/// even a letter fits.
pub(crate) fn fitted(text: &str, size: f64, most: f64) -> String {
    if width(text, size) <= most {
        return text.to_string();
    }
    let mut left = most - width("…", size);
    let fits = |letter: &char| {
        left -= width(letter.encode_utf8(&mut [0; 4]), size);
        left >= 0.0
    };
    let start: String = text.chars().take_while(fits).collect();
    if start.is_empty() { start } else { format!("{}…", start.trim_end()) }
}

/// The lines of `text`, broken at spaces, none wider than `most` pixels.
pub(crate) fn wrapped(text: &str, size: f64, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match (longer.filter(|line| width(line, size) <= most), lines.last_mut()) {
            (Some(longer), Some(last)) => *last = longer,
            _ => lines.push(fitted(word, size, most)),
        }
    }
    lines
}

/// `text` without characters that XML excludes or that change the direction of what follows: each
/// is replaced.
pub(crate) fn plain(text: &str) -> String {
    let replaced = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{fffe}' | '\u{ffff}')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if replaced(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `bytes` in the largest unit of which there is one, with three digits: `1.25 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    let value = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    format!("{} {}", three_digits(value), units[unit])
}

/// `us` microseconds in the largest unit of which there is one, up to seconds.
pub(crate) fn time(us: u64) -> String {
    let value = us as f64;
    match us {
        0 => "0 s".to_string(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", three_digits(value / 1e3)),
        _ => format!("{} s", three_digits(value / 1e6)),
    }
}

/// A multiple of `step` bytes, in the unit of `step`.
pub(crate) fn byte_label(value: u64, step: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (step.max(1).ilog2() / 10) as usize;
    format!("{} {}", value >> (10 * unit), units[unit])
}

/// A multiple of `step` microseconds, with the decimals that tell it from its neighbours, in a unit
/// that suits `end`, the largest.
pub(crate) fn time_label(value: u64, step: u64, end: u64) -> String {
    let (unit, name): (u64, _) = match end {
        0..2_000 => (1, "µs"),
        2_000..2_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let decimals = (0..6).find(|&digits| (step * 10_u64.pow(digits)).is_multiple_of(unit));
    let decimals = decimals.unwrap_or(6) as usize;
    let value = value as f64 / unit as f64;
    format!("{value:.decimals$} {name}")
}

/// At least three digits, without zeros at the end of a fraction.
fn three_digits(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
}

/// `count` things: `1 chunk`, `2,000 chunks`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(count as u64))
}

/// `count` with a comma between thousands.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(1_342_177_280), "1.25 GiB");
        assert_eq!(bytes(u64::MAX), "16 EiB");
        assert_eq!(time(12_345_678), "12.3 s");
        assert_eq!(time(900), "900 µs");
        assert_eq!(counted(31_254, "chunk"), "31,254 chunks");
    }

    #[test]
    fn labels_of_time_have_the_unit_of_the_axis_and_the_decimals_of_the_step() {
        assert_eq!(time_label(20, 5, 900), "20 µs");
        assert_eq!(time_label(20_000, 5_000, 100_000), "20 ms");
        assert_eq!(time_label(1_500_000, 500_000, 10_000_000), "1.5 s");
    }

    #[test]
    fn a_fitted_text_is_never_wider_than_its_place() {
        for most in 0..200 {
            let most = f64::from(most);
            let text = fitted("a device with a long name", 12.0, most);
            assert!(width(&text, 12.0) <= most, "{text}");
        }
        for line in wrapped("words that are broken into several lines", 12.0, 70.0) {
            assert!(width(&line, 12.0) <= 70.0, "{line}");
        }
    }
}
