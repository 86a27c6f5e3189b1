//! What allocators say against the regions that would be theirs: each is tried on the place that
//! its region would get.

use cma_framework::config::{ParsedRegion, Platform, Span};
use cma_framework::reserve::Banks;
use cma_framework::{Alignment, Cma, DmaAddr, EarlyHandle, PageRange, Pages, Plugin};

/// The most pages that an allocator is tried on without memory for them: the size may be a slip,
/// and an allocator's books grow with it.
const FICTITIOUS: Pages = Pages::new(1 << 14);

/// An allocator's refusal of a region.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) allocator: String,
    pub(super) region: String,
    pub(super) reason: String,
    /// The parameters, or else the allocator, or else the region.
    pub(super) span: Span,
}

/// Tries an allocator of `plugins` on each of the regions `parsed` from `text`: the one that it
/// names, or the first.
pub(super) fn refusals(
    text: &str,
    parsed: &[ParsedRegion<'_>],
    board: &Platform,
    plugins: &[Plugin],
) -> Vec<Refusal> {
    let cma = Cma::new();
    let places: Vec<EarlyHandle> = match cma.command_line(Some(text), None) {
        Ok(()) => cma.early_regions_reserve(&mut Banks::of(board)),
        Err(_) => Vec::new(),
    };
    let tried = parsed.iter().zip(places).filter_map(|(region, place)| {
        let plugin = match region.spec.allocator {
            Some(allocator) => plugins.iter().find(|plugin| plugin.name() == allocator.name),
            None => plugins.first(),
        }?;
        let params = region.spec.allocator.map_or("", |allocator| allocator.params);
        let range = place.reserved().or_else(|| fictitious(region))?;
        let reason = plugin.initialise(range, params).err()?;
        Some(Refusal {
            allocator: plugin.name().to_string(),
            region: region.spec.name.to_string(),
            reason,
            span: asked(region),
        })
    });
    tried.collect()
}

/// A place for a region that has none.
fn fictitious(region: &ParsedRegion<'_>) -> Option<PageRange> {
    let alignment = Alignment::new(region.spec.alignment.unwrap_or(0))?;
    let start = DmaAddr::new(0).align_up(alignment)?;
    let pages = Pages::covering(region.spec.size).min(FICTITIOUS);
    Some(PageRange::from_pages(start.page(), pages.get()))
}

/// Where a region says what its allocator is to do.
fn asked(region: &ParsedRegion<'_>) -> Span {
    match (&region.spans.allocator, region.spec.allocator) {
        (Some(name), Some(allocator)) if !allocator.params.is_empty() => {
            let start = name.end + "(".len();
            start..start + allocator.params.len()
        }
        (Some(name), _) => name.clone(),
        (None, _) => region.spans.name.clone(),
    }
}
