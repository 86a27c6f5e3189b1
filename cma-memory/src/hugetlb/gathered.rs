//! Pages taken out of the pool to find some at wanted places. All are in one file.

use super::file::PoolFile;
use super::pool::Pool;
use cma_framework::MemoryError;

/// Pages out of the pool. They return to it when this is dropped.
#[derive(Debug)]
pub(super) struct Gathered {
    file: PoolFile,
    pool: Pool,
    /// The offset in bytes of the next page.
    end: u64,
}

/// The longest file, in bytes: an eighth of the addresses that a process has.
const MAX_LEN: u64 = 1 << 44;

impl Gathered {
    /// No pages yet.
    pub(super) fn new(pool: Pool, label: &str) -> Result<Self, MemoryError> {
        let len = pool.most_pages()?.max(1).saturating_mul(pool.size);
        let len = len.min(MAX_LEN.next_multiple_of(pool.size));
        Ok(Gathered { file: PoolFile::with_len(pool, label, 0..0, len)?, pool, end: 0 })
    }

    /// Takes a page out of the pool. Returns its offset in the file in bytes; `None` when no page
    /// is free.
    pub(super) fn take(&mut self) -> Result<Option<u64>, MemoryError> {
        let offset = self.end;
        if offset >= self.file.len() || !self.file.take(offset)? {
            return Ok(None);
        }
        self.end += self.pool.size;
        Ok(Some(offset))
    }

    /// The file.
    pub(super) fn file(&self) -> &PoolFile {
        &self.file
    }

    /// The file with the pages at `offsets` only, as the home of a region of that many pages. The
    /// others return to the pool.
    pub(super) fn keep(self, offsets: &[u64]) -> Result<PoolFile, MemoryError> {
        let mut kept: Vec<u64> = offsets.to_vec();
        kept.sort_unstable();
        for offset in (0..self.end).step_by(self.pool.size as usize) {
            if kept.binary_search(&offset).is_err() {
                self.file.remove(offset)?;
            }
        }
        Ok(self.file.of_pages(0..offsets.len()))
    }
}
