//! What surrounds the placing: initialising, dropping, many allocators at once, threads, and who
//! asks.

use super::{ORDERS, empty, fill_mixed};
use crate::requests::request_of;
use crate::trial::{Subject, Trial};
use crate::violation::{Failure, Violation};
use crate::watch::Watch;
use cma_api::{Alignment, Asker, PageRange, name_fault, text_fault};
use std::panic::resume_unwind;
use std::thread;

/// A parameter that the allocator can't know is refused when it is initialised, and the message
/// names it.
///
/// # Errors
///
/// It is accepted, or not named.
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
/// The first that they refuse.
pub fn hosts_accept_what_it_says_of_itself(subject: &Subject) -> Result<(), Failure> {
    let module = subject.module;
    let [name, version, description] =
        [module.name(), module.version(), module.description()].map(|text| text.as_str());
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

/// An allocator with many live chunks can be dropped without a panic, also where the stack is
/// small, and leaves nothing behind: the next one on the region starts with one hole.
///
/// # Errors
///
/// What is left behind. (A drop that recurses from chunk to chunk overflows the stack and ends the
/// process.)
pub fn a_full_allocator_can_be_dropped(subject: &Subject) -> Result<(), Failure> {
    let region = PageRange::from_pages(0x4_0000, 4500);
    let mut trial = Trial::begin(subject, region)?;
    loop {
        match trial.allocate_pages(1) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(violation) => return Err(trial.failure(violation)),
        }
    }
    on_another_thread(move || trial.finish())?;
    subject.on(region, |_| Ok(()))
}

/// Allocators that work at the same time, on regions side by side and even on the same one, don't
/// know of each other.
///
/// # Errors
///
/// The first region that another disturbed.
pub fn regions_are_independent(subject: &Subject) -> Result<(), Failure> {
    let regions = [(0, 64), (64, 100), (164, 33), (164, 33), (0x4_0000, 256)];
    let mut trials = Vec::new();
    for (first, pages) in regions {
        trials.push(Trial::begin(subject, PageRange::from_pages(first, pages))?);
    }
    for round in 0..60 {
        for trial in &mut trials {
            work(trial, round).map_err(|violation| trial.failure(violation))?;
        }
    }
    while let Some(mut trial) = trials.pop() {
        empty(&mut trial, ORDERS[2]).map_err(|violation| trial.failure(violation))?;
        trial.finish()?;
        for other in &mut trials {
            other.verify().map_err(|violation| other.failure(violation))?;
        }
    }
    Ok(())
}

/// Two allocations and, two rounds of three, a free.
fn work(trial: &mut Trial, round: usize) -> Result<(), Violation> {
    trial.allocate_pages(1 + round as u64 % 5)?;
    trial.allocate_pages(1 + round as u64 % 2)?;
    if !round.is_multiple_of(3)
        && let Some(chunk) = trial.model().nth(round)
    {
        trial.free(chunk.range.first_page())?;
    }
    trial.verify()
}

/// An allocator that was filled on one thread can be emptied on another and dropped on a third.
///
/// # Errors
///
/// What went wrong there.
pub fn an_allocator_may_move_between_threads(subject: &Subject) -> Result<(), Failure> {
    let mut trial = Trial::begin(subject, PageRange::from_pages(3, 200))?;
    fill_mixed(&mut trial).map_err(|violation| trial.failure(violation))?;
    let trial = on_another_thread(move || {
        trial
            .verify()
            .and_then(|()| empty(&mut trial, ORDERS[0]))
            .and_then(|()| fill_mixed(&mut trial))
            .map_err(|violation| trial.failure(violation))?;
        Ok(trial)
    })?;
    on_another_thread(move || trial.finish())
}

/// Runs `body` on a thread of its own, with a small stack.
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

/// Whoever asks, the answer is valid, placed as declared, and no less than declared.
///
/// # Errors
///
/// The asker for whom it isn't.
pub fn who_asks_does_not_matter_for_validity(subject: &Subject) -> Result<(), Failure> {
    const ASKERS: [u32; 8] = [0, 1, 2, 3, 255, 1 << 16, 1 << 31, u32::MAX];
    subject.on(PageRange::from_pages(5, 300), |trial| {
        for alone in ASKERS {
            fill_for(trial, |_| alone)?;
            empty(trial, ORDERS[0])?;
        }
        fill_for(trial, |n| ASKERS[n as usize % ASKERS.len()])?;
        empty(trial, ORDERS[3])?;
        // So many askers that an allocator with a place for each runs out of places.
        fill_for(trial, |n| n.wrapping_mul(0x9e37_79b9))?;
        empty(trial, ORDERS[1])
    })
}

/// Allocates small chunks for the asker that `who` names for the `n`th until nothing fits.
fn fill_for(trial: &mut Trial, who: impl Fn(u32) -> u32) -> Result<(), Violation> {
    for n in 0.. {
        let pages = if n < 60 { 1 + u64::from(n) % 4 } else { 1 };
        if trial.allocate(&request_of(Asker(who(n)), pages, Alignment::PAGE))?.is_none() {
            break;
        }
    }
    trial.verify()
}
