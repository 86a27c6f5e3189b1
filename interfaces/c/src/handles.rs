//! Handles: what C programs have of the library's objects.
//!
//! A handle looks like a pointer and is none. Its highest bit is set, which no address of a program
//! has on Linux with 64 bits; then come the place in a table, what it is for, and the number of
//! objects that the place had before. So a null pointer, an address of the program, a handle of
//! another kind and one that was freed are told from a live one without reading memory that the
//! caller named. Places are reused, and the memory of a table is never freed.
//!
//! Each place has one word, which is the handle exactly while the object is there. Whoever
//! exchanges it has the object alone: one instruction checks the handle and locks the object. A
//! call *uses* an object for some instructions, and others wait. A longer call *borrows* it, and
//! others find it busy. Every other value of the word names another place or none, so that no
//! handle leads to it.
//!
//! Free places are a stack, linked by the handles that they will have next (R. K. Treiber, *Systems
//! Programming: Coping with Parallelism*, IBM RJ 5118, 1986). No handle is made twice, so a thread
//! that pops can't take a stack that has changed for the one that it has read: the "ABA problem".

use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::{fmt, hint, ptr};

/// The number of places of a segment of a table. Segments are made when they are needed.
const SEGMENT: usize = 1 << 8;

/// The segments that keys can name. Those of the lower half are never made.
const SEGMENTS: usize = 1 << 16;

/// The most objects of one kind.
const PLACES: usize = SEGMENTS / 2 * SEGMENT;

/// A kind of object that C programs have handles of. The type is the one that C declares.
pub(crate) trait Object: Sized + 'static {
    /// The object.
    type Value: Send + 'static;
    /// What a handle is for: different for each type.
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

/// A handle as a number. From the highest bits down: the segment (16 bits, the highest one set),
/// the place in it (8), the kind (8), and how many objects the place had before (32).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u64);

impl Key {
    /// Leads to no place, as every number whose highest bit is not set.
    const NONE: Key = Key(0);

    /// The difference of a key and the word of its place while a call has borrowed the object. The
    /// word leads to no place, as its highest bit is not set.
    const BORROWED: u64 = !0;

    /// The same while a call uses the object. It differs in a bit of the segment: keys of the same
    /// place agree there, so none of them takes the word of another for its own.
    const USED: u64 = !(1 << 62);

    /// The first key of a place.
    fn first<O: Object>(index: u32) -> Self {
        Key(1 << 63 | u64::from(index) << 40 | u64::from(O::KIND) << 32)
    }

    #[inline(always)]
    fn segment(self) -> usize {
        (self.0 >> 48) as usize
    }

    #[inline(always)]
    fn place(self) -> usize {
        usize::from((self.0 >> 40) as u8)
    }

    #[inline(always)]
    fn of<O>(handle: *mut O) -> Self {
        Key(handle.addr() as u64)
    }

    #[inline(always)]
    fn handle<O>(self) -> *mut O {
        ptr::without_provenance_mut(self.0 as usize)
    }

    /// The key of the next object in the place. There is none after 2^32: the place rests then.
    #[inline(always)]
    fn next(self) -> Option<Self> {
        let next = self.0 + 1;
        (next as u32 != 0).then_some(Key(next))
    }
}

/// The objects of one kind.
pub(crate) struct Table<O: Object> {
    /// The next key of the free place that is used next, or [`Key::NONE`].
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
    /// The key of the object; changed by [`Key::USED`] or [`Key::BORROWED`] while a call has it. Of
    /// a free place, the next key of the free place below, or [`Key::NONE`].
    word: AtomicU64,
    /// The object: of the thread that has exchanged the word for another value.
    value: UnsafeCell<MaybeUninit<T>>,
}

impl<O: Object> Table<O> {
    pub(crate) const fn new() -> Self {
        Table {
            free: AtomicU64::new(Key::NONE.0),
            used: AtomicU32::new(0),
            segments: [const { AtomicPtr::new(ptr::null_mut()) }; SEGMENTS],
        }
    }

    /// The place of a key, if its segment was made.
    #[inline(always)]
    fn place(&self, key: Key) -> Option<&'static Place<O::Value>> {
        let segment = self.segments[key.segment()].load(Ordering::Acquire);
        // SAFETY: a pointer in the table is null or that of a segment, which is never freed and
        // of which there are shared references alone.
        unsafe { segment.as_ref() }.map(|segment| &segment[key.place()])
    }

    /// A place that was never used, with its first key.
    #[cold]
    fn new_place(&self) -> Option<(Key, &'static Place<O::Value>)> {
        let next = |used: u32| Some(used + 1).filter(|used| *used as usize <= PLACES);
        let index = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let key = Key::first::<O>(index.ok()?);
        let segment = &self.segments[key.segment()];
        if segment.load(Ordering::Acquire).is_null() {
            let made = Box::into_raw(Box::new([const { Place::new() }; SEGMENT]));
            let only = (Ordering::AcqRel, Ordering::Acquire);
            if segment.compare_exchange(ptr::null_mut(), made, only.0, only.1).is_err() {
                // SAFETY: made above, and another thread's was put into the table.
                drop(unsafe { Box::from_raw(made) });
            }
        }
        Some((key, self.place(key)?))
    }

    /// A free place, and its next key.
    #[inline(always)]
    pub(crate) fn vacant(&'static self) -> Result<Vacant<O>, Full> {
        let mut free = self.free.load(Ordering::Acquire);
        loop {
            let key = Key(free);
            // There is none for `Key::NONE`.
            let Some(place) = self.place(key) else {
                let (key, place) = self.new_place().ok_or(Full)?;
                return Ok(Vacant { table: self, key, place });
            };
            let below = place.word.load(Ordering::Relaxed);
            let (done, not) = (Ordering::Acquire, Ordering::Acquire);
            match self.free.compare_exchange_weak(free, below, done, not) {
                Ok(_) => return Ok(Vacant { table: self, key, place }),
                Err(now) => free = now,
            }
        }
    }

    /// Has the object of `handle` for the caller alone: others find its word changed by `mask`.
    #[inline(always)]
    fn enter(&'static self, handle: *mut O, mask: u64) -> Result<Loan<O>, BadHandle> {
        let key = Key::of(handle);
        let Some(place) = self.place(key) else { return Err(refused(handle)) };
        loop {
            let (done, not) = (Ordering::Acquire, Ordering::Relaxed);
            match place.word.compare_exchange(key.0, key.0 ^ mask, done, not) {
                Ok(_) => return Ok(Loan { table: self, key, place }),
                Err(found) => wait(key, found)?,
            }
        }
    }

    /// A handle of a new object.
    #[inline(always)]
    pub(crate) fn insert(&'static self, value: O::Value) -> Result<*mut O, Full> {
        Ok(self.vacant()?.fill(value))
    }

    /// Uses the object for some instructions. Another call waits.
    #[inline(always)]
    pub(crate) fn with<R>(
        &'static self,
        handle: *mut O,
        use_it: impl FnOnce(&mut O::Value) -> R,
    ) -> Result<R, BadHandle> {
        Ok(use_it(&mut *self.enter(handle, Key::USED)?))
    }

    /// Has the object for a call that may take long. Another call finds it busy until the loan is
    /// dropped.
    #[inline(always)]
    pub(crate) fn borrow(&'static self, handle: *mut O) -> Result<Loan<O>, BadHandle> {
        self.enter(handle, Key::BORROWED)
    }

    /// The object. Its handle ends.
    #[inline(always)]
    pub(crate) fn take(&'static self, handle: *mut O) -> Result<O::Value, BadHandle> {
        Ok(self.borrow(handle)?.take().0)
    }
}

/// Returns when another call that uses the object may have ended. `found` is the word of its place.
#[cold]
fn wait(key: Key, found: u64) -> Result<(), BadHandle> {
    match key.0 ^ found {
        Key::USED => {
            hint::spin_loop();
            Ok(())
        }
        Key::BORROWED => Err(BadHandle::Busy),
        _ => Err(BadHandle::Unknown),
    }
}

impl<T> Place<T> {
    const fn new() -> Self {
        Place { word: AtomicU64::new(Key::NONE.0), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    #[inline(always)]
    fn object(&self) -> *mut T {
        self.value.get().cast()
    }
}

/// An object that a call has for itself. It returns when the loan is dropped.
pub(crate) struct Loan<O: Object> {
    table: &'static Table<O>,
    key: Key,
    place: &'static Place<O::Value>,
}

impl<O: Object> Loan<O> {
    /// The place, without the object: the caller takes it out or drops it.
    #[inline(always)]
    fn vacate(self) -> Vacant<O> {
        let Loan { table, key, place } = *ManuallyDrop::new(self);
        Vacant { table, key, place }
    }

    /// The object. Its handle ends.
    #[inline(always)]
    fn take(self) -> (O::Value, Vacant<O>) {
        let place = self.vacate();
        // SAFETY: the loan had the object for itself, and has ended.
        let value = unsafe { place.place.object().read() };
        (value, place)
    }

    /// Drops the object. Its handle ends.
    #[inline(always)]
    pub(crate) fn end(self) {
        let place = self.vacate();
        // SAFETY: the loan had the object for itself, and has ended.
        unsafe { place.place.object().drop_in_place() };
    }

    /// Keeps what `change` makes of the object. If it makes nothing, or panics, the handle ends.
    pub(crate) fn change<R>(self, change: impl FnOnce(O::Value) -> (Option<O::Value>, R)) -> R {
        let (value, place) = self.take();
        let (value, result) = change(value);
        if let Some(value) = value {
            place.fill(value);
        }
        result
    }
}

impl<O: Object> Deref for Loan<O> {
    type Target = O::Value;

    #[inline(always)]
    fn deref(&self) -> &O::Value {
        // SAFETY: as long as the word is changed, the object is there, and this loan's alone.
        unsafe { &*self.place.object() }
    }
}

impl<O: Object> DerefMut for Loan<O> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut O::Value {
        // SAFETY: as above.
        unsafe { &mut *self.place.object() }
    }
}

impl<O: Object> Drop for Loan<O> {
    #[inline(always)]
    fn drop(&mut self) {
        self.place.word.store(self.key.0, Ordering::Release);
    }
}

/// A place without an object, of one call. It is free when this is dropped.
pub(crate) struct Vacant<O: Object> {
    table: &'static Table<O>,
    /// That of its next object, or of the last one, which has ended.
    key: Key,
    place: &'static Place<O::Value>,
}

impl<O: Object> Vacant<O> {
    /// Puts an object there: a handle leads to it.
    #[inline(always)]
    pub(crate) fn fill(self, value: O::Value) -> *mut O {
        let Vacant { key, place, .. } = *ManuallyDrop::new(self);
        // SAFETY: the place is this call's, and has no object.
        unsafe { place.object().write(value) };
        place.word.store(key.0, Ordering::Release);
        key.handle()
    }
}

impl<O: Object> Drop for Vacant<O> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(Key(key)) = self.key.next() else {
            return self.place.word.store(Key::NONE.0, Ordering::Relaxed);
        };
        let top = &self.table.free;
        let mut free = top.load(Ordering::Relaxed);
        loop {
            self.place.word.store(free, Ordering::Relaxed);
            let (done, not) = (Ordering::Release, Ordering::Relaxed);
            match top.compare_exchange_weak(free, key, done, not) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }
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
