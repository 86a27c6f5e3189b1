//! A region's pages: the file that each is in, and when it may be used again after it was shared.
//!
//! All pages come out of the pool in one file, the region's *home*. A chunk of whole pages gets a
//! file of its own, and its pages move there one by one: each is removed from its file, which
//! returns it to the pool, and taken out of the pool at its place in the new file. The pool returns
//! the page that was freed last, and pagemap shows whether it did. When the chunk is freed, its
//! pages stay in its file until another chunk needs them, or until there are many such files: then
//! pages return home. So a region has few descriptors, and a page is cleared once for each chunk.

use super::error::HugetlbError;
use super::file::PoolFile;
use super::node::Node;
use super::pagemap::Pagemap;
use super::pin::Pin;
use super::pool::Pool;
use super::restoring::Restoring;
use crate::addresses::ReservedRange;
use crate::mapping::Mapping;
use cma_framework::memory::Contiguity;
use cma_framework::{DmaAddr, MemoryError, PAGE_SIZE, PageRange, Pages};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// A region of huge pages. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct HugeRegion {
    pub(super) range: PageRange,
    pub(super) pool: Pool,
    /// The name of its files.
    pub(super) label: String,
    /// The size of a huge page in bytes.
    pub(super) step: usize,
    /// Whether its addresses are physical ones; else those were hidden when it was made.
    pub(super) physical: bool,
    /// Reads physical addresses; an error says why that is impossible.
    pub(super) pagemap: Result<Pagemap, String>,
    /// An error says why the pages are not pinned.
    pub(super) pin: Result<Pin, String>,
    /// Addresses for all pages. Each page is mapped when a chunk needs it.
    pub(super) mapping: Mapping,
    pub(super) home: Arc<PoolFile>,
    pub(super) pages: Vec<Page>,
    /// What only a restored region has to know.
    pub(super) restoring: Restoring,
    /// The files of chunks that were freed, and which may still have pages.
    pub(super) retired: Mutex<Vec<Weak<PoolFile>>>,
    pub(super) _addresses: Vec<ReservedRange>,
}

/// A huge page of a region.
#[derive(Debug)]
pub(super) struct Page(Mutex<PageState>);

#[derive(Debug)]
pub(super) struct PageState {
    /// `None` while the page is lost: it left the pool for somebody else. Then its place in the
    /// home is empty, except in a region whose restoring has not ended.
    pub(super) location: Option<Location>,
    /// Whether the region's mapping has the page.
    pub(super) mapped: bool,
    /// The number of chunks that have a part of the page. Their memory does not move.
    chunks: usize,
    /// Its offset in the region's home, in bytes.
    pub(super) home: u64,
    /// The node of its memory; `None` where the kernel doesn't say.
    pub(super) node: Option<Node>,
}

/// The place of a page in a file.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) file: Arc<PoolFile>,
    /// The offset in bytes.
    pub(super) offset: u64,
}

/// Consecutive pages in one file.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) start: Location,
    /// The length in bytes.
    pub(super) len: u64,
}

/// Held while a page is freed and allocated anew. The pool returns the page that was freed last,
/// unless it serves another request in between; the lock keeps this process from making one.
pub(super) static EXCHANGING: Mutex<()> = Mutex::new(());

/// The most bytes of the pool that are searched for a page that was freed. The kernel clears each
/// page that is taken out.
const MAX_SEARCHED: u64 = 32 << 20;

/// How often a page that another user of the pool had in between is moved to its file, before it
/// stays in a file of its own.
const MAX_MOVES: usize = 4;

/// The most files of freed chunks that keep their pages. Each takes a descriptor.
const MAX_RETIRED: usize = 16;

impl Page {
    /// A page that is at `offset` of the region's home, in memory of `node`.
    pub(super) fn at_home(home: &Arc<PoolFile>, offset: u64, node: Option<Node>) -> Page {
        let location = Some(Location { file: home.clone(), offset });
        Page(Mutex::new(PageState { location, mapped: false, chunks: 0, home: offset, node }))
    }

    /// A page that is not found yet. Its place in the region's home is at `offset`.
    pub(super) fn not_found(offset: u64) -> Page {
        let node = None;
        Page(Mutex::new(PageState { location: None, mapped: false, chunks: 0, home: offset, node }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageState {
    fn is_in(&self, file: &Arc<PoolFile>) -> bool {
        self.location.as_ref().is_some_and(|location| Arc::ptr_eq(&location.file, file))
    }
}

impl HugeRegion {
    /// Checks that each page, mapped at `address(index)`, is where its address says.
    pub(super) fn verify(&self, address: impl Fn(usize) -> usize) -> Result<(), HugetlbError> {
        (0..self.pages.len()).try_for_each(|index| {
            self.check_place(index, address(index)).map_err(|found| HugetlbError::Moved {
                index,
                expected: self.page_range(index..index + 1).start(),
                found,
            })
        })
    }

    pub(super) fn contiguity(&self) -> Contiguity {
        match (&self.pagemap, &self.pin) {
            (Ok(_), Ok(_)) => self.restoring.contiguity(),
            (Ok(_), Err(why)) => Contiguity::Movable(why.clone()),
            (Err(why), _) => Contiguity::Unknown(why.clone()),
        }
    }

    pub(super) fn granule(&self) -> Pages {
        Pages::new(self.step as u64 / PAGE_SIZE)
    }

    /// Keeps these pages where they are, for a chunk that has a part of each.
    pub(super) fn enter(&self, pages: Range<usize>) {
        pages.for_each(|index| self.pages[index].lock().chunks += 1);
    }

    /// Undoes [`enter`](Self::enter).
    pub(super) fn leave(&self, pages: Range<usize>) {
        pages.for_each(|index| self.pages[index].lock().chunks -= 1);
    }

    /// Checks that no other process has any of these pages.
    pub(super) fn check_released(&self, pages: Range<usize>) -> Result<(), MemoryError> {
        let mut checked: Option<Arc<PoolFile>> = None;
        for index in pages {
            let Some(Location { file, .. }) = self.pages[index].lock().location.clone() else {
                continue;
            };
            if checked.as_ref().is_some_and(|checked| Arc::ptr_eq(checked, &file)) {
                continue;
            }
            if file.is_held() {
                let is_in = |index: &usize| self.pages[*index].lock().is_in(&file);
                let first = (file.pages().start..index).rev().take_while(is_in).last();
                let end = (index..file.pages().end).take_while(is_in).last();
                let (first, end) = (first.unwrap_or(index), end.unwrap_or(index) + 1);
                return Err(MemoryError::Held { range: self.page_range(first..end) });
            }
            checked = Some(file);
        }
        Ok(())
    }

    /// Makes sure that these pages, of which a chunk has a part, are mapped and that no other
    /// process has them. Returns whether all of them are zero.
    pub(super) fn use_in_place(&self, pages: Range<usize>) -> Result<bool, MemoryError> {
        let mut all_zero = true;
        for index in pages {
            let mut page = self.pages[index].lock();
            let usable = page.location.clone().filter(|location| !location.file.was_shared());
            match usable {
                Some(_) if page.mapped => all_zero = false,
                Some(location) => {
                    self.map(index..index + 1, &location)?;
                    self.mapping.populate(self.place(index))?;
                    page.mapped = true;
                    all_zero = false;
                }
                None => {
                    self.check_exchange()?;
                    self.move_home(index, &mut page)?;
                }
            }
        }
        Ok(all_zero)
    }

    /// Makes sure that these pages, all of one chunk, are mapped, and in files that have no other
    /// page and that no other process has. That is one file, unless another user of the pool
    /// interferes. Returns whether all of them are zero.
    pub(super) fn use_in_own_file(&self, pages: Range<usize>) -> Result<bool, MemoryError> {
        if let Some(location) = self.own_file(pages.clone()) {
            if !pages.clone().all(|index| self.pages[index].lock().mapped) {
                self.map(pages.clone(), &location)?;
                self.mapping.populate(self.places(&pages))?;
                pages.for_each(|index| self.pages[index].lock().mapped = true);
            }
            return Ok(false);
        }
        self.check_exchange()?;
        let file = Arc::new(PoolFile::create(self.pool, &self.label, pages.clone())?);
        pages.clone().for_each(|index| self.pages[index].lock().mapped = false);
        self.map(pages.clone(), &Location { file: file.clone(), offset: 0 })?;
        for index in pages.clone() {
            let offset = ((index - pages.start) * self.step) as u64;
            let to = Location { file: file.clone(), offset };
            self.exchange(index, &mut self.pages[index].lock(), &to)?;
        }
        Ok(true)
    }

    /// The start of the file that has these pages in order, no other, and was never shared. The
    /// region's home is never shared: pages return there.
    fn own_file(&self, pages: Range<usize>) -> Option<Location> {
        let first = self.pages[pages.start].lock().location.clone()?;
        let is_in_order = |index: usize| {
            let page = self.pages[index].lock();
            let offset = ((index - pages.start) * self.step) as u64;
            page.is_in(&first.file)
                && page.location.as_ref().is_some_and(|location| location.offset == offset)
        };
        let is_own = !Arc::ptr_eq(&first.file, &self.home)
            && first.file.len() == (pages.len() * self.step) as u64
            && !first.file.was_shared()
            && pages.clone().all(is_in_order);
        is_own.then_some(first)
    }

    /// The files and places of these pages, which are not lost.
    pub(super) fn extents(&self, pages: Range<usize>) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for index in pages {
            let Some(location) = self.pages[index].lock().location.clone() else { continue };
            match extents.last_mut().filter(|last| {
                Arc::ptr_eq(&last.start.file, &location.file)
                    && last.start.offset + last.len == location.offset
            }) {
                Some(last) => last.len += self.step as u64,
                None => extents.push(Extent { start: location, len: self.step as u64 }),
            }
        }
        extents
    }

    /// Notes that the chunk of these pages, all of each, is freed. They stay in its file, unless
    /// there are many such files: then the pages of the smallest return home.
    pub(super) fn retire(&self, pages: Range<usize>) {
        self.add_retired(&self.extents(pages));
        while let Some(file) = self.one_too_many() {
            // A file that a process still has keeps its pages until another chunk needs them.
            let stays = file.is_held() || self.check_exchange().is_err();
            for index in if stays { 0..0 } else { file.pages() } {
                let mut page = self.pages[index].lock();
                if page.chunks == 0 && page.is_in(&file) {
                    // A page that gets lost is searched for when a chunk needs it.
                    let _ = self.move_home(index, &mut page);
                }
            }
        }
    }

    fn add_retired(&self, extents: &[Extent]) {
        let mut retired = self.retired();
        retired.retain(|file| file.strong_count() > 0);
        for Extent { start: Location { file, .. }, .. } in extents {
            let is_known = retired.iter().any(|other| other.as_ptr() == Arc::as_ptr(file));
            if !is_known && !Arc::ptr_eq(file, &self.home) {
                retired.push(Arc::downgrade(file));
            }
        }
    }

    /// Removes and returns the smallest file of a freed chunk, if there are too many.
    fn one_too_many(&self) -> Option<Arc<PoolFile>> {
        let mut retired = self.retired();
        let len = |file: &Weak<PoolFile>| file.upgrade().map_or(0, |file| file.len());
        let smallest = (0..retired.len()).min_by_key(|index| len(&retired[*index]))?;
        (retired.len() > MAX_RETIRED).then(|| retired.swap_remove(smallest).upgrade())?
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Weak<PoolFile>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a page, which no chunk uses, to the region's home. It is zero then.
    fn move_home(&self, index: usize, page: &mut PageState) -> Result<(), MemoryError> {
        let home = Location { file: self.home.clone(), offset: page.home };
        page.mapped = false;
        self.map(index..index + 1, &home)?;
        self.exchange(index, page, &home)
    }

    /// Maps a file from `start` on at these pages, which no chunk uses.
    pub(super) fn map(&self, pages: Range<usize>, start: &Location) -> Result<(), MemoryError> {
        // SAFETY: no byte of the pages is borrowed: chunks have their claims, and only the pages
        // that the caller's chunk has, or that no chunk has, are mapped anew.
        unsafe { self.mapping.replace(self.places(&pages), &*start.file, start.offset) }
    }

    /// Checks that a page can return from the pool, before it is freed.
    pub(super) fn check_exchange(&self) -> Result<(), MemoryError> {
        // Where physical addresses are hidden, any page will do.
        self.pagemap.as_ref().map_or(Ok(()), |_| self.pool.check_keeps_pages())
    }

    /// Moves a page to `to`, which is mapped at its place: it returns to the pool and is taken out
    /// again, so it is zero and pinned by no other process. Where physical addresses are hidden,
    /// another page may take its place.
    fn exchange(
        &self,
        index: usize,
        page: &mut PageState,
        to: &Location,
    ) -> Result<(), MemoryError> {
        let mut exchanging = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = &page.location {
            from.file.remove(from.offset)?;
        }
        (page.location, page.mapped) = (None, false);
        // Last, because the file may have another page in place of the pinned one: a process can
        // punch a hole and fill it.
        if let Ok(pin) = &self.pin {
            pin.unpin(index)?;
        }
        let from_node = page.node.and_then(Node::take_from);
        let mut found = self.take_out(index, to);
        // Others exchange their pages meanwhile.
        for delay in self.restoring.delays() {
            let Err(MemoryError::Lost { .. }) = found else { break };
            drop(exchanging);
            thread::sleep(delay);
            exchanging = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
            self.map(index..index + 1, to)?;
            found = self.take_out(index, to);
        }
        let found = found?;
        drop(from_node);
        if let Ok(pin) = &self.pin
            && let Err(error) = pin.pin(index, self.address(index))
        {
            found.file.remove(found.offset)?;
            return Err(error);
        }
        drop(exchanging);
        (page.location, page.mapped) = (Some(found), true);
        self.restoring.page_returned(index);
        Ok(())
    }

    /// Takes page `index` out of the pool: to `to`, which is mapped at its place, if possible.
    pub(super) fn take_out(&self, index: usize, to: &Location) -> Result<Location, MemoryError> {
        match self.arrived(index) {
            true => Ok(to.clone()),
            false => self.search(index, to.clone()),
        }
    }

    /// Takes the next page of the pool, at the place of page `index`. Returns whether it is that
    /// page.
    pub(super) fn arrived(&self, index: usize) -> bool {
        self.mapping.populate(self.place(index)).is_ok()
            && self.check_place(index, self.address(index)).is_ok()
    }

    /// Searches the next pages of the pool for page `index`, and moves it to `to` in place of the
    /// one that is there. When other users of the pool prevent that, it stays in a file of its own.
    fn search(&self, index: usize, to: Location) -> Result<Location, MemoryError> {
        for _ in 0..MAX_MOVES {
            let found = self.find(index);
            // The pool can use the other page. It is freed first, so that the wanted one is last.
            to.file.remove(to.offset)?;
            found?.remove(0)?;
            if self.arrived(index) {
                return Ok(to);
            }
        }
        self.find_apart(index, &to)
    }

    /// Takes page `index` out of the pool, in a file of its own, in place of the page at `to`.
    fn find_apart(&self, index: usize, to: &Location) -> Result<Location, MemoryError> {
        let found = self.find(index);
        to.file.remove(to.offset)?;
        let found = Location { file: Arc::new(found?), offset: 0 };
        self.map(index..index + 1, &found)?;
        match self.arrived(index) {
            true => Ok(found),
            false => Err(self.lost(index)),
        }
    }

    /// Takes page `index` out of the pool, in a file of its own. Pages that the pool returns before
    /// it go back.
    fn find(&self, index: usize) -> Result<PoolFile, MemoryError> {
        let pagemap = self.pagemap.as_ref().map_err(|_| self.lost(index))?;
        let expected = self.page_range(index..index + 1).first_page();
        let most = (MAX_SEARCHED / self.pool.size).max(1) as usize;
        // Kept to the end, so that the pool doesn't return them again.
        let mut others = Vec::new();
        while others.len() < most {
            let other = PoolFile::create(self.pool, &self.label, index..index + 1)?;
            if !other.take(0)? {
                break;
            }
            if pagemap.frame_of(&other, 0, self.pool)? == expected {
                return Ok(other);
            }
            others.push(other);
        }
        Err(self.lost(index))
    }

    /// Checks that page `index`, mapped at `address`, is where its address says, as far as
    /// addresses are known. The error is where it is.
    pub(super) fn check_place(&self, index: usize, address: usize) -> Result<(), DmaAddr> {
        let Ok(pagemap) = &self.pagemap else { return Ok(()) };
        let expected = self.page_range(index..index + 1).first_page();
        match pagemap.frame(address) {
            Ok(frame) if frame == expected => Ok(()),
            found => Err(PageRange::from_pages(found.unwrap_or(0), 1).start()),
        }
    }

    fn lost(&self, index: usize) -> MemoryError {
        MemoryError::Lost { range: self.page_range(index..index + 1) }
    }

    /// The addresses of these pages.
    pub(super) fn page_range(&self, pages: Range<usize>) -> PageRange {
        let frames = self.granule().get();
        let first = self.range.first_page() + pages.start as u64 * frames;
        PageRange::from_pages(first, pages.len() as u64 * frames)
    }

    /// The position of page `index` in the mapping.
    pub(super) fn place(&self, index: usize) -> Range<usize> {
        self.places(&(index..index + 1))
    }

    pub(super) fn places(&self, pages: &Range<usize>) -> Range<usize> {
        pages.start * self.step..pages.end * self.step
    }

    /// Where page `index` is mapped.
    pub(super) fn address(&self, index: usize) -> usize {
        self.mapping.address() + index * self.step
    }
}

#[cfg(test)]
mod tests;
