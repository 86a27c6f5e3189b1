//! Allocating a chunk for a client: charging the user, trying further regions, retrying after
//! memory was freed, and waiting for room.

use crate::accounts::{Accounts, Charge};
use crate::error_reply::ErrorReply;
use crate::event_order::Ticket;
use crate::lease::Lease;
use crate::peer::Peer;
use crate::reclaimer::Reclaimer;
use crate::waiting::{PendingLease, WaitingRequest};
use cma_device_protocol::{ChunkRequest, RegionSelector};
use cma_framework::config::Bytes;
use cma_framework::memory::NotMapped;
use cma_framework::{Chunk, Cma, DmaAddr, SharingRequest, Source};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

/// The number of regions that one request tries when their memory is unusable.
const MAX_REGIONS: usize = 32;

#[derive(Debug)]
pub(crate) struct LeaseAllocator {
    pub(crate) cma: Cma,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) reclaimer: Reclaimer,
}

/// A chunk with the request that it serves.
#[derive(Debug)]
pub(crate) struct Allocated {
    pub(crate) lease: Lease,
    pub(crate) request: SharingRequest,
}

/// The chunk that a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedChunk<'r> {
    pub(crate) from: RegionSelector<'r>,
    pub(crate) chunk: ChunkRequest,
}

impl WantedChunk<'_> {
    /// The same chunk if there is room now.
    fn without_wait(mut self) -> Self {
        self.chunk.wait = None;
        self
    }

    /// As the framework takes it.
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
    ) -> Result<Allocated, ErrorReply> {
        self.after_earlier_frees(ticket, peer, || {
            let request = self.request(peer, wanted)?;
            let lease = self.try_regions(peer, &request, Vec::new())?;
            Ok(Allocated { lease, request })
        })
    }

    /// Begins a request that waits for room. It is charged from now on; nothing is allocated before
    /// the first [`poll`](Self::poll).
    pub(crate) fn begin(
        &self,
        ticket: &Ticket,
        peer: &Peer,
        wanted: WantedChunk<'_>,
    ) -> Result<PendingLease, ErrorReply> {
        let pending = self.request(peer, wanted)?.alloc_async();
        let request = self.request(peer, wanted.without_wait())?;
        let charge =
            self.after_earlier_frees(ticket, peer, || self.charge_least(peer, &request))?;
        if let Some(charge) = &charge {
            charge.set_waiting();
        }
        Ok(PendingLease { chunk: pending, charge, request })
    }

    /// The same for a request that has waited in a server before this one, since then. The limits
    /// of its user don't count.
    pub(crate) fn begin_again(
        &self,
        peer: &Peer,
        wanted: WantedChunk<'_>,
        since: Instant,
    ) -> Result<PendingLease, ErrorReply> {
        let pending = self.request(peer, wanted)?.alloc_async().since(since);
        let request = self.request(peer, wanted.without_wait())?;
        let charge = request.least_bytes().map(|bytes| {
            let charge = self.accounts.charge_of_earlier(peer, bytes, None);
            charge.set_waiting();
            charge
        });
        Ok(PendingLease { chunk: pending, charge, request })
    }

    /// Continues a request that waits, for the event of `ticket`. Returns the request if it still
    /// waits. At its deadline it is refused only after everything that was freed before this event.
    /// `make_room` is called as long as there is no descriptor for the chunk's memory.
    pub(crate) fn poll(
        &self,
        ticket: &Ticket,
        peer: &Peer,
        mut waiting: Box<WaitingRequest>,
        make_room: impl FnMut() -> bool,
    ) -> Result<Result<Allocated, ErrorReply>, Box<WaitingRequest>> {
        let polled = waiting.poll();
        if polled.is_pending() && !waiting.deadline.has_passed() {
            return Err(waiting);
        }
        let PendingLease { chunk: pending, charge, request } = waiting.pending;
        let allocated = match polled {
            Poll::Ready(allocated) => allocated,
            Poll::Pending => {
                ticket.wait_for_earlier(peer.uid);
                self.reclaimer.reclaim_all(peer.uid);
                pending.time_out()
            }
        };
        let leased = allocated
            .map_err(ErrorReply::from)
            .and_then(|chunk| self.lease_after_waiting(peer, &request, chunk, charge, make_room));
        Ok(leased.map(|lease| Allocated { lease, request }))
    }

    /// Gives memory to the chunk of a request that has waited.
    fn lease_after_waiting(
        &self,
        peer: &Peer,
        request: &SharingRequest,
        chunk: Chunk,
        charge: Option<Charge>,
        mut make_room: impl FnMut() -> bool,
    ) -> Result<Lease, ErrorReply> {
        let mut leased = self.lease(peer, chunk, charge);
        loop {
            match leased? {
                Ok(lease) => return Ok(lease),
                // A chunk without usable memory is no reason to wait longer: the other regions are
                // tried once, as for a request that doesn't wait.
                Err(not_mapped) if not_mapped.may_be_elsewhere() => {
                    return self.try_regions(peer, request, vec![not_mapped]);
                }
                // The chunk is kept meanwhile: the client may have waited long for it.
                Err(NotMapped { chunk, error }) => {
                    let error = ErrorReply::from(error);
                    if !error.is_out_of_descriptors() || !make_room() {
                        return Err(error);
                    }
                    leased = self.lease(peer, chunk, None);
                }
            }
        }
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

    /// Repeats a failed attempt once, if something was freed before the event of `ticket`.
    fn after_earlier_frees<T>(
        &self,
        ticket: &Ticket,
        peer: &Peer,
        attempt: impl Fn() -> Result<T, ErrorReply>,
    ) -> Result<T, ErrorReply> {
        let freed_before = self.accounts.freed();
        attempt().or_else(|error| {
            if !error.is_transient() {
                return Err(error);
            }
            ticket.wait_for_earlier(peer.uid);
            self.reclaimer.reclaim_all(peer.uid);
            // If nothing was freed, the result would be the same, and a region counts each refusal.
            if self.accounts.freed() == freed_before { Err(error) } else { attempt() }
        })
    }

    fn request(&self, peer: &Peer, wanted: WantedChunk<'_>) -> Result<SharingRequest, ErrorReply> {
        let (source, request) = wanted.source_and_request();
        Ok(self.cma.to_share(peer.as_process(), source, &request)?)
    }

    /// Allocates from the first region whose memory is usable.
    ///
    /// `unusable` are chunks whose memory a process holds. They stay allocated until the end of the
    /// request, so that the framework tries another region of the list.
    fn try_regions(
        &self,
        peer: &Peer,
        request: &SharingRequest,
        mut unusable: Vec<NotMapped>,
    ) -> Result<Lease, ErrorReply> {
        loop {
            match (self.try_once(peer, request), unusable.len() < MAX_REGIONS) {
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
        request: &SharingRequest,
    ) -> Result<Result<Lease, NotMapped>, ErrorReply> {
        let charge = self.charge_least(peer, request)?;
        self.lease(peer, request.alloc()?, charge)
    }

    /// Charges `peer` for the smallest chunk that it can get. A request that exceeds every region
    /// is charged only afterwards, so that it fails with the framework's error and not with that of
    /// a quota.
    fn charge_least(
        &self,
        peer: &Peer,
        request: &SharingRequest,
    ) -> Result<Option<Charge>, ErrorReply> {
        request.least_bytes().map(|bytes| self.accounts.charge(peer, bytes)).transpose()
    }

    /// A chunk with its charge and its memory. The inner error has the chunk whose memory is
    /// unusable.
    fn lease(
        &self,
        peer: &Peer,
        chunk: Chunk,
        charge: Option<Charge>,
    ) -> Result<Result<Lease, NotMapped>, ErrorReply> {
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
