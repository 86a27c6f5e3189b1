//! The border between C and Rust: every call passes here, with its arguments and its result.
//!
//! The contract with C programs is that of the C library. A pointer is null or points to what the
//! declaration says, for the length of the call; a text ends with a NUL byte. Nobody else writes
//! there during the call. Handles are no such pointers: `handles` checks them.

use crate::failure::Failure;
use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

/// Runs a call. Its result is 0 or a negative errno. A panic ends here: it is a defect of the
/// library or of code that it calls, and the call fails with `ENOTRECOVERABLE`.
#[inline(always)]
pub(crate) fn border(call: &'static str, work: impl FnOnce() -> Result<(), Failure>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => failure.report(call),
        Err(panic) => panicked(call, &*panic),
    }
}

#[cold]
fn panicked(call: &'static str, panic: &(dyn Any + Send)) -> c_int {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(libc::ENOTRECOVERABLE, format!("defect in libcma: panic: {text}")).report(call)
}

/// The text at `text`.
///
/// # Safety
///
/// It is null, or a text that lives and doesn't change for `'a`.
#[inline(always)]
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's.
    match unsafe { optional_text(text, name) }? {
        Some(text) => Ok(text),
        None => Err(is_null(name)),
    }
}

/// The text at `text`; `None` for a null pointer.
///
/// # Safety
///
/// As [`text`].
#[inline(always)]
pub(crate) unsafe fn optional_text<'a>(
    text: *const c_char,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    let bytes = text.cast::<i8>();
    // One comparison finds the NUL byte and what is not ASCII. Names are short: for them this is
    // quicker than a call of `strlen`, and a check of the bytes after it.
    let mut length = 0;
    // SAFETY: the caller's: every byte up to the NUL byte is part of the text.
    while unsafe { bytes.wrapping_add(length).read() } > 0 {
        length += 1;
    }
    // SAFETY: as above.
    if unsafe { bytes.wrapping_add(length).read() } < 0 {
        // SAFETY: the caller's.
        return unsafe { not_ascii(text, name) }.map(Some);
    }
    // SAFETY: that many bytes are part of the text.
    let ascii = unsafe { slice::from_raw_parts(bytes.cast(), length) };
    // SAFETY: ASCII is UTF-8.
    Ok(Some(unsafe { str::from_utf8_unchecked(ascii) }))
}

/// The text at `text`, which is not null.
///
/// # Safety
///
/// As [`text`].
#[cold]
unsafe fn not_ascii<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's: a text that ends with a NUL byte.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| {
        Failure::invalid(format!("the {name} is not UTF-8 from byte {} on", error.valid_up_to()))
    })
}

#[cold]
fn is_null(name: &str) -> Failure {
    Failure::invalid(format!("the {name} is NULL"))
}

/// The place for a result, which must not be null.
#[inline]
pub(crate) fn place<'a, T>(
    out: Option<&'a mut MaybeUninit<T>>,
    name: &str,
) -> Result<&'a mut MaybeUninit<T>, Failure> {
    out.ok_or_else(|| is_null(name))
}

/// The place for a new handle. It gets the null pointer first, so that it has no handle when the
/// call fails.
#[inline]
pub(crate) fn handle_place<'a, O>(
    out: Option<&'a mut MaybeUninit<*mut O>>,
    name: &str,
) -> Result<&'a mut MaybeUninit<*mut O>, Failure> {
    let out = place(out, name)?;
    out.write(ptr::null_mut());
    Ok(out)
}

/// A structure whose first field is its size, so that later versions of the library can append
/// fields: a caller that was compiled with a shorter or a longer one is served, as by Linux's
/// `copy_struct_from_user`.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is the `u32` size, and any bytes are a value of it.
pub(crate) unsafe trait Grows: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// The least size: up to the last field without which it says nothing.
    const LEAST: usize;
}

/// No structure is longer. It bounds what is read and written when the size was never set.
const MOST: usize = 4096;

/// The size that the caller has set.
///
/// # Safety
///
/// `from` is null or points to a `T` of the caller's size.
unsafe fn size_of_caller<T: Grows>(from: *const T) -> Result<usize, Failure> {
    if from.is_null() {
        return Err(is_null(T::NAME));
    }
    // SAFETY: every version begins with the size.
    let size = unsafe { from.cast::<u32>().read_unaligned() } as usize;
    if size < T::LEAST {
        let (name, least) = (T::NAME, T::LEAST);
        return Err(Failure::invalid(format!(
            "the size of {name} is {size}, at least {least} is needed: set it to sizeof(struct \
             {name})"
        )));
    }
    if size > MOST {
        let name = T::NAME;
        let text = format!("the size of {name} is {size}, the most is {MOST}: was it not set?");
        return Err(Failure::new(libc::E2BIG, text));
    }
    Ok(size)
}

/// Reads a structure. Fields that the caller doesn't know are zero.
///
/// # Safety
///
/// `from` is null or points to as many bytes as its size says.
pub(crate) unsafe fn read_struct<T: Grows>(from: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's.
    let size = unsafe { size_of_caller(from) }?;
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: both have `known` bytes, and the second is a variable of this function.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known) };
    for at in known..size {
        let byte = from.cast::<u8>().wrapping_add(at);
        // SAFETY: below the caller's size.
        if unsafe { byte.read() } != 0 {
            let name = T::NAME;
            let text = format!(
                "byte {at} of {name} is set; this version of libcma knows {known} bytes of it"
            );
            return Err(Failure::new(libc::E2BIG, text));
        }
    }
    // SAFETY: any bytes are a value.
    Ok(unsafe { value.assume_init() })
}

/// Writes a structure, whose size the caller has set. Fields that the caller doesn't know are left
/// out; those that this version doesn't know are zero.
///
/// # Safety
///
/// `to` is null or points to as many bytes as its size says.
pub(crate) unsafe fn write_struct<T: Grows>(
    to: *mut T,
    value: impl FnOnce() -> Result<T, Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's.
    let size = unsafe { size_of_caller(to.cast_const()) }?;
    let value = value()?;
    let known = size.min(size_of::<T>());
    let after_size = size_of::<u32>();
    let from = ptr::from_ref(&value).cast::<u8>().wrapping_add(after_size);
    let field = to.cast::<u8>().wrapping_add(after_size);
    // SAFETY: both have `known` bytes, of which those of the size are left out.
    unsafe { ptr::copy_nonoverlapping(from, field, known - after_size) };
    let rest = to.cast::<u8>().wrapping_add(known);
    // SAFETY: the caller has `size` bytes there.
    unsafe { ptr::write_bytes(rest, 0, size - known) };
    Ok(())
}

/// Writes as much of `text` as fits, with a NUL byte, and its length.
///
/// # Safety
///
/// `to` is null or points to `capacity` bytes.
pub(crate) unsafe fn write_text(
    text: &str,
    to: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> Result<(), Failure> {
    if let Some(length) = length {
        length.write(text.len());
    }
    if to.is_null() && capacity > 0 {
        return Err(is_null("text"));
    }
    if text.len() >= capacity {
        let needed = text.len() + 1;
        let text = format!("the text needs {needed} bytes with its NUL byte, {capacity} are there");
        return Err(Failure::new(libc::ERANGE, text));
    }
    // SAFETY: `capacity` bytes are there, more than the text has.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), text.len()) };
    let end = to.wrapping_add(text.len());
    // SAFETY: as above.
    unsafe { end.write(0) };
    Ok(())
}

/// A pointer of the program that is passed back to it. The program answers for its use in other
/// threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context(pub(crate) *mut c_void);

// SAFETY: the library doesn't use it.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

#[cfg(test)]
mod tests;
