//! The connections, chunks and bytes of each user and process. Each is accounted for until its
//! [`ConnectionSlot`] or [`Charge`] is dropped.

use crate::error_reply::ErrorReply;
use crate::limits::{Limits, Quota};
use crate::peer::Peer;
use cma_device_protocol::ListedChunk;
use cma_framework::config::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The accounts of all users. Their lock is held for look-ups and changes alone.
#[derive(Debug)]
pub(crate) struct Accounts {
    ledger: Mutex<Ledger>,
}

const ROOT: u32 = 0;

/// The number of connections of each user that draw on the quarter kept for them.
const RESERVED: u64 = 4;

#[derive(Debug, Default)]
struct Ledger {
    /// They bound what is added. What was there before they were lowered stays.
    limits: Limits,
    /// Connection slots in use.
    slots: u64,
    /// Those beyond the first [`RESERVED`] of their user.
    unreserved_slots: u64,
    /// The users with a slot or a chunk.
    users: HashMap<u32, UserAccount>,
    /// The number of the newest chunk.
    newest_chunk: u64,
    /// Chunks that were freed, and waits that ended without one.
    freed: u64,
}

#[derive(Debug, Default)]
struct UserAccount {
    slots: u64,
    bytes: u128,
    chunks: BTreeMap<u64, ChunkEntry>,
    /// By process: the usage of the connections that it opened.
    processes: HashMap<u32, Usage>,
}

/// The bytes may exceed 64 bits while several requests are in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    chunks: u64,
    bytes: u128,
}

#[derive(Clone, Copy, Debug)]
struct ChunkEntry {
    pid: u32,
    bytes: u64,
    /// `None` until the chunk is allocated, and from when it is about to be free.
    start: Option<u64>,
    /// Whether its end counts as freed: the chunk was placed, or its request waits or has waited.
    frees: bool,
    left_behind: bool,
}

/// Why there is no slot for a connection.
#[derive(Debug)]
pub(crate) enum NoSlot {
    /// The user has the maximum for one user.
    UserLimit(ErrorReply),
    /// All slots are in use. Evicting a connection of a user with more than `in_use` frees one.
    AllInUse {
        /// The number of slots that the user has.
        in_use: u64,
        /// The error if no connection can be evicted.
        error: ErrorReply,
    },
}

/// The right to one of the server's connections.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    accounts: Arc<Accounts>,
    uid: u32,
}

/// A chunk's entry in the account of its user and, as long as it is connected, its process.
#[derive(Debug)]
pub(crate) struct Charge {
    accounts: Arc<Accounts>,
    uid: u32,
    number: u64,
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Accounts { ledger: Mutex::new(Ledger { limits, ..Ledger::default() }) })
    }

    /// Replaces the limits. What exceeds them stays.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.ledger.lock().limits = limits;
    }

    /// The longest time that a request may wait.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.ledger.lock().limits.wait
    }

    /// Takes a slot for a connection of `peer`.
    pub(crate) fn connection_slot(self: &Arc<Self>, peer: &Peer) -> Result<ConnectionSlot, NoSlot> {
        let ledger = &mut *self.ledger.lock();
        let Limits { user_connections, connections, .. } = ledger.limits;
        let in_use = ledger.slots_of(peer.uid);
        if in_use >= user_connections {
            let reason = format!(
                "user {} has all {user_connections} connections of one user; close one, or raise the limit user-connections",
                peer.uid
            );
            return Err(NoSlot::UserLimit(ErrorReply::new(Errno::DQUOT, reason)));
        } else if !ledger.has_slot_for(peer.uid, connections) {
            let reason = format!("all {connections} connections are in use; try again later");
            return Err(NoSlot::AllInUse { in_use, error: ErrorReply::new(Errno::USERS, reason) });
        }
        ledger.take_slot(peer.uid);
        Ok(ConnectionSlot { accounts: self.clone(), uid: peer.uid })
    }

    /// A slot for a connection that a server before this one has served, whatever the limits are.
    pub(crate) fn slot_of_earlier(self: &Arc<Self>, uid: u32) -> ConnectionSlot {
        let ledger = &mut *self.ledger.lock();
        ledger.take_slot(uid);
        ConnectionSlot { accounts: self.clone(), uid }
    }

    /// Checks that the user can open one more connection. A connection that keeps the chunk of an
    /// open file must not take the last one: queries about the file need it.
    pub(crate) fn require_spare_slot(&self, peer: &Peer) -> Result<(), ErrorReply> {
        let ledger = self.ledger.lock();
        let Limits { user_connections, connections, .. } = ledger.limits;
        if ledger.slots_of(peer.uid) < user_connections
            && ledger.has_slot_for(peer.uid, connections)
        {
            return Ok(());
        }
        let reason = "the last connection is reserved for queries about open files; raise the limits on connections";
        Err(ErrorReply::new(Errno::DQUOT, reason))
    }

    /// The number of connections.
    pub(crate) fn slots(&self) -> u64 {
        self.ledger.lock().slots
    }

    /// The number of connections of each of these users.
    pub(crate) fn slots_of(&self, users: impl Iterator<Item = u32>) -> HashMap<u32, u64> {
        let ledger = self.ledger.lock();
        users.map(|uid| (uid, ledger.slots_of(uid))).collect()
    }

    /// Charges `peer` for a chunk of `bytes`.
    pub(crate) fn charge(self: &Arc<Self>, peer: &Peer, bytes: u64) -> Result<Charge, ErrorReply> {
        let ledger = &mut *self.ledger.lock();
        let user = ledger.users.entry(peer.uid).or_default();
        let more = Usage { chunks: 1, bytes: bytes.into() };
        if let Some(reason) = user.exceeds(peer.uid, peer.pid, more, &ledger.limits) {
            ledger.remove_if_unused(peer.uid);
            return Err(ErrorReply::new(Errno::DQUOT, reason));
        }
        let number = ledger.charge(peer, bytes, None);
        Ok(Charge { accounts: self.clone(), uid: peer.uid, number })
    }

    /// Charges `peer` for a chunk that a server before this one allocated, or for a request that
    /// waited there, which has no start. The limits don't count.
    pub(crate) fn charge_of_earlier(
        self: &Arc<Self>,
        peer: &Peer,
        bytes: u64,
        start: Option<u64>,
    ) -> Charge {
        let number = self.ledger.lock().charge(peer, bytes, start);
        Charge { accounts: self.clone(), uid: peer.uid, number }
    }

    /// The number of chunks freed so far, and of waits that ended. A chunk is counted after its
    /// memory is free.
    pub(crate) fn freed(&self) -> u64 {
        self.ledger.lock().freed
    }

    /// At most `max` chunks of a user with numbers above `after`, ascending.
    pub(crate) fn list(&self, uid: u32, after: u64, max: usize) -> Vec<ListedChunk> {
        let ledger = self.ledger.lock();
        let Some(user) = ledger.users.get(&uid) else { return Vec::new() };
        let later = user.chunks.range(after.saturating_add(1)..);
        let placed = later.filter_map(|(number, entry)| {
            let ChunkEntry { pid, bytes, start, left_behind, .. } = *entry;
            Some(ListedChunk { number: *number, start: start?, size: bytes, pid, left_behind })
        });
        placed.take(max).collect()
    }
}

/// The reason why `more` exceeds the quota of one `unit`, if it does; `u64::MAX` bytes are no
/// quota. `subject` begins a sentence, as in `user 7 has`.
fn exceeds(subject: &str, unit: &str, has: Usage, quota: Quota, more: Usage) -> Option<String> {
    if has.chunks + more.chunks > quota.chunks {
        Some(format!("{subject} all {} chunks of one {unit}", quota.chunks))
    } else if quota.bytes < u64::MAX && has.bytes + more.bytes > quota.bytes.into() {
        let bytes = |bytes: u128| Bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        let (more, has, quota) = (bytes(more.bytes), bytes(has.bytes), Bytes(quota.bytes));
        Some(format!("{more} more are too much: {subject} {has} of the {quota} of one {unit}"))
    } else {
        None
    }
}

impl Ledger {
    fn slots_of(&self, uid: u32) -> u64 {
        self.users.get(&uid).map_or(0, |user| user.slots)
    }

    /// Whether one more connection of a user may be accepted.
    ///
    /// A quarter of all slots is kept for the first few of each user, so that users with many
    /// connections can't exclude a user with none; root's own first slots are kept for root alone.
    fn has_slot_for(&self, uid: u32, connections: u64) -> bool {
        let kept = connections / 4;
        let kept_for_root =
            if uid == ROOT { 0 } else { RESERVED.min(kept).saturating_sub(self.slots_of(ROOT)) };
        let is_reserved = self.slots_of(uid) < RESERVED;
        self.slots + kept_for_root < connections
            && (is_reserved || self.unreserved_slots < connections - kept)
    }

    /// Adds a chunk, and returns its number.
    fn charge(&mut self, peer: &Peer, bytes: u64, start: Option<u64>) -> u64 {
        self.newest_chunk += 1;
        let user = self.users.entry(peer.uid).or_default();
        user.bytes += u128::from(bytes);
        let frees = start.is_some();
        let entry = ChunkEntry { pid: peer.pid, bytes, start, frees, left_behind: false };
        user.chunks.insert(self.newest_chunk, entry);
        let process = user.processes.entry(peer.pid).or_default();
        process.chunks += 1;
        process.bytes += u128::from(bytes);
        self.newest_chunk
    }

    fn take_slot(&mut self, uid: u32) {
        let user = self.users.entry(uid).or_default();
        self.slots += 1;
        self.unreserved_slots += u64::from(user.slots >= RESERVED);
        user.slots += 1;
    }

    fn remove_if_unused(&mut self, uid: u32) {
        if self.users.get(&uid).is_some_and(|user| user.slots == 0 && user.chunks.is_empty()) {
            self.users.remove(&uid);
        }
    }
}

impl UserAccount {
    /// The reason why `more` on a connection that process `pid` opened exceeds the limits of the
    /// process or the user, if it does.
    fn exceeds(&self, uid: u32, pid: u32, more: Usage, limits: &Limits) -> Option<String> {
        let process = self.processes.get(&pid).copied().unwrap_or_default();
        let user = Usage { chunks: self.chunks.len() as u64, bytes: self.bytes };
        let opener = format!("the connections that process {pid} opened have");
        exceeds(&opener, "process", process, limits.process, more)
            .or_else(|| exceeds(&format!("user {uid} has"), "user", user, limits.user, more))
    }

    /// Removes an entry from the usage of its process.
    fn discharge_process(&mut self, entry: ChunkEntry) {
        if let Some(process) = self.processes.get_mut(&entry.pid) {
            process.chunks -= 1;
            process.bytes -= u128::from(entry.bytes);
            if process.chunks == 0 {
                self.processes.remove(&entry.pid);
            }
        }
    }
}

impl Charge {
    fn update<T>(&self, change: impl FnOnce(&mut UserAccount, ChunkEntry) -> T) -> Option<T> {
        self.update_within(|user, entry, _| change(user, entry))
    }

    fn update_within<T>(
        &self,
        change: impl FnOnce(&mut UserAccount, ChunkEntry, &Limits) -> T,
    ) -> Option<T> {
        let ledger = &mut *self.accounts.ledger.lock();
        let user = ledger.users.get_mut(&self.uid)?;
        let entry = *user.chunks.get(&self.number)?;
        let result = change(user, entry, &ledger.limits);
        ledger.remove_if_unused(self.uid);
        Some(result)
    }

    /// Lists the chunk from now on and charges for its real size, which its region may have rounded
    /// up.
    ///
    /// # Errors
    ///
    /// `EDQUOT` when the rounded size exceeds a limit.
    pub(crate) fn set_placed(&self, start: u64, size: u64) -> Result<(), ErrorReply> {
        let placed = self.update_within(|user, entry, limits| {
            let more = u128::from(size.saturating_sub(entry.bytes));
            let more = Usage { chunks: 0, bytes: more };
            if let Some(reason) = user.exceeds(self.uid, entry.pid, more, limits) {
                return Err(ErrorReply::new(Errno::DQUOT, reason));
            }
            let adjust = |bytes: u128| bytes + u128::from(size) - u128::from(entry.bytes);
            user.bytes = adjust(user.bytes);
            if let Some(process) = user.processes.get_mut(&entry.pid) {
                process.bytes = adjust(process.bytes);
            }
            let entry = ChunkEntry { start: Some(start), bytes: size, frees: true, ..entry };
            user.chunks.insert(self.number, entry);
            Ok(())
        });
        placed.unwrap_or(Ok(()))
    }

    /// What ends the line of the chunk in the list of its user.
    pub(crate) fn listing(&self) -> Listing {
        Listing { accounts: self.accounts.clone(), uid: self.uid, number: self.number }
    }

    /// Marks the chunk's request as one that waits for room.
    pub(crate) fn set_waiting(&self) {
        self.update(|user, entry| {
            user.chunks.insert(self.number, ChunkEntry { frees: true, ..entry });
        });
    }

    /// Marks the chunk as left behind. It no longer counts for its process, whose number the kernel
    /// may reuse.
    pub(crate) fn set_left_behind(&self) {
        self.update(|user, entry| {
            user.discharge_process(entry);
            user.chunks.insert(self.number, ChunkEntry { left_behind: true, ..entry });
        });
    }
}

/// A chunk's line in the list of its user. It is dropped before the chunk is free, so that no chunk
/// at the same place is listed beside it.
#[derive(Debug)]
pub(crate) struct Listing {
    accounts: Arc<Accounts>,
    uid: u32,
    number: u64,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let ledger = &mut *self.accounts.ledger.lock();
        let user = ledger.users.get_mut(&self.uid);
        if let Some(entry) = user.and_then(|user| user.chunks.get_mut(&self.number)) {
            entry.start = None;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let entry = self.update(|user, entry| {
            user.chunks.remove(&self.number);
            user.bytes -= u128::from(entry.bytes);
            if !entry.left_behind {
                user.discharge_process(entry);
            }
            entry
        });
        // The charge of a request that was refused at once frees nothing that another could use.
        if entry.is_some_and(|entry| entry.frees) {
            self.accounts.ledger.lock().freed += 1;
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let ledger = &mut *self.accounts.ledger.lock();
        ledger.slots -= 1;
        if let Some(user) = ledger.users.get_mut(&self.uid) {
            user.slots -= 1;
            ledger.unreserved_slots -= u64::from(user.slots >= RESERVED);
        }
        ledger.remove_if_unused(self.uid);
    }
}

#[cfg(test)]
mod tests;
