//! `ioctl::read`, the structure that a C program passes to `/dev/cma`.

use super::grammar;
use crate::{Form, Outcome, Target};
use cma_device_protocol::ioctl::{BYTES, IoctlError, read};
use cma_device_protocol::{MAGIC, RegionSelector};
use proptest::prelude::*;
use std::ops::Range;

pub(super) const TARGET: Target = Target {
    name: "ioctl",
    about: "the structure of the ioctl of /dev/cma, in both layouts",
    form: Form::Binary,
    generate,
    dictionary: include_str!("../../dictionary/ioctl.dict"),
    check,
};

/// The fields of both layouts whose strings must be terminated.
const A_DEVICE: Range<usize> = 4..21;
const A_KIND: Range<usize> = 21..38;
const B_SPEC: Range<usize> = 32..64;

fn generate() -> BoxedStrategy<Vec<u8>> {
    let names = (grammar("[a-z]{0,17}"), grammar("[a-z]{0,17}|@"));
    let numbers = (0..64_u32, prop_oneof![2 => Just(0), 1 => any::<u64>()]);
    // Now and then, what an earlier name left behind the end of a shorter one.
    let rest = prop_oneof![2 => Just(0_u8), 1 => any::<u8>()];
    let a = (names, numbers.clone(), rest).prop_map(|((device, kind), (log2, size), rest)| {
        let mut structure = layout_a(device.as_bytes(), kind.as_bytes(), size, 1 << log2);
        for (field, name) in [(A_DEVICE, device), (A_KIND, kind)] {
            structure[field].iter_mut().skip(name.len() + 1).for_each(|byte| *byte = rest);
        }
        structure.to_vec()
    });
    let b = (grammar("\\PC{0,8}(/[a-z]{0,4})?|[a-z]{20,32}"), numbers, 0..3_u32).prop_map(
        |(spec, (log2, size), request)| {
            layout_b(request, spec.as_bytes(), size, 1 << log2).to_vec()
        },
    );
    prop_oneof![a, b].boxed()
}

fn layout_a(device: &[u8], kind: &[u8], size: u64, alignment: u64) -> [u8; BYTES] {
    let mut structure = [0; BYTES];
    put(&mut structure, 0, &MAGIC.to_ne_bytes());
    put(&mut structure, A_DEVICE.start, &device[..device.len().min(A_DEVICE.len())]);
    put(&mut structure, A_KIND.start, &kind[..kind.len().min(A_KIND.len())]);
    put(&mut structure, 40, &size.to_ne_bytes());
    put(&mut structure, 48, &alignment.to_ne_bytes());
    structure
}

fn layout_b(request: u32, spec: &[u8], size: u64, alignment: u64) -> [u8; BYTES] {
    let mut structure = [0; BYTES];
    put(&mut structure, 0, &MAGIC.to_ne_bytes());
    put(&mut structure, 4, &request.to_ne_bytes());
    put(&mut structure, 8, &size.to_ne_bytes());
    put(&mut structure, 16, &alignment.to_ne_bytes());
    put(&mut structure, B_SPEC.start, &spec[..spec.len().min(B_SPEC.len())]);
    structure
}

fn put(structure: &mut [u8; BYTES], at: usize, bytes: &[u8]) {
    structure[at..at + bytes.len()].copy_from_slice(bytes);
}

fn number(structure: &[u8; BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&structure[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

fn check(input: &[u8]) -> Outcome {
    let mut structure = [0; BYTES];
    put(&mut structure, 0, &input[..input.len().min(BYTES)]);
    let request = match (read(&structure), expected_layout(&structure)) {
        (Ok(request), Ok(layout)) => {
            let start_at = if layout == Layout::A { 56 } else { 24 };
            assert_eq!(request.start_at, start_at, "not read as layout {layout:?}");
            request
        }
        (Err(wrong), Err(expected)) => {
            assert_eq!(wrong, expected);
            super::is_one_line(&wrong.to_string());
            return Outcome::refused(format!("{wrong:?}"));
        }
        (read, expected) => panic!("{read:?}, and by the documentation {expected:?}"),
    };
    let is_b = request.start_at == 24;
    let (size_at, alignment_at) = if is_b { (8, 16) } else { (40, 48) };
    assert_eq!(request.size, number(&structure, size_at));
    assert_eq!(request.alignment, number(&structure, alignment_at));
    let from = request.from();
    let expected = if is_b { names_of_b(&structure) } else { names_of_a(&structure) };
    assert_eq!(names(from), expected);
    if !is_b {
        zeroed_a_is_decoded_again(from, request.size, request.alignment);
    }
    let what = if matches!(from, RegionSelector::Regions(_)) { "regions" } else { "device" };
    Outcome::accepted(format!("layout {}, {what}", if is_b { 'B' } else { 'A' }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    A,
    B,
}

/// The layout by the rules in the documentation of the module `ioctl`.
fn expected_layout(structure: &[u8; BYTES]) -> Result<Layout, IoctlError> {
    let has_end = |field: Range<usize>| structure[field].contains(&0);
    if !structure.starts_with(&MAGIC.to_ne_bytes()) {
        return Err(IoctlError::Magic);
    }
    if structure[4] < b' ' {
        let request = &structure[4..8];
        let is_known = request == 0_u32.to_ne_bytes() || request == 1_u32.to_ne_bytes();
        return if is_known && has_end(B_SPEC) { Ok(Layout::B) } else { Err(IoctlError::Invalid) };
    }
    let alignment = number(structure, 16);
    let is_unknown_request = structure[4..9].contains(&0)
        && number(structure, 8) != 0
        && (alignment == 0 || alignment.is_power_of_two())
        && structure[B_SPEC.start] != 0;
    if is_unknown_request || !has_end(A_DEVICE) || !has_end(A_KIND) {
        return Err(IoctlError::Invalid);
    }
    Ok(Layout::A)
}

/// The names that were read: device and type, or regions alone.
fn names(from: RegionSelector<'_>) -> (String, Option<String>) {
    match from {
        RegionSelector::Device { device, kind } => (device.to_string(), Some(kind.to_string())),
        RegionSelector::Regions(regions) => (regions.to_string(), None),
    }
}

fn names_of_a(structure: &[u8; BYTES]) -> (String, Option<String>) {
    (name(&structure[A_DEVICE]), Some(name(&structure[A_KIND])))
}

fn names_of_b(structure: &[u8; BYTES]) -> (String, Option<String>) {
    let spec = string(&structure[B_SPEC]);
    if structure[4..8] == 1_u32.to_ne_bytes() {
        return (letters(spec), None);
    }
    assert_eq!(structure[4..8], 0_u32.to_ne_bytes(), "an unknown request is accepted");
    match spec.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (letters(&spec[..slash]), Some(letters(&spec[slash + 1..]))),
        None => (letters(spec), Some(String::new())),
    }
}

fn name(field: &[u8]) -> String {
    letters(string(field))
}

/// The bytes before the terminator, which must be there.
fn string(field: &[u8]) -> &[u8] {
    match field.iter().position(|byte| *byte == 0) {
        Some(end) => &field[..end],
        None => panic!("a string without a terminator is accepted"),
    }
}

/// Bytes as text: each byte that is not part of a UTF-8 character becomes U+FFFD.
fn letters(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let letter = (1..=rest.len().min(4)).find_map(|length| {
            str::from_utf8(&rest[..length]).ok().filter(|text| text.chars().count() == 1)
        });
        text.push_str(letter.unwrap_or("\u{fffd}"));
        rest = &rest[letter.map_or(1, str::len)..];
    }
    text
}

/// A device and type that were read from layout A are read from it again when everything else in
/// the structure is zero.
fn zeroed_a_is_decoded_again(from: RegionSelector<'_>, size: u64, alignment: u64) {
    let RegionSelector::Device { device, kind } = from else { panic!("layout A names regions") };
    if device.len() >= A_DEVICE.len() || kind.len() >= A_KIND.len() {
        return; // U+FFFD is longer than the byte it stands for.
    }
    let structure = layout_a(device.as_bytes(), kind.as_bytes(), size, alignment);
    let again = read(&structure).unwrap_or_else(|wrong| panic!("{device}/{kind}: {wrong}"));
    assert_eq!((again.from(), again.start_at), (from, 56));
}
