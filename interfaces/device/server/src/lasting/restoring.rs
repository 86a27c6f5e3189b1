//! Bringing back what a server before this one left.

use super::chunk::RecordedChunk;
use super::continued::{Continued, recorded_regions};
use super::error::RecoverError;
use super::found::{Discard, Lasting};
use super::keeper::AnyKeeper;
use super::names::Stored;
use super::plan::{EarlierConnection, Plan, PlannedChunk, RegionNow, plan};
use super::records::{CurrentJournal, Records, slots_for};
use crate::limits::Limits;
use crate::log;
use cma_framework::config::Bytes;
use cma_framework::restore::{RestoreError, RestoredChunk, WithMemory};
use cma_framework::{ChunkRequest, Cma, DmaAddr, PageRange, Process, Region};
use cma_journal::{Chunk, Configuration, ReadError, Record, RecordId, Span};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::fstat;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// What the server continues.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) records: Arc<Records>,
    /// In the order of their allocation.
    pub(crate) chunks: Vec<EarlierChunk>,
    /// In the order of their numbers.
    pub(crate) connections: Vec<(u64, OwnedFd, EarlierConnection)>,
    /// The number of the next connection, if the server accepts it.
    pub(crate) next_connection: u64,
    /// The connections that the keeper accepts, if it does.
    pub(crate) accepted: Option<cma_keeper::Connections>,
}

/// A chunk that a server before this one allocated.
#[derive(Debug)]
pub(crate) struct EarlierChunk {
    pub(crate) chunk: WithMemory,
    pub(crate) recorded: RecordedChunk,
}

/// A chunk that is back in the framework, and its record.
struct Back {
    chunk: WithMemory,
    record: Chunk,
    files: usize,
    /// `None` for one whose record was lost.
    id: Option<RecordId>,
}

/// Who has the listening socket when the server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerHolder {
    /// The keeper, which has it already.
    Keeper,
    /// The keeper, once it is stored.
    NewKeeper,
    /// The process that has passed it on, as a service manager does.
    Other,
}

/// Brings back what `lasting` has, for a server that listens on `listener`, which `holder` has. On
/// an error the keeper and the journal are as before, except that a part of the clients' ends may
/// be completed.
pub(crate) fn restore(
    lasting: Lasting,
    cma: &Cma,
    limits: &Limits,
    discard: &Discard,
    listener: BorrowedFd<'_>,
    holder: ListenerHolder,
) -> Result<Restored, RecoverError> {
    let regions = cma.regions();
    let mut planned = decide(&lasting, &regions, discard)?;
    let next_connection = next_connection(&lasting);
    let next_order = next_order(lasting.records());
    let recorded_regions = recorded_regions(lasting.records());
    let lasting_texts = texts(lasting.records());
    let Lasting { mut keeper, map, journal, mut stored, .. } = lasting;
    let names: BTreeSet<_> = stored.keys().copied().collect();
    for name in &planned.unrecorded {
        drop(stored.remove(name));
        keeper.remove(&name.name())?;
    }
    let texts = write_again(lasting_texts, cma, &mut planned);
    // A chunk that is dropped is freed, and its memory with it. On an error it has to stay.
    let mut back = ManuallyDrop::new(Vec::new());
    bring_back(&mut stored, cma, &regions, &mut planned, discard, &mut back)?;
    for region in &regions {
        report(region, cma)?;
    }

    let slots = slots_for(limits.connections, regions.len());
    let old_journals = names.range(Stored::Journal(0)..=Stored::Journal(u32::MAX));
    let newest = old_journals.clone().next_back().and_then(|name| match name {
        Stored::Journal(number) => Some(*number),
        _ => None,
    });
    let mut continued = Continued::of(journal, newest, slots, &planned.ended, &*map)?;
    // Before anything of the damage is gone: a next server, which may lose nothing, would take
    // their files for those of no chunk.
    let id_of = |back: &Back| match back.id.and_then(|id| continued.ids.now(id)) {
        Some(id) => Ok(id),
        None => continued.record(&back.record),
    };
    let ids_of_chunks = back.iter().map(id_of).collect::<Result<Vec<_>, _>>()?;
    let journal_name = Stored::Journal(continued.number);
    if let Some(file) = &continued.file {
        keeper.put(&journal_name.name(), file.as_fd())?;
    }
    for name in old_journals.filter(|name| **name != journal_name) {
        keeper.remove(&name.name())?;
    }
    continued.remove_all(planned.ended.iter().copied())?;
    continued.record_regions(recorded_regions, &regions)?;
    for name in planned.released.iter().filter(|name| names.contains(name)) {
        if let (Stored::Connection(_), Some(socket)) = (name, stored.get(name)) {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        keeper.remove(&name.name())?;
    }
    let homes = keep_homes(&mut *keeper, &names, &regions)?;
    let name = Stored::Listener.name();
    if holder != ListenerHolder::Keeper && names.contains(&Stored::Listener) {
        keeper.remove(&name)?;
    }
    if holder == ListenerHolder::NewKeeper {
        keeper.put(&name, listener)?;
    }
    let is_stored = holder != ListenerHolder::Other;
    let accepted = if is_stored { keeper.accept_on(&name)? } else { None };

    let fixed = homes.into_iter().chain(is_stored.then_some(Stored::Listener)).collect();
    let Continued { journal, number, ids, .. } = continued;
    let texts = texts.into_iter().filter_map(|(path, id)| Some((path, ids.now(id)?))).collect();
    let journal = CurrentJournal { journal, number, map, regions: regions.len() };
    let records = Arc::new(Records::new(keeper, journal, next_order, texts, fixed));
    let listening = records.clone();
    if !cma.attributes().on_written(move |path, text| listening.written(path, text)) {
        let reason = "another server of this framework is to be outlived already";
        return Err(RecoverError::NotKept(reason.to_string()));
    }
    let of_earlier = |(Back { chunk, record, files, .. }, id)| EarlierChunk {
        chunk,
        recorded: RecordedChunk::of_earlier(records.clone(), id, record, files),
    };
    let chunks = ManuallyDrop::into_inner(back).into_iter().zip(ids_of_chunks);
    let connections = planned.connections.into_iter().filter_map(|(number, earlier)| {
        let socket = stored.remove(&Stored::Connection(number))?;
        let EarlierConnection { answered, waiting } = earlier;
        let answered = answered.and_then(|(id, answered)| Some((ids.now(id)?, answered)));
        let waiting = waiting.and_then(|(id, waiting)| Some((ids.now(id)?, waiting)));
        Some((number, socket, EarlierConnection { answered, waiting }))
    });
    Ok(Restored {
        connections: connections.collect(),
        chunks: chunks.map(of_earlier).collect(),
        next_connection,
        accepted,
        records: records.clone(),
    })
}

/// Decides what becomes of everything. Nothing is changed.
fn decide(lasting: &Lasting, regions: &[Region], discard: &Discard) -> Result<Plan, RecoverError> {
    let mut damage = Vec::new();
    match lasting.journal.as_ref().map(|journal| &journal.read) {
        Some(Ok(contents)) => damage.extend(contents.damage.iter().map(ToString::to_string)),
        Some(Err(newer @ ReadError::Version { .. })) => return Err(RecoverError::Newer(*newer)),
        Some(Err(error)) => damage.push(error.to_string()),
        None if lasting.stored.keys().any(|stored| matches!(stored, Stored::Chunk(..))) => {
            damage.push("the keeper has memory of chunks and no journal".to_string());
        }
        None => {}
    }
    let regions: Vec<_> = regions.iter().map(region_now).collect();
    let stored: BTreeSet<_> = lasting.stored.keys().copied().collect();
    plan(lasting.records(), &stored, &regions, damage, discard)
}

fn region_now(region: &Region) -> RegionNow {
    RegionNow {
        name: region.name().map(String::from),
        range: region.range(),
        memory: region.backing().map(|backing| backing.kind.to_string()),
    }
}

/// Brings the chunks back into the framework, each with its memory.
fn bring_back(
    stored: &mut BTreeMap<Stored, OwnedFd>,
    cma: &Cma,
    regions: &[Region],
    planned: &mut Plan,
    discard: &Discard,
    back: &mut Vec<Back>,
) -> Result<(), RecoverError> {
    for PlannedChunk { id, chunk, range, files } in std::mem::take(&mut planned.chunks) {
        let Some(region) = regions.iter().find(|region| range.within(region.range())) else {
            continue;
        };
        let files_of = take_files(stored, range.start().get());
        match cma.restore_chunk(region, &restored_chunk(&chunk, range), files_of) {
            Ok(live) => back.push(Back { chunk: live, record: chunk, files, id: Some(id) }),
            Err(error) if discard.damaged => {
                warn_of_loss(range, &error);
                planned.ended.insert(id);
                planned
                    .released
                    .extend((0..files).map(|file| Stored::Chunk(range.start().get(), file)));
            }
            Err(source) => {
                return Err(RecoverError::NotRestored {
                    range,
                    region: region.to_string(),
                    source,
                });
            }
        }
    }
    for (start, files) in std::mem::take(&mut planned.orphans) {
        match bring_back_orphan(take_files(stored, start), cma, regions, start) {
            Some(orphan) => back.push(orphan),
            None => planned.released.extend((0..files).map(|file| Stored::Chunk(start, file))),
        }
    }
    Ok(())
}

/// The chunk of files whose record was lost, as one that is left behind.
fn bring_back_orphan(
    files: Vec<OwnedFd>,
    cma: &Cma,
    regions: &[Region],
    start: u64,
) -> Option<Back> {
    let stats = files.iter().map(fstat).collect::<Result<Vec<_>, _>>().ok()?;
    let size = stats.iter().map(|stat| stat.st_size as u64).sum();
    let range = PageRange::from_bytes(DmaAddr::new(start), size)?;
    let process = cma_journal::Process { uid: stats.first()?.st_uid, pid: 0, name: String::new() };
    let record = Chunk {
        range: Span::new(start, size)?,
        request: cma_journal::Limits { size, ..Default::default() },
        device: None,
        process,
        since: super::monotonic_now(),
        connection: None,
        file: None,
    };
    let region = regions.iter().find(|region| range.within(region.range()))?;
    let count = files.len();
    match cma.restore_chunk(region, &restored_chunk(&record, range), files) {
        Ok(chunk) => Some(Back { chunk, record, files: count, id: None }),
        Err(error) => {
            warn_of_loss(range, &error);
            None
        }
    }
}

fn warn_of_loss(range: PageRange, error: &RestoreError) {
    log::emit(|| tracing::warn!(%range, %error, "a chunk is lost"));
}

/// The files of the memory of the chunk at `start`, in their order.
fn take_files(stored: &mut BTreeMap<Stored, OwnedFd>, start: u64) -> Vec<OwnedFd> {
    let names = stored.range(Stored::Chunk(start, 0)..=Stored::Chunk(start, usize::MAX));
    let names: Vec<_> = names.map(|(name, _)| *name).collect();
    names.iter().filter_map(|name| stored.remove(name)).collect()
}

/// A recorded chunk as the framework takes it.
fn restored_chunk(chunk: &Chunk, range: PageRange) -> RestoredChunk {
    let cma_journal::Limits { size, alignment, above, below, boundary, at } = chunk.request;
    let mut request = ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment));
    request.above = above.map(DmaAddr::new);
    request.below = below.map(DmaAddr::new);
    request.boundary = boundary.map(Bytes);
    request.at = at.map(DmaAddr::new);
    let cma_journal::Process { uid, pid, name } = &chunk.process;
    RestoredChunk {
        range,
        request,
        device: chunk.device.as_ref().map(|(device, kind)| ((**device).into(), (**kind).into())),
        process: Some(Process { uid: *uid, pid: *pid, name: (**name).into() }),
        since: Some(Duration::from_nanos(chunk.since)),
    }
}

/// Ends the restoring of a region, and reports what is different from before.
fn report(region: &Region, cma: &Cma) -> Result<(), RecoverError> {
    let state = cma.finish_restoring(region).map_err(|error| {
        RecoverError::NotKept(format!("region {region} can't be continued: {error}"))
    })?;
    log::emit(|| {
        if let Some(reason) = &state.stand_in {
            tracing::warn!(%region, allocator = %state.allocator, %reason, "another allocator stands in");
        }
        for range in &state.missing {
            tracing::warn!(%region, %range, "memory was lost, and is set aside");
        }
    });
    Ok(())
}

/// The texts that were written to attributes, in the order in which they were written.
fn texts(records: &[(RecordId, Record)]) -> Vec<(RecordId, Configuration)> {
    let texts = records.iter().filter_map(|(id, record)| match record {
        Record::Configuration(text) => Some((*id, text.clone())),
        _ => None,
    });
    texts.collect()
}

/// Writes texts to the attributes again. The record of one that can't be written ends. Returns the
/// others by path.
fn write_again(
    texts: Vec<(RecordId, Configuration)>,
    cma: &Cma,
    planned: &mut Plan,
) -> BTreeMap<String, RecordId> {
    let mut in_force = BTreeMap::new();
    for (id, Configuration { name: path, text }) in texts {
        match cma.attributes().write(&path, text.as_bytes()) {
            Ok(()) => planned.ended.extend(in_force.insert(path, id)),
            Err(error) => {
                log::emit(
                    || tracing::warn!(path, %error, "what was written before is not in force"),
                );
                planned.ended.insert(id);
            }
        }
    }
    in_force
}

fn next_connection(lasting: &Lasting) -> u64 {
    let stored = lasting.stored.keys().map(|stored| match stored {
        Stored::Connection(number) => *number,
        _ => 0,
    });
    let recorded = lasting.records().iter().map(|(_, record)| match record {
        Record::Chunk(chunk) => chunk.connection.map_or(0, |number| number.0),
        Record::Answered(answered) => answered.connection.0,
        Record::Waiting(waiting) => waiting.connection.0,
        _ => 0,
    });
    stored.chain(recorded).max().unwrap_or(0).saturating_add(1)
}

fn next_order(records: &[(RecordId, Record)]) -> u64 {
    let orders = records.iter().filter_map(|(_, record)| match record {
        Record::Waiting(waiting) => Some(waiting.order),
        _ => None,
    });
    orders.max().map_or(0, |order| order.saturating_add(1))
}

/// Stores the files of the regions themselves, and closes those of regions that are not there any
/// more. Returns what the keeper has. The first file of a region is stored last, so that a region
/// with it has all of them.
fn keep_homes(
    keeper: &mut dyn AnyKeeper,
    names: &BTreeSet<Stored>,
    regions: &[Region],
) -> Result<Vec<Stored>, RecoverError> {
    let mut homes = BTreeSet::new();
    for region in regions {
        let files = region.lasting().map_err(|error| {
            RecoverError::NotKept(format!("region {region} can't outlive the server: {error}"))
        })?;
        let home = |index| Stored::Home(region.range().start().get(), index);
        let is_stored = names.contains(&home(0));
        for (index, file) in files.iter().enumerate().rev().filter(|_| !is_stored) {
            if names.contains(&home(index)) {
                keeper.remove(&home(index).name())?;
            }
            keeper.put(&home(index).name(), file.as_fd())?;
        }
        homes.extend((0..files.len()).map(home));
    }
    let old = names.iter().filter(|name| matches!(name, Stored::Home(..)));
    for name in old.filter(|name| !homes.contains(name)) {
        keeper.remove(&name.name())?;
    }
    Ok(homes.into_iter().collect())
}
