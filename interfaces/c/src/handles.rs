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
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of places of the first segment of a table; each further segment has twice as many.
const FIRST_SEGMENT: u32 = 64;

/// Bits of a handle that are the place.
const INDEX_BITS: u32 = 24;

/// Segments that all places need.
const SEGMENTS: usize = (INDEX_BITS - FIRST_SEGMENT.ilog2()) as usize;

/// The end of the places.
const END: u32 = FIRST_SEGMENT * ((1 << SEGMENTS) - 1);

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
    segments: [Segment<O>; SEGMENTS],
    kind: PhantomData<fn() -> O>,
}

type Segment<O> = OnceLock<Box<[Place<<O as Object>::Value>]>>;

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

impl<O: Object> Table<O> {
    pub(crate) const fn new() -> Self {
        Table {
            free: AtomicU64::new(0),
            used: AtomicU32::new(0),
            segments: [const { OnceLock::new() }; SEGMENTS],
            kind: PhantomData,
        }
    }

    /// The place of that number. Its segment is made if it is the first of it.
    #[inline]
    fn place(&self, index: u32) -> Option<&Place<O::Value>> {
        let (segment, offset) = locate(index);
        self.segments[segment].get()?.get(offset)
    }

    #[cold]
    fn new_place(&self) -> Option<u32> {
        let next = |used| (used < END).then_some(used + 1);
        let index = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let (segment, _) = locate(index);
        self.segments[segment].get_or_init(|| {
            let place = || Place {
                next: AtomicU32::new(0),
                entry: SpinMutex::new(Entry { generation: 0, value: None }),
            };
            (0..FIRST_SEGMENT << segment).map(|_| place()).collect()
        });
        Some(index)
    }

    #[inline]
    fn pop_free(&self) -> Option<u32> {
        let mut free = self.free.load(Ordering::Acquire);
        loop {
            let Some(index) = (free as u32).checked_sub(1) else { return self.new_place() };
            let next = self.place(index)?.next.load(Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                free,
                changed(free, next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(index),
                Err(now) => free = now,
            }
        }
    }

    #[inline]
    fn push_free(&self, index: u32, place: &Place<O::Value>) {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            place.next.store(free as u32, Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                free,
                changed(free, index + 1),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }

    /// The locked place of `handle`.
    #[inline]
    fn enter(&self, handle: *mut O) -> Result<Found<'_, O::Value>, BadHandle> {
        let (generation, index) = decode(handle).ok_or_else(|| refused(handle))?;
        let place = self.place(index).ok_or(BadHandle::Unknown)?;
        let entry = place.entry.lock();
        if entry.generation != generation {
            return Err(BadHandle::Unknown);
        }
        Ok(Found { index, place, entry })
    }

    /// A handle of a new object.
    #[inline]
    pub(crate) fn insert(&self, value: O::Value) -> Result<*mut O, Full> {
        let index = self.pop_free().ok_or(Full)?;
        let mut entry = self.place(index).ok_or(Full)?.entry.lock();
        entry.generation = entry.generation.wrapping_add(1);
        entry.value = Some(value);
        Ok(encode(entry.generation, index))
    }

    /// Uses the object for some instructions. Another call waits.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        handle: *mut O,
        use_it: impl FnOnce(&mut O::Value) -> R,
    ) -> Result<R, BadHandle> {
        let Found { mut entry, .. } = self.enter(handle)?;
        entry.value.as_mut().map(use_it).ok_or(BadHandle::Busy)
    }

    /// Uses the object. Another call finds it busy.
    #[inline]
    pub(crate) fn exclusively<R>(
        &self,
        handle: *mut O,
        use_it: impl FnOnce(&mut O::Value) -> R,
    ) -> Result<R, BadHandle> {
        let (generation, index) = decode(handle).ok_or_else(|| refused(handle))?;
        let place = self.place(index).ok_or(BadHandle::Unknown)?;
        let mut entry = place.entry.try_lock().ok_or(BadHandle::Busy)?;
        if entry.generation != generation {
            return Err(BadHandle::Unknown);
        }
        entry.value.as_mut().map(use_it).ok_or(BadHandle::Busy)
    }

    /// Takes the object for a call that may take long. It returns when the loan is dropped.
    pub(crate) fn borrow(&'static self, handle: *mut O) -> Result<Loan<O>, BadHandle> {
        let Found { index, place, mut entry } = self.enter(handle)?;
        let value = entry.value.take().ok_or(BadHandle::Busy)?;
        Ok(Loan { table: self, index, place, value: Some(value) })
    }

    /// The object. Its handle ends.
    #[inline]
    pub(crate) fn take(&self, handle: *mut O) -> Result<O::Value, BadHandle> {
        let Found { index, place, mut entry } = self.enter(handle)?;
        let value = entry.value.take().ok_or(BadHandle::Busy)?;
        entry.generation = entry.generation.wrapping_add(1);
        drop(entry);
        self.push_free(index, place);
        Ok(value)
    }
}

/// The locked place of a live object.
struct Found<'t, T> {
    index: u32,
    place: &'t Place<T>,
    entry: SpinMutexGuard<'t, Entry<T>>,
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

/// The segment of a place, and its number there.
#[inline]
fn locate(index: u32) -> (usize, usize) {
    let number = index + FIRST_SEGMENT;
    let log2 = number.ilog2();
    ((log2 - FIRST_SEGMENT.ilog2()) as usize, (number - (1 << log2)) as usize)
}

/// The list of free places after a change: another first one, and another number.
#[inline]
fn changed(free: u64, first: u32) -> u64 {
    (free & !u64::from(u32::MAX)).wrapping_add(1 << u32::BITS) | u64::from(first)
}

#[inline]
fn encode<O: Object>(generation: u32, index: u32) -> *mut O {
    let kind = (MARK | u64::from(O::KIND)) << (u64::BITS - u8::BITS);
    let number = kind | u64::from(index) << u32::BITS | u64::from(generation);
    ptr::without_provenance_mut(number as usize)
}

/// Generation and place of a handle of this kind.
#[inline]
fn decode<O: Object>(handle: *mut O) -> Option<(u32, u32)> {
    let number = handle.addr() as u64;
    let is_kind = number >> (u64::BITS - u8::BITS) == MARK | u64::from(O::KIND);
    let generation = number as u32;
    // An even generation has no object.
    let index = (number >> u32::BITS) as u32 & ((1 << INDEX_BITS) - 1);
    (is_kind && generation % 2 == 1 && index < END).then_some((generation, index))
}

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
