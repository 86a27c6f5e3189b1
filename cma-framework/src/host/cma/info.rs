//! Figures of the regions that are open to a device.

use super::Cma;
use super::request::type_of;
use crate::host::region::Region;
use crate::vocabulary::errors::{DeviceInfo, InfoError, InvalidRequest, Unmatched};
use crate::vocabulary::region_groups;
use cma_api::{PAGE_SIZE, PageRange, Pages};

impl Cma {
    /// The figures of the regions from which `device` may get memory of type `kind`.
    ///
    /// # Errors
    ///
    /// [`InfoError`] when no rule matches, or none of the rule's regions is registered.
    pub fn info(&self, device: &str, kind: Option<&str>) -> Result<DeviceInfo, InfoError> {
        let kind = type_of(kind);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let snapshot = self.0.snapshot.load();
        let groups = snapshot
            .map
            .regions_for(device, kind)
            .ok_or_else(|| Unmatched { device: device.to_string(), kind: kind.to_string() })
            .map_err(|unmatched| InfoError::NoRule(Box::new(unmatched)))?;
        info_of(groups.flatten().filter_map(|name| snapshot.region(name)))
    }

    /// The figures of the regions of a list ([`region_groups`]).
    ///
    /// # Errors
    ///
    /// [`InfoError`] when the list is empty, or none of the regions is registered.
    pub fn info_about(&self, regions: &str) -> Result<DeviceInfo, InfoError> {
        let snapshot = self.0.snapshot.load();
        let names = region_groups(regions)?.flat_map(|group| group.regions());
        info_of(names.filter_map(|name| snapshot.region(name)))
    }
}

fn info_of<'a>(regions: impl Iterator<Item = &'a Region>) -> Result<DeviceInfo, InfoError> {
    let mut seen: Vec<&Region> = Vec::new();
    for region in regions.filter(|region| region.is_registered()) {
        if !seen.contains(&region) {
            seen.push(region);
        }
    }
    let first = seen.iter().map(|r| r.range().first_page()).min().ok_or(InfoError::NoRegion)?;
    let end = seen.iter().map(|r| r.range().end_page()).max().ok_or(InfoError::NoRegion)?;
    Ok(DeviceInfo {
        span: PageRange::from_pages(first, end - first),
        total_bytes: sum(seen.iter().map(|r| r.range().pages())),
        free_bytes: sum(seen.iter().filter_map(|r| r.free().ok())),
        regions: seen.len(),
        granule_bytes: seen
            .iter()
            .filter_map(|r| r.backing())
            .map(|backing| backing.granule.bytes())
            .fold(PAGE_SIZE, u64::max),
    })
}

/// In bytes; [`u64::MAX`] for a whole 64-bit address space.
fn sum(pages: impl Iterator<Item = Pages>) -> u64 {
    Pages::new(pages.map(Pages::get).sum()).bytes()
}
