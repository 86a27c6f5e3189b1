//! A chunk's memory, mapped for this process.

use crate::error::Error;
use crate::pieces::{MapArguments, PieceBatch, map};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, munmap};
use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

/// A mapping of a whole chunk.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory and bound to no thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a whole chunk whose pieces no other process has. `batch` has the first of them.
    pub(crate) fn new(
        batch: PieceBatch,
        mut fetch: impl FnMut(u64) -> Result<PieceBatch, Error>,
    ) -> Result<Mapping, Error> {
        batch.check_mappable()?;
        let len =
            usize::try_from(batch.chunk().size).map_err(|_| Error::system("mmap")(Errno::NOMEM))?;
        let whole = MapArguments {
            address: ptr::null_mut(),
            len,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
            offset: 0,
        };
        let mut failed = None;
        let fetch = |first| {
            let next = fetch(first).and_then(|batch| batch.check_mappable().map(|()| batch));
            next.map_err(|error| {
                failed = Some(error);
                Errno::IO
            })
        };
        // SAFETY: the kernel chooses the address.
        let mapped = unsafe { map(batch, fetch, &whole) };
        let base =
            mapped.map_err(|errno| failed.unwrap_or_else(|| Error::system("mmap")(errno)))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| Error::system("mmap")(Errno::FAULT))?;
        Ok(Mapping { base, len })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped from `base` on as long as this lives, their files are
        // sealed against shrinking, and they are initialised (zero). No other process writes to
        // them: the server gives a chunk's memory to one connection only and doesn't map it (it is
        // trusted with that as the kernel is with a device's memory), and this process has sent
        // none of the descriptors to another.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base: *mut c_void = self.base.as_ptr().cast();
        // SAFETY: `new` mapped it, and no borrow of the bytes outlives `self`.
        let _ = unsafe { munmap(base, self.len) };
    }
}
