//! The parts of a request: its regions, its type of memory, and its size in pieces of memory.

use crate::host::region::Region;
use crate::vocabulary::COMMON;
use crate::vocabulary::errors::Reason;
use crate::vocabulary::request::exact_place;
use cma_api::{Alignment, PageRange, Pages, Request};

/// The type of memory of a request: [`COMMON`] when it names none.
pub(crate) fn type_of(kind: Option<&str>) -> &str {
    kind.filter(|kind| !kind.is_empty()).unwrap_or(COMMON)
}

/// The request rounded up to whole pieces of a region's memory, so that the chunk can be given to
/// another process. A size beyond the address space stays as it is and is refused by the region.
///
/// # Errors
///
/// [`Reason::Granule`] when no whole pieces lie within the limits of the request.
pub(super) fn in_whole_pieces(request: &Request, region: &Region) -> Result<Request, Reason> {
    let Some(backing) = region.backing() else { return Ok(*request) };
    let granule_bytes = backing.granule.bytes();
    rounded(request, backing.granule).ok_or(Reason::Granule { granule_bytes })
}

fn rounded(request: &Request, granule: Pages) -> Option<Request> {
    let pages = request.pages().get().checked_next_multiple_of(granule.get()).map(Pages::new);
    let alignment =
        Alignment::new(granule.bytes()).unwrap_or(Alignment::PAGE).max(request.alignment());
    let whole = pages.and_then(|pages| Request::new(pages, alignment, request.asker()));
    let Some(whole) = whole else { return Some(*request) };
    let window = match exact_place(request) {
        Some(place) => PageRange::from_pages(place.first_page(), whole.pages().get()),
        None => request.window(),
    };
    whole.limited(window, request.boundary())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::ChunkRequest;
    use cma_api::Asker;

    #[test]
    fn requests_are_rounded_to_whole_granules() {
        for (granule, asked, expected) in [
            (1, (1, 4096), (1, 4096)),
            (1, (1, 8192), (1, 8192)),
            (512, (2, 4096), (512, 2 << 20)),
            (512, (1280, 4 << 20), (1536, 4 << 20)),
            // Larger than any region, and so it stays.
            (512, ((1 << 52) - 2, 4096), ((1 << 52) - 2, 4096)),
        ] {
            let request = |(pages, alignment)| {
                Request::new(Pages::new(pages), Alignment::new(alignment).unwrap(), Asker::NOBODY)
                    .unwrap()
            };
            let found = rounded(&request(asked), Pages::new(granule)).unwrap();
            assert_eq!(
                (found.pages(), found.alignment()),
                (request(expected).pages(), request(expected).alignment())
            );
        }
    }
    #[test]
    fn whole_granules_stay_within_the_limits_of_the_request() {
        let request =
            |text: &str| ChunkRequest::parse(text).unwrap().normalised(Asker::NOBODY).unwrap();
        let large = Pages::new(512);
        let limited = rounded(&request("4K above=1M below=1G boundary=4M"), large).unwrap();
        assert_eq!((limited.pages().get(), limited.boundary().bytes()), (512, Some(4 << 20)));
        assert_eq!(limited.window(), request("4K above=1M below=1G").window());
        // The place begins where it has to, and all of the pieces are its.
        let placed = rounded(&request("4K at=2M"), large).unwrap();
        assert_eq!(exact_place(&placed), Some(PageRange::from_pages(512, 512)));
        for text in ["4K at=1M", "4K below=1M", "4K boundary=1M", "4K above=1M below=3M"] {
            assert_eq!(rounded(&request(text), large), None, "{text}");
        }
    }
}
