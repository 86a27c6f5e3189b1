//! A chunk's memory as bytes of this process.

use crate::error::Error;
use crate::pieces::{Batch, Window, map};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
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

// SAFETY: it is plain memory, which no thread has more to do with than another.
unsafe impl Send for Mapping {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a chunk whose pieces nobody else has and that starts with those of `batch`.
    pub(crate) fn of(
        batch: Batch,
        mut fetch: impl FnMut(u64) -> Result<Batch, Error>,
    ) -> Result<Mapping, Error> {
        check(&batch)?;
        let len =
            usize::try_from(batch.chunk().size).map_err(|_| Error::system("mmap")(Errno::NOMEM))?;
        let window = Window {
            address: ptr::null_mut(),
            len,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
            offset: 0,
        };
        let mut failed = None;
        let fetch = |first| {
            let next = fetch(first).and_then(|batch| check(&batch).map(|()| batch));
            next.map_err(|error| {
                failed = Some(error);
                Errno::IO
            })
        };
        // SAFETY: the address is the kernel's choice.
        let mapped = unsafe { map(batch, fetch, &window) };
        let base =
            mapped.map_err(|errno| failed.unwrap_or_else(|| Error::system("mmap")(errno)))?;
        let base = NonNull::new(base.cast()).ok_or(Error::Unsafe("it is mapped at address 0"))?;
        Ok(Mapping { base, len })
    }
}

/// Whether every piece is there whole and will stay so: touching what was cut off ends a process.
fn check(batch: &Batch) -> Result<(), Error> {
    for part in batch.parts() {
        let seals = fcntl_get_seals(part.file).map_err(Error::system("fcntl(F_GET_SEALS)"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(Error::Unsafe("it is not sealed against shrinking"));
        }
        let size = fstat(part.file).map_err(Error::system("fstat"))?.st_size;
        if part.offset + part.len > size as u64 {
            return Err(Error::Unsafe("its file is too short"));
        }
    }
    Ok(())
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped from `base` on as long as this lives, they are sealed
        // against being cut off, and they were zero. Nobody else writes to them: the server gives a
        // chunk's memory to its connection and to no other and has no mapping of it, which is what
        // the kernel is trusted for with a device; and of the descriptors that came, none was given
        // on.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base: *mut c_void = self.base.as_ptr().cast();
        // SAFETY: it was mapped here, and whoever borrowed the bytes is done.
        let _ = unsafe { munmap(base, self.len) };
    }
}
