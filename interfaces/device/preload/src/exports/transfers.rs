//! `read` and `write`, which the device has not. On a line they would take an answer away, or say to the server what it doesn't understand.

use super::set_errno;
use crate::device::{Line, line_if_any};
use crate::real;
use rustix::io::Errno;
use std::ffi::{c_int, c_void};

/// What the kernel says of a file whose driver has no such function: first, whether it was opened for it.
fn refused(may: bool) -> isize {
    set_errno(if may { Errno::INVAL } else { Errno::BADF });
    -1
}

fn no_read(line: Line) -> isize {
    refused(line.access.reads())
}

fn no_write(line: Line) -> isize {
    refused(line.access.writes())
}

/// Functions that are refused on a line, each with what it is elsewhere.
macro_rules! not_on_a_line {
    ($($refusal:ident: fn $name:ident($($argument:ident: $type:ty),*), $real:ident($($handed_on:ident),*);)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(file: c_int, $($argument: $type),*) -> isize {
            match line_if_any(file) {
                Some(line) => $refusal(line),
                // SAFETY: the caller's arguments, as they are.
                None => unsafe { real::$real(file, $($handed_on),*) },
            }
        }
    )* };
}

not_on_a_line! {
    no_read: fn read(bytes: *mut c_void, count: usize), read(bytes, count);
    no_read: fn __read_chk(bytes: *mut c_void, count: usize, room: usize), read_chk(bytes, count, room);
    no_read: fn readv(parts: *const libc::iovec, count: c_int), readv(parts, count);
    no_read: fn pread(bytes: *mut c_void, count: usize, at: libc::off_t), pread(bytes, count, at);
    no_read: fn pread64(bytes: *mut c_void, count: usize, at: libc::off64_t), pread(bytes, count, at);
    no_write: fn write(bytes: *const c_void, count: usize), write(bytes, count);
    no_write: fn writev(parts: *const libc::iovec, count: c_int), writev(parts, count);
    no_write: fn pwrite(bytes: *const c_void, count: usize, at: libc::off_t), pwrite(bytes, count, at);
    no_write: fn pwrite64(bytes: *const c_void, count: usize, at: libc::off64_t), pwrite(bytes, count, at);
}
