//! What is recorded of a connection and its requests.

use crate::deadlines::Deadline;
use crate::error_reply::ErrorReply;
use crate::lasting::{KeptFiles, Records, Stored, monotonic_now, record_of};
use crate::lease::Lease;
use crate::log;
use cma_device_protocol::Message;
use cma_framework::SharingRequest;
use cma_journal::{Answered, Change, ConnectionNumber, Record, RecordId, Waiting};
use rustix::fd::BorrowedFd;
use rustix::net::{Shutdown, shutdown};
use std::sync::Arc;
use std::time::Duration;

/// A connection that the keeper has, until this is dropped.
#[derive(Debug)]
pub(crate) struct KeptConnection {
    records: Arc<Records>,
    number: u64,
}

impl KeptConnection {
    /// The connection that the keeper has under that number.
    pub(crate) fn new(records: Arc<Records>, number: u64) -> Self {
        KeptConnection { records, number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for KeptConnection {
    fn drop(&mut self) {
        self.records.release(Stored::Connection(self.number));
    }
}

/// The records of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionRecords {
    records: Arc<Records>,
    number: ConnectionNumber,
    /// The connection with the keeper, once it has it.
    kept: Option<KeptConnection>,
    /// That of its last answer which changed something.
    answered: Option<RecordId>,
    /// That of its request that waits.
    waiting: Option<RecordId>,
    /// The last answer of the server before this one, until the first message is read.
    before: Option<Answered>,
    /// Whether the client may have the descriptors of an answer that was sent twice, and that it
    /// has not read.
    may_have_repeated: bool,
    /// When a request is tried again that was refused for that.
    pub(crate) retry: Option<Deadline>,
}

impl ConnectionRecords {
    /// Of a new connection, which the keeper may have already.
    pub(crate) fn new(records: Arc<Records>, number: u64, kept: Option<KeptConnection>) -> Self {
        ConnectionRecords {
            records,
            number: ConnectionNumber(number),
            kept,
            answered: None,
            waiting: None,
            before: None,
            may_have_repeated: false,
            retry: None,
        }
    }

    /// Of a connection that another server has served.
    pub(crate) fn of_earlier(
        kept: KeptConnection,
        answered: Option<(RecordId, Answered)>,
        waiting: Option<RecordId>,
    ) -> Self {
        let (answered, before) = answered.unzip();
        let new = Self::new(kept.records.clone(), kept.number, Some(kept));
        ConnectionRecords { answered, waiting, before, may_have_repeated: true, ..new }
    }

    /// Has the keeper hold the connection, from before its first message is read.
    ///
    /// # Errors
    ///
    /// The keeper doesn't have it then.
    pub(crate) fn keep(&mut self, socket: BorrowedFd<'_>) -> Result<(), ErrorReply> {
        if self.kept.is_none() {
            let number = self.number.0;
            self.records.keep(Stored::Connection(number), socket)?;
            self.kept = Some(KeptConnection::new(self.records.clone(), number));
        }
        Ok(())
    }

    /// The answer to the request of that id, if the server before this one recorded it, and may
    /// not have sent it. Only the first message after a start can have one.
    pub(crate) fn take_answer_before(&mut self, id: u64) -> Option<Message> {
        let before = self.before.take().filter(|before| before.id == id)?;
        Message::from_bytes(&before.answer).ok()
    }

    /// Whether the client may have the descriptors of an answer that it ignores, until it reads
    /// that. It is so once after a start.
    pub(crate) fn take_may_have_repeated(&mut self) -> bool {
        std::mem::take(&mut self.may_have_repeated)
    }

    /// Has `change` replace the last answer. The request doesn't wait any more.
    fn answer_in(&self, change: &mut Change, id: u64, answer: &Message) {
        let answer = answer.as_bytes().to_vec();
        change.put(Record::Answered(Answered { connection: self.number, id, answer }));
        self.forget_in(change);
    }

    /// Has `change` remove the last answer and the request that waits.
    fn forget_in(&self, change: &mut Change) {
        for id in [self.answered, self.waiting].into_iter().flatten() {
            change.remove(id);
        }
    }

    fn has_answered(&mut self, id: Option<RecordId>) {
        (self.answered, self.waiting) = (id, None);
    }

    /// Records that a request waits for up to `wait` from now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. Nothing is recorded then.
    pub(crate) fn waits(&mut self, id: u64, wait: Duration) -> Result<(), ErrorReply> {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let deadline = monotonic_now().saturating_add(wait);
        let order = self.records.next_order();
        let mut change = Change::new();
        change.put(Record::Waiting(Waiting { connection: self.number, id, order, deadline }));
        // That of a request which the server before this one had, and which can't wait again.
        if let Some(earlier) = self.waiting {
            change.remove(earlier);
        }
        self.waiting = self.records.commit(&change)?.first().copied();
        Ok(())
    }

    /// Has a new chunk outlive the server, and records it together with the answer to its request.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub(crate) fn allocated(
        &mut self,
        lease: &mut Lease,
        request: &SharingRequest,
        file: Option<u128>,
        id: u64,
        answer: &Message,
    ) -> Result<(), ErrorReply> {
        let records = self.records.clone();
        let (start, size) = (lease.start().get(), lease.chunk().size());
        let chunk = record_of(start, size, request, self.number, file)?;
        let kept = KeptFiles::of(&records, start, lease.lasting()?)?;
        let mut change = Change::new();
        change.put(Record::Chunk(chunk.clone()));
        self.answer_in(&mut change, id, answer);
        let ids = self.records.commit(&change)?;
        self.has_answered(ids.get(1).copied());
        if let Some(id) = ids.first() {
            lease.set_recorded(kept.recorded(*id, chunk));
        }
        Ok(())
    }

    /// Records that a chunk is freed, together with the answer to that request, and has the keeper
    /// close its files.
    ///
    /// # Errors
    ///
    /// Nothing has changed then; `chunk` is still recorded.
    pub(crate) fn freed(
        &mut self,
        lease: &mut Lease,
        id: u64,
        answer: &Message,
    ) -> Result<(), ErrorReply> {
        let mut change = Change::new();
        if let Some(chunk) = lease.recorded() {
            chunk.remove_in(&mut change);
        }
        self.answer_in(&mut change, id, answer);
        let ids = self.records.commit(&change)?;
        self.has_answered(ids.first().copied());
        if let Some(chunk) = lease.take_recorded() {
            chunk.release();
        }
        Ok(())
    }

    /// Records an answer to a request that could have changed something. So the request isn't
    /// carried out again after its client got the answer.
    pub(crate) fn refused(&mut self, id: u64, answer: &Message) {
        let mut change = Change::new();
        self.answer_in(&mut change, id, answer);
        // The size of the journal makes sure that this has room.
        match self.records.commit(&change) {
            Ok(ids) => self.has_answered(ids.first().copied()),
            Err(error) => log::emit(|| {
                tracing::error!(error = error.reason, "a refusal is not recorded");
            }),
        }
    }

    /// Ends the connection: nothing of it outlives the server. If a process holds the memory of
    /// its chunk, the chunk is recorded as left behind.
    pub(crate) fn end(mut self, socket: BorrowedFd<'_>, lease: Option<&mut Lease>) {
        // The keeper still has the connection. From here on it is over whatever happens.
        let _ = shutdown(socket, Shutdown::Both);
        let mut change = Change::new();
        self.forget_in(&mut change);
        let mut ended = None;
        match lease {
            Some(lease) if lease.is_held() => {
                if let Some(chunk) = lease.recorded() {
                    chunk.leave_behind_in(&mut change);
                }
                self.commit_end(&change, |ids| {
                    if let (Some(chunk), Some(id)) = (lease.take_recorded(), ids.first()) {
                        lease.set_recorded(chunk.left_behind(*id));
                    }
                });
            }
            lease => {
                let chunk = lease.and_then(Lease::take_recorded);
                if let Some(chunk) = &chunk {
                    chunk.remove_in(&mut change);
                }
                self.commit_end(&change, |_| ended = chunk);
            }
        }
        drop(self.kept.take());
        if let Some(chunk) = ended {
            chunk.release();
        }
    }

    /// If this fails, the records stay: the next server finds them without a connection.
    fn commit_end(&self, change: &Change, committed: impl FnOnce(&[RecordId])) {
        match self.records.commit(change) {
            Ok(ids) => committed(&ids),
            Err(error) => log::emit(|| {
                tracing::error!(error = error.reason, "the end of a connection is not recorded");
            }),
        }
    }
}
