//! Changes an input a little, so that it is still nearly valid.

use crate::Form;
use fastrand::Rng;
use std::ops::Range;

/// The most bytes of a mutated input.
const MOST_BYTES: usize = 16 << 10;

/// The separators of the grammars.
const SEPARATORS: &[u8] = b"\n;,=/@:|() ";

/// Boundary values of arithmetic.
const BOUNDARIES: [u64; 16] = [
    0,
    1,
    7,
    8,
    63,
    64,
    255,
    256,
    4095,
    4096,
    1 << 31,
    u32::MAX as u64,
    1 << 52,
    1 << 63,
    u64::MAX - 4095,
    u64::MAX,
];

/// Changes inputs of one target.
#[derive(Debug)]
pub(crate) struct Mutator {
    pub(crate) form: Form,
    /// Tokens of the grammar.
    pub(crate) tokens: Vec<Vec<u8>>,
}

impl Mutator {
    /// `input` after one to four changes. `other` is another input, to take pieces from.
    pub(crate) fn mutate(&self, rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..rng.u8(1..=4) {
            self.change(rng, &mut bytes, other);
        }
        bytes.truncate(MOST_BYTES);
        bytes
    }

    fn change(&self, rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
        match (rng.u8(0..12), self.form) {
            (0, _) => remove(rng, bytes),
            (1, _) => duplicate(rng, bytes),
            (2, _) => splice(rng, bytes, other),
            (3, _) => set_byte(rng, bytes),
            (4, _) => flip_bit(rng, bytes),
            (5, _) => {
                let byte = any_byte(rng);
                insert(rng, bytes, &[byte]);
            }
            (6, _) => bytes.truncate(rng.usize(0..=bytes.len())),
            (7, _) => {
                if let Some(token) = rng.choice(&self.tokens) {
                    insert(rng, bytes, token);
                }
            }
            (8, Form::Text) => {
                if let Some(token) = rng.choice(&self.tokens) {
                    let word = any_of(rng, &words(bytes));
                    replace(bytes, word, token);
                }
            }
            (8, Form::Binary) => {
                if let Some(token) = rng.choice(&self.tokens) {
                    overwrite(rng, bytes, token, 1);
                }
            }
            (9, Form::Text) => {
                let number = any_of(rng, &numbers(bytes));
                replace(bytes, number, &number_text(rng));
            }
            (10, Form::Text) => {
                let pieces = pieces(rng, other);
                let piece = any_of(rng, &pieces);
                insert(rng, bytes, &other[piece]);
            }
            (_, Form::Text) => swap_pieces(rng, bytes),
            (9, Form::Binary) => {
                let number = boundary(rng) as u16;
                overwrite(rng, bytes, &number.to_ne_bytes(), 2);
            }
            (10, Form::Binary) => {
                let number = boundary(rng) as u32;
                overwrite(rng, bytes, &number.to_ne_bytes(), 4);
            }
            (_, Form::Binary) => {
                let number = boundary(rng);
                overwrite(rng, bytes, &number.to_ne_bytes(), 8);
            }
        }
    }
}

/// A position in `bytes`, or their end.
fn place(rng: &mut Rng, bytes: &[u8]) -> usize {
    rng.usize(0..=bytes.len())
}

/// A part of `bytes`, mostly short.
fn part(rng: &mut Rng, bytes: &[u8]) -> Range<usize> {
    let start = place(rng, bytes);
    let most = if rng.u8(0..4) == 0 { bytes.len() } else { 8 };
    start..(start + rng.usize(0..=most)).min(bytes.len())
}

fn remove(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let part = part(rng, bytes);
    bytes.drain(part);
}

fn duplicate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let part = part(rng, bytes);
    let copy = bytes[part].to_vec();
    insert(rng, bytes, &copy);
}

/// The start of `bytes` and the end of `other`.
fn splice(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    bytes.truncate(place(rng, bytes));
    bytes.extend_from_slice(&other[place(rng, other)..]);
}

fn set_byte(rng: &mut Rng, bytes: &mut [u8]) {
    if let Some(byte) = rng.choice(bytes.iter_mut()) {
        *byte = any_byte(rng);
    }
}

/// Any byte, often one with a meaning in text.
fn any_byte(rng: &mut Rng) -> u8 {
    if rng.bool() { rng.u8(..) } else { SEPARATORS[rng.usize(0..SEPARATORS.len())] }
}

fn flip_bit(rng: &mut Rng, bytes: &mut [u8]) {
    if let Some(byte) = rng.choice(bytes.iter_mut()) {
        *byte ^= 1 << rng.u8(0..8);
    }
}

fn insert(rng: &mut Rng, bytes: &mut Vec<u8>, new: &[u8]) {
    let at = place(rng, bytes);
    bytes.splice(at..at, new.iter().copied());
}

fn replace(bytes: &mut Vec<u8>, part: Range<usize>, new: &[u8]) {
    bytes.splice(part, new.iter().copied());
}

/// Overwrites bytes at a multiple of `step` with `new`.
fn overwrite(rng: &mut Rng, bytes: &mut [u8], new: &[u8], step: usize) {
    if let Some(last) = bytes.len().checked_sub(new.len()) {
        let at = rng.usize(0..=last / step) * step;
        bytes[at..at + new.len()].copy_from_slice(new);
    }
}

fn boundary(rng: &mut Rng) -> u64 {
    BOUNDARIES[rng.usize(0..BOUNDARIES.len())].wrapping_add(rng.u64(0..3)).wrapping_sub(1)
}

fn number_text(rng: &mut Rng) -> Vec<u8> {
    let number = boundary(rng);
    match rng.u8(0..4) {
        0 => format!("{number:#x}"),
        1 => format!("0{number:o}"),
        2 => format!("{}K", number / 1024),
        _ => number.to_string(),
    }
    .into_bytes()
}

/// One of `parts`; an empty one where there is none.
fn any_of(rng: &mut Rng, parts: &[Range<usize>]) -> Range<usize> {
    if parts.is_empty() { 0..0 } else { parts[rng.usize(0..parts.len())].clone() }
}

/// The longest parts of `bytes` in which all bytes are `wanted`.
fn runs(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut at = 0;
    for run in bytes.chunk_by(|a, b| wanted(*a) == wanted(*b)) {
        if wanted(run[0]) {
            runs.push(at..at + run.len());
        }
        at += run.len();
    }
    runs
}

fn words(bytes: &[u8]) -> Vec<Range<usize>> {
    runs(bytes, |byte| !SEPARATORS.contains(&byte))
}

fn numbers(bytes: &[u8]) -> Vec<Range<usize>> {
    runs(bytes, |byte| byte.is_ascii_digit())
}

/// The parts of `bytes` between two of one separator, each with the separator behind it.
fn pieces(rng: &mut Rng, bytes: &[u8]) -> Vec<Range<usize>> {
    let separator = SEPARATORS[rng.usize(0..SEPARATORS.len())];
    let mut at = 0;
    let piece = |piece: &[u8]| {
        at += piece.len();
        at - piece.len()..at
    };
    bytes.split_inclusive(|byte| *byte == separator).map(piece).collect()
}

fn swap_pieces(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let pieces = pieces(rng, bytes);
    let (first, second) = (any_of(rng, &pieces), any_of(rng, &pieces));
    let (first, second) =
        if first.start <= second.start { (first, second) } else { (second, first) };
    if first.end <= second.start {
        let swapped =
            [&bytes[second.clone()], &bytes[first.end..second.start], &bytes[first.clone()]]
                .concat();
        replace(bytes, first.start..second.end, &swapped);
    }
}
