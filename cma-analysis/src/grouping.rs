//! The division of a trace among several regions.

use cma_framework::config::{COMMON, Map};
use cma_trace::{Action, RecordError, Recording, Requester, Trace};
use std::borrow::Cow;
use std::collections::HashMap;

/// How the requests of a trace are divided among regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One region serves all.
    Shared,
    /// Each device has a region of its own, for all its types.
    PerDevice,
    /// The map finds the region. Each request goes to the first region that its rule names: the
    /// others are for requests that the first has no room for, and a region that is large enough
    /// has room for all of its own. A request that names regions itself goes to the first of those.
    Map(Map),
}

/// The part of a trace that one region serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'t> {
    /// The name of the region or the device; `None` if one region serves all.
    pub name: Option<String>,
    /// The operations of the group's requesters, with their times.
    pub trace: Cow<'t, Trace>,
}

/// A requester for which the map has no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rule of the map matches {requester}")]
pub struct Unmatched {
    /// The requester.
    pub requester: Requester,
}

impl Grouping {
    /// The groups of `trace`, in the order of their first requests. None is empty, except that of
    /// an empty trace in a shared region.
    ///
    /// # Errors
    ///
    /// [`Unmatched`] for the first requester without a rule.
    pub fn split<'t>(&self, trace: &'t Trace) -> Result<Vec<Group<'t>>, Unmatched> {
        if let Grouping::Shared = self {
            return Ok(vec![Group { name: None, trace: Cow::Borrowed(trace) }]);
        }
        let mut names: Vec<String> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut group_of = Vec::new();
        for requester in trace.requesters() {
            let name = self.name_for(requester)?;
            group_of.push(*numbers.entry(name).or_insert_with(|| {
                names.push(name.to_string());
                names.len() - 1
            }));
        }
        let traces = parts(trace, &group_of, names.len());
        let group = |(name, trace)| Group { name: Some(name), trace: Cow::Owned(trace) };
        Ok(names.into_iter().zip(traces).map(group).collect())
    }

    fn name_for<'a>(&'a self, requester: &'a Requester) -> Result<&'a str, Unmatched> {
        let Grouping::Map(map) = self else { return Ok(&requester.device) };
        if let Some(regions) = &requester.from {
            return Ok(regions.split([',', '|']).next().unwrap_or(regions));
        }
        let kind = requester.kind.as_deref().unwrap_or(COMMON);
        map.regions_for(&requester.device, kind)
            .and_then(|mut groups| groups.next())
            .and_then(|mut regions| regions.next())
            .ok_or_else(|| Unmatched { requester: requester.clone() })
    }
}

/// The `count` parts of `trace`, where requester n belongs to part `part_of[n]`.
fn parts(trace: &Trace, part_of: &[usize], count: usize) -> Vec<Trace> {
    let mut recordings: Vec<_> = (0..count).map(|_| Recording::new(trace.source())).collect();
    let written: Vec<String> = trace.requesters().iter().map(ToString::to_string).collect();
    // By the chunk's number: its part, and its number there.
    let mut chunks: Vec<(usize, u32)> = Vec::new();
    for operation in trace.operations() {
        let recorded = match operation.action {
            Action::Allocate { size, alignment, requester, limits } => {
                let request = trace.limits()[usize::from(limits)].request(size, alignment);
                let requester = usize::from(requester);
                let part = part_of[requester];
                recordings[part]
                    .allocate_limited(operation.time_us, &request, &written[requester])
                    .map(|number| chunks.push((part, number)))
            }
            Action::Refused { size, alignment, requester, limits } => {
                let request = trace.limits()[usize::from(limits)].request(size, alignment);
                let requester = usize::from(requester);
                recordings[part_of[requester]].refuse(
                    operation.time_us,
                    &request,
                    &written[requester],
                )
            }
            Action::Free { chunk } => {
                let (part, number) = chunks[chunk as usize];
                recordings[part].free(operation.time_us, number)
            }
        };
        recorded.unwrap_or_else(|error: RecordError| {
            unreachable!("a part of a valid trace is valid: {error}")
        });
    }
    recordings.into_iter().map(Recording::finish).collect()
}

#[cfg(test)]
mod tests;
