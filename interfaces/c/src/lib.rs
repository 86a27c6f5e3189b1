//! `libcma`: the framework and the client of the device server for programs in C and C++, and for
//! every language that can call C. `include/cma.h` is its header, which cbindgen makes of this
//! crate, with the comments of the functions.
//!
//! Two halves: a *client* asks a server in another process for chunks; a *host* is a framework in
//! this process. Chunks of both are used by the same calls.
//!
//! - `handles` has the objects that a program has handles of.
//! - `border` has what every call passes: arguments, results, panics.
//! - `failure` has the last error of each thread.
//! - The others have the calls.
//!
//! Unsafe code reads and writes what pointers of the program point to, maps memory, and calls the
//! program's function for events.

#![allow(non_camel_case_types, reason = "the names are those of C")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of all pointers is at the head of the header, and in `border`"
)]
#![allow(missing_debug_implementations, reason = "types of C, which has no Debug")]

mod border;
mod chunk;
mod client;
mod device;
mod failure;
mod figures;
mod handles;
mod host;
mod memory;
mod named;
mod observation;
mod pending;
mod remote;
mod request;

pub use chunk::*;
pub use client::*;
pub use device::*;
pub use failure::{cma_last_error, cma_last_error_json};
pub use figures::*;
pub use host::*;
pub use observation::*;
pub use pending::*;
pub use request::*;

use std::ffi::c_char;

/// The version of the library, as "0.3.0". Programs that were linked with libcma.so.1 work with
/// every version of that name.
#[unsafe(no_mangle)]
pub extern "C" fn cma_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
