//! Who has how much. What is taken here is given back when its [`Seat`] or [`Charge`] is dropped.

use crate::limits::{Limits, Quota};
use crate::peer::Peer;
use crate::refusal::Refusal;
use cma_device_protocol::Listed;
use cma_framework::config::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The books over all users. Their lock is held for looking something up in them.
#[derive(Debug)]
pub(crate) struct Accounts {
    limits: Limits,
    books: Mutex<Books>,
}

const ROOT: u32 = 0;

/// How many connections each user finds a place for while others have more.
const FIRST: u64 = 4;

#[derive(Debug, Default)]
struct Books {
    seats: u64,
    /// How many of them are beyond the first ones of their user.
    beyond: u64,
    /// Those that have something.
    users: HashMap<u32, User>,
    /// The number of the newest chunk.
    newest: u64,
    /// How many were given back.
    given_back: u64,
}

#[derive(Debug, Default)]
struct User {
    seats: u64,
    bytes: u128,
    chunks: BTreeMap<u64, Entry>,
    /// What the connections have that each process opened.
    processes: HashMap<u32, Has>,
}

/// What somebody has. It may be more than a 64-bit number of bytes while several requests are under
/// way.
#[derive(Clone, Copy, Debug, Default)]
struct Has {
    chunks: u64,
    bytes: u128,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    pid: u32,
    bytes: u64,
    /// `None` until the chunk has its place.
    start: Option<u64>,
    left_behind: bool,
}

/// Why there is no place for a connection.
#[derive(Debug)]
pub(crate) enum NoSeat {
    /// The user has as many as one user may have.
    OfUser(Refusal),
    /// All are taken. There is one when a connection of a user is closed that has more than the
    /// `has` of this one.
    OfAll {
        /// How many the user has.
        has: u64,
        /// What to say when there is nothing to close.
        refusal: Refusal,
    },
}

/// A connection's place among those that there may be.
#[derive(Debug)]
pub(crate) struct Seat {
    accounts: Arc<Accounts>,
    uid: u32,
}

/// A chunk that counts for its user and, as long as it is connected, its process.
#[derive(Debug)]
pub(crate) struct Charge {
    accounts: Arc<Accounts>,
    uid: u32,
    number: u64,
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Accounts { limits, books: Mutex::default() })
    }

    /// A seat for a connection of `peer`.
    pub(crate) fn seat(self: &Arc<Self>, peer: &Peer) -> Result<Seat, NoSeat> {
        let Limits { user_connections, connections, .. } = self.limits;
        let books = &mut *self.books.lock();
        let has = books.seats_of(peer.uid);
        if has >= user_connections {
            let words =
                format!("user {} has all {user_connections} connections of one user", peer.uid);
            return Err(NoSeat::OfUser(Refusal::new(Errno::DQUOT, words)));
        } else if !books.have_room(peer.uid, connections) {
            let refusal =
                Refusal::new(Errno::USERS, format!("all {connections} connections are taken"));
            return Err(NoSeat::OfAll { has, refusal });
        }
        books.seats += 1;
        books.beyond += u64::from(has >= FIRST);
        books.users.entry(peer.uid).or_default().seats += 1;
        Ok(Seat { accounts: self.clone(), uid: peer.uid })
    }

    /// Refuses the last place, of the server or of the user, to a connection that keeps the chunk
    /// of an open file: who asks about the file later does it on another connection, for which
    /// there has to be a place.
    pub(crate) fn keeps_a_place(&self, peer: &Peer) -> Result<(), Refusal> {
        let Limits { user_connections, connections, .. } = self.limits;
        let books = self.books.lock();
        if books.seats_of(peer.uid) < user_connections && books.have_room(peer.uid, connections) {
            return Ok(());
        }
        let words = "the last connection is left for questions about open files; raise the limits on connections";
        Err(Refusal::new(Errno::DQUOT, words))
    }

    /// How many connections each of these users has.
    pub(crate) fn seats_of(&self, users: impl Iterator<Item = u32>) -> HashMap<u32, u64> {
        let books = self.books.lock();
        users.map(|uid| (uid, books.seats_of(uid))).collect()
    }

    /// Charges `peer` for a chunk of `bytes`.
    pub(crate) fn charge(self: &Arc<Self>, peer: &Peer, bytes: u64) -> Result<Charge, Refusal> {
        let books = &mut *self.books.lock();
        let user = books.users.entry(peer.uid).or_default();
        let more = Has { chunks: 1, bytes: bytes.into() };
        if let Some(words) = user.exceeds(peer.uid, peer.pid, more, &self.limits) {
            books.forget_if_gone(peer.uid);
            return Err(Refusal::new(Errno::DQUOT, words));
        }
        books.newest += 1;
        let number = books.newest;
        user.bytes += more.bytes;
        user.chunks.insert(number, Entry { pid: peer.pid, bytes, start: None, left_behind: false });
        let process = user.processes.entry(peer.pid).or_default();
        *process = Has { chunks: process.chunks + 1, bytes: process.bytes + more.bytes };
        Ok(Charge { accounts: self.clone(), uid: peer.uid, number })
    }

    /// How many chunks were given back so far. Their memory was free before they are counted.
    pub(crate) fn given_back(&self) -> u64 {
        self.books.lock().given_back
    }

    /// The chunks of a user with a number above `after`, ascending.
    pub(crate) fn list(&self, uid: u32, after: u64, most: usize) -> Vec<Listed> {
        let books = self.books.lock();
        let Some(user) = books.users.get(&uid) else { return Vec::new() };
        let later = user.chunks.range(after.saturating_add(1)..);
        let placed = later.filter_map(|(number, entry)| {
            let Entry { pid, bytes, start, left_behind } = *entry;
            Some(Listed { number: *number, start: start?, size: bytes, pid, left_behind })
        });
        placed.take(most).collect()
    }
}

/// Why somebody who has that much can't have so much more. There is no quota on bytes when it is
/// the largest number.
fn exceeds(who: &str, whose: &str, has: Has, limit: Quota, more: Has) -> Option<String> {
    if has.chunks + more.chunks > limit.chunks {
        Some(format!("{who} all {} chunks of one {whose}", limit.chunks))
    } else if limit.bytes < u64::MAX && has.bytes + more.bytes > limit.bytes.into() {
        let bytes = |bytes: u128| Bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        let (asked, has, limit) = (bytes(more.bytes), bytes(has.bytes), Bytes(limit.bytes));
        Some(format!("{asked} more are too much: {who} {has} of the {limit} of one {whose}"))
    } else {
        None
    }
}

impl Books {
    fn seats_of(&self, uid: u32) -> u64 {
        self.users.get(&uid).map_or(0, |user| user.seats)
    }

    /// Whether there is room for one more connection of a user.
    ///
    /// A quarter of all is kept for the first few of each user, so that those who have many can't
    /// take the last from those who have none; root's own first ones are kept from everybody.
    fn have_room(&self, uid: u32, connections: u64) -> bool {
        let kept = connections / 4;
        let roots =
            if uid == ROOT { 0 } else { FIRST.min(kept).saturating_sub(self.seats_of(ROOT)) };
        let is_first = self.seats_of(uid) < FIRST;
        self.seats + roots < connections && (is_first || self.beyond < connections - kept)
    }

    fn forget_if_gone(&mut self, uid: u32) {
        if self.users.get(&uid).is_some_and(|user| user.seats == 0 && user.chunks.is_empty()) {
            self.users.remove(&uid);
        }
    }
}

impl User {
    /// Why a user can't have so much more by a connection that process `pid` opened.
    fn exceeds(&self, uid: u32, pid: u32, more: Has, limits: &Limits) -> Option<String> {
        let process = self.processes.get(&pid).copied().unwrap_or_default();
        let user = Has { chunks: self.chunks.len() as u64, bytes: self.bytes };
        let opener = format!("the connections that process {pid} opened have");
        exceeds(&opener, "process", process, limits.process, more)
            .or_else(|| exceeds(&format!("user {uid} has"), "user", user, limits.user, more))
    }

    /// Takes an entry off its process.
    fn leave_process(&mut self, entry: Entry) {
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
    fn entry<T>(&self, change: impl FnOnce(&mut User, Entry) -> T) -> Option<T> {
        let books = &mut *self.accounts.books.lock();
        let user = books.users.get_mut(&self.uid)?;
        let entry = *user.chunks.get(&self.number)?;
        let answer = change(user, entry);
        books.forget_if_gone(self.uid);
        Some(answer)
    }

    /// From now on the chunk is listed, and charged for as it is: its region may have rounded it
    /// up.
    pub(crate) fn placed(&self, start: u64, size: u64) -> Result<(), Refusal> {
        let placed = self.entry(|user, entry| {
            let more = u128::from(size.saturating_sub(entry.bytes));
            let more = Has { chunks: 0, bytes: more };
            if let Some(words) = user.exceeds(self.uid, entry.pid, more, &self.accounts.limits) {
                return Err(Refusal::new(Errno::DQUOT, words));
            }
            let settle = |bytes: u128| bytes + u128::from(size) - u128::from(entry.bytes);
            user.bytes = settle(user.bytes);
            if let Some(process) = user.processes.get_mut(&entry.pid) {
                process.bytes = settle(process.bytes);
            }
            user.chunks.insert(self.number, Entry { start: Some(start), bytes: size, ..entry });
            Ok(())
        });
        placed.unwrap_or(Ok(()))
    }

    /// Its connection is gone and somebody holds its memory: it no longer counts for the process,
    /// whose number may soon be another's.
    pub(crate) fn left_behind(&self) {
        self.entry(|user, entry| {
            user.leave_process(entry);
            user.chunks.insert(self.number, Entry { left_behind: true, ..entry });
        });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let entry = self.entry(|user, entry| {
            user.chunks.remove(&self.number);
            user.bytes -= u128::from(entry.bytes);
            if !entry.left_behind {
                user.leave_process(entry);
            }
            entry
        });
        // One that was never placed gives back nothing that anybody waits for.
        if entry.is_some_and(|entry| entry.start.is_some()) {
            self.accounts.books.lock().given_back += 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let books = &mut *self.accounts.books.lock();
        books.seats -= 1;
        if let Some(user) = books.users.get_mut(&self.uid) {
            user.seats -= 1;
            books.beyond -= u64::from(user.seats >= FIRST);
        }
        books.forget_if_gone(self.uid);
    }
}

#[cfg(test)]
mod tests;
