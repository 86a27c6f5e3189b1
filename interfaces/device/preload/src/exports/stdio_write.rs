//! Writing through a `FILE`. The C library makes the system call itself, past the `write` of this
//! library, and the kernel's errno is that of an unconnected socket. These functions replace it
//! with that of the device.

use super::read_write::refuse_write;
use crate::device_file::{DeviceFile, device_file_if_any};
use crate::{last_errno, preserving_errno, real};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_void};

/// The open file of the device that a stream writes to.
fn file_of(stream: *mut libc::FILE) -> Option<DeviceFile> {
    if stream.is_null() {
        return None;
    }
    // SAFETY: the caller's stream, which is open.
    device_file_if_any(preserving_errno(|| unsafe { libc::fileno(stream) }))
}

/// Functions that may write the stream's buffer, each with the stream and the condition for
/// failure.
macro_rules! streams {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, of $stream:ident, $done:ident => $failed:expr;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            // `fclose` may free the stream, so its file is looked up before the call.
            let file = file_of($stream);
            // SAFETY: the caller's arguments, unchanged.
            let $done = unsafe { real::$name($($argument),*) };
            if let Some(file) = file && $failed && last_errno() == Errno::NOTCONN {
                refuse_write(file);
            }
            $done
        }
    )* };
}

streams! {
    fn fflush(stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fflush_unlocked(stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fclose(stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fwrite(bytes: *const c_void, size: usize, count: usize, stream: *mut libc::FILE) -> usize,
        of stream, done => done < count;
    fn fwrite_unlocked(bytes: *const c_void, size: usize, count: usize, stream: *mut libc::FILE) -> usize,
        of stream, done => done < count;
    fn fputs(text: *const c_char, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fputs_unlocked(text: *const c_char, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fputc(letter: c_int, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn fputc_unlocked(letter: c_int, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn putc(letter: c_int, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn putc_unlocked(letter: c_int, stream: *mut libc::FILE) -> c_int, of stream, done => done < 0;
    fn __overflow(stream: *mut libc::FILE, letter: c_int) -> c_int, of stream, done => done < 0;
}
