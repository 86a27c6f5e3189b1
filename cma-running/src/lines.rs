//! The texts of attributes, taken apart.

use crate::error::Error;
use crate::state::{ChunkState, FailureState, Requester, WaiterState};
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, DmaAddr, PageRange, Process};
use std::time::Duration;

/// The text of the attribute at `path`.
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Text {
    /// The text of an attribute that has at most one line.
    pub(crate) fn line(&self) -> String {
        self.text.trim_end_matches('\n').to_string()
    }

    pub(crate) fn number(&self) -> Result<u64, Error> {
        self.text.trim_end().parse().map_err(|_| self.malformed(1))
    }

    /// A value for each line.
    pub(crate) fn lines<T: Line>(&self) -> Result<Vec<T>, Error> {
        let value = |(number, line)| T::parse(line).ok_or_else(|| self.malformed(number));
        (1..).zip(self.text.lines()).map(value).collect()
    }

    /// The error that line number `line` is not understood.
    pub(crate) fn malformed(&self, line: usize) -> Error {
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        Error::Malformed { path: self.path.clone(), line, text: text.chars().take(200).collect() }
    }
}

/// A line of a list.
pub(crate) trait Line: Sized {
    /// The value of `line`, if it has the fields that it should have.
    fn parse(line: &str) -> Option<Self>;
}

impl Line for ChunkState {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [start, bytes, limits, requester, age, uid, pid, name] = fields[..] else {
            return None;
        };
        let start = u64::from_str_radix(start.strip_prefix("0x")?, 16).ok()?;
        let range = PageRange::from_bytes(DmaAddr::new(start), bytes.parse().ok()?)?;
        Some(ChunkState {
            range,
            request: request(bytes, None, limits)?,
            requester: known(requester, |text| text.try_into().ok())?,
            age: known(age, seconds)?,
            process: process(uid, pid, name)?,
        })
    }
}

impl Line for WaiterState {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [bytes, alignment, limits, requester, waited, uid, pid, name] = fields[..] else {
            return None;
        };
        Some(WaiterState {
            request: request(bytes, Some(alignment), limits)?,
            requester: known(requester, |text| text.try_into().ok())?,
            waited: seconds(waited)?,
            process: process(uid, pid, name)?,
        })
    }
}

impl Line for FailureState {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next();
        let (age, bytes, alignment, limits) = (next()?, next()?, next()?, next()?);
        let (requester, reason) = (next()?, next()?);
        Some(FailureState {
            request: request(bytes, Some(alignment), limits)?,
            requester: known(requester, |text| text.try_into().ok())?,
            reason: reason.to_string(),
            age: seconds(age)?,
        })
    }
}

/// The value of `field`; the inner `None` for `-`, which is an unknown one.
fn known<T>(field: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if field == "-" { Some(None) } else { parse(field).map(Some) }
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// A request: its size and alignment in bytes, and its limits as one word. They are joined to the
/// text form of a request. The text of a size that is no request, such as 0, stays a plain request.
fn request(bytes: &str, alignment: Option<&str>, limits: &str) -> Option<ChunkRequest> {
    let size = Bytes(bytes.parse().ok()?);
    let alignment = Bytes(alignment.map_or(Some(0), |text| text.parse().ok())?);
    let plain = ChunkRequest::new(size).aligned(alignment);
    if limits == "-" {
        return Some(plain);
    }
    let text = format!("{bytes}/{} {}", alignment.0, limits.replace(',', " "));
    ChunkRequest::parse(&text).ok()
}

fn process(uid: &str, pid: &str, name: &str) -> Option<Option<Process>> {
    let Some(uid) = known(uid, |text| text.parse().ok())? else { return Some(None) };
    let name = if name == "-" { String::new() } else { unescaped(name) };
    Some(Some(Process { uid, pid: pid.parse().ok()?, name: name.into() }))
}

/// Device and type, which are names without `/`, or names that a client has chosen freely.
impl TryFrom<&str> for Requester {
    type Error = ();

    fn try_from(word: &str) -> Result<Self, ()> {
        let (device, kind) = word.rsplit_once('/').ok_or(())?;
        Ok(Requester { device: unescaped(device), kind: unescaped(kind) })
    }
}

/// The name that was made one word by escapes such as `\u{20}`.
fn unescaped(word: &str) -> String {
    let mut name = String::new();
    let mut rest = word;
    while let Some((before, escape)) = rest.split_once("\\u{") {
        name.push_str(before);
        let code = escape.split_once('}').and_then(|(digits, after)| {
            let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
            Some((c, after))
        });
        match code {
            Some((c, after)) => {
                name.push(c);
                rest = after;
            }
            None => {
                name.push_str("\\u{");
                rest = escape;
            }
        }
    }
    name + rest
}

#[cfg(test)]
mod tests;
