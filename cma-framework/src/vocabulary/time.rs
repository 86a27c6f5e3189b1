//! Times with units; written in the longest unit that is exact.

use std::fmt;
use std::time::Duration;

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// Not a whole number with a unit.
    #[error("expected a time: a whole number of us, ms, s or m, as in 500ms or 2s")]
    NoTime,
    /// A time that is too long to be counted.
    #[error("the time is too long: at most 2^64 - 1 microseconds")]
    TooLong,
}

/// The units of time, the longest first, in microseconds.
const UNITS: [(&str, u64); 4] = [("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

/// Reads a time: a whole number of `us`, `ms`, `s` or `m` (minutes).
///
/// # Errors
///
/// [`TimeError`].
pub fn parse_time(text: &str) -> Result<Duration, TimeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let unit = UNITS.into_iter().find(|(name, _)| *name == unit);
    let (_, micros) = unit.filter(|_| digits > 0).ok_or(TimeError::NoTime)?;
    let count: Option<u64> = count.parse().ok();
    let micros = count.and_then(|count| count.checked_mul(micros)).ok_or(TimeError::TooLong)?;
    Ok(Duration::from_micros(micros))
}

/// A time that prints as `2s` or `1500ms`: rounded up to whole microseconds, in the longest unit
/// that is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos().div_ceil(1000).min(u128::from(u64::MAX)) as u64;
        let exact = UNITS.into_iter().find(|(_, unit)| micros.is_multiple_of(*unit) && micros > 0);
        let (name, unit) = exact.unwrap_or(("s", 1));
        write!(f, "{}{name}", micros / unit)
    }
}
