//! The name of the device of a request: the library that requests, or the thread.

use crate::log;
use cma_record_log::{Event, NAME_PART, name_key};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The libraries whose requests are those of their callers, as their file names begin: the C
/// library, C++'s `new`, and the wrappers of `malloc` in GLib and ffmpeg.
const WRAPPERS: [&[u8]; 9] = [
    b"libc.so",
    b"ld-linux",
    b"libstdc++.so",
    b"libc++.so",
    b"libc++abi.so",
    b"libglib-2.0.so",
    b"libgobject-2.0.so",
    b"libavutil.so",
    b"libavutil-",
];

/// Stack frames that are passed through in search of a requester.
const FRAMES: usize = 48;

/// Names that were written to the log, by their keys; open addressing.
static WRITTEN: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// The key of the program's own name.
static PROGRAM: AtomicU64 = AtomicU64::new(0);

/// `_dl_find_object`, or null before version 2.35 of the C library.
static FIND_OBJECT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// Where this library is mapped.
static OWN: AtomicUsize = AtomicUsize::new(0);
/// Where the library of the program's `malloc` is mapped.
static ALLOCATOR: AtomicUsize = AtomicUsize::new(0);

/// A program or library in memory.
#[derive(Clone, Copy)]
struct Object {
    /// The address where its mapping begins.
    start: usize,
    /// Its path; empty or null for the program.
    path: *const c_char,
}

/// The C library's `struct link_map`, as far as it is public.
#[repr(C)]
struct LinkMap {
    offset: usize,
    path: *const c_char,
}

/// The C library's `struct dl_find_object`.
#[repr(C)]
struct FoundObject {
    flags: u64,
    start: *mut c_void,
    end: *mut c_void,
    link_map: *const LinkMap,
    /// Further fields, and those that the C library reserves.
    rest: [u64; 12],
}

pub(crate) fn start() {
    // SAFETY: the name ends with a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    FIND_OBJECT.store(found, Ordering::Release);
    let own = object_at(start as *const () as usize).map_or(0, |object| object.start);
    OWN.store(own, Ordering::Relaxed);
}

/// The path of this library, as it was loaded.
pub(crate) fn own_path() -> Option<&'static CStr> {
    let own = object_at(start as *const () as usize)?;
    if own.path.is_null() {
        return None;
    }
    // SAFETY: the C library's string, and this library stays loaded.
    Some(unsafe { CStr::from_ptr(own.path) })
}

/// Whether the functions at both addresses are of one library, which is then the allocator's.
pub(crate) fn allocator_is(malloc: usize, usable_size: usize) -> bool {
    let of = |function| object_at(function).map(|object| object.start);
    ALLOCATOR.store(of(malloc).unwrap_or(0), Ordering::Relaxed);
    of(malloc).is_some() && of(malloc) == of(usable_size)
}

/// The object that `address` is in.
fn object_at(address: usize) -> Option<Object> {
    let find = FIND_OBJECT.load(Ordering::Acquire);
    if find.is_null() {
        return object_with_lock(address);
    }
    type Find = unsafe extern "C" fn(*const c_void, *mut FoundObject) -> c_int;
    // SAFETY: this is the type of `_dl_find_object`.
    let find = unsafe { transmute::<*mut c_void, Find>(find) };
    let mut found = FoundObject {
        flags: 0,
        start: null_mut(),
        end: null_mut(),
        link_map: null(),
        rest: [0; 12],
    };
    // SAFETY: it takes any address, and `found` is as large as its structure.
    if unsafe { find(address as *const c_void, &raw mut found) } != 0 {
        return None;
    }
    // SAFETY: the object stays loaded: it has code that is running, or it is never unloaded.
    let link_map = unsafe { found.link_map.as_ref() }?;
    Some(Object { start: found.start as usize, path: link_map.path })
}

/// The same for older C libraries, whose `dladdr` takes the loader's lock.
fn object_with_lock(address: usize) -> Option<Object> {
    let mut found = libc::Dl_info {
        dli_fname: null(),
        dli_fbase: null_mut(),
        dli_sname: null(),
        dli_saddr: null_mut(),
    };
    // SAFETY: it takes any address, and the place is valid.
    let is_found = unsafe { libc::dladdr(address as *const c_void, &raw mut found) } != 0;
    let start = found.dli_fbase as usize;
    is_found.then_some(Object { start, path: found.dli_fname })
}

impl Object {
    fn is_own(&self) -> bool {
        self.start == OWN.load(Ordering::Relaxed)
    }

    fn is_allocator(&self) -> bool {
        self.start == ALLOCATOR.load(Ordering::Relaxed)
    }

    /// The last component of its path; `None` for the program.
    fn file_name(&self) -> Option<&'static [u8]> {
        if self.path.is_null() {
            return None;
        }
        // SAFETY: the C library's string, which stays as long as the object is loaded: longer than
        // this call, as in `object_at`.
        let path = unsafe { CStr::from_ptr(self.path) }.to_bytes();
        path.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// Whether its requests are those of its callers.
    fn is_wrapper(&self) -> bool {
        let is = |name: &[u8]| WRAPPERS.iter().any(|wrapper| name.starts_with(wrapper));
        self.file_name().is_some_and(is)
    }

    /// The key of its name, which is in the log afterwards.
    fn key(&self) -> u64 {
        match self.file_name() {
            Some(name) => written(name),
            None => program(),
        }
    }
}

/// Whose request it is.
pub(crate) enum Requester {
    /// The device with the name of this key.
    Device(u64),
    /// The program's memory allocator, for its heap.
    Allocator,
}

/// The requester of a call that returns to `caller`, or 0 if that is not known.
pub(crate) fn requester(caller: usize) -> Requester {
    let direct = if caller == 0 { None } else { object_at(caller) };
    let found = match direct {
        Some(object) if !object.is_wrapper() => Some(object),
        _ => on_stack().or(direct),
    };
    match found {
        Some(object) if object.is_allocator() && !object.is_wrapper() => Requester::Allocator,
        _ if log::by_threads() => Requester::Device(thread()),
        Some(object) => Requester::Device(object.key()),
        // Code that no file contains, such as a compiler's at run time.
        None => Requester::Device(program()),
    }
}

/// The device of a request of the heap.
pub(crate) fn device(caller: usize) -> u64 {
    if log::by_threads() {
        return thread();
    }
    match requester(caller) {
        Requester::Device(key) => key,
        Requester::Allocator => written(b"malloc"),
    }
}

/// What the search on the stack knows.
struct Search {
    found: Option<Object>,
    /// The first object that is not this library.
    nearest: Option<Object>,
    frames: usize,
}

/// The first object on the stack that is no wrapper, or else the one that called this library.
///
/// Without the look-up that takes no lock, the unwinder takes the loader's lock for each frame. A
/// thread that holds it may wait for this one, as in the constructor of a library, so the stack is
/// not searched then.
fn on_stack() -> Option<Object> {
    if FIND_OBJECT.load(Ordering::Acquire).is_null() {
        return None;
    }
    let mut search = Search { found: None, nearest: None, frames: 0 };
    // SAFETY: the callback takes a `Search`, which lives longer than the call.
    unsafe { _Unwind_Backtrace(frame, (&raw mut search).cast()) };
    search.found.or(search.nearest)
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        frame: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Continues the search at a frame of the stack: 0 to go on.
unsafe extern "C" fn frame(context: *mut c_void, search: *mut c_void) -> c_int {
    const STOP: c_int = 4;
    // SAFETY: the argument of `on_stack`.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: the unwinder's context.
    let address = unsafe { _Unwind_GetIP(context) };
    search.frames += 1;
    // The address is that of the next instruction, which may belong to another object.
    let Some(object) = object_at(address.wrapping_sub(1)) else { return STOP };
    if !object.is_own() {
        search.nearest = search.nearest.or(Some(object));
        if !object.is_wrapper() {
            search.found = Some(object);
            return STOP;
        }
    }
    if search.frames < FRAMES { 0 } else { STOP }
}

/// The key of the calling thread's name.
fn thread() -> u64 {
    let mut name = [0_u8; 16];
    // SAFETY: the call writes up to 16 bytes, the last of which is zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    written(name.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// The key of the program's name.
fn program() -> u64 {
    match PROGRAM.load(Ordering::Relaxed) {
        0 => {
            let mut path = [0_u8; 4096];
            let length =
                rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self/exe", &mut path[..])
                    .unwrap_or_default();
            let name = path[..length].rsplit(|byte| *byte == b'/').next();
            let key = written(name.filter(|name| !name.is_empty()).unwrap_or(b"program"));
            PROGRAM.store(key, Ordering::Relaxed);
            key
        }
        key => key,
    }
}

/// The key of `name`, which is in the log afterwards.
fn written(name: &[u8]) -> u64 {
    let name = &name[..name.len().min(usize::from(u8::MAX))];
    let key = name_key(name);
    let places = WRITTEN.len();
    #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash do")]
    let first = key as usize % places;
    for n in 0..8 {
        let place = &WRITTEN[(first + n) % places];
        match place.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(there) if there == key => return key,
            Err(_) => {}
        }
    }
    // Without a free place the name is written each time.
    #[allow(clippy::cast_possible_truncation, reason = "at most 255 bytes")]
    let length = name.len() as u8;
    for (part, bytes) in (0..).zip(name.chunks(NAME_PART)) {
        let mut text = [0; NAME_PART];
        text[..bytes.len()].copy_from_slice(bytes);
        log::write(&Event::Name { key, part, length, text });
    }
    key
}
