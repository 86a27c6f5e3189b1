//! The machine's pool of huge pages: what sizes it has, and taking pages out of it.

use super::HugetlbError;
use super::pagemap::Pagemap;
use crate::mapping::Mapping;
use crate::refusal::refused;
use crate::sealed::Sealed;
use cma_framework::{MemoryError, PAGE_SIZE};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The huge pages of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// Their size in bytes, a power of two.
    pub(super) size: u64,
}

impl Pool {
    /// The huge pages of `size` bytes, or of the machine's default size.
    pub(super) fn of(size: Option<u64>) -> Result<Pool, HugetlbError> {
        let sizes = sizes();
        let wanted = match size {
            Some(size) => Some(size),
            None => default_size(),
        };
        match wanted {
            Some(size) if sizes.contains(&size) => Ok(Pool { size }),
            size => Err(HugetlbError::NoSuchPages { size, sizes }),
        }
    }

    /// The size as a number of ordinary pages.
    pub(super) fn frames(self) -> u64 {
        self.size / PAGE_SIZE
    }

    /// The file that sets how many pages it has.
    pub(super) fn path(self) -> String {
        format!("{POOLS}/hugepages-{}kB/nr_hugepages", self.size >> 10)
    }

    /// A page out of the pool; none when it has no more to give.
    pub(super) fn take(self, label: &str) -> Result<Option<Page>, MemoryError> {
        let size = MemfdFlags::from_bits_retain(self.size.trailing_zeros() << libc::MFD_HUGE_SHIFT);
        let file = Sealed::create(label, self.size, MemfdFlags::HUGETLB | size)?;
        match file.fill() {
            Ok(()) => Ok(Some(Page { file, given: Mutex::new(false) })),
            Err(Errno::NOSPC | Errno::NOMEM) => Ok(None),
            Err(errno) => Err(refused("fallocate")(errno)),
        }
    }

    /// The error for a pool that had `free` pages to give where `wanted` were needed.
    pub(super) fn too_small(self, wanted: usize, free: usize) -> HugetlbError {
        let path = self.path();
        let total = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        HugetlbError::TooFew { wanted, free, total: total.unwrap_or(free), page: self.size, path }
    }
}

/// A huge page, out of the pool as long as this lives.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) file: Sealed,
    given: Mutex<bool>,
}

impl Page {
    /// Whether somebody was given it since it was last known to be nobody else's. Holding this keeps it from being given away.
    pub(super) fn given(&self) -> MutexGuard<'_, bool> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of its first physical page.
    pub(super) fn frame(&self, pool: Pool, pagemap: &Pagemap) -> Result<u64, MemoryError> {
        let mapping = Mapping::of(&self.file, pool.size as usize)?;
        mapping.populate(0..mapping.len())?;
        pagemap.frame(mapping.address()).map_err(|source| MemoryError::System {
            call: "/proc/self/pagemap",
            source,
            remedy: None,
        })
    }
}

/// The sizes of huge pages that the machine has, in bytes.
fn sizes() -> Vec<u64> {
    let folders = fs::read_dir(POOLS).into_iter().flatten().flatten();
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut sizes: Vec<u64> =
        folders.filter_map(|folder| Some(size(folder.file_name().to_str()?)? << 10)).collect();
    sizes.sort_unstable();
    sizes
}

fn default_size() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

const POOLS: &str = "/sys/kernel/mm/hugepages";
