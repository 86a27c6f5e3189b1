//! The values of options.

use crate::show::quoted;
use cma_conform::{Placing, guarantees};
use cma_draw::Moment;
use cma_framework::config::{parse_size, parse_time};
use cma_framework::{DmaAddr, PAGE_SIZE};
use cma_memory::{Choice, ChoiceError};
use nix::unistd::Group;
use std::str::FromStr;
use std::time::Duration;

/// A choice of memory as it was written.
#[derive(Clone, Debug)]
pub(crate) struct GivenMemory {
    pub(crate) text: String,
    pub(crate) choice: Choice,
}

impl FromStr for GivenMemory {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        Ok(GivenMemory { text: text.to_string(), choice: text.parse()? })
    }
}

/// The size of a region: the whole of `text`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    size_of("a region", text)
}

/// A time with its unit.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).map_err(|error| error.to_string())
}

/// The size of a buffer: the whole of `text`.
pub(super) fn buffer_size(text: &str) -> Result<u64, String> {
    size_of("a buffer", text)
}

/// The size of a kernel's pages: the whole of `text`.
pub(super) fn page_size(text: &str) -> Result<u64, String> {
    size_of("a page", text)
}

/// An address: the whole of `text`.
pub(super) fn address(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok((address, taken)) if taken == text.len() => Ok(address),
        Ok((_, taken)) => {
            Err(format!("unexpected \"{}\" after the address", quoted(&text[taken..])))
        }
        Err((error, _)) => Err(error.to_string()),
    }
}

fn size_of(what: &str, text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok((0, _)) => Err(format!("{what} can't have the size 0")),
        Ok((size, taken)) if taken == text.len() => Ok(size),
        Ok((_, taken)) => Err(format!("unexpected \"{}\" after the size", quoted(&text[taken..]))),
        Err((error, _)) => Err(error.to_string()),
    }
}

/// The address of a whole page: the whole of `text`.
pub(super) fn page_address(text: &str) -> Result<DmaAddr, String> {
    match parse_size(text) {
        Ok((address, taken)) if taken == text.len() && address.is_multiple_of(PAGE_SIZE) => {
            Ok(DmaAddr::new(address))
        }
        Ok((_, taken)) if taken == text.len() => {
            Err(format!("a region starts at a multiple of {PAGE_SIZE}"))
        }
        Ok((_, taken)) => {
            Err(format!("unexpected \"{}\" after the address", quoted(&text[taken..])))
        }
        Err((error, _)) => Err(error.to_string()),
    }
}

/// A factor above 0.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (1e-9..=1e9).contains(speed));
    speed.ok_or_else(|| "a speed is a number from 1e-9 to 1e9, as 0.1".to_string())
}

/// The name of a guarantee.
pub(super) fn guarantee(text: &str) -> Result<String, String> {
    let is_one = guarantees::ALL.iter().any(|(name, _)| *name == text);
    is_one.then(|| text.to_string()).ok_or_else(|| "`cma conform --list` lists them".to_string())
}

/// A rule of placing.
pub(super) fn placing(text: &str) -> Result<Placing, String> {
    let rule = Placing::ALL.into_iter().find(|rule| rule.to_string() == text);
    rule.ok_or_else(|| {
        format!("the rules are {}", Placing::ALL.map(|it| it.to_string()).join(", "))
    })
}

/// A moment of a trace.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    let unreadable = || {
        "a moment is a time as 500us, 40ms, 12.5s or 2m, an operation as op:1200, refusal or worst"
            .to_string()
    };
    match text {
        "refusal" => return Ok(Moment::FirstRefusal),
        "worst" => return Ok(Moment::WorstFragmentation),
        _ => {}
    }
    if let Some(operation) = text.strip_prefix("op:") {
        // Counted from 1, as `cma replay` and `cma why` do.
        let number: usize = operation.parse().map_err(|_| unreadable())?;
        let index = number.checked_sub(1).ok_or("operations are counted from 1")?;
        return Ok(Moment::Operation(index));
    }
    let units = [("us", 0), ("ms", 3), ("s", 6), ("m", 6)];
    let (number, unit, digits) = units
        .into_iter()
        .find_map(|(unit, digits)| Some((text.strip_suffix(unit)?, unit, digits)))
        .ok_or_else(unreadable)?;
    let seconds_in_unit = if unit == "m" { 60 } else { 1 };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !whole.is_empty()
        && (number.len() == whole.len() || !fraction.is_empty())
        && number.bytes().all(|it| it.is_ascii_digit() || it == b'.')
        && !fraction.contains('.');
    if !is_number || fraction.len() > digits {
        return Err(unreadable());
    }
    let us = format!("{whole}{fraction:0<digits$}").parse::<u64>().ok();
    let us = us.and_then(|us| us.checked_mul(seconds_in_unit));
    us.map(Moment::Time).ok_or_else(|| "the time is longer than any trace".to_string())
}

/// A group, by its name or its number.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.parse().map_err(|_| "a group has a number below 2^32".to_string());
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("this system has no such group; create it, or give a number".to_string()),
        Err(errno) => Err(format!("the group can't be looked up: {}", errno.desc())),
    }
}

/// Permissions in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "permissions are three octal digits, as 660".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_page() {
        assert_eq!(page_address("0x40001000"), Ok(DmaAddr::new(0x4000_1000)));
        assert_eq!(page_address("0"), Ok(DmaAddr::new(0)));
        assert!(page_address("0x40001001").unwrap_err().contains("multiple of 4096"));
        assert!(page_address("1G+").unwrap_err().contains("unexpected \"+\""));
    }

    #[test]
    fn a_speed_is_a_number_above_0() {
        assert_eq!(["0.1", "1", "1e-3"].map(|text| speed(text).is_ok()), [true; 3]);
        for wrong in ["0", "-1", "inf", "nan", "1x", "", "1e10"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_with_its_unit_an_operation_or_a_name() {
        assert_eq!(moment("12.5s"), Ok(Moment::Time(12_500_000)));
        assert_eq!(moment("0.25ms"), Ok(Moment::Time(250)));
        assert_eq!(moment("7us"), Ok(Moment::Time(7)));
        assert_eq!(moment("2m"), Ok(Moment::Time(120_000_000)));
        assert_eq!(moment("op:1200"), Ok(Moment::Operation(1199)));
        assert_eq!(moment("worst"), Ok(Moment::WorstFragmentation));
        for wrong in ["", "5", "s", "1.s", ".5s", "1.5us", "1.2.3s", "-1s", "op:", "op:x", "op:0"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert!(moment("99999999999999999999s").unwrap_err().contains("longer"));
    }

    #[test]
    fn a_size_is_the_whole_argument() {
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert!(size("256MB").unwrap_err().contains("M or MiB"));
        for wrong in ["8X", "8MM"] {
            assert!(size(wrong).unwrap_err().contains("K, M, G, T, P or E"), "{wrong}");
        }
        assert!(size("8M x").unwrap_err().contains("unexpected \" x\""));
        assert!(size("8.5M").unwrap_err().contains("whole numbers"));
        assert!(size("0").is_err());
        assert!(size("").is_err());
        assert!(size("x").is_err());
    }
}
