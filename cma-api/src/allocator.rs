//! The trait an algorithm implements, and what is asked and answered.
//!
//! None of it knows of dynamic libraries: an algorithm is an ordinary crate, and [`v1`](crate::v1)
//! turns any [`Allocator`] into a plug-in.

use crate::units::{Alignment, PageRange, Pages};
use abi_stable::StableAbi;

/// What an allocator calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorInfo {
    /// The name under which regions ask for it, as `best-fit` in `cma=b1=32M:best-fit`.
    pub name: &'static str,
    /// The algorithm's own version. (The interface's is this crate's.)
    pub version: &'static str,
    /// What it does, in one line.
    pub description: &'static str,
}

/// An allocation algorithm at work on one region.
///
/// The framework guarantees: requests are whole pages and not 0; alignments are powers of two of at
/// least a page; there is one call at a time; [`free`](Self::free) gets exactly what
/// [`allocate`](Self::allocate) or [`adopt`](Self::adopt) answered and was not freed yet. So an
/// algorithm needs neither locks nor argument checks. It never touches the memory it manages.
///
/// Alignment is of the chunk's *address*, not of its offset in the region.
pub trait Allocator: Sized + Send + 'static {
    /// Name, version and description.
    const INFO: AllocatorInfo;

    /// An allocator for an empty `region`. `params` is what the region's owner wrote in parentheses
    /// behind the name, unchanged, or nothing; see [`Params`](crate::Params).
    ///
    /// # Errors
    ///
    /// Parameters it doesn't know, or a region it can't serve. The text reaches the user.
    fn new(region: PageRange, params: &str) -> Result<Self, InitError>;

    /// Places a chunk of exactly the requested pages inside the region, over no live chunk.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when the algorithm finds no place. Why (full, fragmented, alignment) is worked
    /// out by the framework.
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom>;

    /// Takes a chunk back.
    ///
    /// # Errors
    ///
    /// [`NotMine`] when it can tell that the chunk is none of its live ones. Then nothing has
    /// changed.
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine>;

    /// Takes note that `range` is in use, as if `allocate` had placed a chunk there. Changing a
    /// region's allocator under live chunks and reserving fixed addresses are made of this. The
    /// framework adopts in ascending order of address when it adopts many.
    ///
    /// # Errors
    ///
    /// [`CannotAdopt`] when part of it is taken, lies outside the region, or can't be expressed in
    /// the algorithm's structures. Then nothing has changed. The text reaches the user.
    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt>;

    /// Visits every hole (maximal free range) in ascending order of address.
    fn holes(&self, visit: &mut dyn FnMut(PageRange));

    /// The most pages that one page-aligned request could get now. For an algorithm that finds
    /// every place there is, that is the size of the largest hole.
    fn largest_request(&self) -> Pages;

    /// Verifies the algorithm's invariants. May be slow: it is for tests and for diagnosis.
    ///
    /// # Errors
    ///
    /// The first invariant that doesn't hold, with the evidence.
    fn check(&self) -> Result<(), String>;
}

/// A small number that stands for the (device, type) pair that asks. Equal pairs have equal numbers
/// for as long as the framework runs; an algorithm may use it to keep apart what lives long and
/// what doesn't.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker(pub u32);

impl Asker {
    /// Nobody in particular: a request that went to a region directly.
    pub const NOBODY: Asker = Asker(0);
}

/// What is asked of an allocator.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pages: Pages,
    alignment: Alignment,
    asker: Asker,
}

impl Request {
    /// A request for `pages` pages at a multiple of `alignment`; `None` for no pages or for more
    /// than a 64-bit address space has.
    pub const fn new(pages: Pages, alignment: Alignment, asker: Asker) -> Option<Self> {
        if pages.get() == 0 || pages.get() >= PageRange::ADDRESS_SPACE_PAGES {
            None
        } else {
            Some(Request { pages, alignment, asker })
        }
    }

    /// The size. Never 0.
    #[inline]
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// What the chunk's start address must be a multiple of.
    #[inline]
    pub const fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Who asks.
    #[inline]
    pub const fn asker(&self) -> Asker {
        self.asker
    }
}

/// A word of the allocator's own that comes back with the chunk when it is freed, so that freeing
/// needs no search.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tag(pub u64);

/// Where an allocator put a chunk.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pages of the chunk.
    pub range: PageRange,
    /// The allocator's own word.
    pub tag: Tag,
}

/// The allocator finds no place for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room")]
pub struct NoRoom;

/// The chunk is none of the allocator's live ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a live chunk of this allocator")]
pub struct NotMine;

/// Why an allocator can't serve a region at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InitError(String);

impl InitError {
    /// An error that says `reason` to the user.
    pub fn new(reason: impl Into<String>) -> Self {
        InitError(reason.into())
    }
}

/// Why an allocator can't take a range over where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotAdopt(String);

impl CannotAdopt {
    /// An error that says `reason` to the user.
    pub fn new(reason: impl Into<String>) -> Self {
        CannotAdopt(reason.into())
    }
}
