//! The attributes of a region that are lists: the owners of its chunks, its bitmap, the requests
//! that wait for it, its last refused ones, and what its shadow would have done.

use super::AttributeError;
use crate::Cma;
use crate::core::books::Process;
use crate::core::shadow::Difference;
use crate::host::region::Region;
use crate::vocabulary::ChunkRequest;
use cma_api::PAGE_SIZE;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// The size limit in pages (256 GiB) of a region with a bitmap. The text of a larger one would have
/// more than 20 MB.
const MOST_BITS: u64 = 1 << 26;

/// A line for each live chunk, ascending: start, size in bytes, limits, device and type, age in
/// seconds, and its process as uid, pid and name. An unknown field is `-`.
pub(super) fn owners(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let mut text = String::new();
    for owner in cma.owners(region)? {
        let (start, bytes) = (owner.range.start(), owner.range.bytes());
        let (limits, requester) = (limits(&owner.request), requester(owner.device.as_ref()));
        let (age, process) = (seconds(owner.age), process(owner.process));
        // Writing to a `String` doesn't fail.
        let _ = writeln!(text, "{start} {bytes} {limits} {requester} {age} {process}");
    }
    Ok(text)
}

/// A line for each request that waits, in the order in which the region serves them: size and
/// alignment in bytes, limits, device and type, seconds it has waited, and its process as uid, pid
/// and name. An unknown field is `-`.
pub(super) fn waiters(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let mut text = String::new();
    for waiter in cma.waiters_for(region)? {
        let (request, requester) = (amount(&waiter.request), requester(waiter.device.as_ref()));
        let (waited, process) = (seconds(Some(waiter.waited)), process(waiter.process));
        let _ = writeln!(text, "{request} {requester} {waited} {process}");
    }
    Ok(text)
}

/// A line for each of the last refused requests, the newest last: age in seconds, size and
/// alignment in bytes, limits, device and type, reason.
pub(super) fn failures(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let mut text = String::new();
    for failure in cma.failures(region)? {
        let (age, requester) = (seconds(Some(failure.age)), requester(failure.device.as_ref()));
        let request = amount(&failure.request);
        let _ = writeln!(text, "{age} {request} {requester} {}", failure.reason);
    }
    Ok(text)
}

/// What the region's shadow would have done, a line for each figure; nothing without a shadow. Of
/// two figures the first is the region's. Then come the last requests that one side alone refused,
/// as in `failures` but without their age.
pub(super) fn shadow(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let Some(report) = cma.shadow(region) else { return Ok(String::new()) };
    let mut text = format!(
        "allocator {}\nstate {}\nseconds {}\nrequests {}\nmissed {}\n",
        report.allocator,
        report.state,
        seconds(Some(report.age)),
        report.requests,
        report.missed
    );
    let (ours, its) = (report.region, report.shadow);
    for (name, ours, its) in [
        ("live_bytes", ours.live_bytes, its.live_bytes),
        ("high_water_bytes", ours.high_water_bytes, its.high_water_bytes),
        ("largest_free_bytes", ours.largest_free_bytes, its.largest_free_bytes),
        ("refused_alone", report.only_region_refused, report.only_shadow_refused),
    ] {
        let _ = writeln!(text, "{name} {ours} {its}");
    }
    for (side, differences) in [
        ("region_refused", &report.last_only_region_refused),
        ("shadow_refused", &report.last_only_shadow_refused),
    ] {
        for Difference { request, device, reason } in differences {
            let (request, requester) = (amount(request), requester(device.as_ref()));
            let _ = writeln!(text, "{side} {request} {requester} {reason}");
        }
    }
    Ok(text)
}

/// A bit for each page, set if it is allocated, in words of 32 bits as decimal numbers: the lowest
/// bit of the first word is the first page.
pub(super) fn bitmap(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let pages = region.range().pages().get();
    if pages > MOST_BITS {
        return Err(AttributeError::TooLarge { what: "the bitmap", pages, most: MOST_BITS });
    }
    let mut words = vec![0_u32; pages.div_ceil(32) as usize];
    for owner in cma.owners(region)? {
        let first = owner.range.first_page() - region.range().first_page();
        for page in first..first + owner.range.pages().get() {
            words[(page / 32) as usize] |= 1 << (page % 32);
        }
    }
    let mut text = String::with_capacity(words.len() * 2);
    for (n, word) in words.iter().enumerate() {
        let _ = write!(text, "{}{word}", if n == 0 { "" } else { " " });
    }
    text.push('\n');
    Ok(text)
}

fn seconds(age: Option<Duration>) -> String {
    age.map_or("-".to_string(), |age| format!("{:.1}", age.as_secs_f64()))
}

/// Size and alignment of a request in bytes, and its limits.
fn amount(request: &ChunkRequest) -> String {
    format!("{} {} {}", request.size.0, request.alignment.0.max(PAGE_SIZE), limits(request))
}

/// The limits of a request as one word, such as `below=4G,wait=2s`; `-` if it has none.
fn limits(request: &ChunkRequest) -> String {
    // The text of a request is its size and alignment, and its limits after spaces.
    let text = request.to_string();
    text.split_once(' ').map_or("-".to_string(), |(_, limits)| limits.replace(' ', ","))
}

/// Uid, pid and name.
fn process(process: Option<Process>) -> String {
    process.map_or("- - -".to_string(), |Process { uid, pid, name }| {
        format!("{uid} {pid} {}", if name.is_empty() { "-".to_string() } else { word(&name) })
    })
}

/// Device and type as one word.
fn requester(pair: Option<&(Arc<str>, Arc<str>)>) -> String {
    pair.map_or("-".to_string(), |(device, kind)| format!("{}/{}", word(device), word(kind)))
}

/// `name` as one word, because clients choose names freely: white space, control characters and
/// backslashes are escaped.
fn word(name: &str) -> String {
    let is_plain = |c: char| !(c.is_whitespace() || c.is_control() || c == '\\');
    name.chars().fold(String::new(), |mut word, c| {
        if is_plain(c) {
            word.push(c);
        } else {
            word.extend(c.escape_unicode());
        }
        word
    })
}
