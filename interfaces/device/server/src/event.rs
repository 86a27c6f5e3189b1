//! Events that a thread serves for a client.

use crate::connection::Connection;
use crate::connections::NewClient;
use crate::event_order::Ticket;
use crate::peer::Peer;
use rustix::event::epoll::EventFlags;
use std::sync::Arc;

/// Something that happened, with its place in the order of events.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection has a request, can be written to, or was closed by its client.
    Ready { connection: Arc<Connection>, flags: EventFlags, ticket: Ticket },
    /// A connection was reported because its request that waits may have room now, or its deadline
    /// has passed.
    Woken { connection: Arc<Connection>, ticket: Ticket },
    /// A client was accepted. The connection of `evicted` was closed to make room.
    Accepted { connection: Arc<Connection>, evicted: Option<Peer>, ticket: Ticket },
    /// A client has connected, but there was no slot for it yet.
    WithoutSlot { client: NewClient, peer: Peer, ticket: Ticket },
}

impl Event {
    /// The client's user.
    pub(crate) fn uid(&self) -> u32 {
        match self {
            Event::Ready { connection, .. }
            | Event::Woken { connection, .. }
            | Event::Accepted { connection, .. } => connection.uid,
            Event::WithoutSlot { peer, .. } => peer.uid,
        }
    }

    pub(crate) fn ticket(&self) -> &Ticket {
        let (Event::Ready { ticket, .. }
        | Event::Woken { ticket, .. }
        | Event::Accepted { ticket, .. }
        | Event::WithoutSlot { ticket, .. }) = self;
        ticket
    }
}
