//! Numbers with suffixes, in the syntax of the `cma=` grammar; written in the shortest exact form.

use super::syntax::SyntaxError;
use std::fmt;

/// Reads a number from the start of `text`: decimal, `0x` hex or `0` octal, with an optional suffix
/// K, M, G, T, P or E (powers of 1024, any case), which may be written KiB, MiB and so on. Returns
/// the number and its length in the text.
///
/// # Errors
///
/// [`SyntaxError::NoNumber`], [`SyntaxError::BadOctal`], [`SyntaxError::BadSuffix`],
/// [`SyntaxError::DecimalSuffix`], [`SyntaxError::Fraction`] or [`SyntaxError::NumberTooLarge`],
/// with the length of the wrong text.
pub fn parse_size(text: &str) -> Result<(u64, usize), (SyntaxError, usize)> {
    let (value, taken) = parse_number(text)?;
    let value = u64::try_from(value).map_err(|_| (SyntaxError::NumberTooLarge, taken))?;
    Ok((value, taken))
}

/// The same for an address that something ends before: it may be 2^64.
pub(super) fn parse_end(text: &str) -> Result<(u128, usize), (SyntaxError, usize)> {
    match parse_number(text)? {
        (value, taken) if value > 1 << u64::BITS => Err((SyntaxError::EndPastTheTop, taken)),
        number => Ok(number),
    }
}

fn parse_number(text: &str) -> Result<(u128, usize), (SyntaxError, usize)> {
    let bytes = text.as_bytes();
    let (radix, prefix) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, 2),
        [b'0', ..] => (8, 0),
        _ => (10, 0),
    };
    let is_digit = |b: &u8| if radix == 16 { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let digits = bytes[prefix..].iter().take_while(|b| is_digit(b)).count();
    let end = prefix + digits;
    if digits == 0 {
        return Err((SyntaxError::NoNumber, end));
    }
    let shift = suffix_shift(bytes.get(end));
    let mut taken = end + usize::from(shift != 0);
    if shift != 0
        && bytes.get(taken..taken + 2).is_some_and(|unit| unit.eq_ignore_ascii_case(b"iB"))
    {
        taken += 2;
    }
    let rest = &text[taken..];
    if let Some(fraction) = rest.strip_prefix('.')
        && shift == 0
    {
        let length = fraction.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let whole = whole_size(&text[..end], &fraction[..length]);
        let remedy =
            whole.map(|whole| format!("{} for {}", Bytes(whole), &text[..taken + 1 + length]));
        return Err((SyntaxError::Fraction { remedy }, taken + 1 + length));
    }
    let letters = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
    if letters > 0 {
        let decimal = shift != 0 && taken == end + 1 && rest[..letters].eq_ignore_ascii_case("B");
        let kind = if decimal { SyntaxError::DecimalSuffix } else { SyntaxError::BadSuffix };
        return Err((kind, taken + letters));
    }
    let mut value: u128 = 0;
    for digit in &bytes[prefix..end] {
        let digit = (*digit as char).to_digit(radix).ok_or((SyntaxError::BadOctal, taken))?;
        value = value
            .checked_mul(u128::from(radix))
            .and_then(|v| v.checked_add(u128::from(digit)))
            .ok_or((SyntaxError::NumberTooLarge, taken))?;
    }
    if value > u128::MAX >> shift {
        return Err((SyntaxError::NumberTooLarge, taken));
    }
    Ok((value << shift, taken))
}

/// The power of two that a suffix stands for; 0 without one.
fn suffix_shift(suffix: Option<&u8>) -> u32 {
    match suffix.map(u8::to_ascii_uppercase) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => 0,
    }
}

/// The size `integer.fraction`, where the fraction ends with a suffix, rounded up to the next
/// smaller unit: 1.5M is 1536K. `None` if it isn't such a size.
fn whole_size(integer: &str, fraction: &str) -> Option<u64> {
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, suffix) = fraction.split_at(digits);
    let shift = suffix_shift(suffix.as_bytes().first());
    if shift == 0 || !(suffix.len() == 1 || suffix[1..].eq_ignore_ascii_case("iB")) {
        return None;
    }
    let one = 10_u64.checked_pow(digits.len().try_into().ok()?)?;
    let part = (u128::from(digits.parse::<u64>().ok()?) * 1024).div_ceil(one.into());
    let units =
        integer.parse::<u64>().ok()?.checked_mul(1024)?.checked_add(part.try_into().ok()?)?;
    units.checked_mul(1 << (shift - 10))
}

/// A number of bytes that prints as `36864K`, `1M` or `123`: with the largest suffix that is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `count` KiB, saturated at [`u64::MAX`] bytes.
    pub const fn kib(count: u64) -> Self {
        Bytes(count.saturating_mul(1 << 10))
    }

    /// `count` MiB, saturated at [`u64::MAX`] bytes.
    pub const fn mib(count: u64) -> Self {
        Bytes(count.saturating_mul(1 << 20))
    }

    /// `count` GiB, saturated at [`u64::MAX`] bytes.
    pub const fn gib(count: u64) -> Self {
        Bytes(count.saturating_mul(1 << 30))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut suffix) = (self.0, "");
        for next in ["K", "M", "G", "T", "P", "E"] {
            if value == 0 || !value.is_multiple_of(1024) {
                break;
            }
            (value, suffix) = (value / 1024, next);
        }
        f.pad(&format!("{value}{suffix}"))
    }
}
