//! Huge pages: memory that can be physically contiguous, and proven to be.
//!
//! Every page is a file of its own, so that a chunk can be given away without its neighbours. Pages
//! are taken out of the machine's pool, sorted by where they physically are, and those that lie
//! side by side are mapped in that order, pinned, and looked up once more. The others go back.
//! Where the kernel can't pin them (it takes `io_uring`), they may be moved later;
//! [`Ports`](crate::Ports) says so.
//!
//! # What a process can do to a page that it was given, and what comes of it
//!
//! - *It keeps a descriptor or a mapping.* The page is given to nobody and mapped for nobody until
//!   it lets go ([`MemoryError::Held`]). A chunk that was to lie there moves to another place
//!   ([`Chunk::share`](cma_framework::Chunk::share)). A page that is held outlives its region: the
//!   pool lacks it until then, and a region that needs it is refused with the name of the process.
//! - *It opens the page's file anew, truncates it, seals it.* It can't, but open it as the user who
//!   owns it; then that counts.
//! - *It punches a hole into the file, so that the page goes back to the pool.* The page stays
//!   pinned: nobody else gets it while a device may still write there. What it punched is put right
//!   when the page is next used.
//! - *It has the kernel pin the page* (`vmsplice` into a pipe, `io_uring`) *and lets go of the
//!   rest*, to read or write what is put there next. The kernel tells nobody of that; but a page
//!   that somebody has pinned doesn't go back to the pool. So before it is used again a page is
//!   given back and taken anew: what comes out of the pool is nobody's. When it isn't the same
//!   page, the address has none until it comes out of the pool again: [`MemoryError::Lost`].
//! - *It maps more than the page*, which adds pages of the pool to the file in spite of its seals.
//!   Nobody else's memory is reached. What it touched goes back as soon as it has let go and
//!   somebody looks ([`SharedChunk::reclaim`](cma_framework::SharedChunk::reclaim)), what it only
//!   reserved when the page is next used. Nothing else bounds it but what the pool has to spare:
//!   leave it none, or give such processes a bound of their own (the `hugetlb` controller of
//!   cgroups).

mod error;
mod holders;
mod pagemap;
mod pin;
mod plan;
mod pool;
mod run;

use crate::addresses::{Addresses, Taken};
use crate::label;
use crate::mapping::Mapping;
use crate::refusal::refused;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, Piece, Store};
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Alignment, DmaAddr, MemoryError, PAGE_SIZE, PageRange, Pages};
use error::HugetlbError;
use pagemap::Pagemap;
use pin::Pin;
use plan::{Need, Plan};
use pool::{Page, Pool, State};
use run::Wanted;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives regions huge pages out of the machine's pool (`/proc/sys/vm/nr_hugepages`).
///
/// Where this process may know physical addresses (it has `CAP_SYS_ADMIN`), a region is one
/// physically contiguous run and its addresses are the physical ones. Elsewhere it has addresses of
/// a board's banks, and is contiguous within each huge page. In a virtual machine, physical means
/// what the machine takes for it. What processes can do that are given such memory: [module
/// documentation](self).
#[derive(Clone, Debug)]
pub struct Hugetlb {
    addresses: Addresses,
    page_size: Option<u64>,
    plan: Plan,
}

impl Hugetlb {
    /// Regions of huge pages of the machine's default size. `addresses`, which may be
    /// [`Banks`](cma_framework::reserve::Banks), are for those whose own are hidden.
    pub fn new(addresses: impl Into<Addresses>) -> Self {
        Hugetlb { addresses: addresses.into(), page_size: None, plan: Plan::default() }
    }

    /// The same of huge pages of `bytes` bytes, as `2 << 20` or `1 << 30`. A size that the machine
    /// doesn't have is an error of each region.
    pub fn with_page_size(self, bytes: u64) -> Self {
        Hugetlb { page_size: Some(bytes), ..self }
    }

    fn make(&self, request: &ReserveRequest, need: &Need) -> Result<Reserved, HugetlbError> {
        let pool = Pool::of(self.page_size)?;
        whole(pool.size, request.pages, request.start)?;
        let pagemap = Pagemap::open();
        let Chosen { range, pages, addresses } = match &pagemap {
            Ok(pagemap) => self.side_by_side(pool, request, need, pagemap)?,
            Err(_) => self.anywhere(pool, request, need)?,
        };
        let step = pool.size as usize;
        let mut mapping = Mapping::of_nothing(pages.len() * step, step)?;
        for (index, page) in pages.iter().enumerate() {
            mapping.place(index * step..(index + 1) * step, &page.lock().file)?;
        }
        mapping.populate(0..mapping.len())?;
        // Before the pages are looked up: pinning moves those that lie where memory has to stay
        // movable.
        let pin = match &pagemap {
            Ok(_) => Pin::new(&mapping, step).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let label = label(request.name.as_deref());
        let region = Region {
            range,
            pool,
            label,
            step,
            pagemap,
            pin,
            mapping,
            pages,
            _addresses: addresses,
        };
        for index in 0..region.pages.len() {
            region.is_in_place(index).map_err(|found| HugetlbError::Moved {
                index,
                expected: region.page_range(index).start(),
                found,
            })?;
        }
        Ok(Reserved { range, memory: Some(Box::new(Shared(Arc::new(region)))) })
    }

    /// Pages that lie side by side as physical memory. As few as will do are taken out of the pool
    /// to find them.
    fn side_by_side(
        &self,
        pool: Pool,
        request: &ReserveRequest,
        need: &Need,
        pagemap: &Pagemap,
    ) -> Result<Chosen, HugetlbError> {
        let wanted = Wanted {
            count: (request.pages.get() / pool.frames()) as usize,
            step: request.alignment.pages().get(),
            start: request.start.map(DmaAddr::page),
        };
        let label = label(request.name.as_deref());
        let mut found: Vec<(u64, Page, Taken)> = Vec::new();
        // Those whose addresses another region was given, kept from coming out of the pool again.
        let mut elsewhere = Vec::new();
        let mut goal = if wanted.start.is_some() { usize::MAX } else { wanted.count };
        loop {
            let more = loop {
                if found.len() >= goal {
                    break true;
                }
                let Some(page) = pool.take(&label)? else { break false };
                let frame = page.frame(pool, pagemap)?;
                match self.addresses.withhold(PageRange::from_pages(frame, pool.frames())) {
                    Some(taken) => found.push((frame, page, taken)),
                    None => elsewhere.push(page),
                }
            };
            if found.len() < wanted.count {
                return Err(pool.too_small(wanted.count, found.len(), need));
            }
            found.sort_unstable_by_key(|(frame, ..)| *frame);
            let frames: Vec<u64> = found.iter().map(|(frame, ..)| *frame).collect();
            match run::find(&frames, pool.frames(), wanted) {
                Ok(place) => {
                    let range = PageRange::from_pages(frames[place.start], request.pages.get());
                    let run = found.drain(place);
                    let (pages, addresses) = run.map(|(_, page, taken)| (page, taken)).unzip();
                    return Ok(Chosen { range, pages, addresses });
                }
                Err(_) if more => goal = found.len().saturating_mul(2),
                Err(longest) => {
                    return Err(match request.start {
                        Some(start) => pool.not_there(start, found.len()),
                        None => {
                            pool.no_run(wanted.count, request.alignment, found.len(), longest, need)
                        }
                    });
                }
            }
        }
    }

    /// Pages of which nobody may tell where they are, at addresses of a bank.
    fn anywhere(
        &self,
        pool: Pool,
        request: &ReserveRequest,
        need: &Need,
    ) -> Result<Chosen, HugetlbError> {
        let whole = Alignment::new(pool.size).unwrap_or(request.alignment);
        let alignment = request.alignment.max(whole);
        let taken = self.addresses.take(&ReserveRequest { alignment, ..request.clone() })?;
        let count = (request.pages.get() / pool.frames()) as usize;
        let label = label(request.name.as_deref());
        let pages: Vec<Page> =
            (0..count).map_while(|_| pool.take(&label).transpose()).collect::<Result<_, _>>()?;
        if pages.len() < count {
            return Err(pool.too_small(count, pages.len(), need));
        }
        Ok(Chosen { range: taken.range, pages, addresses: vec![taken] })
    }
}

impl Reserver for Hugetlb {
    /// A refusal then has one remedy for all regions.
    fn announce(&mut self, requests: &[ReserveRequest]) {
        let fits = |request: &&ReserveRequest| {
            Pool::of(self.page_size)
                .is_ok_and(|pool| whole(pool.size, request.pages, request.start).is_ok())
        };
        self.plan = Plan::new(requests.iter().filter(fits).cloned().collect());
    }

    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let need = self.plan.need(request);
        let made = self.make(request, &need);
        if let Err(error) = &made
            && let Some(lack) = error.lack()
        {
            self.plan.told(lack, request.name.as_deref());
        }
        Ok(made?)
    }
}

/// The size of this machine's huge pages, in bytes, where none is chosen; `None` where it has none.
pub fn default_page_size() -> Option<u64> {
    Pool::of(None).ok().map(|pool| pool.size)
}

/// Why no region of `pages` at `start` can be made of huge pages of `page` bytes, whatever the pool
/// has.
pub(crate) fn why_not(page: Option<u64>, pages: Pages, start: Option<DmaAddr>) -> Option<String> {
    let whole = match page {
        Some(page) => whole(page, pages, start),
        None => Err(HugetlbError::NoSuchPages { size: None, sizes: Vec::new() }),
    };
    whole.err().map(|error| error.to_string())
}

/// Makes sure that a region is whole huge pages of `page` bytes.
fn whole(page: u64, pages: Pages, start: Option<DmaAddr>) -> Result<(), HugetlbError> {
    let size = pages.bytes();
    if pages == Pages::ZERO || !size.is_multiple_of(page) {
        return Err(HugetlbError::Size { size, page });
    }
    match start.filter(|start| !start.get().is_multiple_of(page)) {
        Some(start) => Err(HugetlbError::Start { start, page }),
        None => Ok(()),
    }
}

/// What a region is to be made of.
struct Chosen {
    range: PageRange,
    /// In the order of their addresses.
    pages: Vec<Page>,
    addresses: Vec<Taken>,
}

/// A region of huge pages, mapped once for all its chunks. What is dropped first stands first.
#[derive(Debug)]
struct Region {
    range: PageRange,
    pool: Pool,
    /// What its files are called.
    label: String,
    /// The size of a huge page in bytes.
    step: usize,
    /// Where its pages are looked up, or why they can't be.
    pagemap: Result<Pagemap, String>,
    /// Or why they are not pinned.
    pin: Result<Pin, String>,
    mapping: Mapping,
    pages: Vec<Page>,
    _addresses: Vec<Taken>,
}

/// Held from when a page goes back to the pool until it has come out again: what went in last comes
/// out first, unless somebody is in between, and that shall not be this process itself.
static EXCHANGING: Mutex<()> = Mutex::new(());

/// How much of the pool is looked at for a page that went back to it, in bytes: taking pages out
/// has the kernel clear them.
const MOST_LOOKED_AT: u64 = 32 << 20;

impl Region {
    /// Whether page `index` is where its address says, as far as that can be known; else where it
    /// is.
    fn is_in_place(&self, index: usize) -> Result<(), DmaAddr> {
        let Ok(pagemap) = &self.pagemap else { return Ok(()) };
        let expected = self.page_range(index).first_page();
        match pagemap.frame(self.mapping.address() + index * self.step) {
            Ok(frame) if frame == expected => Ok(()),
            found => Err(PageRange::from_pages(found.unwrap_or(0), 1).start()),
        }
    }

    /// The addresses of page `index`.
    fn page_range(&self, index: usize) -> PageRange {
        let frames = self.step as u64 / PAGE_SIZE;
        PageRange::from_pages(self.range.first_page() + index as u64 * frames, frames)
    }

    /// Where page `index` is in the mapping.
    fn place(&self, index: usize) -> Range<usize> {
        index * self.step..(index + 1) * self.step
    }

    /// Makes sure that page `index`, of which no byte is borrowed, is nobody else's any more. The
    /// answer is whether it is all zero.
    fn take_back(&self, index: usize) -> Result<bool, MemoryError> {
        let mut page = self.pages[index].lock();
        if !page.given {
            return Ok(false);
        } else if !page.file.is_ours_alone() {
            return Err(MemoryError::Held { range: self.page_range(index) });
        }
        self.exchange(index, &mut page)?;
        page.given = false;
        Ok(true)
    }

    /// Gives page `index` back to the pool and takes it, or where nobody may tell which it is
    /// another one, out of it again: that is nobody else's, and zero.
    fn exchange(&self, index: usize, page: &mut State) -> Result<(), MemoryError> {
        let _alone = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(pin) = &self.pin {
            pin.let_go(self.place(index).start)?;
        }
        page.file.empty().map_err(refused("fallocate"))?;
        let has_come =
            self.mapping.populate(self.place(index)).is_ok() && self.is_in_place(index).is_ok();
        if !has_come && let Err(error) = self.find(index, page) {
            // The pool has more use for whatever came in its place.
            page.file.empty().map_err(refused("fallocate"))?;
            return Err(error);
        }
        self.pin.as_ref().map_or(Ok(()), |pin| pin.hold(self.place(index).start))
    }

    /// Looks among the next pages of the pool for the one that belongs at `index`.
    fn find(&self, index: usize, page: &mut State) -> Result<(), MemoryError> {
        let expected = self.page_range(index);
        let lost = || MemoryError::Lost { range: expected };
        let pagemap = self.pagemap.as_ref().map_err(|_| lost())?;
        // Kept from coming out again until the end.
        let mut others = Vec::new();
        let most = (MOST_LOOKED_AT / self.pool.size).max(1) as usize;
        while others.len() < most {
            let other = self.pool.take(&self.label)?.ok_or_else(lost)?;
            if other.frame(self.pool, pagemap)? != expected.first_page() {
                others.push(other);
                continue;
            }
            let found = other.into_state();
            // SAFETY: no byte of the page is borrowed, as it is being taken back.
            unsafe { self.mapping.replace(self.place(index), &found.file) }?;
            self.mapping.populate(self.place(index))?;
            *page = State { given: true, ..found };
            return self.is_in_place(index).map_err(|_| lost());
        }
        Err(lost())
    }
}

/// The region as the framework has it; chunks have the others.
#[derive(Debug)]
struct Shared(Arc<Region>);

// SAFETY: a store has the claim's part of the region's one mapping, once nobody else has a page of
// it: what was given away before has come out of the pool anew. It passes nothing on but
// descriptors, when it is asked for them. Claims for other addresses are refused.
unsafe impl Memory for Shared {
    fn backing(&self) -> Backing {
        let contiguity = match (&self.0.pagemap, &self.0.pin) {
            (Ok(_), Ok(_)) => Contiguity::Verified,
            (Ok(_), Err(why)) => Contiguity::Movable(why.clone()),
            (Err(why), _) => Contiguity::Unknown(why.clone()),
        };
        Backing { kind: "hugetlb", contiguity, granule: Pages::new(self.0.step as u64 / PAGE_SIZE) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        let region = &self.0;
        let range = claim.range();
        if !range.within(region.range) {
            return Err(MemoryError::Elsewhere { range });
        }
        let start = ((range.first_page() - region.range.first_page()) * PAGE_SIZE) as usize;
        let place = start..start + range.bytes() as usize;
        let slice = Slice { region: region.clone(), range, place, mapped: false };
        let is_zero =
            slice.pages().try_fold(true, |all, index| Ok(region.take_back(index)? && all))?;
        if !is_zero {
            // SAFETY: the framework's claim says that this is the only one to have the chunk's
            // bytes. Every file is there to the region's end, and of pages that were given away
            // nobody else has one.
            unsafe { region.mapping.bytes_mut(slice.place.clone()) }.fill(0);
        }
        Ok(Box::new(slice))
    }
}

/// A chunk's memory.
#[derive(Debug)]
struct Slice {
    region: Arc<Region>,
    range: PageRange,
    /// Where it is in the region's mapping.
    place: Range<usize>,
    mapped: bool,
}

impl Slice {
    /// The huge pages it touches.
    fn pages(&self) -> Range<usize> {
        self.place.start / self.region.step..self.place.end.div_ceil(self.region.step)
    }
}

impl Store for Slice {
    fn map(&mut self) -> Result<(), MemoryError> {
        self.mapped = true;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        let place = if self.mapped { self.place.clone() } else { 0..0 };
        // SAFETY: the bytes are this chunk's, as `store` made sure, and the framework asks for them
        // only of chunks that were given to nobody since.
        unsafe { self.region.mapping.bytes(place) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let place = if self.mapped { self.place.clone() } else { 0..0 };
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.region.mapping.bytes_mut(place) }
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        let step = self.region.step;
        if !self.place.start.is_multiple_of(step) || !self.place.end.is_multiple_of(step) {
            let granule = Pages::new(step as u64 / PAGE_SIZE);
            return Err(MemoryError::Granule { range: self.range, granule });
        }
        Ok(self.pages().len())
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        let mut page = self.region.pages[self.pages().start + index].lock();
        let file = page.file.open_again()?;
        page.given = true;
        Ok(Piece::new(file, 0, self.region.step as u64))
    }

    fn held(&self) -> bool {
        self.pages().any(|index| {
            let page = self.region.pages[index].lock();
            let held = page.given && !page.file.is_ours_alone();
            if !held {
                // What it added to the file is of use to the pool meanwhile. What can't be cut off
                // now goes when the page is next used.
                let _ = page.file.cut();
            }
            held
        })
    }
}
