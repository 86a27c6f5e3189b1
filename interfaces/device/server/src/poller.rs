//! The epoll instance at which the threads wait.

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};

/// The events that a connection waits for until the client's next request.
pub(crate) const REQUEST: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    Listener,
    Shutdown,
    Timer,
    /// The connection of this number.
    Connection(u64),
}

/// What stands for the connection of number 0. Less stands for the other sources.
const FIRST_CONNECTION: u64 = 3;

impl EventSource {
    fn to_data(self) -> EventData {
        EventData::new_u64(match self {
            EventSource::Listener => 0,
            EventSource::Shutdown => 1,
            EventSource::Timer => 2,
            EventSource::Connection(number) => number.wrapping_add(FIRST_CONNECTION),
        })
    }

    fn from_data(data: EventData) -> Self {
        match data.u64() {
            0 => EventSource::Listener,
            1 => EventSource::Shutdown,
            2 => EventSource::Timer,
            number => EventSource::Connection(number - FIRST_CONNECTION),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poller(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Reports the next event of a source to one thread. To report another one, the source has to
    /// be armed again.
    pub(crate) fn arm(
        &self,
        fd: impl AsFd,
        source: EventSource,
        flags: EventFlags,
    ) -> io::Result<()> {
        let (data, flags) = (source.to_data(), flags | EventFlags::ONESHOT);
        match epoll::modify(&self.0, fd.as_fd(), data, flags) {
            Err(Errno::NOENT) => epoll::add(&self.0, fd, data, flags),
            result => result,
        }
    }

    /// Reports a writable source at once, if it was armed before. Does not block, and takes no lock
    /// of the server.
    pub(crate) fn report_writable(&self, fd: impl AsFd, source: EventSource) {
        let flags = EventFlags::OUT | EventFlags::RDHUP | EventFlags::ONESHOT;
        // Fails only when the source was removed.
        let _ = epoll::modify(&self.0, fd.as_fd(), source.to_data(), flags);
    }

    /// Reports a shutdown to every thread, again and again.
    pub(crate) fn add_shutdown(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::add(&self.0, fd, EventSource::Shutdown.to_data(), EventFlags::IN)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for one event.
    pub(crate) fn wait(&self) -> io::Result<Option<(EventSource, EventFlags)>> {
        let mut event = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
        let count = io::retry_on_intr(|| epoll::wait(&self.0, &mut event, None))?;
        let epoll::Event { flags, data } = event[0];
        Ok((count > 0).then(|| (EventSource::from_data(data), flags)))
    }
}
