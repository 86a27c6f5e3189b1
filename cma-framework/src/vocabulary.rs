//! Configuration: the text of `cma=` and `cma.map=`, and the typed constants of boards.
//!
//! Text is parsed here, once, into types; every error has its position. No other module parses
//! configuration text. Specification sections 5 and 7.

mod bank;
mod cursor;
mod errno;
pub mod errors;
mod event;
mod explanation;
mod map;
mod names;
mod owner;
mod pattern;
mod place;
mod platform;
mod region_list;
mod regions;
pub(crate) mod request;
mod reserve_request;
mod size;
mod syntax;
mod time;

pub use bank::Bank;
pub use errno::Errno;
pub use event::{Asked, Event, EventRegion, What};
pub(crate) use explanation::by_owner;
pub use explanation::{
    AfterLeaving, Explanation, Layout, LeastRoom, OwnerShare, OwnersRoom, RegionExplanation, Room,
    RuledOut, Share,
};
pub use map::{COMMON, GroupSpec, Map, PatternSpec, RuleSpec};
pub use owner::{Holder, Owner, Process};
pub use pattern::{NamePattern, Pattern};
pub use place::{Place, Window};
pub use platform::{Growth, Platform};
pub use region_list::region_groups;
pub use regions::{
    AllocatorSpec, ParsedRegion, RegionSpans, RegionSpec, parse_allocator, parse_regions,
};
pub use request::{ChunkRequest, RequestSyntax};
pub use reserve_request::ReserveRequest;
pub use size::{Bytes, parse_size};
pub use syntax::{ConfigError, Span, SyntaxError};
pub use time::{Time, TimeError, parse_time};

pub(crate) use map::RulePattern;
pub(crate) use names::{allocator_name_fault, is_device_name, is_region_name};
pub(crate) use time::Elapsed;
