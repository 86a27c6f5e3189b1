//! The attributes of a region that are lists: its chunks, as owners and as bits, and its last
//! refusals.

use super::AttributeError;
use crate::Cma;
use crate::core::books::Process;
use crate::host::region::Region;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// A region of more pages (256 GiB) shows no bitmap: the text would have some twenty megabytes and
/// more.
const MOST_BITS: u64 = 1 << 26;

/// A line for each live chunk, ascending: start, size in bytes, device and type, age in seconds,
/// and the process that has it as uid, pid and name. What is not known is a `-`.
pub(super) fn owners(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let mut text = String::new();
    for owner in cma.owners(region)? {
        let range = owner.range;
        let (asker, age) = (asker(owner.device.as_ref()), seconds(owner.age));
        let process = owner.process.map_or("- - -".to_string(), |Process { uid, pid, name }| {
            format!("{uid} {pid} {}", if name.is_empty() { "-".to_string() } else { word(&name) })
        });
        // Writing to a text doesn't fail.
        let _ = writeln!(text, "{} {} {asker} {age} {process}", range.start(), range.bytes());
    }
    Ok(text)
}

/// A line for each of the last refused requests, the newest last: age in seconds, size and
/// alignment in bytes, device and type, reason.
pub(super) fn failures(cma: &Cma, region: &Region) -> Result<String, AttributeError> {
    let mut text = String::new();
    for failure in cma.failures(region)? {
        let (age, asker) = (seconds(Some(failure.age)), asker(failure.device.as_ref()));
        let alignment = failure.alignment.bytes();
        let _ = writeln!(text, "{age} {} {alignment} {asker} {}", failure.bytes, failure.reason);
    }
    Ok(text)
}

/// A bit for each page, set when it is taken, in words of 32 bits as decimal numbers: the lowest
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

/// Device and type as one word.
fn asker(pair: Option<&(Arc<str>, Arc<str>)>) -> String {
    pair.map_or("-".to_string(), |(device, kind)| format!("{}/{}", word(device), word(kind)))
}

/// A name as one word: clients make names up.
fn word(name: &str) -> String {
    let harmless = |c: char| !(c.is_whitespace() || c.is_control() || c == '\\');
    name.chars().fold(String::new(), |mut word, c| {
        if harmless(c) {
            word.push(c);
        } else {
            word.extend(c.escape_unicode());
        }
        word
    })
}
