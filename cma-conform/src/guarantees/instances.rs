//! Everything but placing: initialising, dropping, several allocators at once, threads, and
//! requesters.

use super::{ORDERS, empty, fill_mixed};
use crate::checked::{CheckedAllocator, Subject};
use crate::requests::request_of;
use crate::violation::{Failure, Violation};
use crate::watch::Watch;
use cma_api::{Alignment, Asker, PageRange, name_fault, text_fault};
use std::panic::resume_unwind;
use std::thread;

/// Initialising with an unknown parameter is refused, and the message names the parameter.
///
/// # Errors
///
/// The parameter is accepted, or not named.
pub fn unknown_parameters_are_refused_by_name(subject: &Subject) -> Result<(), Failure> {
    let region = PageRange::from_pages(16, 64);
    for unknown in ["no-such-parameter", "no-such-parameter=1"] {
        let params = match subject.params {
            "" => unknown.to_string(),
            known => format!("{known},{unknown}"),
        };
        let log = subject.log(region);
        let violation = match subject.start(&log, region, &params) {
            Ok(_) => Violation::ParameterAccepted { params },
            Err(Violation::RegionRefused { reason }) if reason.contains("no-such-parameter") => {
                continue;
            }
            Err(Violation::RegionRefused { reason }) => {
                Violation::ParameterNotNamed { params, reason }
            }
            Err(panicked) => panicked,
        };
        return Err(log.failure(violation));
    }
    Ok(())
}

/// Hosts accept its name, its version and its description.
///
/// # Errors
///
/// The first text that hosts refuse.
pub fn hosts_accept_the_name_version_and_description(subject: &Subject) -> Result<(), Failure> {
    let algorithm = subject.algorithm;
    let (name, version, description) =
        (algorithm.name(), algorithm.version(), algorithm.description());
    let texts = [
        ("name", name, name_fault(name)),
        ("version", version, text_fault(version)),
        ("description", description, text_fault(description)),
    ];
    for (what, text, fault) in texts {
        if let Some(fault) = fault {
            let violation = Violation::BadInfo { what, text: text.to_string(), fault };
            return Err(subject.log(PageRange::from_pages(16, 64)).failure(violation));
        }
    }
    Ok(())
}

/// An allocator with many live chunks can be dropped without a panic, even on a small stack, and
/// leaves no state behind: the next allocator of the region starts with one hole.
///
/// # Errors
///
/// The state that is left behind. (A drop that recurses from chunk to chunk overflows the stack and
/// ends the process.)
pub fn a_full_allocator_can_be_dropped(subject: &Subject) -> Result<(), Failure> {
    let region = PageRange::from_pages(0x4_0000, 4500);
    let mut allocator = CheckedAllocator::begin(subject, region)?;
    loop {
        match allocator.allocate_pages(1) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(violation) => return Err(allocator.failure(violation)),
        }
    }
    on_another_thread(move || allocator.finish())?;
    subject.on(region, |_| Ok(()))
}

/// Allocators that exist at the same time, on adjacent regions and even on the same one, don't
/// affect each other.
///
/// # Errors
///
/// The first region that another allocator affected.
pub fn regions_are_independent(subject: &Subject) -> Result<(), Failure> {
    let regions = [(0, 64), (64, 100), (164, 33), (164, 33), (0x4_0000, 256)];
    let mut allocators = Vec::new();
    for (first, pages) in regions {
        allocators.push(CheckedAllocator::begin(subject, PageRange::from_pages(first, pages))?);
    }
    for round in 0..60 {
        for allocator in &mut allocators {
            work(allocator, round).map_err(|violation| allocator.failure(violation))?;
        }
    }
    while let Some(mut allocator) = allocators.pop() {
        empty(&mut allocator, ORDERS[2]).map_err(|violation| allocator.failure(violation))?;
        allocator.finish()?;
        for other in &mut allocators {
            other.verify().map_err(|violation| other.failure(violation))?;
        }
    }
    Ok(())
}

/// Two allocations and, in two of three rounds, a free.
fn work(allocator: &mut CheckedAllocator, round: usize) -> Result<(), Violation> {
    allocator.allocate_pages(1 + round as u64 % 5)?;
    allocator.allocate_pages(1 + round as u64 % 2)?;
    if !round.is_multiple_of(3)
        && let Some(chunk) = allocator.model().nth(round)
    {
        allocator.free(chunk.range.first_page())?;
    }
    allocator.verify()
}

/// An allocator that was filled on one thread can be emptied on another and dropped on a third.
///
/// # Errors
///
/// The first wrong result there.
pub fn an_allocator_may_move_between_threads(subject: &Subject) -> Result<(), Failure> {
    let mut allocator = CheckedAllocator::begin(subject, PageRange::from_pages(3, 200))?;
    fill_mixed(&mut allocator).map_err(|violation| allocator.failure(violation))?;
    let allocator = on_another_thread(move || {
        allocator
            .verify()
            .and_then(|()| empty(&mut allocator, ORDERS[0]))
            .and_then(|()| fill_mixed(&mut allocator))
            .map_err(|violation| allocator.failure(violation))?;
        Ok(allocator)
    })?;
    on_another_thread(move || allocator.finish())
}

/// Runs `body` on a new thread with a small stack.
fn on_another_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    const STACK: usize = 256 << 10;
    let watch = Watch::current();
    let body = move || {
        watch.make_current();
        body()
    };
    let thread =
        thread::Builder::new().stack_size(STACK).spawn(body).expect("the suite needs a thread");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// For every requester, each placement is valid and as declared, and no request is refused that the
/// declared rule serves.
///
/// # Errors
///
/// The first wrong result.
pub fn placements_are_valid_for_every_asker(subject: &Subject) -> Result<(), Failure> {
    const ASKERS: [u32; 8] = [0, 1, 2, 3, 255, 1 << 16, 1 << 31, u32::MAX];
    subject.on(PageRange::from_pages(5, 300), |allocator| {
        for alone in ASKERS {
            fill_for(allocator, |_| alone)?;
            empty(allocator, ORDERS[0])?;
        }
        fill_for(allocator, |n| ASKERS[n as usize % ASKERS.len()])?;
        empty(allocator, ORDERS[3])?;
        // So many requesters that an allocator with a table entry for each runs out of entries.
        fill_for(allocator, |n| n.wrapping_mul(0x9e37_79b9))?;
        empty(allocator, ORDERS[1])
    })
}

/// Allocates small chunks until nothing fits; `asker` returns the requester of the `n`th.
fn fill_for(allocator: &mut CheckedAllocator, asker: impl Fn(u32) -> u32) -> Result<(), Violation> {
    for n in 0.. {
        let pages = if n < 60 { 1 + u64::from(n) % 4 } else { 1 };
        if allocator.allocate(&request_of(Asker(asker(n)), pages, Alignment::PAGE))?.is_none() {
            break;
        }
    }
    allocator.verify()
}
