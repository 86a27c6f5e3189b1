//! The problems that the linter reports, with their messages and remedies.

use crate::core::reserve::ReserveError;
use crate::vocabulary::{Bank, Bytes, Span};
use cma_api::{DmaAddr, Pages};
use std::fmt;

/// A problem in a configuration, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The problem. `Display` describes it in a sentence.
    pub problem: Problem,
    /// The text that has the problem.
    pub source: Source,
    /// The position in that text, in bytes.
    pub span: Span,
}

/// One of the two configuration texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The regions, `cma=`.
    Regions,
    /// The map, `cma.map=`.
    Map,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Valid, but probably not intended.
    Warning,
    /// A region can't be reserved.
    Error,
}

/// A problem that the linter reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The map names a region that is not configured. Requests skip it.
    UnknownRegion {
        /// The name.
        name: String,
    },
    /// None of a rule's regions is configured, so every request that it matches is refused.
    NoConfiguredRegion {
        /// The regions.
        regions: Vec<String>,
    },
    /// A rule names the same region more than once.
    NamedTwice {
        /// The region.
        region: String,
    },
    /// A pattern never selects its rule, because an earlier pattern matches the same requests.
    NeverMatches {
        /// The pattern.
        pattern: String,
        /// The earlier pattern, which matches everything that this one matches.
        covered_by: String,
        /// Whether this is so for all patterns of the rule.
        whole_rule: bool,
    },
    /// No rule names a region.
    Unreached {
        /// The region.
        region: String,
    },
    /// A region names an allocator that no plug-in provides.
    UnknownAllocator {
        /// The name.
        name: String,
        /// The allocators that are known.
        known: Vec<String>,
    },
    /// A start is not a multiple of the alignment, and is rounded up.
    StartMoved {
        /// The region.
        region: String,
        /// The start as written.
        start: DmaAddr,
        /// The start after rounding.
        moved: DmaAddr,
        /// The alignment in bytes.
        alignment: u64,
    },
    /// A size is not a multiple of the page size, and is rounded up.
    SizeRounded {
        /// The region.
        region: String,
        /// The size in bytes as written.
        size: u64,
    },
    /// No region is configured.
    NoRegions,
    /// There are regions, and the board has no memory bank for any of them. Its span is empty.
    NoBanks,
    /// There is no memory for a region.
    NoMemory {
        /// The region.
        region: String,
        /// The reason.
        reason: ReserveError,
        /// The size of the region in bytes as written.
        size: u64,
        /// The board's banks.
        banks: Vec<Bank>,
        /// The regions that lie where it must lie, by ascending addresses: those that it overlaps
        /// with its fixed start, or those in its window.
        others: Vec<String>,
    },
}

impl Finding {
    /// The severity.
    pub fn severity(&self) -> Severity {
        match self.problem {
            Problem::NoMemory { .. } | Problem::NoBanks => Severity::Error,
            _ => Severity::Warning,
        }
    }
}

impl Problem {
    /// The remedy.
    pub fn remedy(&self) -> String {
        match self {
            Problem::UnknownRegion { name } => {
                format!("configure \"{name}\", or remove it from the rule")
            }
            Problem::NoConfiguredRegion { .. } => "name a region that is configured".to_string(),
            Problem::NamedTwice { .. } => "remove it; a request tries each region once".to_string(),
            Problem::StartMoved { moved, .. } => format!("write @{moved}, or a smaller alignment"),
            Problem::SizeRounded { size, .. } => format!("write {}", whole_pages(*size)),
            Problem::NeverMatches { .. } => {
                "move it before the pattern that covers it, or remove it".to_string()
            }
            Problem::Unreached { region } => {
                format!(
                    "name it in a rule, such as *={region}; without one, requests reach it only by its name or handle"
                )
            }
            Problem::UnknownAllocator { known, .. } if known.is_empty() => {
                "no plug-in was found; name a folder that contains plug-ins".to_string()
            }
            Problem::UnknownAllocator { known, .. } => {
                format!("load a plug-in with that name, or use one of: {}", known.join(", "))
            }
            Problem::NoRegions => "name some, as in b1=32M;b2=16M".to_string(),
            Problem::NoBanks => "name the board's memory banks, as in 2G@0x40000000".to_string(),
            Problem::NoMemory { reason: ReserveError::Taken { .. }, .. } => {
                "move or shrink one of them".to_string()
            }
            Problem::NoMemory {
                reason: ReserveError::NoSpace { wanted, largest, window, .. },
                banks,
                others,
                ..
            } => {
                let smaller = if largest >= wanted {
                    "give it a smaller alignment"
                } else if window.is_some() {
                    "make it smaller"
                } else {
                    return format!(
                        "make it smaller, or remove regions from its bank: {}",
                        bank_list(banks)
                    );
                };
                match window {
                    None => smaller.to_string(),
                    Some(_) if others.is_empty() => {
                        format!(
                            "{smaller}, or widen its window; the banks are {}",
                            bank_list(banks)
                        )
                    }
                    Some(_) => format!("{smaller}, widen its window, or move what lies there"),
                }
            }
            Problem::NoMemory {
                reason:
                    reason @ (ReserveError::NoMemoryWithin { .. } | ReserveError::NoMemoryThere { .. }),
                size,
                banks,
                ..
            } => {
                let remedy = match reason {
                    ReserveError::NoMemoryWithin { .. } => "write a window in a bank",
                    _ => "move it into a bank",
                };
                let large: Vec<_> =
                    banks.iter().copied().filter(|bank| bank.0.bytes() >= *size).collect();
                if large.is_empty() {
                    format!("{remedy}, and make it smaller; the banks are {}", bank_list(banks))
                } else {
                    format!("{remedy} with room for it: {}", bank_list(&large))
                }
            }
            Problem::NoMemory { banks, .. } => {
                format!("make it smaller, or remove regions from its bank: {}", bank_list(banks))
            }
        }
    }
}

/// The most regions that a message names.
const MAX_NAMED: usize = 4;

/// Regions as `region "a"` or `regions "a", "b" and 3 more`.
struct Named<'a>(&'a [String]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(all) = self;
        let named = &all[..all.len().min(MAX_NAMED)];
        f.write_str(if all.len() == 1 { "region " } else { "regions " })?;
        for (n, name) in named.iter().enumerate() {
            let before = match n {
                0 => "",
                n if n + 1 == all.len() => " and ",
                _ => ", ",
            };
            write!(f, "{before}\"{name}\"")?;
        }
        match all.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Banks as `size@start`.
fn bank_list(banks: &[Bank]) -> String {
    banks.iter().map(Bank::to_string).collect::<Vec<_>>().join(", ")
}

/// `size` bytes rounded up to pages.
fn whole_pages(size: u64) -> Bytes {
    Bytes(Pages::covering(size).bytes())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownRegion { name } => {
                write!(f, "there is no region \"{name}\"; requests skip it")
            }
            Problem::NoConfiguredRegion { regions } => {
                f.write_str(
                    "this rule names no configured region, so every request that it matches is refused: there is no region ",
                )?;
                for (n, region) in regions.iter().take(MAX_NAMED).enumerate() {
                    write!(f, "{}\"{region}\"", if n == 0 { "" } else { " or " })?;
                }
                match regions.len().saturating_sub(MAX_NAMED) {
                    0 => Ok(()),
                    more => write!(f, ", nor {more} more"),
                }
            }
            Problem::NamedTwice { region } => {
                write!(f, "this rule names region \"{region}\" a second time")
            }
            Problem::StartMoved { region, start, moved, alignment } => write!(
                f,
                "region \"{region}\" will start at {moved}: {start} is not a multiple of its alignment, {}",
                Bytes(*alignment)
            ),
            Problem::SizeRounded { region, size } => write!(
                f,
                "region \"{region}\" will have {}: a size of {} is not a multiple of the page size",
                whole_pages(*size),
                Bytes(*size)
            ),
            Problem::NeverMatches { pattern, covered_by, whole_rule } => {
                let what = if *whole_rule { "this rule" } else { "this pattern" };
                if pattern == covered_by {
                    write!(f, "{what} never matches: the same pattern comes before it")
                } else {
                    write!(
                        f,
                        "{what} never matches: \"{covered_by}\" comes before it and matches everything that \"{pattern}\" matches"
                    )
                }
            }
            Problem::Unreached { region } => {
                write!(f, "no rule of the map names region \"{region}\"")
            }
            Problem::UnknownAllocator { name, .. } => {
                write!(f, "no allocator \"{name}\" is known; the region would wait for it")
            }
            Problem::NoBanks => {
                f.write_str("the board has no memory banks, so no region gets memory")
            }
            Problem::NoRegions => {
                f.write_str("no region is configured, so no request can be served")
            }
            Problem::NoMemory {
                region,
                reason: reason @ ReserveError::Taken { .. },
                others,
                ..
            } => {
                write!(f, "region \"{region}\" overlaps {}: {reason}", Named(others))
            }
            Problem::NoMemory { region, reason, others, .. } => {
                write!(f, "there is no memory for region \"{region}\": {reason}")?;
                match &others[..] {
                    [] => Ok(()),
                    others => write!(
                        f,
                        "; in the window {} {}",
                        if others.len() == 1 { "lies" } else { "lie" },
                        Named(others)
                    ),
                }
            }
        }
    }
}
