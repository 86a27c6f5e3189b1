//! Each of the five allocators against the shadow model, by scripts that a person can read:
//!
//! ```text
//! region 0x40000 4096     its first page and its pages
//! alloc 16 12 0           pages, log2 of the alignment, number of the requester
//! alloc 16 12 0 0x40000 64 18     the same with limits: the window's first page and its pages, and
//!                         log2 of the boundary, 64 for none
//! free 3                  the third live chunk by address, counted from 0
//! adopt 0x40010 16        first page and pages
//! ```
//!
//! Other lines are ignored, so every input is a script. Before each request the allocator is asked
//! for its fit.

use super::text;
use crate::{Form, Outcome, Target};
use cma_api::{Algorithm, Alignment, Asker, Boundary, PageRange, Pages, Request};
use cma_testkit::operations::{Operation, Script, scripts};
use cma_testkit::{Placing, Subject};
use proptest::prelude::*;
use std::fmt::Write;

pub(super) const TARGET: Target = Target {
    name: "allocators",
    about: "best-fit, bitmap, buddy, packing and tlsf against the shadow model",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/allocators.dict"),
    check,
};

/// The largest region, in pages: the model looks at all of its holes in each step.
const MOST_PAGES: u64 = 1 << 13;
/// The most operations of one script.
const MOST_OPERATIONS: usize = 200;

fn generate() -> BoxedStrategy<Vec<u8>> {
    scripts(80).prop_map(|script| print(&script).into_bytes()).boxed()
}

fn print(script: &Script) -> String {
    let range = |range: PageRange| format!("{:#x} {}", range.first_page(), range.pages().get());
    let mut text = format!("region {}\n", range(script.region));
    for operation in &script.operations {
        let written = match operation {
            Operation::Allocate(request) => {
                let (pages, alignment) = (request.pages().get(), request.alignment().log2());
                let plain = format!("alloc {pages} {alignment} {}", request.asker().0);
                if request.is_limited() {
                    let boundary = request.boundary().bytes().map_or(64, u64::ilog2);
                    writeln!(text, "{plain} {} {boundary}", range(request.window()))
                } else {
                    writeln!(text, "{plain}")
                }
            }
            Operation::Free(n) => writeln!(text, "free {n}"),
            Operation::Adopt(place) => writeln!(text, "adopt {}", range(*place)),
        };
        written.unwrap_or_else(|error| panic!("writing to memory: {error}"));
    }
    text
}

fn parse(text: &str) -> Script {
    let mut region = PageRange::from_pages(0x40000, Pages::new(4096).get());
    let mut operations = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let command = words.next().unwrap_or_default();
        let numbers: Option<Vec<u64>> = words.map(number).collect();
        match (command, numbers.as_deref()) {
            ("region", Some(&[first, pages])) => {
                let pages = pages.clamp(1, MOST_PAGES);
                let first = first.min(PageRange::ADDRESS_SPACE_PAGES - pages);
                region = PageRange::from_pages(first, pages);
            }
            ("alloc", Some(&[pages, log2, requester])) => {
                operations.extend(request(pages, log2, requester).map(Operation::Allocate));
            }
            ("alloc", Some(&[pages, log2, requester, first, window, boundary])) => {
                let window = PageRange::from_pages(first, window);
                let boundary = match boundary {
                    64 => Some(Boundary::NONE),
                    log2 => Boundary::new(1 << (log2 % 64)),
                };
                let limited = request(pages, log2, requester)
                    .zip(boundary)
                    .and_then(|(request, boundary)| request.limited(window, boundary));
                operations.extend(limited.map(Operation::Allocate));
            }
            ("free", Some(&[n])) => operations.push(Operation::Free(n as usize)),
            ("adopt", Some(&[first, pages])) => {
                operations.push(Operation::Adopt(PageRange::from_pages(first, pages.max(1))));
            }
            _ => {}
        }
    }
    operations.truncate(MOST_OPERATIONS);
    Script { region, operations }
}

fn request(pages: u64, log2: u64, requester: u64) -> Option<Request> {
    let alignment = Alignment::new(1 << (log2 % 64))?;
    Request::new(Pages::new(pages), alignment, Asker(requester as u32))
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

fn subjects() -> [Subject; 7] {
    let subject = |algorithm: Algorithm, params, placing| Subject { algorithm, params, placing };
    [
        subject(Algorithm::of::<cma_best_fit::BestFit>(), "", Placing::BestFit),
        subject(Algorithm::of::<cma_bitmap::Bitmap>(), "", Placing::FirstFit),
        subject(Algorithm::of::<cma_buddy::Buddy>(), "", Placing::Any),
        subject(Algorithm::of::<cma_buddy::Buddy>(), "max-order=3", Placing::Any),
        subject(Algorithm::of::<cma_packing::Packing>(), "", Placing::Exact),
        subject(Algorithm::of::<cma_tlsf::Tlsf>(), "", Placing::Any),
        subject(Algorithm::of::<cma_tlsf::Tlsf>(), "chunks=20", Placing::Any),
    ]
}

fn check(input: &[u8]) -> Outcome {
    let script = parse(&text(input));
    let mut served = [0; 7];
    for (served, subject) in served.iter_mut().zip(subjects()) {
        let verdict = subject.on(script.region, |trial| {
            let mut changes: u32 = 0;
            for operation in &script.operations {
                if let Operation::Allocate(request) = operation {
                    trial.fit(request)?;
                    trial.verify()?;
                }
                changes += u32::from(trial.apply(operation)?.is_some());
                trial.verify()?;
            }
            trial.free_all(|chunks| chunks.reverse())?;
            Ok(changes)
        });
        match verdict {
            Ok(changes) => *served = changes,
            Err(failure) => panic!("{failure}"),
        }
    }
    // The class has, for each of the six, whether it served less than the best one.
    let most = served.iter().copied().max().unwrap_or_default();
    let behind: Vec<bool> = served.iter().map(|served| *served < most).collect();
    let class = format!("{behind:?} {}", script.operations.len() / 16);
    if most > 0 { Outcome::accepted(class) } else { Outcome::refused(class) }
}
