//! What becomes of the records of a server before this one. A pure decision: nothing is changed,
//! and every contradiction is found before anything is.

use super::error::RecoverError;
use super::found::{Discard, pages};
use super::names::Stored;
use cma_framework::PageRange;
use cma_journal::{Answered, Chunk, Kind, Record, RecordId, Waiting};
use std::collections::{BTreeMap, BTreeSet};

/// A region of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegionNow {
    pub(super) name: Option<String>,
    pub(super) range: PageRange,
    /// The kind of its memory, if it has any.
    pub(super) memory: Option<String>,
}

/// What becomes of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The chunks that go on, in the order of their allocation.
    pub(super) chunks: Vec<PlannedChunk>,
    /// Files of chunks without a record, by the start of the chunk, that may be in use: records
    /// were lost.
    pub(super) orphans: BTreeMap<u64, usize>,
    /// The connections that go on, by number.
    pub(super) connections: BTreeMap<u64, EarlierConnection>,
    /// Records that end.
    pub(super) ended: BTreeSet<RecordId>,
    /// Files of chunks that no record has. The keeper closes them first: their memory may be
    /// needed.
    pub(super) unrecorded: Vec<Stored>,
    /// Descriptors of what ends. The keeper closes them after their records have ended.
    pub(super) released: Vec<Stored>,
}

/// A chunk that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedChunk {
    pub(super) id: RecordId,
    pub(super) chunk: Chunk,
    pub(super) range: PageRange,
    /// The number of its files.
    pub(super) files: usize,
}

/// What is recorded of a connection besides its chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlierConnection {
    pub(crate) answered: Option<(RecordId, Answered)>,
    pub(crate) waiting: Option<(RecordId, Waiting)>,
}

/// Decides what becomes of `records`. `stored` is what the keeper has, `regions` are those of this
/// server, and `damage` is what could not be read.
pub(super) fn plan(
    records: &[(RecordId, Record)],
    stored: &BTreeSet<Stored>,
    regions: &[RegionNow],
    damage: Vec<String>,
    discard: &Discard,
) -> Result<Plan, RecoverError> {
    let (discarded, plan) = (BTreeSet::new(), Plan::default());
    let mut reading = Reading { stored, discard, damage, discarded, plan };
    reading.read_connections(records);
    let recorded = recorded_regions(records);
    let chunks = reading.read_chunks(records, &recorded);
    let chunks = reading.check_regions(chunks, &recorded, regions)?;
    reading.finish(chunks)
}

/// The regions of the server before this one.
fn recorded_regions(records: &[(RecordId, Record)]) -> Vec<RegionNow> {
    let regions = records.iter().filter_map(|(_, record)| match record {
        Record::Region(region) => Some(region),
        _ => None,
    });
    let region = |region: &cma_journal::Region| {
        let (name, memory) = (region.name.clone(), region.memory.clone());
        Some(RegionNow { name, range: pages(region.range)?, memory })
    };
    regions.filter_map(region).collect()
}

struct Reading<'a> {
    stored: &'a BTreeSet<Stored>,
    discard: &'a Discard,
    damage: Vec<String>,
    /// The starts of chunks that end with their regions.
    discarded: BTreeSet<u64>,
    plan: Plan,
}

impl Reading<'_> {
    /// The number of a chunk's files.
    fn files(&self, start: u64) -> usize {
        self.stored.range(Stored::Chunk(start, 0)..=Stored::Chunk(start, usize::MAX)).count()
    }

    /// Notes that a record contradicts others. It is lost.
    fn contradiction(&mut self, id: RecordId, kind: Kind, why: &str) {
        self.damage.push(format!("record {id}, a {kind}, {why}"));
        self.plan.ended.insert(id);
    }

    /// The connections that the keeper has, with their last answers and their requests that wait.
    fn read_connections(&mut self, records: &[(RecordId, Record)]) {
        let numbers = self.stored.iter().filter_map(|stored| match stored {
            Stored::Connection(number) => Some((*number, EarlierConnection::default())),
            _ => None,
        });
        self.plan.connections = numbers.collect();
        for (id, record) in records {
            let number = match record {
                Record::Answered(answered) => answered.connection.0,
                Record::Waiting(waiting) => waiting.connection.0,
                _ => continue,
            };
            let twice = match (self.plan.connections.get_mut(&number), record) {
                (Some(connection), Record::Answered(answered)) => {
                    connection.answered.replace((*id, answered.clone())).map(|(id, _)| id)
                }
                (Some(connection), Record::Waiting(waiting)) => {
                    connection.waiting.replace((*id, waiting.clone())).map(|(id, _)| id)
                }
                // The client has hung up, or the process that had the keeper's place has ended it.
                _ => {
                    self.plan.ended.insert(*id);
                    continue;
                }
            };
            if let Some(id) = twice {
                self.contradiction(id, record.kind(), "is not the only one of its connection");
            }
        }
    }

    /// The chunks that agree with each other and with what the keeper has, by place.
    fn read_chunks(
        &mut self,
        records: &[(RecordId, Record)],
        regions: &[RegionNow],
    ) -> Vec<PlannedChunk> {
        let mut chunks = Vec::new();
        for (id, record) in records {
            let Record::Chunk(chunk) = record else { continue };
            let files = self.files(chunk.range.start());
            let region = pages(chunk.range)
                .and_then(|range| Some((range, regions.iter().find(|r| range.within(r.range))?)));
            match region {
                None => self.contradiction(*id, Kind::Chunk, "lies in no recorded region"),
                Some((_, region)) if region.memory.is_some() && files == 0 => {
                    self.contradiction(*id, Kind::Chunk, "has no memory with the keeper");
                }
                Some((range, _)) => {
                    let chunk = chunk.clone();
                    chunks.push(PlannedChunk { id: *id, chunk, range, files });
                }
            }
        }
        chunks.sort_by_key(|chunk| chunk.range.first_page());
        let mut apart: Vec<PlannedChunk> = Vec::new();
        let mut end = 0;
        for chunk in chunks {
            let overlaps = chunk.range.first_page() < end;
            end = end.max(chunk.range.end_page());
            if overlaps {
                self.contradiction(chunk.id, Kind::Chunk, "overlaps another chunk");
                if let Some(other) =
                    apart.pop_if(|other| other.range.end_page() > chunk.range.first_page())
                {
                    self.contradiction(other.id, Kind::Chunk, "overlaps another chunk");
                }
            } else {
                apart.push(chunk);
            }
        }
        let mut owners = BTreeSet::new();
        let connections = &self.plan.connections;
        let (good, twice): (Vec<_>, Vec<_>) = apart.into_iter().partition(|chunk| {
            let number = chunk.chunk.connection.map(|number| number.0);
            number.is_none_or(|number| {
                let waits = connections.get(&number).is_some_and(|found| found.waiting.is_some());
                !waits && owners.insert(number)
            })
        });
        for chunk in twice {
            let why = "is not the only one of its connection, or its connection waits for one";
            self.contradiction(chunk.id, Kind::Chunk, why);
        }
        good
    }

    /// The chunks of regions that this server has. Those of others end, if that is permitted.
    fn check_regions(
        &mut self,
        chunks: Vec<PlannedChunk>,
        recorded: &[RegionNow],
        regions: &[RegionNow],
    ) -> Result<Vec<PlannedChunk>, RecoverError> {
        let (mut going_on, mut rest) = (Vec::new(), chunks);
        for region in recorded {
            let (here, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|chunk| chunk.range.within(region.range));
            rest = others;
            if regions.contains(region) {
                going_on.extend(here);
            } else if self.discard.regions.contains(&region.title()) {
                for chunk in here {
                    self.discarded.insert(chunk.chunk.range.start());
                    self.plan.ended.insert(chunk.id);
                    if let Some(number) = chunk.chunk.connection {
                        self.disconnect(number.0);
                    }
                }
            } else if !here.is_empty() {
                return Err(RecoverError::NoRegion {
                    region: region.title(),
                    range: region.range,
                    chunks: here.len(),
                    found: found(region, regions),
                });
            }
        }
        Ok(going_on)
    }

    /// Ends a connection whose chunk ends.
    fn disconnect(&mut self, number: u64) {
        let Some(EarlierConnection { answered, waiting }) = self.plan.connections.remove(&number)
        else {
            return;
        };
        self.plan.ended.extend(answered.map(|(id, _)| id));
        self.plan.ended.extend(waiting.map(|(id, _)| id));
        self.plan.released.push(Stored::Connection(number));
    }

    fn finish(mut self, mut chunks: Vec<PlannedChunk>) -> Result<Plan, RecoverError> {
        let is_damaged = !self.damage.is_empty();
        if is_damaged && !self.discard.damaged {
            return Err(RecoverError::Damaged(self.damage));
        }
        chunks.sort_by_key(|chunk| (chunk.chunk.since, chunk.id));
        let live: BTreeSet<u64> = chunks.iter().map(|chunk| chunk.chunk.range.start()).collect();
        for stored in self.stored {
            match *stored {
                Stored::Chunk(start, _) if live.contains(&start) => {}
                Stored::Chunk(start, _) if self.discarded.contains(&start) => {
                    self.plan.released.push(*stored);
                }
                Stored::Chunk(start, _) if is_damaged => {
                    *self.plan.orphans.entry(start).or_default() += 1;
                }
                // The server ended between storing a file and recording its chunk, or between
                // recording the end of a chunk and closing its file.
                Stored::Chunk(..) => self.plan.unrecorded.push(*stored),
                _ => {}
            }
        }
        self.plan.chunks = chunks;
        Ok(self.plan)
    }
}

impl RegionNow {
    /// Its name, or the range of a private region.
    pub(super) fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.range.to_string())
    }
}

/// What is in the place of a region that is not there.
fn found(missing: &RegionNow, regions: &[RegionNow]) -> String {
    let namesake = regions.iter().find(|region| region.name == missing.name);
    match namesake.filter(|region| region.name.is_some()) {
        Some(region) if region.range != missing.range => format!("it at {}", region.range),
        Some(region) => {
            let memory = |region: &RegionNow| region.memory.clone().unwrap_or("no memory".into());
            format!("it with {} instead of {}", memory(region), memory(missing))
        }
        None => "no such region".into(),
    }
}

#[cfg(test)]
mod tests;
