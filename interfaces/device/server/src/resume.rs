//! Continuing the clients of a server before this one.

use crate::connection::{Connection, Session};
use crate::connection_records::{ConnectionRecords, KeptConnection};
use crate::lasting::{EarlierChunk, EarlierConnection, RecordedChunk, Restored, monotonic_now};
use crate::lease::Lease;
use crate::peer::Peer;
use crate::poller::REQUEST;
use crate::service::ClientService;
use crate::socket_options;
use crate::waiting::WaitingRequest;
use cma_device_protocol::wire;
use cma_journal::Waiting;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client's connection, which another server has served.
struct EarlierClient {
    socket: OwnedFd,
    peer: Peer,
    records: EarlierConnection,
    lease: Option<Lease>,
}

impl ClientService {
    /// Continues connections and chunks. A chunk whose connection is gone is left behind. Returns
    /// the connections whose requests wait, in the order in which they are served.
    pub(crate) fn resume(&self, restored: Restored) -> io::Result<Vec<Arc<Connection>>> {
        let Restored { records, chunks, connections, .. } = restored;
        // A chunk that is dropped is freed. On an error the next server continues it.
        let chunks = ManuallyDrop::new(chunks);
        let mut clients = BTreeMap::new();
        for (number, socket, records) in connections {
            let peer = Peer::of(socket.as_fd())?;
            socket_options::prepare(socket.as_fd());
            clients.insert(number, EarlierClient { socket, peer, records, lease: None });
        }
        for EarlierChunk { chunk, recorded } in ManuallyDrop::into_inner(chunks) {
            let client = recorded.connection().and_then(|number| clients.get_mut(&number));
            let (uid, pid) = recorded.requester();
            let peer = match &client {
                Some(client) => client.peer.clone(),
                None => Peer { uid, gid: 0, groups: Box::default(), pid },
            };
            let (start, size) = (chunk.chunk().start().get(), chunk.chunk().size());
            let charge = self.handler.accounts().charge_of_earlier(&peer, size, Some(start));
            let lease = Lease::of_earlier(chunk, charge, recorded);
            match client {
                Some(client) => client.lease = Some(lease),
                None => {
                    let slot = self.handler.accounts().slot_of_earlier(uid);
                    self.handler.reclaimer().add(lease, slot);
                }
            }
        }
        let (mut waiting, mut armed) = (Vec::new(), Ok(()));
        for (number, client) in clients {
            let EarlierClient { socket, peer, records: earlier, lease } = client;
            let kept = KeptConnection::new(records.clone(), number);
            let waits = earlier.waiting.as_ref().map(|(id, _)| *id);
            let slot = self.handler.accounts().slot_of_earlier(peer.uid);
            let mut session = Session::new(peer, slot);
            session.records =
                Some(Box::new(ConnectionRecords::of_earlier(kept, earlier.answered, waits)));
            if let Some(lease) = lease {
                self.give_back(&mut session, lease);
            }
            let connection = self.connections.insert(number, socket, session, 0);
            match earlier.waiting {
                Some((_, record)) if self.waits_again(&connection, &record) => {
                    waiting.push((record.order, connection));
                }
                _ => armed = armed.and(self.connections.arm(&connection, REQUEST)),
            }
        }
        armed?;
        waiting.sort_by_key(|(order, _)| *order);
        Ok(waiting.into_iter().map(|(_, connection)| connection).collect())
    }

    /// Gives a connection its chunk, or that of its open file.
    fn give_back(&self, session: &mut Session, lease: Lease) {
        let file = lease.recorded().and_then(RecordedChunk::file);
        let Some(file) = file else {
            session.lease = Some(lease);
            return;
        };
        match self.handler.reopen_file(file, lease) {
            Ok(file) => session.file = Some(file),
            Err(lease) => session.lease = Some(lease),
        }
    }

    /// Makes the request that is first in a connection's socket wait again, until the same moment.
    /// Returns whether it does; otherwise it is served as a new one.
    fn waits_again(&self, connection: &Arc<Connection>, record: &Waiting) -> bool {
        let message = wire::peek(connection.socket.as_fd());
        let Some(message) = message.ok().filter(|message| message.id() == record.id) else {
            return false;
        };
        let Ok((id, request)) = message.as_request() else { return false };
        let now = (Instant::now(), monotonic_now());
        let left = Duration::from_nanos(record.deadline.saturating_sub(now.1));
        let at = now.0.checked_add(left).unwrap_or(now.0);
        let since = at.checked_sub(request.wait()).unwrap_or(now.0).min(now.0);
        let mut session = connection.session.lock();
        let Some(session) = session.as_mut() else { return false };
        let Some((pending, memory)) = self.handler.begin_again(&session.peer, &request, since)
        else {
            return false;
        };
        let deadline = self.deadlines.add_at(at, connection.number);
        let waker = self.connections.waker(connection);
        session.waiting = Some(Box::new(WaitingRequest { id, memory, pending, deadline, waker }));
        connection.set_waits(true);
        true
    }
}
