//! The interface of allocator plug-ins for the contiguous memory framework.
//!
//! An *allocator* decides where in a region a chunk goes. It works on addresses and never touches
//! the memory itself. This crate has the vocabulary shared with the framework ([`units`]), requests
//! and results ([`Request`], [`Placement`]), the trait that an allocator implements
//! ([`Allocator`]), and the binary interface through which a host loads it at run time ([`v1`],
//! [`export_allocator!`]).
//!
//! The contract between host and plug-in, and what may change in it, is in `ABI.md` beside this
//! crate's manifest.
//!
//! # Writing an allocator
//!
//! ```
//! use cma_api::{
//!     Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Params,
//!     Placement, Request, Tag,
//! };
//!
//! /// Hands out the region from its start to its end and reuses it when everything was freed.
//! struct Bump {
//!     region: PageRange,
//!     next: u64,
//!     live: u64,
//! }
//!
//! impl Bump {
//!     /// The pages from `next` to the region's end, which are free.
//!     fn hole(&self) -> PageRange {
//!         PageRange::from_pages(self.next, self.region.end_page() - self.next)
//!     }
//! }
//!
//! impl Allocator for Bump {
//!     const INFO: AllocatorInfo = AllocatorInfo {
//!         name: "bump",
//!         version: env!("CARGO_PKG_VERSION"),
//!         description: "one pointer that moves up; starts again when nothing is live",
//!     };
//!
//!     fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
//!         Params::parse(params)?.finish()?; // it takes none, and refuses what it doesn't know
//!         Ok(Bump { region, next: region.first_page(), live: 0 })
//!     }
//!
//!     fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
//!         let range = request.lowest_place(self.hole()).ok_or(NoRoom)?;
//!         self.next = range.end_page();
//!         self.live += 1;
//!         Ok(Placement { range, tag: Tag(0) })
//!     }
//!
//!     fn fit(&mut self, request: &Request) -> Option<PageRange> {
//!         request.lowest_place(self.hole()).map(|_| self.hole())
//!     }
//!
//!     fn free(&mut self, _chunk: Placement) -> Result<(), NotMine> {
//!         self.live -= 1;
//!         if self.live == 0 {
//!             self.next = self.region.first_page();
//!         }
//!         Ok(())
//!     }
//!
//!     fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
//!         if range.first_page() < self.next || range.end_page() > self.region.end_page() {
//!             return Err(CannotAdopt::new("a range must lie above all live chunks"));
//!         }
//!         self.next = range.end_page();
//!         self.live += 1;
//!         Ok(Tag(0))
//!     }
//!
//!     fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
//!         if self.hole().pages() > Pages::ZERO {
//!             visit(self.hole());
//!         }
//!     }
//!
//!     fn largest_request(&self) -> Pages {
//!         self.hole().pages()
//!     }
//!
//!     fn check(&self) -> Result<(), String> {
//!         let inside = self.next <= self.region.end_page();
//!         inside.then_some(()).ok_or("a chunk ends outside the region".to_string())
//!     }
//! }
//!
//! // In a separate crate with `crate-type = ["cdylib"]`, this line makes it a plug-in:
//! cma_api::export_allocator!(Bump);
//! # fn main() {}
//! ```

mod algorithm;
mod allocator;
pub mod c_v1;
mod export;
mod names;
mod params;
pub mod units;
pub mod v1;

pub use algorithm::Algorithm;
pub use allocator::{
    Allocator, AllocatorInfo, Asker, CannotAdopt, InitError, NoRoom, NotMine, Placement, Request,
    Tag,
};
pub use names::{name_fault, text_fault};
pub use params::Params;
pub use units::{Alignment, Boundary, DmaAddr, PAGE_SHIFT, PAGE_SIZE, PageRange, Pages};

// For the expansion of `export_allocator!` in a plug-in crate, and for hosts, so that both use the
// version that this interface was built with.
#[doc(hidden)]
pub use abi_stable;
