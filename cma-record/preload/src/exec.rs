//! Processes that start programs, and that end.
//!
//! A program that is started with an environment without this library, because its parent cleared
//! the environment or set `LD_PRELOAD` itself, gets it added. The new environment is on the stack:
//! a child of `vfork` must not allocate, since that memory would stay in its parent.

use crate::{log, real};
use cma_record_log::PATH_VARIABLE;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null;

/// An array of strings that ends with null.
type Strings = *const *const c_char;

const PRELOAD: &[u8] = b"LD_PRELOAD=";

/// The most entries of an environment that is completed.
const ENTRIES: usize = 2048;
/// The longest value of `LD_PRELOAD` that is completed, in bytes.
const PRELOAD_BYTES: usize = 8192;

/// Calls `start` with the environment, completed if this library is not in it.
///
/// # Safety
///
/// `environment` is null or an array of strings that ends with null.
unsafe fn with_library(environment: Strings, start: impl FnOnce(Strings) -> c_int) -> c_int {
    // SAFETY: the caller's environment.
    match unsafe { Missing::in_environment(environment) } {
        // SAFETY: the caller's environment.
        Some(missing) => unsafe { completed(environment, &missing, start) },
        None => start(environment),
    }
}

/// What an environment lacks.
struct Missing {
    /// The entry that names the log.
    entry: &'static CStr,
    /// The path of this library.
    library: &'static CStr,
    entries: usize,
}

impl Missing {
    /// `None` if it lacks nothing, or can't be completed.
    ///
    /// # Safety
    ///
    /// As of [`with_library`].
    unsafe fn in_environment(environment: Strings) -> Option<Missing> {
        let entry = log::entry()?;
        let library = crate::device::own_path()?;
        let (mut has_entry, mut has_library, mut entries) = (false, false, 0);
        // SAFETY: the caller's environment.
        for string in unsafe { strings(environment) } {
            entries += 1;
            has_entry |= string == entry;
            let value = string.to_bytes().strip_prefix(PRELOAD);
            has_library |= value.is_some_and(|value| names(value, library.to_bytes()));
        }
        let fits = entries + 3 <= ENTRIES;
        (fits && !(has_entry && has_library)).then_some(Missing { entry, library, entries })
    }
}

/// Whether a value of `LD_PRELOAD` has the library.
fn names(value: &[u8], library: &[u8]) -> bool {
    value.split(|byte| matches!(byte, b' ' | b':')).any(|name| name == library)
}

/// The strings of an array.
///
/// # Safety
///
/// As of [`with_library`]; the strings live as long as they are used.
unsafe fn strings<'a>(array: Strings) -> impl Iterator<Item = &'a CStr> {
    let mut next = array;
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: the array ends with null, which was not reached.
        let string = unsafe { *next };
        if string.is_null() {
            return None;
        }
        next = next.wrapping_add(1);
        // SAFETY: a string that ends with a zero.
        Some(unsafe { CStr::from_ptr(string) })
    })
}

#[inline(never)]
unsafe fn completed(
    environment: Strings,
    missing: &Missing,
    start: impl FnOnce(Strings) -> c_int,
) -> c_int {
    let mut array = [null::<c_char>(); ENTRIES];
    let mut preload = [MaybeUninit::<u8>::uninit(); PRELOAD_BYTES];
    let mut places = array.iter_mut();
    let mut before: &[u8] = b"";
    // SAFETY: the caller's environment.
    for string in unsafe { strings(environment) }.take(missing.entries) {
        let bytes = string.to_bytes();
        if let Some(value) = bytes.strip_prefix(PRELOAD) {
            before = value;
        } else if !is_of(bytes, PATH_VARIABLE.as_bytes())
            && let Some(place) = places.next()
        {
            *place = string.as_ptr();
        }
    }
    let (library, separator): (&[u8], &[u8]) = match missing.library.to_bytes() {
        library if names(before, library) => (b"", b""),
        library if before.is_empty() => (library, b""),
        library => (library, b":"),
    };
    let parts = [PRELOAD, library, separator, before, b"\0"];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > PRELOAD_BYTES {
        return start(environment);
    }
    for (place, byte) in preload.iter_mut().zip(parts.into_iter().flatten()) {
        place.write(*byte);
    }
    for entry in [preload.as_ptr().cast::<c_char>(), missing.entry.as_ptr()] {
        if let Some(place) = places.next() {
            *place = entry;
        }
    }
    // The rest of the array is null.
    start(array.as_ptr())
}

/// Whether `entry` is an entry of the variable.
fn is_of(entry: &[u8], variable: &[u8]) -> bool {
    entry.strip_prefix(variable).is_some_and(|rest| rest.first() == Some(&b'='))
}

unsafe extern "C" {
    static environ: Strings;
}

/// The environment of the process.
fn own_environment() -> Strings {
    // SAFETY: the C library's variable. As always in C, no thread may change it meanwhile.
    unsafe { environ }
}

/// The result of a function that the C library doesn't have.
fn missing_function() -> c_int {
    // SAFETY: the call has no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid, and errno is this thread's alone.
    unsafe { *place = libc::ENOSYS };
    -1
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execve(
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    // SAFETY: the caller's arguments, with a completed environment.
    let start =
        |all| unsafe { real::execve(path, arguments, all) }.unwrap_or_else(missing_function);
    // SAFETY: the caller's environment.
    unsafe { with_library(environment, start) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execv(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the caller's arguments, and the environment that execv(3) defines.
    unsafe { execve(path, arguments, own_environment()) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execvpe(
    file: *const c_char,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    // SAFETY: the caller's arguments, with a completed environment.
    let start =
        |all| unsafe { real::execvpe(file, arguments, all) }.unwrap_or_else(missing_function);
    // SAFETY: the caller's environment.
    unsafe { with_library(environment, start) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execvp(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the caller's arguments, and the environment that execvp(3) defines.
    unsafe { execvpe(file, arguments, own_environment()) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fexecve(
    file: c_int,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    // SAFETY: the caller's arguments, with a completed environment.
    let start =
        |all| unsafe { real::fexecve(file, arguments, all) }.unwrap_or_else(missing_function);
    // SAFETY: the caller's environment.
    unsafe { with_library(environment, start) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawn(
    pid: *mut c_int,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    let start = |all| {
        // SAFETY: the caller's arguments, with a completed environment.
        let started = unsafe { real::posix_spawn(pid, path, actions, attributes, arguments, all) };
        started.unwrap_or(libc::ENOSYS)
    };
    // SAFETY: the caller's environment.
    unsafe { with_library(environment, start) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawnp(
    pid: *mut c_int,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    let start = |all| {
        // SAFETY: the caller's arguments, with a completed environment.
        let started = unsafe { real::posix_spawnp(pid, file, actions, attributes, arguments, all) };
        started.unwrap_or(libc::ENOSYS)
    };
    // SAFETY: the caller's environment.
    unsafe { with_library(environment, start) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _exit(status: c_int) -> ! {
    log::end();
    loop {
        // SAFETY: the call has no preconditions, and does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Exit(status: c_int) -> ! {
    // SAFETY: as its caller's.
    unsafe { _exit(status) }
}
