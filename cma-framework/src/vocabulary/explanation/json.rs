//! An explanation as one JSON object.

use super::{
    AfterLeaving, Explanation, Layout, OwnerShare, OwnersRoom, RegionExplanation, Room, RuledOut,
    Share,
};
use crate::vocabulary::{ChunkRequest, Owner};
use cma_api::PageRange;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Chunks or owners of a set that are listed. All of them are counted beside the list.
const MOST_LISTED: usize = 1000;

impl Explanation {
    /// The explanation as a JSON object in one line, without an end of line.
    ///
    /// Sizes are in bytes, ages in seconds, addresses strings in hexadecimal, and unknown values
    /// `null`. Keys are added in later versions, and not removed.
    ///
    /// - `request`, in the form of [`ChunkRequest`]; its `device` and `type`; the `age` of the
    ///   refusal; `cause`, why no region was asked; and `regions`, a list.
    /// - Each of these: `region`, its name; `reason`, the text of [`Reason`](crate::Reason); the
    ///   `request` as it got it. The rest is absent if its books can't be read: `start`,
    ///   `size_bytes`, `allocator`, `free_bytes`, `holes` (free ranges), `largest_hole_bytes`.
    /// - `ruled_out`: `holes` and `bytes` by `size`, `alignment`, `window`, `boundary`, `nothing`,
    ///   as in [`RuledOut`].
    /// - `owner_count`, and `owners`, the 1000 with most bytes: `device`, `type`, `set_aside`,
    ///   `chunks`, `bytes`, and the age of their `oldest` and `newest` chunk.
    /// - `fits_empty`, and `room`, which is `null` if none can be made: `by_bytes`, `by_number` and
    ///   `wider` as in [`LeastRoom`](super::LeastRoom), each with `bytes`, `chunks` (how many),
    ///   `leaving` (the first 1000: `start`, `bytes`, `device`, `type`, `pid`, `uid`, `age`),
    ///   `free` (a free place then), and one of `placed` (where the allocator places the request),
    ///   `declined` (whether it has no place) and `unknown` (why that is not known);
    ///   `owners_by_bytes` and `owners_by_number` have `owner_count` and `owners` instead of
    ///   `leaving`.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(&explanation(self));
        json.unwrap_or_else(|error| unreachable!("every key is a string: {error}"))
    }
}

#[derive(Serialize)]
struct ExplanationJson<'a> {
    request: Option<String>,
    device: Option<String>,
    r#type: Option<String>,
    age: Option<f64>,
    cause: Option<&'a str>,
    regions: Vec<RegionJson<'a>>,
}

#[derive(Serialize)]
struct RegionJson<'a> {
    region: &'a str,
    reason: String,
    request: String,
    #[serde(flatten)]
    layout: Option<LayoutJson<'a>>,
}

#[derive(Serialize)]
struct LayoutJson<'a> {
    start: String,
    size_bytes: u64,
    allocator: Option<&'a str>,
    free_bytes: u64,
    holes: u64,
    largest_hole_bytes: u64,
    ruled_out: RuledOutJson,
    owner_count: usize,
    owners: Vec<OwnerJson>,
    fits_empty: bool,
    room: Option<LeastRoomJson<'a>>,
}

#[derive(Serialize)]
struct RuledOutJson {
    size: ShareJson,
    alignment: ShareJson,
    window: ShareJson,
    boundary: ShareJson,
    nothing: ShareJson,
}

#[derive(Serialize)]
struct ShareJson {
    holes: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct OwnerJson {
    device: Option<String>,
    r#type: Option<String>,
    set_aside: bool,
    chunks: u64,
    bytes: u64,
    oldest: Option<f64>,
    newest: Option<f64>,
}

#[derive(Serialize)]
struct LeastRoomJson<'a> {
    by_bytes: RoomJson<'a>,
    by_number: RoomJson<'a>,
    owners_by_bytes: OwnersRoomJson<'a>,
    owners_by_number: OwnersRoomJson<'a>,
    wider: Option<RoomJson<'a>>,
}

#[derive(Serialize)]
struct RoomJson<'a> {
    bytes: u64,
    chunks: usize,
    leaving: Vec<ChunkJson>,
    free: String,
    #[serde(flatten)]
    after: AfterJson<'a>,
}

#[derive(Serialize)]
struct OwnersRoomJson<'a> {
    bytes: u64,
    chunks: u64,
    owner_count: usize,
    owners: Vec<OwnerJson>,
    free: String,
    #[serde(flatten)]
    after: AfterJson<'a>,
}

#[derive(Serialize)]
struct AfterJson<'a> {
    placed: Option<String>,
    declined: bool,
    unknown: Option<&'a str>,
}

#[derive(Serialize)]
struct ChunkJson {
    start: String,
    bytes: u64,
    device: Option<String>,
    r#type: Option<String>,
    pid: Option<u32>,
    uid: Option<u32>,
    age: Option<f64>,
}

type Pair = Option<(Arc<str>, Arc<str>)>;

/// Device and type.
fn names(pair: &Pair) -> (Option<String>, Option<String>) {
    pair.as_ref().map(|(device, kind)| (device.to_string(), kind.to_string())).unzip()
}

fn seconds(age: Option<Duration>) -> Option<f64> {
    // In microseconds, as recordings have them.
    age.map(|age| (age.as_secs_f64() * 1e6).round() / 1e6)
}

fn explanation(explained: &Explanation) -> ExplanationJson<'_> {
    let (device, r#type) = names(&explained.device);
    ExplanationJson {
        request: explained.request.as_ref().map(ChunkRequest::to_string),
        device,
        r#type,
        age: seconds(explained.age),
        cause: explained.cause.as_deref(),
        regions: explained.regions.iter().map(region).collect(),
    }
}

fn region(explained: &RegionExplanation) -> RegionJson<'_> {
    RegionJson {
        region: &explained.region,
        reason: explained.reason.to_string(),
        request: explained.request.to_string(),
        layout: explained.layout.as_ref().map(layout),
    }
}

fn layout(layout: &Layout) -> LayoutJson<'_> {
    let Share { ranges, bytes } = layout.free();
    let RuledOut { size, alignment, window, boundary, nothing } = layout.ruled_out;
    let owners = layout.owners();
    let owners_room = |room| owners_room(&owners, room);
    LayoutJson {
        start: layout.range.start().to_string(),
        size_bytes: layout.range.bytes(),
        allocator: layout.allocator.as_deref(),
        free_bytes: bytes,
        holes: ranges,
        largest_hole_bytes: layout.largest_hole().map_or(0, PageRange::bytes),
        ruled_out: RuledOutJson {
            size: share(size),
            alignment: share(alignment),
            window: share(window),
            boundary: share(boundary),
            nothing: share(nothing),
        },
        owner_count: owners.len(),
        owners: owners.iter().take(MOST_LISTED).map(owner).collect(),
        fits_empty: layout.fits_empty,
        room: layout.room.as_ref().map(|least| LeastRoomJson {
            by_bytes: room(layout, &least.by_bytes),
            by_number: room(layout, &least.by_number),
            owners_by_bytes: owners_room(&least.owners_by_bytes),
            owners_by_number: owners_room(&least.owners_by_number),
            wider: least.wider.as_ref().map(|wider| room(layout, wider)),
        }),
    }
}

fn share(share: Share) -> ShareJson {
    ShareJson { holes: share.ranges, bytes: share.bytes }
}

fn owner(share: &OwnerShare) -> OwnerJson {
    let (device, r#type) = names(&share.device);
    let (oldest, newest) = share.ages.unzip();
    OwnerJson {
        device,
        r#type,
        set_aside: share.set_aside,
        chunks: share.chunks.ranges,
        bytes: share.chunks.bytes,
        oldest: seconds(oldest),
        newest: seconds(newest),
    }
}

fn room<'a>(layout: &Layout, room: &'a Room) -> RoomJson<'a> {
    RoomJson {
        bytes: room.bytes,
        chunks: room.chunks.len(),
        leaving: layout.leaving(room).iter().take(MOST_LISTED).map(chunk).collect(),
        free: room.free.start().to_string(),
        after: after(&room.after),
    }
}

fn owners_room<'a>(owners: &[OwnerShare], room: &'a OwnersRoom) -> OwnersRoomJson<'a> {
    let leaving = room.owners.iter().filter_map(|index| owners.get(*index));
    OwnersRoomJson {
        bytes: room.chunks.bytes,
        chunks: room.chunks.ranges,
        owner_count: room.owners.len(),
        owners: leaving.take(MOST_LISTED).map(owner).collect(),
        free: room.free.start().to_string(),
        after: after(&room.after),
    }
}

fn after(after: &AfterLeaving) -> AfterJson<'_> {
    let (placed, unknown) = match after {
        AfterLeaving::Placed(place) => (Some(place.start().to_string()), None),
        AfterLeaving::Unknown { reason } => (None, Some(reason.as_str())),
        AfterLeaving::Declined | AfterLeaving::NoAllocator => (None, None),
    };
    AfterJson { placed, declined: *after == AfterLeaving::Declined, unknown }
}

fn chunk(owner: &Owner) -> ChunkJson {
    let (device, r#type) = names(&owner.device);
    let process = owner.process.as_ref();
    ChunkJson {
        start: owner.range.start().to_string(),
        bytes: owner.range.bytes(),
        device,
        r#type,
        pid: process.map(|process| process.pid),
        uid: process.map(|process| process.uid),
        age: seconds(owner.age),
    }
}
