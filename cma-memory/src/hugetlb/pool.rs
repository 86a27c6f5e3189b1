//! The machine's pool of huge pages: its page sizes, and the errors for one that lacks pages.

use super::error::HugetlbError;
use super::holders::Holders;
use super::plan::{Lack, Need};
use crate::system::{errno, read_text, system_error, with_raised_limit};
use cma_framework::config::{Bytes, Window};
use cma_framework::{Alignment, DmaAddr, MemoryError, PAGE_SIZE};
use rustix::io::Errno;
use std::{fs, io};

/// The huge pages of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// Their size in bytes, a power of two.
    pub(super) size: u64,
}

impl Pool {
    /// The pool of pages of `size` bytes, or of the machine's default size.
    pub(super) fn of(size: Option<u64>) -> Result<Pool, HugetlbError> {
        let sizes = sizes()?;
        let wanted = match size {
            Some(size) => Some(size),
            None => default_size()?,
        };
        match wanted {
            Some(size) if sizes.contains(&size) => Ok(Pool { size }),
            size => Err(HugetlbError::NoSuchPages { size, sizes }),
        }
    }

    /// The size in ordinary pages.
    pub(super) fn frames(self) -> u64 {
        self.size / PAGE_SIZE
    }

    /// The most pages that the pool can have as it is set now.
    pub(super) fn most_pages(self) -> Result<u64, MemoryError> {
        let overcommitted = self.number("nr_overcommit_hugepages")?;
        Ok(self.number("nr_hugepages")?.saturating_add(overcommitted))
    }

    /// Checks that a page that is freed stays in the pool. The kernel removes it when the pool has
    /// more pages than its setting: then it has surplus pages.
    pub(super) fn check_keeps_pages(self) -> Result<(), MemoryError> {
        match self.number("surplus_hugepages")? {
            0 => Ok(()),
            surplus => Err(MemoryError::System {
                call: "moving huge pages to a file",
                source: io::Error::other(format!(
                    "the pool has {surplus} more than it is set to, so a page that is freed leaves it"
                )),
                remedy: Some(format!(
                    "as root: echo {} > {}",
                    self.total(0),
                    self.path("nr_hugepages")
                )),
            }),
        }
    }

    /// The error for a pool with `free` free pages where `wanted` are needed.
    pub(super) fn too_small(self, wanted: usize, free: usize, need: &Need) -> HugetlbError {
        let path = self.path("nr_hugepages");
        let command =
            || format!("as root: echo {} > {path}{}", self.enough(free, need), need.scope());
        HugetlbError::TooFew {
            wanted,
            free,
            page: self.size,
            holders: self.holders(free),
            remedy: need.remedy(Lack::Pages, command),
        }
    }

    /// The error for a pool whose `free` free pages contain no run of `wanted` at that alignment,
    /// and none longer than `longest` at any alignment.
    pub(super) fn no_run(
        self,
        wanted: usize,
        alignment: Alignment,
        free: usize,
        longest: usize,
        need: &Need,
    ) -> HugetlbError {
        let commands = || {
            format!(
                "as root: {}{}; or reserve them at boot: hugepagesz={} hugepages={} on the kernel's command line",
                self.make_adjacent(need.pages.bytes()),
                need.scope(),
                Bytes(self.size),
                self.enough(free, need)
            )
        };
        HugetlbError::NoRun {
            wanted,
            alignment,
            free,
            longest,
            page: self.size,
            holders: self.holders(free),
            remedy: need.remedy(Lack::Runs, commands),
        }
    }

    /// The error for a pool whose `free` free pages contain no run at `start`.
    pub(super) fn not_there(self, start: DmaAddr, free: usize) -> HugetlbError {
        HugetlbError::NotThere { start, holders: self.holders(free) }
    }

    /// The error for a pool whose `free` free pages contain no run of `wanted` within `window` at
    /// that alignment, and there none longer than `longest` at any alignment.
    pub(super) fn not_within(
        self,
        window: Window,
        wanted: usize,
        alignment: Alignment,
        free: usize,
        longest: usize,
    ) -> HugetlbError {
        let (page, holders) = (self.size, self.holders(free));
        HugetlbError::NotWithin { wanted, window, alignment, longest, page, holders }
    }

    /// The size of the pool in pages, of which `free` were free.
    fn total(self, free: usize) -> u64 {
        self.number("nr_hugepages").unwrap_or(free as u64)
    }

    /// The size in pages that the pool must have to meet `need`.
    fn enough(self, free: usize, need: &Need) -> u64 {
        let lacking = (need.pages.get() / self.frames()).saturating_sub(free as u64);
        self.total(free).saturating_add(lacking)
    }

    /// The processes that hold pages which were not free.
    fn holders(self, free: usize) -> Holders {
        match self.total(free) {
            total if total > free as u64 => Holders::of(self.size, total),
            _ => Holders::default(),
        }
    }

    /// Commands that make adjacent pages of `bytes` bytes in total.
    fn make_adjacent(self, bytes: u64) -> String {
        let demotes_to_this =
            |pool: &Pool| pool.read("demote_size") == Ok(format!("{}kB", self.size >> 10));
        match sizes()
            .unwrap_or_default()
            .into_iter()
            .map(|size| Pool { size })
            .find(demotes_to_this)
        {
            Some(larger) => {
                let count = bytes.div_ceil(larger.size);
                let there = larger.number("nr_hugepages").unwrap_or(0);
                format!(
                    "echo {} > {} && echo {count} > {} (larger pages, split into these)",
                    there + count,
                    larger.path("nr_hugepages"),
                    larger.path("demote")
                )
            }
            None => format!(
                "echo 3 > /proc/sys/vm/drop_caches && echo 1 > /proc/sys/vm/compact_memory, and refill {}",
                self.path("nr_hugepages")
            ),
        }
    }

    /// A number of the pool in sysfs.
    fn number(self, file: &str) -> Result<u64, MemoryError> {
        let text = self.read(file).map_err(system_error("reading a pool of huge pages"))?;
        Ok(text.parse().unwrap_or(0))
    }

    /// A value of the pool in sysfs.
    fn read(self, file: &str) -> Result<String, Errno> {
        Ok(read_text(&self.path(file))?.trim().to_string())
    }

    fn path(self, file: &str) -> String {
        format!("{POOLS}/hugepages-{}kB/{file}", self.size >> 10)
    }
}

/// The page sizes of the machine's pools, in bytes.
fn sizes() -> Result<Vec<u64>, MemoryError> {
    let open = || fs::read_dir(POOLS).map_err(|error| errno(&error));
    let folders = match with_raised_limit(open) {
        Ok(folders) => folders.flatten(),
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(system_error("reading the pools of huge pages")(errno)),
    };
    let size =
        |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut sizes: Vec<u64> =
        folders.filter_map(|folder| Some(size(folder.file_name().to_str()?)? << 10)).collect();
    sizes.sort_unstable();
    Ok(sizes)
}

fn default_size() -> Result<Option<u64>, MemoryError> {
    let text = read_text("/proc/meminfo").map_err(system_error("reading /proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
    let kib = |line: &str| line.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    Ok(line.and_then(kib).map(|kib| kib << 10))
}

const POOLS: &str = "/sys/kernel/mm/hugepages";
