//! The bytes of each device, and which devices have a label of their own.

use cma_framework::PageRange;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most devices with a label of their own.
pub const MAX_DEVICES: usize = 20;

/// The time for which a device keeps its label at least. It bounds the number of time series that
/// clients with changing names can cause.
const KEPT: Duration = Duration::from_secs(3600);

/// The label of all other devices. A device of this name has no label of its own.
pub(crate) const OTHER: &str = "other";

/// The live chunks of the regions that began and have not ended, with their devices.
#[derive(Debug, Default)]
pub(crate) struct LiveChunks {
    regions: HashMap<PageRange, HashMap<PageRange, Option<Arc<str>>>>,
    bytes: HashMap<Option<Arc<str>>, u64>,
}

impl LiveChunks {
    /// Replaces what is known of a region.
    pub(crate) fn begin(
        &mut self,
        region: PageRange,
        live: impl Iterator<Item = (PageRange, Option<Arc<str>>)>,
    ) {
        self.end(region);
        self.regions.insert(region, HashMap::new());
        live.for_each(|(chunk, device)| self.place(region, chunk, device));
    }

    /// Forgets a region.
    pub(crate) fn end(&mut self, region: PageRange) {
        for (chunk, device) in self.regions.remove(&region).into_iter().flatten() {
            self.subtract(chunk, &device);
        }
    }

    /// Adds a chunk, unless the region has ended.
    pub(crate) fn place(&mut self, region: PageRange, chunk: PageRange, device: Option<Arc<str>>) {
        let Some(chunks) = self.regions.get_mut(&region) else { return };
        *self.bytes.entry(device.clone()).or_default() += chunk.pages().bytes();
        let before = chunks.insert(chunk, device);
        if let Some(device) = before {
            self.subtract(chunk, &device);
        }
    }

    pub(crate) fn release(&mut self, region: PageRange, chunk: PageRange) {
        let known = self.regions.get_mut(&region).and_then(|chunks| chunks.remove(&chunk));
        if let Some(device) = known {
            self.subtract(chunk, &device);
        }
    }

    fn subtract(&mut self, chunk: PageRange, device: &Option<Arc<str>>) {
        if let Some(bytes) = self.bytes.get_mut(device) {
            *bytes = bytes.saturating_sub(chunk.pages().bytes());
            if *bytes == 0 {
                self.bytes.remove(device);
            }
        }
    }

    /// The bytes of each device; `None` stands for chunks without one.
    pub(crate) fn bytes(&self) -> &HashMap<Option<Arc<str>>, u64> {
        &self.bytes
    }
}

/// The devices that have a label of their own, and since when.
#[derive(Debug, Default)]
pub(crate) struct Labels(BTreeMap<Arc<str>, Instant>);

impl Labels {
    /// The bytes by label. Devices without a label take those that are free at `now`, the largest
    /// first.
    pub(crate) fn assign(
        &mut self,
        bytes: &HashMap<Option<Arc<str>>, u64>,
        now: Instant,
    ) -> Vec<(Arc<str>, u64)> {
        let of = |device: &Arc<str>| bytes.get(&Some(device.clone())).copied().unwrap_or(0);
        let without = bytes.iter().filter_map(|(device, bytes)| Some((device.as_ref()?, *bytes)));
        let mut without: Vec<_> = without
            .filter(|(device, _)| !self.0.contains_key(*device) && &***device != OTHER)
            .collect();
        without.sort_by(|(a, x), (b, y)| y.cmp(x).then(a.cmp(b)));
        for (device, wanted) in without {
            if self.0.len() >= MAX_DEVICES {
                let free = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= KEPT);
                let smallest = free.map(|(device, _)| (of(device), device.clone())).min();
                match smallest.filter(|(bytes, _)| *bytes < wanted) {
                    Some((_, replaced)) => self.0.remove(&replaced),
                    None => break,
                };
            }
            self.0.insert(device.clone(), now);
        }
        let labelled: Vec<_> = self.0.keys().map(|device| (device.clone(), of(device))).collect();
        let all: u64 = bytes.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
        let named = labelled.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let other = (OTHER.into(), all.saturating_sub(named));
        labelled.into_iter().chain([other]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(devices: &[(&str, u64)]) -> HashMap<Option<Arc<str>>, u64> {
        devices.iter().map(|(device, bytes)| (Some((*device).into()), *bytes)).collect()
    }

    fn names(assigned: &[(Arc<str>, u64)]) -> Vec<&str> {
        assigned.iter().map(|(device, _)| &**device).collect()
    }

    /// `MAX_DEVICES` devices with 10 bytes each.
    fn full() -> Vec<(String, u64)> {
        (0..MAX_DEVICES).map(|n| (format!("d{n:02}"), 10)).collect()
    }

    fn with<'a>(devices: &'a [(String, u64)], more: &[(&'a str, u64)]) -> Vec<(&'a str, u64)> {
        let own = devices.iter().map(|(device, bytes)| (device.as_str(), *bytes));
        own.chain(more.iter().copied()).collect()
    }

    #[test]
    fn every_byte_is_counted_once_and_the_number_of_labels_is_bounded() {
        let many: Vec<_> = (1..=1000).map(|n| (format!("d{n}"), n)).collect();
        let mut all = bytes(&with(&many, &[("other", 7)]));
        all.insert(None, 5);
        let assigned = Labels::default().assign(&all, Instant::now());
        assert_eq!(assigned.len(), MAX_DEVICES + 1);
        assert_eq!(assigned.iter().map(|(_, bytes)| bytes).sum::<u64>(), 500_500 + 7 + 5);
        let largest = |name: &&str| (981..=1000).any(|n| **name == format!("d{n}"));
        assert_eq!(names(&assigned).iter().filter(|name| largest(name)).count(), MAX_DEVICES);
        assert_eq!(names(&assigned).iter().filter(|name| **name == OTHER).count(), 1);
    }

    #[test]
    fn a_device_keeps_its_label_for_an_hour_and_loses_it_only_to_a_larger_one() {
        let (mut labels, full) = (Labels::default(), full());
        let (start, later) = (Instant::now(), Instant::now() + KEPT + Duration::from_secs(1));
        labels.assign(&bytes(&with(&full, &[])), start);
        let big = bytes(&with(&full[1..], &[("big", 11)]));
        let soon = labels.assign(&big, start + KEPT - Duration::from_secs(1));
        assert!(names(&soon).contains(&"d00") && !names(&soon).contains(&"big"));
        let equal = labels.assign(&bytes(&with(&full, &[("equal", 10)])), later);
        assert!(!names(&equal).contains(&"equal"));
        let replaced = labels.assign(&big, later);
        assert!(!names(&replaced).contains(&"d00") && names(&replaced).contains(&"big"));
    }

    #[test]
    fn the_bytes_of_a_device_follow_its_chunks_and_a_region_that_begins_anew() {
        let (region, other) = (PageRange::from_pages(0, 100), PageRange::from_pages(200, 100));
        let chunk = |page| PageRange::from_pages(page, 2);
        let camera: Option<Arc<str>> = Some("camera".into());
        let mut live = LiveChunks::default();
        live.place(region, chunk(0), camera.clone());
        assert!(live.bytes().is_empty(), "the region has not begun");
        live.begin(region, [].into_iter());
        live.begin(other, [].into_iter());
        live.place(region, chunk(0), camera.clone());
        live.place(region, chunk(4), None);
        live.place(other, chunk(200), camera.clone());
        assert_eq!(live.bytes().get(&camera), Some(&(4 * 4096)));
        live.release(region, chunk(4));
        live.release(region, chunk(4));
        assert_eq!(live.bytes().get(&None), None);
        live.begin(region, [(chunk(8), camera.clone())].into_iter());
        assert_eq!(live.bytes().get(&camera), Some(&(4 * 4096)));
        live.end(region);
        live.end(other);
        assert!(live.bytes().is_empty());
    }
}
