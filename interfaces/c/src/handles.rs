//! Handles: what C programs have of the library's objects.
//!
//! A handle looks like a pointer and is none. Its highest byte says what it is for, which no
//! address of a program has on Linux with 64 bits; then come the place in a table and the number of
//! times that the place was used. So a null pointer, an address of the program, a handle of another
//! kind and one that was freed are told from a live one without reading memory that the caller
//! named. Places are reused, and the memory of a table is never freed.
//!
//! Each place has a lock of its own, for some instructions. A call that takes longer *borrows* the
//! object: it takes it out, and another call that wants it meanwhile finds it busy.

use spin::mutex::{SpinMutex, SpinMutexGuard};
use std::fmt;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::{mem, ptr};

/// Bits of a handle that are the place. The others below the highest byte are the generation.
const INDEX_BITS: u32 = 24;

/// The number of places of a segment of a table. Segments are made when they are needed.
const SEGMENT: usize = 256;

/// Segments that all places need.
const SEGMENTS: usize = (1 << INDEX_BITS) / SEGMENT;

/// The highest byte of every handle, apart from the kind in its lowest bits.
const MARK: u64 = 0xc0;

/// A kind of object that C programs have handles of. The type is the one that C declares.
pub(crate) trait Object: Sized + 'static {
    /// The object.
    type Value: Send + 'static;
    /// What a handle is for: below 16, and different for each type.
    const KIND: u8;
    /// The word for it in messages.
    const NAME: &'static str;

    /// The objects.
    fn table() -> &'static Table<Self>;
}

/// A handle that is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHandle {
    /// The null pointer.
    Null,
    /// Not a handle of this kind, or one of an object that was freed.
    Unknown,
    /// Another call uses the object.
    Busy,
}

/// All places are taken.
#[derive(Debug)]
pub(crate) struct Full;

/// The objects of one kind.
pub(crate) struct Table<O: Object> {
    /// The first free place plus one, and above it a number that changes with each change.
    free: AtomicU64,
    /// The places that were used so far.
    used: AtomicU32,
    /// Null, or a segment that is never freed.
    segments: [AtomicPtr<Segment<O::Value>>; SEGMENTS],
}

type Segment<T> = [Place<T>; SEGMENT];

/// In a cache line of its own.
#[repr(align(64))]
struct Place<T> {
    /// The next free place plus one, while this one is free.
    next: AtomicU32,
    entry: SpinMutex<Entry<T>>,
}

struct Entry<T> {
    /// Odd while the place has an object.
    generation: u32,
    /// `None` while a call has borrowed it, too.
    value: Option<T>,
}

/// A live object, locked.
struct Found<T: 'static> {
    index: u32,
    place: &'static Place<T>,
    entry: SpinMutexGuard<'static, Entry<T>>,
}

impl<O: Object> Table<O> {
    pub(crate) const fn new() -> Self {
        Table {
            free: AtomicU64::new(0),
            used: AtomicU32::new(0),
            segments: [const { AtomicPtr::new(ptr::null_mut()) }; SEGMENTS],
        }
    }

    /// The place of that number, if its segment was made.
    #[inline(always)]
    fn place(&self, index: u32) -> Option<&'static Place<O::Value>> {
        let segment = self.segments[index as usize / SEGMENT % SEGMENTS].load(Ordering::Acquire);
        // SAFETY: a pointer in the table is null or that of a segment, which is never freed and
        // of which there are shared references alone.
        unsafe { segment.as_ref() }.map(|segment| &segment[index as usize % SEGMENT])
    }

    #[cold]
    fn new_place(&self) -> Option<(u32, &'static Place<O::Value>)> {
        let next = |used: u32| used.checked_add(1).filter(|used| *used <= 1 << INDEX_BITS);
        let index = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let segment = &self.segments[index as usize / SEGMENT];
        if segment.load(Ordering::Acquire).is_null() {
            let made = Box::into_raw(Box::new([const { Place::new() }; SEGMENT]));
            let only = (Ordering::AcqRel, Ordering::Acquire);
            if segment.compare_exchange(ptr::null_mut(), made, only.0, only.1).is_err() {
                // SAFETY: made above, and another thread's was put into the table.
                drop(unsafe { Box::from_raw(made) });
            }
        }
        Some((index, self.place(index)?))
    }

    #[inline(always)]
    fn pop_free(&self) -> Option<(u32, &'static Place<O::Value>)> {
        let mut free = self.free.load(Ordering::Acquire);
        loop {
            let Some(index) = (free as u32).checked_sub(1) else { return self.new_place() };
            let place = self.place(index)?;
            let rest = changed(free, place.next.load(Ordering::Relaxed));
            let (done, not) = (Ordering::Acquire, Ordering::Acquire);
            match self.free.compare_exchange_weak(free, rest, done, not) {
                Ok(_) => return Some((index, place)),
                Err(now) => free = now,
            }
        }
    }

    #[inline(always)]
    fn push_free(&self, index: u32, place: &Place<O::Value>) {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            place.next.store(free as u32, Ordering::Relaxed);
            let more = changed(free, index + 1);
            let (done, not) = (Ordering::Release, Ordering::Relaxed);
            match self.free.compare_exchange_weak(free, more, done, not) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }

    /// Finds and locks the object of `handle`.
    #[inline(always)]
    fn enter(
        &self,
        handle: *mut O,
        lock: impl FnOnce(
            &'static SpinMutex<Entry<O::Value>>,
        ) -> Option<SpinMutexGuard<'static, Entry<O::Value>>>,
    ) -> Result<Found<O::Value>, BadHandle> {
        let (generation, index) = decode(handle).ok_or_else(|| refused(handle))?;
        let place = self.place(index).ok_or(BadHandle::Unknown)?;
        let entry = lock(&place.entry).ok_or(BadHandle::Busy)?;
        if entry.generation != generation {
            return Err(BadHandle::Unknown);
        }
        Ok(Found { index, place, entry })
    }

    /// A handle of a new object.
    #[inline(always)]
    pub(crate) fn insert(&self, value: O::Value) -> Result<*mut O, Full> {
        let (index, place) = self.pop_free().ok_or(Full)?;
        let mut entry = place.entry.lock();
        entry.generation = entry.generation.wrapping_add(1);
        // A free place has none.
        mem::forget(entry.value.replace(value));
        Ok(encode(entry.generation, index))
    }

    /// Uses the object for some instructions. Another call waits.
    #[inline(always)]
    pub(crate) fn with<R>(
        &self,
        handle: *mut O,
        use_it: impl FnOnce(&mut O::Value) -> R,
    ) -> Result<R, BadHandle> {
        let mut found = self.enter(handle, |lock| Some(lock.lock()))?;
        found.value().map(use_it)
    }

    /// Uses the object. Another call finds it busy.
    #[inline(always)]
    pub(crate) fn exclusively<R>(
        &self,
        handle: *mut O,
        use_it: impl FnOnce(&mut O::Value) -> R,
    ) -> Result<R, BadHandle> {
        let mut found = self.enter(handle, SpinMutex::try_lock)?;
        found.value().map(use_it)
    }

    /// Takes the object for a call that may take long. It returns when the loan is dropped.
    pub(crate) fn borrow(&'static self, handle: *mut O) -> Result<Loan<O>, BadHandle> {
        let Found { index, place, mut entry } = self.enter(handle, |lock| Some(lock.lock()))?;
        let value = entry.value.take().ok_or_else(|| missing(entry.generation))?;
        Ok(Loan { table: self, index, place, value: Some(value) })
    }

    /// The object. Its handle ends.
    #[inline(always)]
    pub(crate) fn take(&self, handle: *mut O) -> Result<O::Value, BadHandle> {
        let Found { index, place, mut entry } = self.enter(handle, |lock| Some(lock.lock()))?;
        let value = entry.value.take().ok_or_else(|| missing(entry.generation))?;
        entry.generation = entry.generation.wrapping_add(1);
        drop(entry);
        self.push_free(index, place);
        Ok(value)
    }
}

impl<T> Place<T> {
    const fn new() -> Self {
        Place {
            next: AtomicU32::new(0),
            entry: SpinMutex::new(Entry { generation: 0, value: None }),
        }
    }
}

impl<T> Found<T> {
    #[inline(always)]
    fn value(&mut self) -> Result<&mut T, BadHandle> {
        let generation = self.entry.generation;
        self.entry.value.as_mut().ok_or_else(|| missing(generation))
    }
}

/// Why a place whose generation is that of the handle has no object.
#[cold]
fn missing(generation: u32) -> BadHandle {
    if generation % 2 == 1 { BadHandle::Busy } else { BadHandle::Unknown }
}

/// An object that a call has borrowed.
pub(crate) struct Loan<O: Object> {
    table: &'static Table<O>,
    index: u32,
    place: &'static Place<O::Value>,
    value: Option<O::Value>,
}

impl<O: Object> Loan<O> {
    /// Keeps what `change` makes of the object. If it makes nothing, the handle ends.
    pub(crate) fn change<R>(
        mut self,
        change: impl FnOnce(O::Value) -> (Option<O::Value>, R),
    ) -> Option<R> {
        let (value, result) = change(self.value.take()?);
        self.value = value;
        Some(result)
    }
}

impl<O: Object> Drop for Loan<O> {
    /// An object that is lost in a panic ends its handle, too.
    fn drop(&mut self) {
        let mut entry = self.place.entry.lock();
        entry.value = self.value.take();
        if entry.value.is_none() {
            entry.generation = entry.generation.wrapping_add(1);
            drop(entry);
            self.table.push_free(self.index, self.place);
        }
    }
}

/// The list of free places after a change: another first one, and another number.
#[inline(always)]
fn changed(free: u64, first: u32) -> u64 {
    (free & !u64::from(u32::MAX)).wrapping_add(1 << u32::BITS) | u64::from(first)
}

#[inline(always)]
fn encode<O: Object>(generation: u32, index: u32) -> *mut O {
    let kind = (MARK | u64::from(O::KIND)) << (u64::BITS - u8::BITS);
    let number = kind | u64::from(index) << u32::BITS | u64::from(generation);
    ptr::without_provenance_mut(number as usize)
}

/// Generation and place of a handle of this kind.
#[inline(always)]
fn decode<O: Object>(handle: *mut O) -> Option<(u32, u32)> {
    let number = handle.addr() as u64;
    let is_kind = number >> (u64::BITS - u8::BITS) == MARK | u64::from(O::KIND);
    let index = (number >> u32::BITS) as u32 & ((1 << INDEX_BITS) - 1);
    is_kind.then_some((number as u32, index))
}

#[cold]
fn refused<O>(handle: *mut O) -> BadHandle {
    if handle.is_null() { BadHandle::Null } else { BadHandle::Unknown }
}

impl<O: Object> fmt::Debug for Table<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {}", O::NAME)
    }
}

#[cfg(test)]
mod tests;
