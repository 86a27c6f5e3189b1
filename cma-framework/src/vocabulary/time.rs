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

/// A measured time that prints as `1.5 s`, `512.0 ms`, `37.4 us` or `850 ns`: in the longest unit
/// of which it has at least one. It is rounded down, so that "for 1.5 s or longer" stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)];
        match units.into_iter().find(|(_, unit)| nanos >= *unit) {
            Some((name, unit)) => {
                write!(f, "{}.{} {name}", nanos / unit, nanos % unit * 10 / unit)
            }
            None => write!(f, "{nanos} ns"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_time_is_in_a_fitting_unit_and_never_longer_than_it_was() {
        for (nanos, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.0 us"),
            (37_499, "37.4 us"),
            (999_999, "999.9 us"),
            (1_000_000, "1.0 ms"),
            (999_999_999, "999.9 ms"),
            (1_000_000_000, "1.0 s"),
            (61_990_000_000, "61.9 s"),
        ] {
            assert_eq!(Elapsed(Duration::from_nanos(nanos)).to_string(), expected);
        }
    }
}
