//! The requests of clients: access rules, and what each request does to the client's session.

use crate::accounts::Accounts;
use crate::allocation::{Allocated, LeaseAllocator, WantedChunk};
use crate::attribute_reader::AttributeReader;
use crate::connection::Session;
use crate::error_reply::ErrorReply;
use crate::event_order::Ticket;
use crate::lease::Lease;
use crate::memory_reserve::MemoryReserve;
use crate::open_files::{OpenFile, OpenFiles};
use crate::peer::Peer;
use crate::reclaimer::Reclaimer;
use crate::rules::Rules;
use crate::waiting::PendingLease;
use cma_device_protocol::{
    Answer, ChunkRequest, InfoAnswer, MAX_LISTED, Message, RegionSelector, Request,
};
use cma_framework::config::{Time, region_groups};
use cma_framework::{AllocError, Cma};
use parking_lot::RwLock;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Executes requests.
#[derive(Debug)]
pub(crate) struct RequestHandler {
    rules: Arc<RwLock<Arc<Rules>>>,
    allocator: LeaseAllocator,
    files: Arc<OpenFiles>,
    memory: MemoryReserve,
    attributes: AttributeReader,
}

/// An answer with its descriptors, or an error.
pub(crate) type Reply = Result<(Answer<'static>, Vec<OwnedFd>), ErrorReply>;

/// What becomes of a request that is not refused.
#[derive(Debug)]
pub(crate) enum Handled {
    Answered(Answer<'static>, Vec<OwnedFd>),
    /// It waits for room, from now on for up to `wait`.
    Waits {
        pending: PendingLease,
        wait: Duration,
        /// Whether the answer brings memory.
        memory: bool,
    },
}

impl RequestHandler {
    pub(crate) fn new(
        cma: Cma,
        rules: Arc<RwLock<Arc<Rules>>>,
        accounts: Arc<Accounts>,
        reclaimer: Reclaimer,
    ) -> Self {
        RequestHandler {
            attributes: AttributeReader::new(&cma),
            rules,
            memory: MemoryReserve::new(accounts.clone()),
            allocator: LeaseAllocator { cma, accounts, reclaimer },
            files: Arc::default(),
        }
    }

    pub(crate) fn reclaimer(&self) -> &Reclaimer {
        &self.allocator.reclaimer
    }

    /// The memory of the server process itself.
    pub(crate) fn memory(&self) -> &MemoryReserve {
        &self.memory
    }

    /// Executes the request of that id of a session, or begins one that waits.
    pub(crate) fn handle(
        &self,
        ticket: &Ticket,
        session: &mut Session,
        id: u64,
        request: &Request<'_>,
    ) -> Result<Handled, ErrorReply> {
        if !matches!(request, Request::Free) {
            ticket.frees_nothing();
        }
        // Only these requests keep or take more than a little memory of the server.
        let takes_memory = matches!(
            request,
            Request::Alloc { .. } | Request::AllocFile { .. } | Request::Attribute { .. }
        );
        if takes_memory && !self.memory.is_available() {
            return Err(ErrorReply::no_server_memory());
        }
        let (answer, files) = match *request {
            Request::Alloc { from, chunk, memory } => {
                if session.has_chunk() {
                    return Err(ErrorReply::has_chunk());
                }
                self.check_access(&session.peer, from)?;
                let wanted = WantedChunk { from, chunk };
                if let Some(wait) = chunk.wait {
                    self.check_wait(wait)?;
                    let pending = self.allocator.begin(ticket, &session.peer, wanted)?;
                    return Ok(Handled::Waits { pending, wait, memory });
                }
                let allocated = self.allocator.allocate(ticket, &session.peer, wanted)?;
                // The caller makes room, and repeats the whole request.
                Self::hand_over(session, id, allocated, memory, || false)
            }
            Request::Free => Self::free(session, id),
            Request::Chunk { first } => {
                let lease = session.lease.as_ref().ok_or_else(ErrorReply::no_chunk)?;
                let (answer, files) = lease.answer_with_memory(first)?;
                Ok((Answer::Chunk(answer), files))
            }
            Request::AllocFile { file, from, size, alignment } => {
                if session.has_chunk() {
                    return Err(ErrorReply::has_chunk());
                }
                self.check_access(&session.peer, from)?;
                self.allocator.require_spare_slot(ticket, &session.peer)?;
                let file = self.files.reserve(file)?;
                let chunk = ChunkRequest::new(size).aligned(alignment);
                let wanted = WantedChunk { from, chunk };
                let Allocated { mut lease, request } =
                    self.allocator.allocate(ticket, &session.peer, wanted)?;
                let answer = Answer::Chunk(lease.answer());
                if let Some(records) = &mut session.records {
                    let message = Message::answer(id, &answer);
                    records.allocated(&mut lease, &request, Some(file.number()), id, &message)?;
                }
                file.set_chunk(lease);
                session.file = Some(file);
                Ok((answer, Vec::new()))
            }
            Request::ChunkOfFile { file, first } => {
                let (answer, files) =
                    self.files.with_chunk(file, |lease| lease.answer_with_memory(first))?;
                Ok((Answer::Chunk(answer), files))
            }
            Request::Info(from) => {
                self.check_access(&session.peer, from)?;
                Ok((Answer::Info(self.info(from)?), Vec::new()))
            }
            Request::List { after } => {
                let accounts = &self.allocator.accounts;
                let mut chunks = accounts.list(session.peer.uid, after, MAX_LISTED + 1);
                let has_more = chunks.len() > MAX_LISTED;
                chunks.truncate(MAX_LISTED);
                Ok((Answer::Listed(chunks.into_iter().collect(), has_more), Vec::new()))
            }
            Request::Attribute { path } => {
                let (text, file) = self.attributes.read(&session.peer, path)?;
                Ok((Answer::Text(text), vec![file]))
            }
        }?;
        Ok(Handled::Answered(answer, files))
    }

    /// Begins a request again that waited in a server before this one, since then. Returns it with
    /// whether its answer brings memory; `None` if it can't wait here.
    pub(crate) fn begin_again(
        &self,
        peer: &Peer,
        request: &Request<'_>,
        since: Instant,
    ) -> Option<(PendingLease, bool)> {
        let Request::Alloc { from, chunk, memory } = *request else { return None };
        let wanted = WantedChunk { from, chunk };
        Some((self.allocator.begin_again(peer, wanted, since).ok()?, memory))
    }

    /// Gives a chunk back to the open file that has it.
    pub(crate) fn reopen_file(&self, number: u128, lease: Lease) -> Result<OpenFile, Lease> {
        match self.files.reserve(number) {
            Ok(file) => {
                file.set_chunk(lease);
                Ok(file)
            }
            Err(_) => Err(lease),
        }
    }

    /// The accounts of all users.
    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.allocator.accounts
    }

    /// Continues the session's request that waits, for the event of `ticket`. Returns its id and
    /// its answer, or `None` while it waits. When the process runs out of descriptors, the chunk's
    /// memory is tried again as long as `make_room` closes some.
    pub(crate) fn continue_waiting(
        &self,
        ticket: &Ticket,
        session: &mut Session,
        mut make_room: impl FnMut() -> bool,
    ) -> Option<(u64, Reply)> {
        let waiting = session.waiting.take()?;
        let (id, memory) = (waiting.id, waiting.memory);
        if !self.memory.is_available() {
            return Some((id, Err(ErrorReply::no_server_memory())));
        }
        match self.allocator.poll(ticket, &session.peer, waiting, &mut make_room) {
            Err(waiting) => {
                session.waiting = Some(waiting);
                None
            }
            Ok(Err(error)) => Some((id, Err(error))),
            Ok(Ok(allocated)) => {
                Some((id, Self::hand_over(session, id, allocated, memory, make_room)))
            }
        }
    }

    /// Gives the session a chunk, in answer to the request of that id. On an error the chunk is
    /// freed. When the process or the keeper runs out of descriptors, this is tried again as long
    /// as `make_room` closes some.
    fn hand_over(
        session: &mut Session,
        id: u64,
        allocated: Allocated,
        memory: bool,
        mut make_room: impl FnMut() -> bool,
    ) -> Reply {
        let Allocated { mut lease, request } = allocated;
        let (answer, files) = loop {
            let answered = Self::answer(&lease, memory).and_then(|(answer, files)| {
                if let Some(records) = &mut session.records {
                    let message = Message::answer(id, &answer);
                    records.allocated(&mut lease, &request, None, id, &message)?;
                }
                Ok((answer, files))
            });
            match answered {
                Err(error) if error.is_out_of_descriptors() && make_room() => {}
                answered => break answered?,
            }
        };
        session.lease = Some(lease);
        Ok((answer, files))
    }

    /// The answer that gives a client its chunk.
    fn answer(lease: &Lease, memory: bool) -> Reply {
        if !memory {
            return Ok((Answer::Chunk(lease.answer()), Vec::new()));
        }
        let (answer, files) = lease.answer_with_memory(0)?;
        Ok((Answer::Chunk(answer), files))
    }

    /// Frees the session's chunk, in answer to the request of that id.
    fn free(session: &mut Session, id: u64) -> Reply {
        let mut lease = session.lease.take().ok_or_else(ErrorReply::no_chunk)?;
        let held = || {
            let reason = "a process still holds memory of this chunk: a descriptor or a mapping";
            ErrorReply::new(Errno::BUSY, reason)
        };
        let freed = match &mut session.records {
            Some(_) if lease.is_held() => Err((lease, held())),
            Some(records) => {
                let message = Message::answer(id, &Answer::Freed);
                // Once that is recorded, the chunk is free whoever has opened its memory since.
                match records.freed(&mut lease, id, &message) {
                    Ok(()) => {
                        drop(lease);
                        Ok(())
                    }
                    Err(error) => Err((lease, error)),
                }
            }
            None => lease.reclaim().map_err(|lease| (lease, held())),
        };
        freed.map_err(|(lease, error)| {
            session.lease = Some(lease);
            error
        })?;
        Ok((Answer::Freed, Vec::new()))
    }

    fn check_wait(&self, wait: Duration) -> Result<(), ErrorReply> {
        let longest_wait = self.allocator.accounts.longest_wait();
        if wait <= longest_wait {
            return Ok(());
        }
        let reason = format!(
            "this server lets a request wait for {} at most; ask for less, or raise the limit wait",
            Time(longest_wait)
        );
        Err(ErrorReply::new(Errno::INVAL, reason))
    }

    fn check_access(&self, peer: &Peer, from: RegionSelector<'_>) -> Result<(), ErrorReply> {
        let rules = self.rules.read().clone();
        match from {
            RegionSelector::Device { device, kind } if !rules.allow_device(peer, device, kind) => {
                let kind = if kind.is_empty() {
                    String::new()
                } else {
                    format!("/{}", kind.escape_debug())
                };
                Err(ErrorReply::not_allowed(
                    peer,
                    &format!("memory of {}{kind}", device.escape_debug()),
                ))
            }
            RegionSelector::Device { .. } => Ok(()),
            RegionSelector::Regions(list) => {
                let groups = region_groups(list).map_err(AllocError::Invalid)?;
                let mut names = groups.flat_map(|group| group.regions());
                match names.find(|name| !rules.allow_region(peer, name)) {
                    Some(name) => Err(ErrorReply::not_allowed(
                        peer,
                        &format!("region {}", name.escape_debug()),
                    )),
                    None => Ok(()),
                }
            }
        }
    }

    fn info(&self, from: RegionSelector<'_>) -> Result<InfoAnswer, ErrorReply> {
        let info = match from {
            RegionSelector::Device { device, kind } => self.allocator.cma.info(device, Some(kind)),
            RegionSelector::Regions(list) => self.allocator.cma.info_about(list),
        }?;
        Ok(InfoAnswer {
            first_page: info.span.first_page(),
            span_pages: info.span.pages().get(),
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            regions: info.regions as u64,
            granule_bytes: info.granule_bytes,
        })
    }
}
