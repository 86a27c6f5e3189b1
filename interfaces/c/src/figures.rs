//! Figures of regions, as structures of C.

use crate::border::Grows;
use crate::failure::Failure;
use cma_client::InfoAnswer;
use cma_framework::errors::DeviceInfo;
use cma_framework::{PAGE_SIZE, Region};
use std::mem::offset_of;

/// The figures of the regions that may serve a request. Set "size" before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_info {
    /// sizeof(struct cma_info).
    pub size: u32,
    /// The number of regions.
    pub regions: u32,
    /// The lowest address of any of them.
    pub start: u64,
    /// The bytes from there to the end of the highest one; UINT64_MAX for 2^64.
    pub span_bytes: u64,
    /// The sum of their sizes in bytes.
    pub total_bytes: u64,
    /// The sum of their free space in bytes.
    pub free_bytes: u64,
    /// The size of chunks that are given to other processes is a multiple of this, in bytes.
    pub granule_bytes: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for cma_info {
    const NAME: &'static str = "cma_info";
    const LEAST: usize = offset_of!(cma_info, start);
}

impl From<DeviceInfo> for cma_info {
    fn from(info: DeviceInfo) -> Self {
        cma_info {
            size: 0,
            regions: u32::try_from(info.regions).unwrap_or(u32::MAX),
            start: info.span.start().get(),
            span_bytes: info.span.bytes(),
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            granule_bytes: info.granule_bytes,
        }
    }
}

impl From<InfoAnswer> for cma_info {
    fn from(info: InfoAnswer) -> Self {
        cma_info {
            size: 0,
            regions: u32::try_from(info.regions).unwrap_or(u32::MAX),
            start: info.first_page.saturating_mul(PAGE_SIZE),
            span_bytes: info.span_pages.saturating_mul(PAGE_SIZE),
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            granule_bytes: info.granule_bytes,
        }
    }
}

/// The figures of one region of a host. Set "size" before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_statistics {
    /// sizeof(struct cma_statistics).
    pub size: u32,
    /// Live chunks.
    pub chunks: u32,
    /// The lowest address.
    pub start: u64,
    /// The size in bytes; UINT64_MAX for 2^64.
    pub bytes: u64,
    /// Free space in bytes.
    pub free_bytes: u64,
    /// The largest free range in bytes. An allocator may refuse a request that would fit there.
    pub largest_hole_bytes: u64,
    /// The most bytes that were ever in use at once.
    pub high_water_bytes: u64,
    /// Requests that wait for the region.
    pub waiters: u64,
    /// Requests that it has served.
    pub served: u64,
    /// Their pages, of 4096 bytes.
    pub served_pages: u64,
    /// Requests that it has refused.
    pub refused: u64,
    /// Their pages.
    pub refused_pages: u64,
    /// Chunks that were freed.
    pub freed: u64,
    /// Their pages.
    pub freed_pages: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for cma_statistics {
    const NAME: &'static str = "cma_statistics";
    const LEAST: usize = offset_of!(cma_statistics, start);
}

impl cma_statistics {
    /// The figures of `region`. Other threads may use it between the two groups of figures.
    pub(crate) fn of(region: &Region) -> Result<Self, Failure> {
        let status = region.status();
        if let Some(stuck) = status.stuck {
            return Err(stuck.into());
        }
        let statistics = region.statistics()?;
        Ok(cma_statistics {
            size: 0,
            chunks: status.users,
            start: region.range().start().get(),
            bytes: region.range().bytes(),
            free_bytes: status.free_bytes,
            largest_hole_bytes: status.largest_hole_bytes,
            high_water_bytes: statistics.high_water_bytes,
            waiters: status.waiters as u64,
            served: statistics.chunks_placed,
            served_pages: statistics.alloc_pages_success,
            refused: statistics.requests_refused,
            refused_pages: statistics.alloc_pages_fail,
            freed: statistics.chunks_freed,
            freed_pages: statistics.release_pages_success,
        })
    }
}
