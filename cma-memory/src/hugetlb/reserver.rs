//! The reserver: chooses pages of the pool and makes a region of them.

use super::error::HugetlbError;
use super::file::PoolFile;
use super::fit::check_whole;
use super::gathered::Gathered;
use super::node::Node;
use super::pagemap::Pagemap;
use super::pin::Pin;
use super::plan::{Need, Plan};
use super::pool::Pool;
use super::region::{HugeRegion, Page};
use super::restoring::Restoring;
use super::run::{self, Wanted};
use super::store::RegionMemory;
use crate::addresses::{Addresses, ReservedRange};
use crate::label;
use crate::mapping::Mapping;
use cma_framework::config::Place;
use cma_framework::memory::Memory;
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Alignment, PageRange};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// Gives regions huge pages out of the machine's pool (`/proc/sys/vm/nr_hugepages`).
///
/// Where this process may read physical addresses (`CAP_SYS_ADMIN`), a region is one physically
/// contiguous run and its addresses are the physical ones. Elsewhere it has addresses of a board's
/// banks, and is contiguous within each huge page. In a virtual machine, physical means the guest's
/// physical addresses. What processes can do to memory that is shared with them: [module
/// documentation](crate::hugetlb).
#[derive(Clone, Debug)]
pub struct Hugetlb {
    addresses: Addresses,
    page_size: Option<u64>,
    plan: Plan,
}

impl Hugetlb {
    /// Regions of huge pages of the machine's default size. `addresses`, which may be
    /// [`Banks`](cma_framework::reserve::Banks), are for regions whose physical addresses are
    /// hidden.
    pub fn new(addresses: impl Into<Addresses>) -> Self {
        Hugetlb { addresses: addresses.into(), page_size: None, plan: Plan::default() }
    }

    /// The same of huge pages of `bytes` bytes, as `2 << 20` or `1 << 30`. If the machine doesn't
    /// have that size, each region fails.
    pub fn with_page_size(self, bytes: u64) -> Self {
        Hugetlb { page_size: Some(bytes), ..self }
    }

    /// Makes a region.
    pub(super) fn make(
        &self,
        request: &ReserveRequest,
        need: &Need,
    ) -> Result<HugeRegion, HugetlbError> {
        let pool = Pool::of(self.page_size)?;
        check_whole(pool.size, request.pages, request.place)?;
        let pagemap = Pagemap::open();
        let label = label(request.name.as_deref());
        let gathered = Gathered::new(pool, &label)?;
        let Chosen { range, home, offsets, addresses } = match &pagemap {
            Ok(pagemap) => self.adjacent(gathered, pool, request, need, pagemap)?,
            Err(_) => self.anywhere(gathered, pool, request, need)?,
        };
        let step = pool.size as usize;
        let end = offsets.iter().max().map_or(0, |last| *last as usize + step);
        let shown = Mapping::of_huge_pages(&home, 0, end)?;
        for offset in &offsets {
            shown.populate(*offset as usize..*offset as usize + step)?;
        }
        let address = |index: usize| shown.address() + offsets[index] as usize;
        // Before the addresses are verified: pinning moves pages out of memory that has to stay
        // movable.
        let pin = match &pagemap {
            Ok(_) => {
                Pin::new((0..offsets.len()).map(address), step).map_err(|error| error.to_string())
            }
            Err(why) => Err(why.clone()),
        };
        let home = Arc::new(home);
        let pages = offsets.iter().enumerate();
        let pages = pages
            .map(|(index, offset)| Page::at_home(&home, *offset, Node::of(address(index))))
            .collect();
        let region = HugeRegion {
            range,
            pool,
            step,
            physical: pagemap.is_ok(),
            pagemap,
            pin,
            mapping: Mapping::reserved(offsets.len() * step, step)?,
            pages,
            home,
            label,
            restoring: Restoring::default(),
            retired: Mutex::default(),
            _addresses: addresses,
        };
        region.verify(address)?;
        Ok(region)
    }

    /// The region of that name whose process has ended and left `files`.
    ///
    /// # Errors
    ///
    /// Why it can't be restored.
    pub(crate) fn restore(
        name: Option<&str>,
        addresses: ReservedRange,
        files: Vec<OwnedFd>,
    ) -> Result<Box<dyn Memory>, String> {
        let region = HugeRegion::restored(label(name), addresses, files)?;
        Ok(Box::new(RegionMemory::new(region)))
    }

    /// Physically adjacent pages. Takes no more pages out of the pool than it needs to find them.
    fn adjacent(
        &self,
        mut gathered: Gathered,
        pool: Pool,
        request: &ReserveRequest,
        need: &Need,
        pagemap: &Pagemap,
    ) -> Result<Chosen, HugetlbError> {
        let wanted = Wanted {
            count: (request.pages.get() / pool.frames()) as usize,
            step: request.alignment.pages().get(),
            window: request.window(),
        };
        let mut found: Vec<(u64, u64, ReservedRange)> = Vec::new();
        // Pages outside the window. These and pages at addresses that another region has are kept,
        // so that the pool doesn't return them again.
        let mut outside = 0;
        let mut goal = if request.place.start().is_some() { usize::MAX } else { wanted.count };
        loop {
            let more = loop {
                if found.len() >= goal {
                    break true;
                }
                let Some(offset) = gathered.take()? else { break false };
                let frame = pagemap.frame_of(gathered.file(), offset, pool)?;
                let range = PageRange::from_pages(frame, pool.frames());
                if !range.within(wanted.window) {
                    outside += 1;
                } else if let Some(addresses) = self.addresses.withhold(range) {
                    found.push((frame, offset, addresses));
                }
            };
            let free = found.len() + outside;
            if free < wanted.count {
                return Err(pool.too_small(wanted.count, free, need));
            }
            found.sort_unstable_by_key(|(frame, ..)| *frame);
            let frames: Vec<u64> = found.iter().map(|(frame, ..)| *frame).collect();
            match run::find(&frames, pool.frames(), wanted) {
                Ok(place) => {
                    let range = PageRange::from_pages(frames[place.start], request.pages.get());
                    let run = found.drain(place);
                    let (offsets, addresses): (Vec<u64>, _) =
                        run.map(|(_, offset, addresses)| (offset, addresses)).unzip();
                    let home = gathered.keep(&offsets)?;
                    return Ok(Chosen { range, home, offsets, addresses });
                }
                Err(_) if more => goal = found.len().saturating_mul(2),
                Err(longest) => {
                    let (count, alignment) = (wanted.count, request.alignment);
                    return Err(match request.place {
                        Place::At(start) => pool.not_there(start, free),
                        Place::Within(window) => {
                            pool.not_within(window, count, alignment, free, longest)
                        }
                        Place::Anywhere => pool.no_run(count, alignment, free, longest, need),
                    });
                }
            }
        }
    }

    /// Pages whose physical addresses are hidden, at addresses of a bank.
    fn anywhere(
        &self,
        mut gathered: Gathered,
        pool: Pool,
        request: &ReserveRequest,
        need: &Need,
    ) -> Result<Chosen, HugetlbError> {
        let page_aligned = Alignment::new(pool.size).unwrap_or(request.alignment);
        let alignment = request.alignment.max(page_aligned);
        let addresses = self.addresses.reserve(&ReserveRequest { alignment, ..request.clone() })?;
        let count = (request.pages.get() / pool.frames()) as usize;
        let mut offsets = Vec::new();
        while offsets.len() < count {
            match gathered.take()? {
                Some(offset) => offsets.push(offset),
                None => return Err(pool.too_small(count, offsets.len(), need)),
            }
        }
        let home = gathered.keep(&offsets)?;
        Ok(Chosen { range: addresses.range, home, offsets, addresses: vec![addresses] })
    }
}

impl Reserver for Hugetlb {
    /// Lets a refusal's remedy count in all announced regions.
    fn announce(&mut self, requests: &[ReserveRequest]) {
        let fits = |request: &&ReserveRequest| {
            Pool::of(self.page_size)
                .is_ok_and(|pool| check_whole(pool.size, request.pages, request.place).is_ok())
        };
        self.plan = Plan::new(requests.iter().filter(fits).cloned().collect());
    }

    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let need = self.plan.need(request);
        let made = self.make(request, &need);
        if let Err(error) = &made
            && let Some(lack) = error.lack()
        {
            self.plan.remedy_given(lack, request.name.as_deref());
        }
        let region = made?;
        Ok(Reserved { range: region.range, memory: Some(Box::new(RegionMemory::new(region))) })
    }
}

/// The pages and addresses chosen for a region.
struct Chosen {
    range: PageRange,
    /// A file that has these pages and no other.
    home: PoolFile,
    /// The offset of each page in bytes, in the order of their addresses.
    offsets: Vec<u64>,
    addresses: Vec<ReservedRange>,
}
