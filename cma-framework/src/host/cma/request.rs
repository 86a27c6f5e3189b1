//! The parts of a request: its regions, its type of memory, and its size in pieces of memory.

use crate::host::region::Region;
use crate::vocabulary::COMMON;
use crate::vocabulary::errors::InvalidRequest;
use cma_api::{Alignment, Pages, Request};

/// The names in a region list, which ends at a `;` or at the end of the text. None is empty.
pub(super) fn region_list(
    list: &str,
) -> Result<impl Iterator<Item = &str> + Clone, InvalidRequest> {
    let list = list.split(';').next().unwrap_or_default();
    if list.split(',').any(str::is_empty) {
        return Err(InvalidRequest::NoRegions);
    }
    Ok(list.split(','))
}

/// The type of memory of a request: [`COMMON`] when it names none.
pub(crate) fn type_of(kind: Option<&str>) -> &str {
    kind.filter(|kind| !kind.is_empty()).unwrap_or(COMMON)
}

/// The request rounded up to whole pieces of a region's memory, so that the chunk can be given to
/// another process. A size beyond the address space stays as it is and is refused by the region.
pub(super) fn in_whole_pieces(request: &Request, region: &Region) -> Request {
    region.backing().map_or(*request, |backing| rounded(request, backing.granule))
}

fn rounded(request: &Request, granule: Pages) -> Request {
    let pages = request.pages().get().checked_next_multiple_of(granule.get()).map(Pages::new);
    let alignment =
        Alignment::new(granule.bytes()).unwrap_or(Alignment::PAGE).max(request.alignment());
    pages.and_then(|pages| Request::new(pages, alignment, request.asker())).unwrap_or(*request)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let found = rounded(&request(asked), Pages::new(granule));
            assert_eq!(
                (found.pages(), found.alignment()),
                (request(expected).pages(), request(expected).alignment())
            );
        }
    }
}
