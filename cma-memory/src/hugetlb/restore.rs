//! Restoring a region of huge pages whose process has ended, with the files that it left.
//!
//! At first no page of the region has a place. Each chunk brings its files, whose pages are its.
//! Then the restoring *settles*: a page that no chunk has is in the home, or else in the pool,
//! because the files of freed chunks ended with the process. What is not there is lost.
//!
//! Pages of files are verified to be at their addresses, as far as addresses are known, and pinned.
//! Where no process pinned them meanwhile the kernel may have moved them. A free page that moved is
//! given up for the right one. A page of a chunk stays, with its bytes: the chunk is not where its
//! address says, and the region's contiguity names the page until it is used for another chunk.

use super::file::PoolFile;
use super::gathered::Gathered;
use super::node::Node;
use super::pagemap::Pagemap;
use super::pin::Pin;
use super::pool::Pool;
use super::region::{EXCHANGING, HugeRegion, Location, Page, PageState};
use super::restoring::{Moved, Restoring, UNPINNING};
use super::table::Table;
use crate::addresses::ReservedRange;
use crate::mapping::Mapping;
use cma_framework::{MemoryError, PageRange};
use rustix::fs::fstat;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

impl HugeRegion {
    /// The region at `range`, whose process has ended and left `files`: those of
    /// [`lasting`](Self::lasting), in that order.
    ///
    /// # Errors
    ///
    /// What is wrong with the files, or why there can't be such a region here.
    pub(super) fn restored(
        label: String,
        addresses: ReservedRange,
        files: Vec<OwnedFd>,
    ) -> Result<Self, String> {
        let range = addresses.range;
        let [home, table] = <[OwnedFd; 2]>::try_from(files)
            .map_err(|files| format!("it takes 2 files, and {} are given", files.len()))?;
        let text = |error: MemoryError| error.to_string();
        let known = Table::read(table, &label, range)?;
        let pool = Pool::of(Some(known.step)).map_err(|error| error.to_string())?;
        let count = known.offsets.len();
        let home = PoolFile::restored(pool, home, &label, 0..count, known.end(), false)?;
        let Table { physical, step, offsets, .. } = known;
        let pagemap = match physical {
            true => Pagemap::open(),
            false => Err("physical addresses were hidden when the region was made".to_string()),
        };
        let step = step as usize;
        let pin = match &pagemap {
            Ok(_) => Pin::none(count, step).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        Ok(HugeRegion {
            range,
            pool,
            label,
            step,
            physical,
            pagemap,
            pin,
            mapping: Mapping::reserved(count * step, step).map_err(text)?,
            home: Arc::new(home),
            pages: offsets.into_iter().map(Page::not_found).collect(),
            restoring: Restoring::begun(),
            retired: Mutex::default(),
            _addresses: vec![addresses],
        })
    }

    /// The files by which [`restored`](Self::restored) makes the region in another process.
    pub(super) fn lasting(&self) -> Result<Vec<OwnedFd>, MemoryError> {
        let table = Table {
            physical: self.physical,
            range: self.range,
            step: self.step as u64,
            offsets: self.pages.iter().map(|page| page.lock().home).collect(),
        };
        Ok(vec![self.home.duplicate()?, table.to_file(&self.label)?])
    }

    /// Gives these pages, all of one chunk, the places that they have in the chunk's files.
    ///
    /// # Errors
    ///
    /// What is wrong with the files. Then nothing has changed.
    pub(super) fn restore_chunk(
        &self,
        pages: Range<usize>,
        files: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let open = self.restoring.open();
        if !*open {
            return Err("its region is not being restored, or not any more".to_string());
        }
        let locations = self.locations(pages.clone(), files)?;
        for (index, location) in pages.clone().zip(&locations) {
            if let Err(error) = self.map(index..index + 1, location) {
                for index in pages {
                    let home = self.pages[index].lock().home;
                    let home = Location { file: self.home.clone(), offset: home };
                    // Else the files end with the region.
                    let _ = self.map(index..index + 1, &home);
                }
                return Err(error.to_string());
            }
        }
        for (index, location) in pages.zip(locations) {
            let page = &mut *self.pages[index].lock();
            // Fails only where a client has returned the page and the pool is empty.
            page.mapped = self.mapping.populate(self.place(index)).is_ok();
            page.location = Some(location);
            if page.mapped {
                page.node = Node::of(self.address(index));
                self.pin_again(index);
                if let Err(to) = self.check_place(index, self.address(index)) {
                    let from = self.page_range(index..index + 1).start();
                    self.restoring.page_moved(index, Moved { from, to });
                }
            }
        }
        Ok(())
    }

    /// The place of each page of a chunk in its files. The first is the chunk's own, unless every
    /// page is in a file of its own; the others have one page each.
    fn locations(&self, pages: Range<usize>, files: Vec<OwnedFd>) -> Result<Vec<Location>, String> {
        let (step, count) = (self.step as u64, pages.len());
        let len = count as u64 * step;
        if files.is_empty() || files.len() > count + usize::from(count > 1) {
            return Err(format!("{} files are given for {count} huge pages", files.len()));
        }
        let mut files = files.into_iter().peekable();
        let is_alone = files.len() == 1;
        let size = |file: &OwnedFd| fstat(file).map_or(0, |status| status.st_size as u64);
        let own = files.next_if(|file| is_alone || size(file) >= len);
        let restored =
            |file, len| PoolFile::restored(self.pool, file, &self.label, pages.clone(), len, true);
        let own = own.map(|file| restored(file, len)).transpose()?.map(Arc::new);
        let apart: Vec<PoolFile> =
            files.map(|file| restored(file, step)).collect::<Result<_, _>>()?;
        let mut locations: Vec<Option<Location>> = vec![None; count];
        let mut unknown = Vec::new();
        for file in apart {
            let frame = self.frame_in(&file, 0)?;
            let first = self.range.first_page();
            let index =
                frame.checked_sub(first).map(|frames| (frames / self.pool.frames()) as usize);
            match index.filter(|index| pages.contains(index)) {
                Some(index) if locations[index - pages.start].is_none() => {
                    let file = Arc::new(file.of_pages(index..index + 1));
                    locations[index - pages.start] = Some(Location { file, offset: 0 });
                }
                Some(index) => return Err(format!("two of its files have huge page {index}")),
                // A client has returned the page.
                None => unknown.push(file),
            }
        }
        for (at, location) in locations.iter_mut().enumerate() {
            let (index, offset) = (pages.start + at, at as u64 * step);
            let own = own.as_ref().map(|file| Location { file: file.clone(), offset });
            let is_own = |own: &Location| {
                let expected = self.page_range(index..index + 1).first_page();
                unknown.is_empty() || self.frame_in(&own.file, offset) == Ok(expected)
            };
            if location.is_none() {
                *location = own.filter(is_own).or_else(|| {
                    let file = Arc::new(unknown.pop()?.of_pages(index..index + 1));
                    Some(Location { file, offset: 0 })
                });
            }
        }
        let lacks = || format!("its files lack some of its {count} huge pages");
        locations.into_iter().collect::<Option<_>>().ok_or_else(lacks)
    }

    /// The frame of the page at `offset` of a chunk's file.
    fn frame_in(&self, file: &PoolFile, offset: u64) -> Result<u64, String> {
        let hidden = |why: &String| format!("the order of its files is not known: {why}");
        let pagemap = self.pagemap.as_ref().map_err(hidden)?;
        pagemap.frame_of(file, offset, self.pool).map_err(|error| error.to_string())
    }

    /// Ends the restoring: finds the pages that no chunk has, in the home or in the pool.
    pub(super) fn settle(&self) {
        if !self.restoring.is_special() {
            return;
        }
        let mut open = self.restoring.open();
        if std::mem::take(&mut *open) {
            let mut delays = UNPINNING.into_iter();
            loop {
                self.find_at_home();
                // Without a page that comes back, pages stay lost. Each is searched for again when
                // its memory is needed.
                let searched = self.check_exchange().and_then(|()| self.find_in_pool());
                match delays.next() {
                    Some(delay) if searched.is_ok() && !self.missing().is_empty() => {
                        thread::sleep(delay);
                    }
                    _ => break,
                }
            }
            self.restoring.settled();
        }
    }

    /// The pages that have no place, as ranges of addresses.
    pub(super) fn missing(&self) -> Vec<PageRange> {
        let lost =
            (0..self.pages.len()).filter(|index| self.pages[*index].lock().location.is_none());
        lost.map(|index| self.page_range(index..index + 1)).collect()
    }

    fn find_at_home(&self) {
        for (index, page) in self.pages.iter().enumerate() {
            let page = &mut *page.lock();
            if page.location.is_some() {
                continue;
            }
            let home = self.home_of(page);
            if self.map(index..index + 1, &home).is_ok()
                && !(self.mapping.populate(self.place(index)).is_ok()
                    && self.is_at(index, page, &home))
            {
                // The page that was there moved, or there was none and it is another one.
                let _ = home.file.remove(home.offset);
            }
        }
    }

    /// Finds the pages in the pool. They are mapped at their places in the home already.
    fn find_in_pool(&self) -> Result<(), MemoryError> {
        let Ok(pagemap) = &self.pagemap else { return Ok(()) };
        let expected = |index: usize| self.page_range(index..index + 1).first_page();
        let lost =
            (0..self.pages.len()).filter(|index| self.pages[*index].lock().location.is_none());
        let mut wanted: BTreeMap<u64, usize> = lost.map(|index| (expected(index), index)).collect();
        let mut gathered = Gathered::new(self.pool, &self.label)?;
        let mut found = Vec::new();
        let exchanging = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        while !wanted.is_empty()
            && let Some(offset) = gathered.take()?
        {
            let frame = pagemap.frame_of(gathered.file(), offset, self.pool)?;
            found.extend(wanted.remove(&frame).map(|index| (index, offset)));
        }
        drop(exchanging);
        for (index, offset) in found {
            let page = &mut *self.pages[index].lock();
            let _exchanging = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
            let home = self.home_of(page);
            let shown = Mapping::of_huge_pages(gathered.file(), offset, self.step)?;
            shown.populate(0..shown.len())?;
            page.node = Node::of(shown.address());
            drop(shown);
            let from_node = page.node.and_then(Node::take_from);
            gathered.file().remove(offset)?;
            let place = self.take_out(index, &home);
            drop(from_node);
            if let Ok(place) = place
                && !self.is_at(index, page, &place)
            {
                let _ = place.file.remove(place.offset);
            }
        }
        Ok(())
    }

    /// Pins page `index`, which is mapped at its place from `location`, and notes that it is there,
    /// unless it is another page.
    fn is_at(&self, index: usize, page: &mut PageState, location: &Location) -> bool {
        // Before its address is verified: pinning moves pages out of memory that has to stay
        // movable.
        self.pin_again(index);
        let is_there = self.check_place(index, self.address(index)).is_ok();
        if is_there {
            page.node = Node::of(self.address(index));
            (page.location, page.mapped) = (Some(location.clone()), true);
        } else if let Ok(pin) = &self.pin {
            // A slot without a page can be emptied again.
            let _ = pin.unpin(index);
        }
        is_there
    }

    fn pin_again(&self, index: usize) {
        if let Ok(pin) = &self.pin
            && let Err(error) = pin.pin(index, self.address(index))
        {
            self.restoring.not_pinned(&error);
        }
    }

    fn home_of(&self, page: &PageState) -> Location {
        Location { file: self.home.clone(), offset: page.home }
    }
}
