//! The sizes as a board, for the forms of `cma export`.

use super::{Sized, with_margin};
use crate::contenders::Contender;
use crate::described::config_error;
use crate::notice::Notice;
use crate::options::SizeArgs;
use crate::outcome::{CommandError, Outcome};
use cma_analysis::{Grouping, start_alignment};
use cma_board::{Board, BoardAllocator, BoardRegion};
use cma_framework::config::{Map, Place};
use cma_framework::{PageRange, Pages};
use std::collections::BTreeSet;

/// The name of the region that serves all devices.
const SHARED: &str = "shared";

/// A board with a region for each group, large enough for each of the traces, with the margin. Its
/// allocator is the one that needs least for that.
pub(super) fn of(
    sized: &[Sized<'_>],
    contenders: &[Contender],
    grouping: &Grouping,
    args: &SizeArgs,
) -> Result<(Board, Outcome), CommandError> {
    let mut groups: Vec<Option<&str>> = Vec::new();
    for part in sized {
        if !groups.contains(&part.group) {
            groups.push(part.group);
        }
    }
    let mut outcome = Outcome::Done;
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    let mut regions: Vec<BoardRegion> = Vec::new();
    for group in groups {
        let parts: Vec<_> = sized.iter().filter(|part| part.group == group).collect();
        let name = region_name(group.unwrap_or(SHARED), &mut names);
        let Some((contender, pages)) = least(&parts, contenders) else {
            return Err(CommandError::NoSize { region: name });
        };
        let pages = with_margin(pages, args.margin);
        if let Grouping::PerDevice = grouping {
            rules.push(format!("{}={name}", pattern(group.unwrap_or("*"))));
        }
        let region = region(&parts, name, contender, pages, args);
        if let Some(other) = regions.iter().find(|other| overlap(other, &region)) {
            let message = format!(
                "regions \"{}\" and \"{}\" overlap: the limits of their requests name the same \
                 addresses",
                other.name, region.name
            );
            Notice::warning(&message).report();
            outcome = Outcome::Refused;
        }
        regions.push(region);
    }
    let map = match grouping {
        Grouping::Map(map) => map.clone(),
        Grouping::PerDevice => parsed(&rules.join(";"))?,
        Grouping::Shared => parsed(&format!("*={SHARED}"))?,
    };
    Ok((Board { regions, map, ..Board::default() }, outcome))
}

fn parsed(map: &str) -> Result<Map, CommandError> {
    Map::parse(map).map_err(|error| config_error("map", error))
}

/// The allocator with the smallest region for all of `parts`, and the pages of that.
fn least<'a>(parts: &[&Sized<'_>], contenders: &'a [Contender]) -> Option<(&'a Contender, Pages)> {
    let largest = |(n, contender): (usize, &'a Contender)| {
        let pages = parts.iter().map(|part: &&Sized<'_>| {
            part.regions[n].as_ref().map(|found| found.region.pages()).ok()
        });
        let pages: Option<Vec<Pages>> = pages.collect();
        Some((contender, pages?.into_iter().max()?))
    };
    contenders.iter().enumerate().filter_map(largest).min_by_key(|(_, pages)| *pages)
}

fn region(
    parts: &[&Sized<'_>],
    name: String,
    contender: &Contender,
    pages: Pages,
    args: &SizeArgs,
) -> BoardRegion {
    let fixed = args.at.is_some() || parts.iter().any(|part| part.demand.names_addresses());
    let lowest = parts.iter().map(|part| part.demand.start()).min();
    let alignments =
        parts.iter().map(|part| start_alignment(&part.demand, &contender.allocator, pages).bytes());
    let alignment = alignments.max().filter(|bytes| !fixed && *bytes > cma_framework::PAGE_SIZE);
    BoardRegion {
        name,
        size: pages.bytes(),
        place: lowest.filter(|_| fixed).map_or(Place::Anywhere, Place::At),
        alignment,
        allocator: Some(BoardAllocator {
            name: contender.allocator.plugin.name().to_string(),
            params: contender.allocator.params.clone(),
        }),
        no_map: false,
    }
}

/// Whether both have a place, and share an address.
fn overlap(one: &BoardRegion, other: &BoardRegion) -> bool {
    let range = |region: &BoardRegion| {
        region.place.start().and_then(|start| PageRange::from_bytes(start, region.size))
    };
    matches!((range(one), range(other)), (Some(one), Some(other)) if one.overlaps(other))
}

/// Characters that names of regions, devices and types have in every form.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

/// A name for the region of `group`, which is no other one's.
fn region_name(group: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String = group.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let numbered = (2..).map(|n| format!("{plain}-{n}"));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or(plain);
    taken.insert(name.clone());
    name
}

/// A pattern that matches the device.
fn pattern(device: &str) -> String {
    device.chars().map(|c| if is_plain(c) { c } else { '?' }).collect()
}
