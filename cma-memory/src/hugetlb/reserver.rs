//! The reserver: chooses pages of the pool and makes a region of them.

use super::error::HugetlbError;
use super::fit::check_whole;
use super::pagemap::Pagemap;
use super::pin::Pin;
use super::plan::{Need, Plan};
use super::pool::{Page, Pool};
use super::region::HugeRegion;
use super::run::{self, Wanted};
use super::store::RegionMemory;
use crate::addresses::{Addresses, ReservedRange};
use crate::label;
use crate::mapping::Mapping;
use cma_framework::config::Place;
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Alignment, PageRange};

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

    fn make(&self, request: &ReserveRequest, need: &Need) -> Result<Reserved, HugetlbError> {
        let pool = Pool::of(self.page_size)?;
        check_whole(pool.size, request.pages, request.place)?;
        let pagemap = Pagemap::open();
        let Chosen { range, pages, addresses } = match &pagemap {
            Ok(pagemap) => self.adjacent(pool, request, need, pagemap)?,
            Err(_) => self.anywhere(pool, request, need)?,
        };
        let step = pool.size as usize;
        let mut mapping = Mapping::reserved(pages.len() * step, step)?;
        for (index, page) in pages.iter().enumerate() {
            mapping.place(index * step..(index + 1) * step, &page.lock().file)?;
        }
        mapping.populate(0..mapping.len())?;
        // Before the addresses are verified: pinning moves pages out of memory that has to stay
        // movable.
        let pin = match &pagemap {
            Ok(_) => Pin::new(&mapping, step).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let label = label(request.name.as_deref());
        let region = HugeRegion {
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
        region.verify()?;
        Ok(Reserved { range, memory: Some(Box::new(RegionMemory::new(region))) })
    }

    /// Physically adjacent pages. Takes no more pages out of the pool than it needs to find them.
    fn adjacent(
        &self,
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
        let label = label(request.name.as_deref());
        let mut found: Vec<(u64, Page, ReservedRange)> = Vec::new();
        // Pages at addresses that another region has, and pages outside the window. Kept, so that
        // the pool doesn't return them again.
        let (mut conflicting, mut outside) = (Vec::new(), Vec::new());
        let mut goal = if request.place.start().is_some() { usize::MAX } else { wanted.count };
        loop {
            let more = loop {
                if found.len() >= goal {
                    break true;
                }
                let Some(page) = pool.take(&label)? else { break false };
                let frame = page.frame(pool, pagemap)?;
                let range = PageRange::from_pages(frame, pool.frames());
                if !range.within(wanted.window) {
                    outside.push(page);
                    continue;
                }
                match self.addresses.withhold(range) {
                    Some(addresses) => found.push((frame, page, addresses)),
                    None => conflicting.push(page),
                }
            };
            let free = found.len() + outside.len();
            if free < wanted.count {
                return Err(pool.too_small(wanted.count, free, need));
            }
            found.sort_unstable_by_key(|(frame, ..)| *frame);
            let frames: Vec<u64> = found.iter().map(|(frame, ..)| *frame).collect();
            match run::find(&frames, pool.frames(), wanted) {
                Ok(place) => {
                    let range = PageRange::from_pages(frames[place.start], request.pages.get());
                    let run = found.drain(place);
                    let (pages, addresses) =
                        run.map(|(_, page, addresses)| (page, addresses)).unzip();
                    return Ok(Chosen { range, pages, addresses });
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
        pool: Pool,
        request: &ReserveRequest,
        need: &Need,
    ) -> Result<Chosen, HugetlbError> {
        let page_aligned = Alignment::new(pool.size).unwrap_or(request.alignment);
        let alignment = request.alignment.max(page_aligned);
        let addresses = self.addresses.reserve(&ReserveRequest { alignment, ..request.clone() })?;
        let count = (request.pages.get() / pool.frames()) as usize;
        let label = label(request.name.as_deref());
        let pages: Vec<Page> =
            (0..count).map_while(|_| pool.take(&label).transpose()).collect::<Result<_, _>>()?;
        if pages.len() < count {
            return Err(pool.too_small(count, pages.len(), need));
        }
        Ok(Chosen { range: addresses.range, pages, addresses: vec![addresses] })
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
        Ok(made?)
    }
}

/// The pages and addresses chosen for a region.
struct Chosen {
    range: PageRange,
    /// In the order of their addresses.
    pages: Vec<Page>,
    addresses: Vec<ReservedRange>,
}
