//! Huge pages: memory that can be physically contiguous, and verified to be.
//!
//! The reserver takes pages out of the machine's pool and sorts them by physical address. It pins
//! adjacent ones and verifies each address once more. The others return to the pool. Where the
//! kernel can't pin pages (that takes `io_uring`), it may move them later;
//! [`Ports`](crate::Ports) reports that.
//!
//! A chunk of whole huge pages is one file, which has no byte of another chunk. Its pages move
//! there through the pool, one by one, and each address is verified. When another user of the pool
//! takes a page in between, the page is searched for in the pool. When others keep it from moving
//! to the file several times, it stays in a file of its own, and the chunk has
//! [several pieces](cma_framework::SharedChunk::pieces). A region takes three descriptors (one
//! more for every 16,384 pages), each chunk of whole pages one, and up to 16 freed chunks one each:
//! their files have their pages until another chunk needs them.
//!
//! While the pool is set to fewer pages than are in use (`nr_hugepages`), no page moves, because
//! the kernel would remove it from the pool: such chunks are refused with the command that helps.
//!
//! # What a process can do to a page that was shared with it
//!
//! - *It keeps a descriptor or a mapping.* The pages of that file are neither shared nor mapped
//!   again until the process releases it ([`MemoryError::Held`]). A chunk that was to lie there
//!   moves to another place ([`Chunk::share`](cma_framework::Chunk::share)). Held pages outlive
//!   their region: the pool lacks them until then. A region that needs them is refused, and the
//!   error names the process.
//! - *It reopens, truncates or seals the file.* Seals and permissions prevent that. The file's
//!   owner can reopen it, which counts as a descriptor.
//! - *It punches a hole into the file, which frees a page.* The page stays pinned, so the pool does
//!   not get it while a device may still write to it. It comes back at its next use.
//! - *It has the kernel pin the page* (`vmsplice` into a pipe, `io_uring`) *and closes the rest*,
//!   to read or write what the next owner puts there. The kernel does not report such pins; but a
//!   pinned page does not return to the pool. So before a page is used again it is freed and
//!   allocated anew: a page that comes out of the pool is pinned by no process. When another page
//!   comes out, the address has no memory until its own page returns to the pool:
//!   [`MemoryError::Lost`].
//! - *It maps more than the file has*, which adds pages of the pool to it in spite of its seals.
//!   No other memory is reached. Pages that it touched are freed at the next check after it has
//!   released them ([`SharedChunk::reclaim`](cma_framework::SharedChunk::reclaim)), pages that it
//!   only reserved when the last page of the chunk is used for another one. Such growth is bounded
//!   by the spare pages of the pool alone: leave none, or limit such processes (the `hugetlb`
//!   controller of cgroups).
//!
//! # After the end of its process
//!
//! A region can be [restored](crate::Ports::with_restored) by the files that
//! [`Region::lasting`](cma_framework::Region::lasting) returned, its home and a table of the places
//! there, and its chunks by theirs. Each page is verified to be at its address, and pinned anew.
//! The pages of chunks that were freed are searched in the pool. In between the holder of a chunk's
//! files can pin its pages ([`LastingFile`](cma_framework::memory::LastingFile)). The kernel may
//! move a page that nobody pins, and another process may take a free one out of the pool. The
//! former is told by the region's contiguity
//! ([`Moved`](cma_framework::memory::Contiguity::Moved)), the latter is set aside until it is back.
//!
//! [`MemoryError::Held`]: cma_framework::MemoryError::Held
//! [`MemoryError::Lost`]: cma_framework::MemoryError::Lost

mod error;
mod file;
mod fit;
mod gathered;
mod holders;
#[cfg(test)]
#[path = "../tests/machine/mod.rs"]
mod machine;
mod node;
mod pagemap;
mod pin;
mod plan;
mod pool;
mod region;
mod reserver;
mod restore;
mod restoring;
mod run;
mod store;
mod table;

pub use fit::default_page_size;
pub(crate) use fit::misfit;
pub use reserver::Hugetlb;
