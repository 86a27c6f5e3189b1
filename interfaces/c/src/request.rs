//! Requests with limits.

use crate::border::{Grows, optional_text, read_struct};
use crate::failure::Failure;
use cma_client::RegionSelector;
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, DmaAddr, Source};
use std::ffi::c_char;
use std::mem::offset_of;
use std::time::Duration;

/// A flag of struct cma_request: the chunk starts at exactly the address "at".
pub const CMA_REQUEST_AT: u32 = 1;

/// A flag of struct cma_request: the chunk can be given to other processes. Its size and alignment
/// are rounded up to the unit in which the region's memory is shared. A server always does that.
pub const CMA_REQUEST_SHARE: u32 = 2;

/// A request for a chunk, with limits. Set "size" to sizeof(struct cma_request) and every other
/// field to its value or to 0. Give either "device" or "regions".
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_request {
    /// sizeof(struct cma_request).
    pub size: u32,
    /// CMA_REQUEST_AT and CMA_REQUEST_SHARE, or 0.
    pub flags: u32,
    /// The size of the chunk in bytes. It is rounded up to whole pages.
    pub bytes: u64,
    /// The chunk starts at a multiple of this, a power of two; 0 for a page.
    pub alignment: u64,
    /// The device. The map says which regions it may use.
    pub device: *const c_char,
    /// The type of memory; NULL for "common". For a device alone.
    pub r#type: *const c_char,
    /// The regions, as in a rule of the map: "a,b|c" tries a, then that of b and c which fits best.
    pub regions: *const c_char,
    /// No byte of the chunk lies below this address.
    pub above: u64,
    /// Every byte of the chunk lies below this address; 0 for no limit.
    pub below: u64,
    /// The chunk crosses no multiple of this, a power of two; 0 for no limit.
    pub boundary: u64,
    /// The address of the chunk, with CMA_REQUEST_AT.
    pub at: u64,
    /// The longest time to wait for room, in microseconds; 0 for no waiting.
    pub wait_us: u64,
}

// SAFETY: numbers and pointers, the size first.
unsafe impl Grows for cma_request {
    const NAME: &'static str = "cma_request";
    const LEAST: usize = offset_of!(cma_request, r#type);
}

/// A request of a C program.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    from: From<'a>,
    pub(crate) share: bool,
    bytes: u64,
    alignment: u64,
    above: Option<u64>,
    below: Option<u64>,
    boundary: Option<u64>,
    at: Option<u64>,
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug)]
enum From<'a> {
    Device { name: &'a str, kind: Option<&'a str> },
    Regions(&'a str),
}

impl<'a> Wanted<'a> {
    /// Reads a request.
    ///
    /// # Safety
    ///
    /// `request` is null or a request, whose texts live for `'a`.
    pub(crate) unsafe fn read(request: *const cma_request) -> Result<Wanted<'a>, Failure> {
        // SAFETY: the caller's.
        let request = unsafe { read_struct(request) }?;
        let unknown = request.flags & !(CMA_REQUEST_AT | CMA_REQUEST_SHARE);
        if unknown != 0 {
            return Err(Failure::invalid(format!("unknown flags of cma_request: {unknown:#x}")));
        }
        // SAFETY: the caller's.
        let device = unsafe { optional_text(request.device, "device") }?;
        // SAFETY: the caller's.
        let kind = unsafe { optional_text(request.r#type, "type") }?;
        // SAFETY: the caller's.
        let regions = unsafe { optional_text(request.regions, "list of regions") }?;
        let from = match (device, kind, regions) {
            (Some(name), kind, None) => From::Device { name, kind },
            (None, None, Some(regions)) => From::Regions(regions),
            _ => {
                let text = "a request names either a device, with a type or without, or regions";
                return Err(Failure::invalid(text));
            }
        };
        let limit = |value: u64| (value != 0).then_some(value);
        let at_counts = request.flags & CMA_REQUEST_AT != 0;
        if request.at != 0 && !at_counts {
            return Err(Failure::invalid("\"at\" is set without the flag CMA_REQUEST_AT"));
        }
        Ok(Wanted {
            from,
            share: request.flags & CMA_REQUEST_SHARE != 0,
            bytes: request.bytes,
            alignment: request.alignment,
            above: limit(request.above),
            below: limit(request.below),
            boundary: limit(request.boundary),
            at: at_counts.then_some(request.at),
            wait: limit(request.wait_us).map(Duration::from_micros),
        })
    }

    /// As a request to a framework of this process.
    pub(crate) fn to_host(&self) -> (Source<'a>, ChunkRequest) {
        let mut request = ChunkRequest::new(Bytes(self.bytes)).aligned(Bytes(self.alignment));
        request.above = self.above.map(DmaAddr::new);
        request.below = self.below.map(DmaAddr::new);
        request.boundary = self.boundary.map(Bytes);
        request.at = self.at.map(DmaAddr::new);
        request.wait = self.wait;
        let source = match self.from {
            From::Device { name, kind } => Source::Device { name, kind },
            From::Regions(regions) => Source::Regions(regions),
        };
        (source, request)
    }

    /// As a request to a server.
    pub(crate) fn to_server(&self) -> (RegionSelector<'a>, cma_client::ChunkRequest) {
        let request = cma_client::ChunkRequest {
            size: self.bytes,
            alignment: self.alignment,
            above: self.above,
            below: self.below,
            boundary: self.boundary,
            at: self.at,
            wait: self.wait,
        };
        let selector = match self.from {
            From::Device { name, kind } => {
                RegionSelector::Device { device: name, kind: kind.unwrap_or_default() }
            }
            From::Regions(regions) => RegionSelector::Regions(regions),
        };
        (selector, request)
    }
}
