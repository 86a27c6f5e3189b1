//! The owners of chunks, with what each has.

use cma_running::{ChunkState, RegionState};
use std::collections::BTreeMap;
use std::time::Duration;

/// By what chunks are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Device and type.
    Device,
    /// The process.
    Process,
}

/// The order of owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Bytes,
    Chunks,
    Age,
    Name,
}

impl Group {
    pub(crate) fn next(self) -> Self {
        match self {
            Group::Device => Group::Process,
            Group::Process => Group::Device,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Device => "device",
            Group::Process => "process",
        }
    }
}

impl Order {
    pub(crate) fn next(self) -> Self {
        match self {
            Order::Bytes => Order::Chunks,
            Order::Chunks => Order::Age,
            Order::Age => Order::Name,
            Order::Name => Order::Bytes,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::Bytes => "bytes",
            Order::Chunks => "chunks",
            Order::Age => "age",
            Order::Name => "name",
        }
    }
}

/// An owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Device and type, or the process; `-` if unknown.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
    /// The age of the oldest chunk.
    pub(crate) oldest: Option<Duration>,
    /// The process, or device and type; `-` if unknown. A number if there are several.
    pub(crate) other: String,
}

/// Device and type of a chunk.
pub(crate) fn device(chunk: &ChunkState) -> String {
    chunk.requester.as_ref().map_or("-".to_string(), ToString::to_string)
}

/// The process that has a chunk, `ffmpeg[4711]`.
fn process(chunk: &ChunkState) -> String {
    chunk.process.as_ref().map_or("-".to_string(), |process| {
        let name = if process.name.is_empty() { "?" } else { &process.name };
        format!("{name}[{}]", process.pid)
    })
}

/// The owners of the chunks of `regions`, in order.
pub(crate) fn owners<'r>(
    regions: impl Iterator<Item = &'r RegionState>,
    group: Group,
    order: Order,
) -> Vec<Owner> {
    #[derive(Default)]
    struct Sum {
        owner: Owner,
        others: std::collections::BTreeSet<String>,
    }
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let chunks = regions.flat_map(|region| &region.books).flat_map(|books| &books.chunks);
    for chunk in chunks {
        let (name, other) = match group {
            Group::Device => (device(chunk), process(chunk)),
            Group::Process => (process(chunk), device(chunk)),
        };
        let Sum { owner, others } = sums.entry(name).or_default();
        owner.bytes = owner.bytes.saturating_add(chunk.range.bytes());
        owner.chunks += 1;
        owner.oldest = owner.oldest.max(chunk.age);
        others.insert(other);
    }
    let finish = |(name, Sum { owner, others }): (String, Sum)| {
        let other = match (others.len(), group) {
            (0..=1, _) => others.into_iter().next().unwrap_or_default(),
            (several, Group::Device) => format!("{several} processes"),
            (several, Group::Process) => format!("{several} devices"),
        };
        Owner { name, other, ..owner }
    };
    // In the order of names, which the sort keeps among equals.
    let mut owners: Vec<Owner> = sums.into_iter().map(finish).collect();
    match order {
        Order::Bytes => owners.sort_by_key(|owner| std::cmp::Reverse(owner.bytes)),
        Order::Chunks => owners.sort_by_key(|owner| std::cmp::Reverse(owner.chunks)),
        Order::Age => owners.sort_by_key(|owner| std::cmp::Reverse(owner.oldest)),
        Order::Name => {}
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::Bytes;
    use cma_framework::{ChunkRequest, PageRange, Process};
    use cma_running::{AllocatorStatus, Books, Requester};

    fn region(chunks: &[(&str, u32, u64, u64)]) -> RegionState {
        let chunk = |(device, pid, pages, age): &(&str, u32, u64, u64)| {
            let range = PageRange::from_pages(1, *pages);
            let requester = Requester { device: device.to_string(), kind: "k".to_string() };
            ChunkState {
                range,
                request: ChunkRequest::new(Bytes(range.bytes())),
                requester: (!device.is_empty()).then_some(requester),
                age: Some(Duration::from_secs(*age)),
                process: Some(Process { uid: 0, pid: *pid, name: "p".into() }),
            }
        };
        RegionState {
            name: None,
            range: PageRange::from_pages(1, 100),
            allocator: AllocatorStatus::Serving { name: None },
            problem: None,
            books: Some(Books { chunks: chunks.iter().map(chunk).collect(), ..Books::default() }),
        }
    }

    fn names(regions: &[RegionState], group: Group, order: Order) -> Vec<String> {
        owners(regions.iter(), group, order).into_iter().map(|owner| owner.name).collect()
    }

    #[test]
    fn owners_are_summed_up_over_regions_and_sorted() {
        let regions = [
            region(&[("b", 1, 4, 9), ("a", 1, 1, 3), ("", 2, 1, 1)]),
            region(&[("a", 2, 2, 5), ("a", 2, 2, 4)]),
        ];
        let by_bytes = owners(regions.iter(), Group::Device, Order::Bytes);
        let expected = Owner {
            name: "a/k".to_string(),
            bytes: 5 * 4096,
            chunks: 3,
            oldest: Some(Duration::from_secs(5)),
            other: "2 processes".to_string(),
        };
        assert_eq!(by_bytes[0], expected);
        assert_eq!(names(&regions, Group::Device, Order::Bytes), ["a/k", "b/k", "-"]);
        assert_eq!(names(&regions, Group::Device, Order::Age), ["b/k", "a/k", "-"]);
        assert_eq!(names(&regions, Group::Device, Order::Name), ["-", "a/k", "b/k"]);
        assert_eq!(names(&regions, Group::Process, Order::Chunks), ["p[2]", "p[1]"]);
        assert_eq!(owners(regions.iter(), Group::Process, Order::Bytes)[1].other, "2 devices");
    }
}
