//! The sizes as a board, for the forms of `cma export`.

use super::{Sized, with_margin};
use crate::contenders::Contender;
use crate::described::config_error;
use crate::notice::Notice;
use crate::options::SizeArgs;
use crate::outcome::{CommandError, Outcome};
use cma_analysis::{Grouping, start_alignment};
use cma_board::{Board, BoardAllocator, BoardRegion};
use cma_framework::config::{GroupSpec, Map, Place, Window};
use cma_framework::{PageRange, Pages};
use std::collections::{HashMap, HashSet};

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
    // In the order of the groups' first requests.
    let mut groups: Vec<(Option<&str>, Vec<&Sized<'_>>)> = Vec::new();
    let mut numbers = HashMap::new();
    for part in sized {
        let number = *numbers.entry(part.group).or_insert(groups.len());
        match groups.get_mut(number) {
            Some((_, parts)) => parts.push(part),
            None => groups.push((part.group, vec![part])),
        }
    }
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    let mut regions: Vec<BoardRegion> = Vec::new();
    for (group, parts) in groups {
        let name = match (grouping, group) {
            // The map names it.
            (Grouping::Map(_), Some(region)) => region.to_string(),
            _ => region_name(group.unwrap_or(SHARED), &mut names),
        };
        let Some((contender, pages)) = least(&parts, contenders) else {
            return Err(CommandError::NoSize { region: name });
        };
        let pages = with_margin(pages, args.margin);
        if let Grouping::PerDevice = grouping {
            rules.push(format!("{}={name}", pattern(group.unwrap_or("*"))));
        }
        regions.push(region(&parts, name, contender, pages, args));
    }
    let overlaps = overlaps(&regions);
    for (one, other) in &overlaps {
        let message = format!(
            "regions \"{one}\" and \"{other}\" overlap: the limits of their requests name the same \
             addresses"
        );
        Notice::warning(&message).report();
    }
    let outcome = Outcome::refused_if(!overlaps.is_empty());
    let map = match grouping {
        Grouping::Map(map) => of_sized_regions(map, &regions)?,
        Grouping::PerDevice => parsed(&rules.join(";"))?,
        Grouping::Shared => parsed(&format!("*={SHARED}"))?,
    };
    Ok((Board { regions, map, ..Board::default() }, outcome))
}

/// `map` with the regions that have a size, in those rules that have one. What is different, and
/// what is missing, is reported on standard error.
fn of_sized_regions(map: &Map, regions: &[BoardRegion]) -> Result<Map, CommandError> {
    let sized: HashSet<&str> = regions.iter().map(|region| region.name.as_str()).collect();
    let mut named = HashSet::new();
    let mut rules = Vec::new();
    for rule in map.rules() {
        named.extend(rule.groups.iter().flat_map(GroupSpec::regions));
        let groups = rule.groups.iter().map(|group| {
            let sized: Vec<_> = group.regions().filter(|name| sized.contains(name)).collect();
            sized.join("|")
        });
        let groups: Vec<_> = groups.filter(|group| !group.is_empty()).collect();
        let rule = rule.to_string();
        if groups.is_empty() {
            let message =
                format!("rule \"{rule}\": no request goes to its regions, so they have no size");
            let help = "add the regions, or remove the rule".to_string();
            Notice::warning(&message).with_help(Some(help)).report();
            rules.push(rule);
            continue;
        }
        let patterns = rule.split_once('=').map_or(rule.as_str(), |(patterns, _)| patterns);
        let kept = format!("{patterns}={}", groups.join(","));
        if kept != rule {
            let message = format!(
                "rule \"{rule}\" is printed as \"{kept}\": no request goes to its other regions, \
                 so they have no size"
            );
            Notice::warning(&message).report();
        }
        rules.push(kept);
    }
    for region in regions.iter().filter(|region| !named.contains(region.name.as_str())) {
        let name = &region.name;
        let message = format!("no rule names region \"{name}\": only requests that name it get it");
        let help = format!("add a rule to --map, such as *={name}");
        Notice::warning(&message).with_help(Some(help)).report();
    }
    parsed(&rules.join(";"))
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
    let place = match lowest.filter(|_| fixed) {
        None => Place::Anywhere,
        // No start of 0 can be written, but a window of the region's size can.
        Some(start) if start.get() == 0 => {
            Window::sized(0, pages.bytes()).map_or(Place::Anywhere, Place::Within)
        }
        Some(start) => Place::At(start),
    };
    BoardRegion {
        name,
        size: pages.bytes(),
        place,
        alignment,
        allocator: Some(BoardAllocator {
            name: contender.allocator.plugin.name().to_string(),
            params: contender.allocator.params.clone(),
        }),
        no_map: false,
    }
}

/// The names of regions that have a place and share an address with one that begins before: that
/// one first.
fn overlaps(regions: &[BoardRegion]) -> Vec<(&str, &str)> {
    let placed = regions.iter().filter_map(|region| {
        let start = match region.place {
            Place::At(start) => start,
            Place::Within(window) => window.start(),
            Place::Anywhere => return None,
        };
        Some((PageRange::from_bytes(start, region.size)?, region.name.as_str()))
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(range, _)| range.first_page());
    let mut found = Vec::new();
    // Of those so far, the one that ends last.
    let mut last: Option<(PageRange, &str)> = None;
    for (range, name) in placed {
        if let Some((before, other)) = last.filter(|(before, _)| before.overlaps(range)) {
            found.push((other, name));
            if before.end_page() >= range.end_page() {
                continue;
            }
        }
        last = Some((range, name));
    }
    found
}

/// Characters that names of regions have in every form.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

/// A name for the region of `group`, which is no other one's.
fn region_name(group: &str, taken: &mut HashSet<String>) -> String {
    let plain: String = group.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let numbered = (2..).map(|n| format!("{plain}-{n}"));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or(plain);
    taken.insert(name.clone());
    name
}

/// A pattern that matches the device: its name, but for characters that have a meaning in a map.
fn pattern(device: &str) -> String {
    let means = |c| matches!(c, ',' | ';' | '=' | '/' | '|' | '*') || c.is_whitespace();
    device.chars().map(|c| if means(c) || c.is_control() { '?' } else { c }).collect()
}
