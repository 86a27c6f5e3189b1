//! Where this process's memory physically is, as far as the kernel tells
//! (`Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// `/proc/self/pagemap`. What it tells depends on who opened it, not on who reads it.
#[derive(Debug)]
pub(super) struct Pagemap(File);

impl Pagemap {
    /// Opens it, if it tells this process where its memory is.
    ///
    /// # Errors
    ///
    /// Why it doesn't, and what to do about it.
    pub(super) fn open() -> Result<Self, String> {
        let file = File::open("/proc/self/pagemap")
            .map_err(|error| format!("/proc/self/pagemap: {error}; {REMEDY}"))?;
        let something = 1_u8;
        match Pagemap(file) {
            pagemap
                if pagemap.frame((&raw const something).addr()).is_ok_and(|frame| frame != 0) =>
            {
                Ok(pagemap)
            }
            _ => Err(format!("physical addresses are hidden from this process; {REMEDY}")),
        }
    }

    /// The number of the physical page behind `address`; 0 where nothing is mapped, and to those
    /// who may not know.
    pub(super) fn frame(&self, address: usize) -> io::Result<u64> {
        let mut entry = [0; 8];
        self.0.read_exact_at(&mut entry, (address / PAGE * size_of::<u64>()) as u64)?;
        let entry = u64::from_ne_bytes(entry);
        Ok(if entry & PRESENT != 0 { entry & FRAME } else { 0 })
    }
}

const REMEDY: &str = "run it as root (CAP_SYS_ADMIN) to have contiguity proven";

const PAGE: usize = cma_framework::PAGE_SIZE as usize;

/// Set in an entry when there is a page.
const PRESENT: u64 = 1 << 63;

/// The lowest 55 bits of an entry.
const FRAME: u64 = (1 << 55) - 1;
