//! A region at one moment: chunks and the free ranges between them.

use crate::text;
use cma_framework::PageRange;
use cma_running::RegionState;
use std::collections::BTreeMap;

/// The chunks of a region at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    name: String,
    range: PageRange,
    chunks: Vec<Placed>,
    request: Option<Request>,
}

/// A chunk at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its pages.
    pub range: PageRange,
    /// The device that has it.
    pub device: String,
    /// Device and type, age, process, as far as they are known.
    pub detail: String,
}

/// A request that was refused at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its device and type.
    pub requester: String,
}

/// The device of a chunk whose request named regions instead of a device.
const NO_DEVICE: &str = "(no device)";

impl Layout {
    /// A region with chunks, none of which overlap. `name` is its title.
    pub fn new(name: String, range: PageRange, mut chunks: Vec<Placed>) -> Layout {
        chunks.sort_by_key(|chunk| chunk.range.first_page());
        Layout { name, range, chunks, request: None }
    }

    /// The same, at the moment when `request` was refused.
    pub(crate) fn refusing(self, request: Option<Request>) -> Layout {
        Layout { request, ..self }
    }

    /// A region of a running server; `None` while its allocator does not return from a call, so
    /// that its chunks are not known.
    pub fn of_region(region: &RegionState) -> Option<Layout> {
        let books = region.books.as_ref()?;
        let placed = |chunk: &cma_running::ChunkState| {
            let device = chunk.requester.as_ref().map(|it| it.device.clone());
            let mut detail = match &chunk.requester {
                Some(requester) => requester.to_string(),
                None => NO_DEVICE.to_string(),
            };
            if let Some(age) = chunk.age {
                detail += &format!(", for {:.1} s", age.as_secs_f64());
            }
            if let Some(process) = &chunk.process {
                detail += &format!(", {process}");
            }
            Placed {
                range: chunk.range,
                device: device.unwrap_or_else(|| NO_DEVICE.to_string()),
                detail,
            }
        };
        let chunks = books.chunks.iter().map(placed).collect();
        let name = format!("{region}, {} at {}", region.allocator, region.range.start());
        Some(Layout::new(name, region.range, chunks))
    }

    /// Its title.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its title with its figures, in a line.
    pub fn heading(&self) -> String {
        let chunks = text::counted(self.chunks.len(), "chunk");
        format!("{}: {chunks} in {}", self.name, text::bytes(self.range.bytes()))
    }

    /// The region.
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// The chunks, in ascending order of address.
    pub fn chunks(&self) -> &[Placed] {
        &self.chunks
    }

    /// The request that was refused at this moment.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// The free ranges, in ascending order of address.
    pub fn holes(&self) -> Vec<PageRange> {
        let mut holes = Vec::new();
        let mut free_from = self.range.first_page();
        let ends =
            self.chunks.iter().map(|chunk| (chunk.range.first_page(), chunk.range.end_page()));
        for (first, end) in ends.chain([(self.range.end_page(), self.range.end_page())]) {
            if first > free_from {
                holes.push(PageRange::from_pages(free_from, first - free_from));
            }
            free_from = free_from.max(end);
        }
        holes
    }

    /// The largest free range; the lowest of several.
    pub fn largest_hole(&self) -> Option<PageRange> {
        let holes = self.holes().into_iter();
        holes.max_by_key(|hole| (hole.pages(), std::cmp::Reverse(hole.first_page())))
    }

    /// The free bytes.
    pub fn free_bytes(&self) -> u64 {
        self.holes().iter().map(|hole| hole.bytes()).sum()
    }

    /// Each device that has chunks between two free ranges, with the number and the bytes of these
    /// chunks, the device with the most first.
    pub fn separators(&self) -> Vec<(&str, usize, u64)> {
        let holes = self.holes();
        let (Some(lowest), Some(highest)) = (holes.first(), holes.last()) else {
            return Vec::new();
        };
        let between = self.chunks.iter().filter(|chunk| {
            chunk.range.first_page() >= lowest.end_page()
                && chunk.range.end_page() <= highest.first_page()
        });
        by_device(between)
    }

    /// Each device with the number and the bytes of its chunks, the device with the most bytes
    /// first.
    pub fn devices(&self) -> Vec<(&str, usize, u64)> {
        let mut devices = by_device(self.chunks.iter());
        devices.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(b.0)));
        devices
    }
}

/// The number and the bytes of `chunks` by device, the device with the most chunks first.
fn by_device<'l>(chunks: impl Iterator<Item = &'l Placed>) -> Vec<(&'l str, usize, u64)> {
    let mut sums: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for chunk in chunks {
        let (count, bytes) = sums.entry(&chunk.device).or_default();
        *count += 1;
        *bytes += chunk.range.bytes();
    }
    let mut list: Vec<_> = sums.into_iter().map(|(name, (n, bytes))| (name, n, bytes)).collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then(b.2.cmp(&a.2)).then(a.0.cmp(b.0)));
    list
}
