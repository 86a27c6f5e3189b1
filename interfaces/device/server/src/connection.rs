//! One client: its requests, and the chunk that it has.

use crate::accounts::{Accounts, Seat};
use crate::behind::Behind;
use crate::files::{Files, OpenFile};
use crate::headroom::Headroom;
use crate::lease::Lease;
use crate::log::Refusals;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::turns::Turn;
use cma_device_protocol::{Answer, Info, MAX_LISTED, Message, Request, Source};
use cma_framework::Cma;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::Arc;

/// How many regions one request is tried in whose memory can't be had.
const MOST_REGIONS: usize = 32;

/// What requests are served from.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) cma: Cma,
    pub(crate) rules: Rules,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) behind: Behind,
    pub(crate) files: Arc<Files>,
    pub(crate) refusals: Refusals,
    pub(crate) headroom: Headroom,
}

/// What one client has.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) lease: Option<Lease>,
    /// The open file whose chunk this connection keeps. Then it has no other.
    pub(crate) file: Option<OpenFile>,
    pub(crate) seat: Seat,
    /// A request that waits until the answer before is read.
    pub(crate) asked: Option<Box<Message>>,
}

impl Client {
    /// Whether the connection has a chunk, or keeps that of an open file.
    pub(crate) fn has_chunk(&self) -> bool {
        self.lease.is_some() || self.file.is_some()
    }
}

/// What goes back to a client.
type Reply = Result<(Answer<'static>, Vec<OwnedFd>), Refusal>;

impl Desk {
    /// Serves a request.
    pub(crate) fn serve(&self, turn: &Turn, client: &mut Client, request: &Request<'_>) -> Reply {
        if !matches!(request, Request::Free) {
            turn.gives_nothing_back();
        }
        // Only these keep anything.
        let keeps = matches!(request, Request::Alloc { .. } | Request::AllocFile { .. });
        if keeps && !self.headroom.is_there() {
            return Err(Refusal::no_memory());
        }
        match *request {
            Request::Alloc { from, size, alignment, memory } => {
                if client.has_chunk() {
                    return Err(Refusal::has_chunk());
                }
                self.allow(&client.peer, from)?;
                let lease = self.allocate(turn, &client.peer, from, size, alignment)?;
                // A chunk whose memory can't be had is freed here.
                let (answer, files) = if memory {
                    lease.answer_with_memory(0)?
                } else {
                    (lease.answer(), Vec::new())
                };
                client.lease = Some(lease);
                Ok((Answer::Chunk(answer), files))
            }
            Request::Free => {
                let lease = client.lease.take().ok_or_else(Refusal::no_chunk)?;
                lease.reclaim().map_err(|lease| {
                    client.lease = Some(lease);
                    Refusal::new(
                        Errno::BUSY,
                        "a process still holds memory of this chunk: a descriptor or a mapping",
                    )
                })?;
                Ok((Answer::Freed, Vec::new()))
            }
            Request::Chunk { first } => {
                let lease = client.lease.as_ref().ok_or_else(Refusal::no_chunk)?;
                let (answer, files) = lease.answer_with_memory(first)?;
                Ok((Answer::Chunk(answer), files))
            }
            Request::AllocFile { file, from, size, alignment } => {
                if client.has_chunk() {
                    return Err(Refusal::has_chunk());
                }
                self.allow(&client.peer, from)?;
                self.accounts.keeps_a_place(&client.peer)?;
                let file = self.files.claim(file)?;
                let lease = self.allocate(turn, &client.peer, from, size, alignment)?;
                let answer = lease.answer();
                file.put(lease);
                client.file = Some(file);
                Ok((Answer::Chunk(answer), Vec::new()))
            }
            Request::ChunkOfFile { file, first } => {
                let (answer, files) =
                    self.files.chunk(file, |lease| lease.answer_with_memory(first))?;
                Ok((Answer::Chunk(answer), files))
            }
            Request::Info(from) => {
                self.allow(&client.peer, from)?;
                Ok((Answer::Info(self.info(from)?), Vec::new()))
            }
            Request::List { after } => {
                let mut chunks = self.accounts.list(client.peer.uid, after, MAX_LISTED + 1);
                let more = chunks.len() > MAX_LISTED;
                chunks.truncate(MAX_LISTED);
                Ok((Answer::Listed(chunks.into_iter().collect(), more), Vec::new()))
            }
        }
    }

    fn allow(&self, peer: &Peer, from: Source<'_>) -> Result<(), Refusal> {
        match from {
            Source::Device { device, kind } if !self.rules.allow_device(peer, device, kind) => {
                let kind = if kind.is_empty() {
                    String::new()
                } else {
                    format!("/{}", kind.escape_debug())
                };
                Err(Refusal::not_allowed(
                    peer,
                    &format!("memory of {}{kind}", device.escape_debug()),
                ))
            }
            Source::Device { .. } => Ok(()),
            // The list ends as the framework's does.
            Source::Regions(list) => {
                let mut names = list.split(';').next().unwrap_or_default().split(',');
                match names.find(|name| !self.rules.allow_region(peer, name)) {
                    Some(name) => {
                        Err(Refusal::not_allowed(peer, &format!("region {}", name.escape_debug())))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn info(&self, from: Source<'_>) -> Result<Info, Refusal> {
        let info = match from {
            Source::Device { device, kind } => self.cma.info(device, Some(kind)),
            Source::Regions(list) => self.cma.info_about(list),
        }?;
        Ok(Info {
            first_page: info.span.first_page(),
            span_pages: info.span.pages().get(),
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            regions: info.regions as u64,
            granule_bytes: info.granule_bytes,
        })
    }

    fn allocate(
        &self,
        turn: &Turn,
        peer: &Peer,
        from: Source<'_>,
        size: u64,
        alignment: u64,
    ) -> Result<Lease, Refusal> {
        let process = peer.as_process();
        let place = || {
            let process = process.clone();
            let request = match from {
                Source::Device { device, kind } => {
                    self.cma.to_share(process, device, Some(kind), size, alignment)
                }
                Source::Regions(list) => self.cma.to_share_from(process, list, size, alignment),
            }?;
            // What no region is large enough for is the framework's to refuse, whatever the user
            // has.
            let charge =
                request.least_bytes().map(|bytes| self.accounts.charge(peer, bytes)).transpose()?;
            let chunk = request.alloc()?;
            let charge = charge.map_or_else(|| self.accounts.charge(peer, chunk.size()), Ok)?;
            let start = chunk.start();
            let placed = Lease::new(chunk, charge)?;
            if !placed.as_ref().is_ok_and(|lease| lease.start() == start) {
                self.behind.look_soon();
            }
            Ok::<_, Refusal>(placed)
        };
        let attempt = || -> Result<Lease, Refusal> {
            // Chunks whose memory somebody holds. They are kept meanwhile, so that another region
            // of the list is tried.
            let mut unusable = Vec::new();
            loop {
                match (place(), unusable.len() < MOST_REGIONS) {
                    (Ok(Ok(lease)), _) => return Ok(lease),
                    (Ok(Err(refused)), true) if refused.may_be_elsewhere() => {
                        unusable.push(refused);
                    }
                    (Ok(Err(refused)), _) => return Err(refused.error.into()),
                    (Err(refusal), _) => {
                        return Err(unusable
                            .into_iter()
                            .next()
                            .map_or(refusal, |held| held.error.into()));
                    }
                }
            }
        };
        let before = self.accounts.given_back();
        attempt().or_else(|refusal| {
            if !refusal.may_pass() {
                return Err(refusal);
            }
            // What was given back before this was asked is free. Where nothing was, the answer is
            // the same, and a region counts each refusal.
            turn.wait_for_earlier(peer.uid);
            self.behind.free_some(peer.uid);
            if self.accounts.given_back() == before { Err(refusal) } else { attempt() }
        })
    }
}
