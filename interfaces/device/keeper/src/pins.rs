//! The pages of stored files that are pinned.

use crate::name::Name;
use cma_pin::{Page, Ring};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr;

/// The most pages that are pinned: 2 TiB of 2 MiB each. A ring for each 16,384 takes a descriptor.
const MAX_PAGES: usize = 1 << 20;

/// Pinned pages. A page that has left its file stays pinned until it is unpinned as the page that
/// it was.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    rings: Vec<Ring>,
    /// The slots of the rings that have no page.
    free: Vec<usize>,
    /// The slot of each page, by its file and its offset there.
    slots: BTreeMap<(Name, u64), usize>,
}

impl Pins {
    /// Pins the pages of `range` of a file, all or none that was not pinned before. One that is
    /// pinned already is pinned anew: it may be another page now.
    pub(crate) fn pin(
        &mut self,
        name: &Name,
        file: &OwnedFd,
        range: Range<u64>,
    ) -> Result<(), Errno> {
        let page = page_size(file, &range)?;
        let mapping = Mapping::of(file, &range)?;
        let mut added = Vec::new();
        for offset in range.clone().step_by(page) {
            let at = mapping.start.addr() + (offset - range.start) as usize;
            let key = (name.clone(), offset);
            let known = self.slots.get(&key).copied();
            let pinned = known.map_or_else(|| self.free_slot(), Ok).and_then(|slot| {
                self.set(slot, Some(Page { address: at, len: page })).map(|()| slot)
            });
            match pinned {
                Ok(slot) if known.is_none() => {
                    self.free.pop();
                    added.push(offset);
                    self.slots.insert(key, slot);
                }
                Ok(_) => {}
                Err(errno) => {
                    for offset in added {
                        let _ = self.unpin_one(name, offset);
                    }
                    return Err(errno);
                }
            }
        }
        Ok(())
    }

    /// Unpins the pages of `range` of a file that are pinned.
    pub(crate) fn unpin(
        &mut self,
        name: &Name,
        file: &OwnedFd,
        range: Range<u64>,
    ) -> Result<(), Errno> {
        page_size(file, &range)?;
        let pinned: Vec<u64> = self.of(name, range).collect();
        pinned.into_iter().try_for_each(|offset| self.unpin_one(name, offset))
    }

    /// Unpins all pages of a file.
    pub(crate) fn unpin_all(&mut self, name: &Name) {
        let pinned: Vec<u64> = self.of(name, 0..u64::MAX).collect();
        for offset in pinned {
            // Emptying a slot takes no memory.
            let _ = self.unpin_one(name, offset);
        }
    }

    /// The offsets of a file's pinned pages.
    fn of(&self, name: &Name, range: Range<u64>) -> impl Iterator<Item = u64> {
        let key = |offset| (name.clone(), offset);
        let slots = self.slots.range(key(range.start)..key(range.end));
        slots.map(|((_, offset), _)| *offset)
    }

    fn unpin_one(&mut self, name: &Name, offset: u64) -> Result<(), Errno> {
        let key = (name.clone(), offset);
        if let Some(slot) = self.slots.get(&key).copied() {
            self.set(slot, None)?;
            self.slots.remove(&key);
            self.free.push(slot);
        }
        Ok(())
    }

    fn set(&self, slot: usize, page: Option<Page>) -> Result<(), Errno> {
        self.rings[slot / Ring::MAX_SLOTS].set(slot % Ring::MAX_SLOTS, page)
    }

    /// The last slot without a page, which stays one.
    fn free_slot(&mut self) -> Result<usize, Errno> {
        if self.free.is_empty() {
            if self.slots.len() >= MAX_PAGES {
                return Err(Errno::NOMEM);
            }
            let ring = Ring::new()?;
            ring.register((0..Ring::MAX_SLOTS).map(|_| None))?;
            let first = self.rings.len() * Ring::MAX_SLOTS;
            self.free.extend((first..first + Ring::MAX_SLOTS).rev());
            self.rings.push(ring);
        }
        self.free.last().copied().ok_or(Errno::NOMEM)
    }
}

/// The page size of a file, of which `range` is whole pages.
fn page_size(file: &OwnedFd, range: &Range<u64>) -> Result<usize, Errno> {
    let stat = fstat(file)?;
    let page = u64::try_from(stat.st_blksize).ok().filter(|page| page.is_power_of_two());
    let page = page.ok_or(Errno::INVAL)?;
    let is_whole = range.start.is_multiple_of(page) && range.end.is_multiple_of(page);
    let is_within =
        range.start < range.end && range.end <= u64::try_from(stat.st_size).unwrap_or(0);
    if !is_whole || !is_within {
        return Err(Errno::INVAL);
    }
    usize::try_from(page).map_err(|_| Errno::INVAL)
}

/// Mapped memory of a file. Nothing reads or writes it.
struct Mapping {
    start: *mut c_void,
    len: usize,
}

impl Mapping {
    fn of(file: &OwnedFd, range: &Range<u64>) -> Result<Self, Errno> {
        let len = usize::try_from(range.end - range.start).map_err(|_| Errno::NOMEM)?;
        // Nothing is taken out of the pool for it.
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses unused addresses.
        let start = unsafe { mmap(ptr::null_mut(), len, access, flags, file, range.start) }?;
        Ok(Mapping { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range belongs to this mapping, and nothing refers to its bytes.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
