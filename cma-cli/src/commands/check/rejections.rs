//! Allocators that would reject their region: each is tried on the address range that its region
//! would get.

use cma_framework::config::{ParsedRegion, Span};
use cma_framework::reserve::Banks;
use cma_framework::{Alignment, Cma, DmaAddr, EarlyHandle, PageRange, Pages, Plugin};

/// The most pages of a fictitious range: the size may be a typing error, and an allocator's
/// bookkeeping grows with it.
const MAX_FICTITIOUS: Pages = Pages::new(1 << 14);

/// A region that its allocator rejects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) allocator: String,
    pub(super) region: String,
    pub(super) reason: String,
    /// Covers the parameters, or else the allocator's name, or else the region's.
    pub(super) span: Span,
}

/// Tries an allocator of `plugins` on each of the regions `parsed` from `text`: the one that the
/// region names, or the first.
pub(super) fn rejections(
    text: &str,
    parsed: &[ParsedRegion<'_>],
    mut banks: Banks,
    plugins: &[Plugin],
) -> Vec<Rejection> {
    let cma = Cma::new();
    let places: Vec<EarlyHandle> = match cma.command_line(Some(text), None) {
        Ok(()) => cma.early_regions_reserve(&mut banks),
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
        Some(Rejection {
            allocator: plugin.name().to_string(),
            region: region.spec.name.to_string(),
            reason,
            span: allocator_span(region),
        })
    });
    tried.collect()
}

/// A range for a region that gets no memory.
fn fictitious(region: &ParsedRegion<'_>) -> Option<PageRange> {
    let alignment = Alignment::new(region.spec.alignment.unwrap_or(0))?;
    let start = DmaAddr::new(0).align_up(alignment)?;
    let pages = Pages::covering(region.spec.size).min(MAX_FICTITIOUS);
    Some(PageRange::from_pages(start.page(), pages.get()))
}

/// The parameters of a region's allocator, or else its name, or else the region's name.
fn allocator_span(region: &ParsedRegion<'_>) -> Span {
    match (&region.spans.allocator, region.spec.allocator) {
        (Some(name), Some(allocator)) if !allocator.params.is_empty() => {
            let start = name.end + "(".len();
            start..start + allocator.params.len()
        }
        (Some(name), _) => name.clone(),
        (None, _) => region.spans.name.clone(),
    }
}
