//! An explanation for a reader: per region the reason, a picture of the addresses, the free ranges,
//! the room that can be made, and the owners. Its length is bounded.

use super::super::time::Elapsed;
use super::super::{Bytes, ChunkRequest, Owner};
use super::{
    AfterLeaving, Explanation, Layout, LeastRoom, OwnerShare, OwnersRoom, RegionExplanation, Room,
    Share, by_owner,
};
use cma_api::PageRange;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

/// Cells of the picture of a region.
const CELLS: u64 = 64;

/// Owners that are listed; the others are summed up.
const MOST_OWNERS: usize = 8;

/// Chunks of a set that are listed one by one; those of a larger set are by owner.
const MOST_CHUNKS: usize = 4;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(request) = &self.request {
            write!(f, "{} for {}", Wanted(request), Requester(self.device.as_ref()))?;
            if let Some(age) = self.age {
                write!(f, ", refused {} ago", Age(age))?;
            }
            f.write_str("\n")?;
        }
        if let Some(cause) = &self.cause {
            writeln!(f, "{cause}")?;
        }
        for region in &self.regions {
            write_region(f, region, self)?;
        }
        Ok(())
    }
}

fn write_region(
    f: &mut Formatter<'_>,
    region: &RegionExplanation,
    of: &Explanation,
) -> fmt::Result {
    let RegionExplanation { region: name, reason, request, layout } = region;
    writeln!(f, "{}: {reason}", name.escape_debug())?;
    if of.request.as_ref().is_some_and(|asked| asked != request) {
        writeln!(f, "  here the request is {}", Wanted(request))?;
    }
    let Some(layout) = layout else { return Ok(()) };
    if of.age.is_some() {
        // The reason is that of the refusal.
        writeln!(f, "  its chunks now:")?;
    }
    write_picture(f, layout)?;
    write_free(f, layout, request)?;
    write_room(f, layout)?;
    write_owners(f, layout)
}

/// The region from its start to its end, a character for each cell.
fn write_picture(f: &mut Formatter<'_>, layout: &Layout) -> fmt::Result {
    let (region, pages) = (layout.range, layout.range.pages().get());
    let cells = pages.min(CELLS);
    // The first page of a cell, counted from the region's start.
    let first = |cell: u64| (u128::from(cell) * u128::from(pages) / u128::from(cells)) as u64;
    let leaving = layout.room.as_ref().map_or(0..0, |room| room.by_bytes.chunks.clone());
    let mut used = vec![(0, false); cells as usize];
    for (n, chunk) in layout.chunks.iter().enumerate() {
        let from = chunk.range.first_page() - region.first_page();
        let to = from + chunk.range.pages().get();
        // The cell of a page is that, or the one behind it: cells are rounded down.
        let mut cell = (u128::from(from) * u128::from(cells) / u128::from(pages)) as u64;
        while cell < cells && first(cell) < to {
            let common = to.min(first(cell + 1)).saturating_sub(from.max(first(cell)));
            let (pages, leaves) = &mut used[cell as usize];
            *pages += common;
            *leaves |= common > 0 && leaving.contains(&n);
            cell += 1;
        }
    }
    let symbol = |(cell, (used, leaves)): (u64, (u64, bool))| match used {
        _ if leaves => 'x',
        0 => '.',
        used if used == first(cell + 1) - first(cell) => '#',
        _ => '+',
    };
    let picture: String = (0..).zip(used).map(symbol).collect();
    let end = u128::from(region.end_page()) << cma_api::PAGE_SHIFT;
    writeln!(f, "  {} [{picture}] {end:#x}", region.start())?;
    let legend = [('#', "in use"), ('+', "partly in use"), ('.', "free"), ('x', "to leave")];
    let legend = legend.into_iter().filter(|(symbol, _)| picture.contains(*symbol));
    let legend: Vec<_> = legend.map(|(symbol, meaning)| format!("{symbol} {meaning}")).collect();
    writeln!(f, "  {}", legend.join(", "))
}

fn write_free(f: &mut Formatter<'_>, layout: &Layout, request: &ChunkRequest) -> fmt::Result {
    let Share { ranges, bytes } = layout.free();
    let all = Bytes(layout.range.bytes());
    let Some(largest) = layout.largest_hole() else {
        return writeln!(f, "  free: nothing of {all}");
    };
    write!(f, "  free: {} of {all} in {}", Bytes(bytes), counted(ranges, "range"))?;
    let size = if ranges > 1 {
        format!(", the largest {}", Bytes(largest.bytes()))
    } else {
        String::new()
    };
    writeln!(f, "{size} at {}", largest.start())?;
    let ruled_out = &layout.ruled_out;
    let (size_bytes, alignment_bytes) = (request.size, request.alignment);
    // Without a size, which comes before the space.
    let window = ChunkRequest { alignment: Bytes(0), boundary: None, ..*request }.to_string();
    let limits = window.split_once(' ').map_or("", |(_, limits)| limits);
    let boundary_bytes = request.boundary.unwrap_or(Bytes(0));
    for (share, why) in [
        (ruled_out.size, format!("smaller than {size_bytes}")),
        (ruled_out.alignment, format!("without {size_bytes} aligned to {alignment_bytes}")),
        (ruled_out.window, format!("without room {limits}")),
        (ruled_out.boundary, format!("where each place crosses a multiple of {boundary_bytes}")),
        (ruled_out.nothing, "with room for it".to_string()),
    ] {
        if share.ranges > 0 {
            let ranges = counted(share.ranges, "range");
            writeln!(f, "    {ranges} ({}) {why}", Bytes(share.bytes))?;
        }
    }
    Ok(())
}

fn write_room(f: &mut Formatter<'_>, layout: &Layout) -> fmt::Result {
    let Some(least) = &layout.room else {
        return if layout.fits_empty {
            writeln!(f, "  to make room: impossible, memory is set aside in each place")
        } else {
            writeln!(f, "  to make room: impossible, the region has no place even when it is empty")
        };
    };
    let LeastRoom { by_bytes, by_number, owners_by_bytes, owners_by_number, wider } = least;
    if by_bytes.chunks.is_empty() {
        write!(f, "  to make room: nothing has to leave")?;
        write_after(f, layout, by_bytes.free, &by_bytes.after, true)?;
    } else if by_bytes.chunks == by_number.chunks {
        write_leaving(f, layout, by_bytes, "least")?;
    } else {
        write_leaving(f, layout, by_bytes, "fewest bytes")?;
        write_leaving(f, layout, by_number, "fewest chunks")?;
    }
    if let Some(wider) = wider {
        write_leaving(f, layout, wider, "enough, less may do")?;
    }
    // Owners that have no other chunks are those of a set above.
    let is_new = |room: &OwnersRoom| {
        let same = |set: &Room| set.bytes == room.chunks.bytes && set.free == room.free;
        !same(by_bytes) && !same(by_number)
    };
    let shares = layout.owners();
    if owners_by_bytes.owners == owners_by_number.owners {
        let new = Some(owners_by_bytes).filter(|room| is_new(room));
        new.map_or(Ok(()), |room| write_owners_leaving(f, layout, &shares, room, "least owners"))
    } else {
        for (room, what) in
            [(owners_by_bytes, "owners, fewest bytes"), (owners_by_number, "fewest owners")]
        {
            if is_new(room) {
                write_owners_leaving(f, layout, &shares, room, what)?;
            }
        }
        Ok(())
    }
}

/// A set of chunks, and the place of the request after they leave.
fn write_leaving(f: &mut Formatter<'_>, layout: &Layout, room: &Room, what: &str) -> fmt::Result {
    let leaving = layout.leaving(room);
    let count = counted(leaving.len() as u64, "chunk");
    write!(f, "  to make room ({what}): {} in {count}", Bytes(room.bytes))?;
    write_after(f, layout, room.free, &room.after, false)?;
    if leaving.len() <= MOST_CHUNKS {
        return leaving
            .iter()
            .try_for_each(|chunk| writeln!(f, "    {} of {}", chunk.range, Named(chunk)));
    }
    write_shares(f, by_owner(leaving).0.iter())
}

/// Owners that free all their chunks, and the place of the request then. `shares` are all owners.
fn write_owners_leaving(
    f: &mut Formatter<'_>,
    layout: &Layout,
    shares: &[OwnerShare],
    room: &OwnersRoom,
    what: &str,
) -> fmt::Result {
    let count = counted(room.chunks.ranges, "chunk");
    let bytes = Bytes(room.chunks.bytes);
    write!(f, "  to make room ({what}): {bytes} in {count}")?;
    write_after(f, layout, room.free, &room.after, false)?;
    write_shares(f, room.owners.iter().filter_map(|owner| shares.get(*owner)))
}

/// What the owners of a set have, a line for each.
fn write_shares<'a>(
    f: &mut Formatter<'_>,
    shares: impl Iterator<Item = &'a OwnerShare>,
) -> fmt::Result {
    let mut others = Share::default();
    let mut number = 0_u64;
    for (n, OwnerShare { device, chunks, .. }) in shares.enumerate() {
        if n < MOST_OWNERS {
            let (device, count) = (Requester(device.as_ref()), counted(chunks.ranges, "chunk"));
            writeln!(f, "    {} in {count} of {device}", Bytes(chunks.bytes))?;
        } else {
            number += 1;
            others = [others, *chunks].into_iter().sum();
        }
    }
    if number > 0 {
        let (count, owners) = (counted(others.ranges, "chunk"), counted(number, "other"));
        writeln!(f, "    {} in {count} of {owners}", Bytes(others.bytes))?;
    }
    Ok(())
}

/// The end of a line about a set of chunks, of which `none` is the empty one: `free` is free when
/// they have left.
fn write_after(
    f: &mut Formatter<'_>,
    layout: &Layout,
    free: PageRange,
    after: &AfterLeaving,
    none: bool,
) -> fmt::Result {
    let allocator = layout.allocator.as_deref().unwrap_or("-").escape_debug();
    let free = format!("{free} is free{}", if none { "" } else { " then" });
    match after {
        AfterLeaving::Placed(place) if none => {
            writeln!(f, "; a new {allocator} with the same chunks places it at {}", place.start())
        }
        AfterLeaving::Placed(place) => {
            writeln!(f, "; a new {allocator} then places it at {}", place.start())
        }
        AfterLeaving::Declined => {
            writeln!(f, "; {free}, and a new {allocator} declines all the same")
        }
        AfterLeaving::NoAllocator => writeln!(f, "; {free}, and no allocator is at work"),
        AfterLeaving::Unknown { reason } => {
            writeln!(f, "; {free}, and where a new {allocator} places it is not known: {reason}")
        }
    }
}

fn write_owners(f: &mut Formatter<'_>, layout: &Layout) -> fmt::Result {
    let owners = layout.owners();
    let (shown, others) = owners.split_at(owners.len().min(MOST_OWNERS));
    let lines: Vec<[String; 4]> = shown.iter().map(owner_line).collect();
    let widest =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let (name, bytes, count) = (widest(0), widest(1), widest(2));
    if !lines.is_empty() {
        writeln!(f, "  owners:")?;
    }
    for line in &lines {
        let text =
            format!("    {:name$}  {:>bytes$}  {:>count$}  {}", line[0], line[1], line[2], line[3]);
        writeln!(f, "{}", text.trim_end())?;
    }
    if !others.is_empty() {
        let bytes = others.iter().map(|share| share.chunks.bytes).sum();
        writeln!(f, "    and {}, {}", counted(others.len() as u64, "other"), Bytes(bytes))?;
    }
    Ok(())
}

/// Name, bytes, number of chunks, and ages.
fn owner_line(OwnerShare { device, set_aside, chunks, ages }: &OwnerShare) -> [String; 4] {
    let name =
        if *set_aside { "(set aside)".to_string() } else { Requester(device.as_ref()).to_string() };
    let ages = match ages {
        None => String::new(),
        Some((oldest, newest)) => {
            let (oldest, newest) = (Age(*oldest).to_string(), Age(*newest).to_string());
            if oldest == newest {
                format!("{oldest} old")
            } else {
                format!("{newest} to {oldest} old")
            }
        }
    };
    let count = counted(chunks.ranges, if *set_aside { "part" } else { "chunk" });
    [name, Bytes(chunks.bytes).to_string(), count, ages]
}

/// A request without its alignment if that is a page, which every chunk has.
struct Wanted<'a>(&'a ChunkRequest);

impl Display for Wanted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let page = self.0.alignment == Bytes(cma_api::PAGE_SIZE);
        let alignment = if page { Bytes(0) } else { self.0.alignment };
        ChunkRequest { alignment, ..*self.0 }.fmt(f)
    }
}

/// Device and type of a requester.
pub(super) struct Requester<'a>(pub(super) Option<&'a (Arc<str>, Arc<str>)>);

impl Display for Requester<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((device, kind)) => {
                write!(f, "{}/{}", device.escape_debug(), kind.escape_debug())
            }
            None => f.write_str("no device"),
        }
    }
}

/// The owner of a chunk, and its age.
struct Named<'a>(&'a Owner);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Requester(self.0.device.as_ref()).fmt(f)?;
        if let Some(process) = &self.0.process {
            write!(f, " for {process}")?;
        }
        let old = |age: Duration| write!(f, ", {} old", Age(age));
        self.0.age.map_or(Ok(()), old)
    }
}

/// An age. Those that are measured in tenths of a second are written so.
struct Age(Duration);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        if self.0.as_secs() == 0 && nanos.is_multiple_of(100_000_000) {
            write!(f, "0.{} s", nanos / 100_000_000)
        } else {
            Elapsed(self.0).fmt(f)
        }
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
