//! The attributes of a region: those of specification section 7, and those that mainline Linux has
//! for a CMA area.

use super::{Attribute, AttributeError, line_if_any, lists};
use crate::Cma;
use crate::host::region::{AllocatorChoice, AllocatorState, Region};
use crate::vocabulary::parse_allocator;
use std::fmt::Display;

/// In the order in which they are listed. Each accesses the region once, so its text is consistent.
pub(super) const ATTRIBUTES: &[Attribute<Region>] = &[
    Attribute {
        name: "alloc",
        read: |_, region| Ok(line_if_any(&alloc(region))),
        write: Some(set_alloc),
    },
    Attribute::read_only("alloc_pages_fail", |_, region| {
        line(region.statistics()?.alloc_pages_fail)
    }),
    Attribute::read_only("alloc_pages_success", |_, region| {
        line(region.statistics()?.alloc_pages_success)
    }),
    Attribute::read_only("available_pages", |_, region| line(region.free()?.get())),
    Attribute::read_only("base_pfn", |_, region| line(region.range().first_page())),
    Attribute::read_only("bitmap", lists::bitmap),
    Attribute::read_only("chunks_freed", |_, region| line(region.statistics()?.chunks_freed)),
    Attribute::read_only("chunks_placed", |_, region| line(region.statistics()?.chunks_placed)),
    Attribute::read_only("failures", lists::failures),
    Attribute::read_only("free", |_, region| line(region.free()?.bytes())),
    Attribute::read_only("high_water", |_, region| line(region.statistics()?.high_water_bytes)),
    Attribute::read_only("maxchunk", |_, region| line(region.largest_hole()?.get())),
    Attribute::read_only("name", |_, region| Ok(line_if_any(region.name().unwrap_or_default()))),
    // A bit of the bitmap represents 2^0 pages.
    Attribute::read_only("order_per_bit", |_, _| line(0)),
    Attribute::read_only("owners", lists::owners),
    Attribute::read_only("problem", |_, region| Ok(line_if_any(&problem(region)))),
    Attribute::read_only("release_pages_success", |_, region| {
        line(region.statistics()?.release_pages_success)
    }),
    Attribute::read_only("requests_refused", |_, region| {
        line(region.statistics()?.requests_refused)
    }),
    Attribute { name: "shadow", read: lists::shadow, write: Some(set_shadow) },
    Attribute::read_only("size", |_, region| line(region.range().bytes())),
    Attribute::read_only("start", |_, region| line(region.range().start())),
    Attribute::read_only("total_pages", |_, region| line(region.range().pages().get())),
    Attribute::read_only("users", |_, region| line(region.users()?)),
    Attribute::read_only("waiters", lists::waiters),
];

fn line(value: impl Display) -> Result<String, AttributeError> {
    Ok(format!("{value}\n"))
}

/// The allocator in a word. An allocator that is out of service, which the specification doesn't
/// cover, is in parentheses: no name contains them, so it can't be mistaken for one in service.
fn alloc(region: &Region) -> String {
    match region.allocator() {
        AllocatorState::Attached(name) => name.unwrap_or_else(|| "-".to_string()),
        AllocatorState::Waiting { wanted: Some(name), .. } => format!("[{name}]"),
        AllocatorState::Waiting { wanted: None, .. } => String::new(),
        AllocatorState::OutOfService { allocator, .. } => format!("({allocator})"),
    }
}

/// The reason why the region can't serve requests, or has another allocator than its choice; empty
/// if neither is the case.
fn problem(region: &Region) -> String {
    if let Some(stuck) = region.stuck() {
        return stuck.to_string();
    }
    match region.allocator() {
        AllocatorState::Attached(name) => region.stand_in().map_or(String::new(), |why| {
            format!("\"{}\" stands in: {why}", name.as_deref().unwrap_or("-"))
        }),
        AllocatorState::Waiting { failure: Some(failure), .. } => failure,
        waiting @ AllocatorState::Waiting { .. } => waiting.to_string(),
        AllocatorState::OutOfService { allocator, reason } => {
            format!("allocator \"{allocator}\" is out of service: {reason}")
        }
    }
}

fn set_alloc(cma: &Cma, region: &Region, text: &str) -> Result<(), AttributeError> {
    let choice = parse_allocator(text)?.map_or(AllocatorChoice::Default, AllocatorChoice::from);
    cma.set_region_allocator(region, choice)?;
    Ok(())
}

fn set_shadow(cma: &Cma, region: &Region, text: &str) -> Result<(), AttributeError> {
    match parse_allocator(text)? {
        Some(spec) => Ok(cma.set_shadow(region, &AllocatorChoice::from(spec))?),
        None => {
            cma.end_shadow(region);
            Ok(())
        }
    }
}
