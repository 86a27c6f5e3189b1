//! Allocating a chunk for a client: charging the user, trying further regions, and retrying after
//! memory was freed.

use crate::accounts::Accounts;
use crate::error_reply::ErrorReply;
use crate::event_order::Ticket;
use crate::lease::Lease;
use crate::peer::Peer;
use crate::reclaimer::Reclaimer;
use cma_device_protocol::{ChunkRequest, RegionSelector};
use cma_framework::config::Bytes;
use cma_framework::memory::NotMapped;
use cma_framework::{Cma, DmaAddr, Process, Source};
use std::sync::Arc;

/// The number of regions that one request tries when their memory is unusable.
const MAX_REGIONS: usize = 32;

#[derive(Debug)]
pub(crate) struct LeaseAllocator {
    pub(crate) cma: Cma,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) reclaimer: Reclaimer,
}

/// The chunk that a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedChunk<'r> {
    pub(crate) from: RegionSelector<'r>,
    pub(crate) chunk: ChunkRequest,
}

impl WantedChunk<'_> {
    /// As the framework wants it.
    fn source_and_request(&self) -> (Source<'_>, cma_framework::ChunkRequest) {
        let source = match self.from {
            RegionSelector::Device { device, kind } => {
                Source::Device { name: device, kind: Some(kind) }
            }
            RegionSelector::Regions(list) => Source::Regions(list),
        };
        let ChunkRequest { size, alignment, above, below, boundary, at, wait } = self.chunk;
        let mut request = cma_framework::ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment));
        request.above = above.map(DmaAddr::new);
        request.below = below.map(DmaAddr::new);
        request.boundary = boundary.map(Bytes);
        request.at = at.map(DmaAddr::new);
        request.wait = wait;
        (source, request)
    }
}

impl LeaseAllocator {
    /// Allocates a chunk for `peer`. A request that would be refused for want of memory waits for
    /// everything that was freed before it, and is tried once more.
    pub(crate) fn allocate(
        &self,
        ticket: &Ticket,
        peer: &Peer,
        wanted: WantedChunk<'_>,
    ) -> Result<Lease, ErrorReply> {
        let process = peer.as_process();
        let attempt = || self.try_regions(peer, &process, wanted);
        let freed_before = self.accounts.freed_chunks();
        attempt().or_else(|error| {
            if !error.is_transient() {
                return Err(error);
            }
            ticket.wait_for_earlier(peer.uid);
            self.reclaimer.reclaim_all(peer.uid);
            // If nothing was freed, the result would be the same, and a region counts each refusal.
            if self.accounts.freed_chunks() == freed_before { Err(error) } else { attempt() }
        })
    }

    /// Refuses an open file that would take the user's last slot. Waits before for every slot that
    /// was freed earlier, as for memory.
    pub(crate) fn require_spare_slot(
        &self,
        ticket: &Ticket,
        peer: &Peer,
    ) -> Result<(), ErrorReply> {
        self.accounts.require_spare_slot(peer).or_else(|_| {
            ticket.wait_for_earlier(peer.uid);
            self.reclaimer.reclaim_all(peer.uid);
            self.accounts.require_spare_slot(peer)
        })
    }

    /// Allocates from the first region whose memory is usable.
    fn try_regions(
        &self,
        peer: &Peer,
        process: &Process,
        wanted: WantedChunk<'_>,
    ) -> Result<Lease, ErrorReply> {
        // Chunks whose memory a process holds. They stay allocated until the end of the request, so
        // that the framework tries another region of the list.
        let mut unusable = Vec::new();
        loop {
            match (self.try_once(peer, process, wanted), unusable.len() < MAX_REGIONS) {
                (Ok(Ok(lease)), _) => return Ok(lease),
                (Ok(Err(not_mapped)), true) if not_mapped.may_be_elsewhere() => {
                    unusable.push(not_mapped);
                }
                (Ok(Err(not_mapped)), _) => return Err(not_mapped.error.into()),
                (Err(error), _) => {
                    let first = unusable.into_iter().next();
                    return Err(first.map_or(error, |not_mapped| not_mapped.error.into()));
                }
            }
        }
    }

    /// Allocates one chunk. The inner error has the chunk whose memory is unusable.
    fn try_once(
        &self,
        peer: &Peer,
        process: &Process,
        wanted: WantedChunk<'_>,
    ) -> Result<Result<Lease, NotMapped>, ErrorReply> {
        let (source, request) = wanted.source_and_request();
        let request = self.cma.to_share(process.clone(), source, &request)?;
        // A request that exceeds every region is charged only afterwards, so that it fails with the
        // framework's error and not with that of a quota.
        let charge =
            request.least_bytes().map(|bytes| self.accounts.charge(peer, bytes)).transpose()?;
        let chunk = request.alloc()?;
        let charge = charge.map_or_else(|| self.accounts.charge(peer, chunk.size()), Ok)?;
        let start = chunk.start();
        let placed = Lease::new(chunk, charge)?;
        // Another start means that the framework has set memory aside.
        if !placed.as_ref().is_ok_and(|lease| lease.start() == start) {
            self.reclaimer.schedule_recovery();
        }
        Ok(placed)
    }
}
