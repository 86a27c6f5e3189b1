//! `Trace::read`, recorded traces.

use super::{grammar, is_one_line, variant};
use crate::{Form, Outcome, Target};
use cma_api::Pages;
use cma_trace::{Action, Figures, ReadError, Trace};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;

pub(super) const TARGET: Target = Target {
    name: "trace",
    about: "recorded traces, as text and compressed",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/trace.dict"),
    check,
};

/// A line of a trace before its time and chunk are known.
#[derive(Clone, Debug)]
enum Line {
    Allocate { bytes: u64, alignment_log2: u32, requester: String, limits: String, refused: bool },
    Free { nth: prop::sample::Index },
    Comment { text: String },
}

fn lines() -> impl Strategy<Value = Line> {
    let bytes = prop_oneof![9 => 1..1_u64 << 20, 1 => any::<u64>()];
    let limits = grammar(
        "( (above|below|at)=0x[1-9a-f]{1,4}000| boundary=[1248]{1,2}M| wait=[1-9][0-9]?(s|us)){0,3}\
         |[ =a-z0-9]{0,9}",
    );
    let limits = prop_oneof![3 => Just(String::new()), 1 => limits];
    prop_oneof![
        2 => (bytes, 0..20_u32, grammar("[a-c]{1,2}(/[xy])?( from=[ab,|]{1,3})?|\\PC{0,3}"), limits, any::<bool>()).prop_map(
            |(bytes, alignment_log2, requester, limits, refused)| {
                Line::Allocate { bytes, alignment_log2, requester, limits, refused }
            }
        ),
        1 => grammar(" ?#\\PC{0,9}").prop_map(|text| Line::Comment { text }),
        1 => any::<prop::sample::Index>().prop_map(|nth| Line::Free { nth }),
    ]
}

/// Traces that are mostly valid, with the figures of their header.
fn generate() -> BoxedStrategy<Vec<u8>> {
    let pauses = prop_oneof![20 => 0..3_i64, 1 => Just(-1)];
    let lines = prop::collection::vec((pauses, lines()), 0..20);
    (lines, 0..40_u8, any::<bool>())
        .prop_map(|(lines, off_by_one, compressed)| {
            let (mut time, mut next, mut live) = (0_u64, 1, Vec::new());
            let mut figures = Figures::default();
            let (mut bytes_now, mut text) = (0_u64, String::new());
            for (pause, line) in lines {
                time = time.saturating_add_signed(pause);
                match line {
                    Line::Allocate { bytes, alignment_log2, requester, limits, refused } => {
                        let (alignment, letter) =
                            (1_u64 << alignment_log2, if refused { 'r' } else { 'a' });
                        text += &format!(
                            "{time} {letter} {next} {bytes} {alignment} {requester}{limits}\n"
                        );
                        if !refused {
                            live.push((next, bytes));
                            bytes_now = bytes_now.saturating_add(bytes);
                        }
                        next += 1;
                    }
                    Line::Free { nth } if !live.is_empty() => {
                        let (id, bytes) = live.remove(nth.index(live.len()));
                        text += &format!("{time} f {id}\n");
                        bytes_now = bytes_now.saturating_sub(bytes);
                    }
                    Line::Free { .. } => continue,
                    Line::Comment { text: comment } => {
                        text += &comment;
                        text.push('\n');
                        continue;
                    }
                }
                figures.operations += 1;
                figures.peak_live_bytes = figures.peak_live_bytes.max(bytes_now);
                figures.peak_live_chunks = figures.peak_live_chunks.max(live.len() as u64);
            }
            figures.operations += u64::from(off_by_one == 0);
            let text = format!("# cma-trace 1\n# source: fuzzing\n# {figures}\n{text}");
            if compressed { compress(text.as_bytes()) } else { text.into_bytes() }
        })
        .boxed()
}

fn compress(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| panic!("compressing into memory: {error}"))
}

fn check(input: &[u8]) -> Outcome {
    let read = Trace::read(input);
    if !input.starts_with(&[0x1f, 0x8b]) {
        compression_makes_no_difference(input, &read);
    }
    match &read {
        Ok(trace) => {
            survives_writing(trace);
            is_sound(trace);
            Outcome::accepted(format!("{} operations", trace.operations().len().min(9)))
        }
        Err(error) => {
            names_its_line(input, error);
            Outcome::refused(variant(error))
        }
    }
}

/// Text reads the same when it is compressed, in one member or in two.
fn compression_makes_no_difference(text: &[u8], read: &Result<Trace, ReadError>) {
    let (first, second) = text.split_at(text.len() / 2);
    for compressed in [compress(text), [compress(first), compress(second)].concat()] {
        match (read, Trace::read(&compressed[..])) {
            (Ok(plain), Ok(unpacked)) => assert_eq!(*plain, unpacked),
            (plain, unpacked) => {
                let plain = plain.as_ref().map_err(ToString::to_string);
                assert_eq!(plain, unpacked.as_ref().map_err(ToString::to_string));
            }
        }
    }
}

pub(super) fn survives_writing(trace: &Trace) {
    let (mut text, mut compressed) = (Vec::new(), Vec::new());
    let written = trace.write(&mut text).and_then(|()| trace.write_compressed(&mut compressed));
    written.unwrap_or_else(|error| panic!("writing to memory: {error}"));
    for bytes in [text, compressed] {
        match Trace::read(&bytes[..]) {
            Ok(again) => assert_eq!(again, *trace),
            Err(error) => panic!("a written trace is not read again: {error}"),
        }
    }
}

/// The operations are in the order of time, free live chunks only, and amount to the figures.
pub(super) fn is_sound(trace: &Trace) {
    let mut live: Vec<Option<u64>> = Vec::new();
    let (mut last, mut peak_pages) = (0, 0);
    let mut figures = Figures::default();
    for operation in trace.operations() {
        assert!(operation.time_us >= last, "time goes back from {last} in {operation:?}");
        last = operation.time_us;
        match operation.action {
            Action::Allocate { size, alignment, requester, limits }
            | Action::Refused { size, alignment, requester, limits } => {
                assert!(size > 0 && alignment.is_power_of_two(), "{operation:?}");
                let limits = trace.limits()[usize::from(limits)];
                let checked = limits.request(size, alignment).check();
                assert!(checked.is_ok(), "{operation:?} {limits}: {checked:?}");
                assert!(usize::from(requester) < trace.requesters().len(), "{operation:?}");
                if matches!(operation.action, Action::Allocate { .. }) {
                    live.push(Some(size));
                }
            }
            Action::Free { chunk } => {
                let freed = live.get_mut(chunk as usize).and_then(Option::take);
                assert!(freed.is_some(), "{operation:?} frees no live chunk");
            }
        }
        let sizes = || live.iter().flatten();
        let bytes = sizes().map(|size| u128::from(*size)).sum::<u128>();
        let pages = sizes().map(|size| Pages::covering(*size).get()).sum::<u64>();
        figures.operations += 1;
        figures.peak_live_bytes =
            figures.peak_live_bytes.max(u64::try_from(bytes).unwrap_or(u64::MAX));
        figures.peak_live_chunks = figures.peak_live_chunks.max(sizes().count() as u64);
        peak_pages = peak_pages.max(pages);
    }
    assert_eq!(trace.figures(), figures);
    assert_eq!(trace.peak_live().get(), peak_pages);
}

/// The line and column of an error are in the input.
fn names_its_line(input: &[u8], error: &ReadError) {
    is_one_line(&error.to_string());
    if input.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let (line, column) = match error {
        ReadError::Field { line, column, .. } | ReadError::Limit { line, column, .. } => {
            (*line, *column)
        }
        ReadError::LongLine { line, .. }
        | ReadError::IdUsedTwice { line, .. }
        | ReadError::NotLive { line, .. }
        | ReadError::Operation { line, .. } => (*line, 1),
        ReadError::Empty
        | ReadError::NotATrace { .. }
        | ReadError::Version { .. }
        | ReadError::Figures { .. } => return,
        other => panic!("text in memory can't fail with {other}"),
    };
    // A required line that is missing is behind the last one.
    assert!(line >= 1 && line <= lines.len() as u64 + 1, "line {line}: {error}");
    let length = lines.get(line as usize - 1).map_or(0, |line| line.len());
    assert!((1..=length + 1).contains(&column), "column {column}: {error}");
}
