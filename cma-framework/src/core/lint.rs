//! Finds what the grammar allows and nobody means: rules that can't match, regions nobody reaches,
//! regions that don't fit.
//!
//! Pure: text and board in, findings out. A program shows them with the place underlined.

mod patterns;

use crate::core::reserve::{Banks, ReserveError};
use crate::vocabulary::{AllocatorSpec, Bank, Bytes, Growth, Map, ParsedRegion, Span};
use cma_api::{DmaAddr, PAGE_SIZE, Pages};
use patterns::Patterns;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Something worth a look in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is. `Display` says it in a sentence.
    pub problem: Problem,
    /// Which text it is in.
    pub source: Source,
    /// Where in that text, in bytes.
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

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Legal, and the system works without it, but probably not meant.
    Warning,
    /// A region will not exist.
    Error,
}

/// What can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The map names a region that is not configured. It is passed over.
    UnknownRegion {
        /// The name.
        name: String,
    },
    /// None of a rule's regions is configured, so whoever it matches gets nothing.
    LeadsNowhere {
        /// The regions.
        regions: Vec<String>,
    },
    /// A rule names a region that it has named before.
    NamedTwice {
        /// The region.
        region: String,
    },
    /// A pattern, because of an earlier one, never decides.
    NeverMatches {
        /// The pattern.
        pattern: String,
        /// The earlier pattern, which matches all that this one does.
        covered_by: String,
        /// Whether no pattern of its rule ever matches.
        whole_rule: bool,
    },
    /// No rule leads to a region.
    Unreached {
        /// The region.
        region: String,
    },
    /// No such allocator is known.
    UnknownAllocator {
        /// The name.
        name: String,
        /// The ones that are.
        known: Vec<String>,
    },
    /// A start wish is no multiple of the alignment, and so is rounded up to one.
    StartMoved {
        /// The region.
        region: String,
        /// The start as written.
        start: DmaAddr,
        /// The start that is tried.
        moved: DmaAddr,
        /// The alignment in bytes.
        alignment: u64,
    },
    /// A size is not whole pages, and so is rounded up to some.
    SizeRounded {
        /// The region.
        region: String,
        /// The size in bytes as written.
        size: u64,
    },
    /// There are no regions.
    NoRegions,
    /// There is no memory for a region.
    NoMemory {
        /// The region.
        region: String,
        /// Why.
        reason: ReserveError,
        /// The board's memory.
        banks: Vec<Bank>,
        /// The region in its way, if it is one.
        overlaps: Option<String>,
    },
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self.problem {
            Problem::NoMemory { .. } => Severity::Error,
            _ => Severity::Warning,
        }
    }
}

impl Problem {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Problem::UnknownRegion { name } => {
                format!("configure \"{name}\", or take it out of the rule")
            }
            Problem::LeadsNowhere { .. } => "name a region that is configured".to_string(),
            Problem::NamedTwice { .. } => "take it out; it is tried once all the same".to_string(),
            Problem::StartMoved { moved, .. } => format!("write @{moved}, or a smaller alignment"),
            Problem::SizeRounded { size, .. } => format!("write {}", whole_pages(*size)),
            Problem::NeverMatches { .. } => {
                "put it before the one that covers it, or take it out".to_string()
            }
            Problem::Unreached { region } => {
                format!(
                    "name it in a rule, such as *={region}; only a region's own handle reaches it now"
                )
            }
            Problem::UnknownAllocator { known, .. } if known.is_empty() => {
                "no plug-in was found; name a folder that holds some".to_string()
            }
            Problem::UnknownAllocator { known, .. } => {
                format!("load a plug-in of that name, or use one of: {}", known.join(", "))
            }
            Problem::NoRegions => "name some, as in b1=32M;b2=16M".to_string(),
            Problem::NoMemory { overlaps: Some(_), .. } => {
                "move or shrink one of the two".to_string()
            }
            Problem::NoMemory { reason: ReserveError::NoSpace { wanted, largest, .. }, .. }
                if largest >= wanted =>
            {
                "give it a smaller alignment".to_string()
            }
            Problem::NoMemory { reason: ReserveError::NoMemoryThere { .. }, banks, .. } => {
                format!("move it into a bank that holds it: {}", listed(banks))
            }
            Problem::NoMemory { banks, .. } => {
                format!("make it smaller, or take regions out of its bank: {}", listed(banks))
            }
        }
    }
}

/// As many regions as a message names.
const LISTED: usize = 4;

/// Banks as size@start.
fn listed(banks: &[Bank]) -> String {
    let bank = |bank: &Bank| format!("{}@{}", Bytes(bank.0.bytes()), bank.0.start());
    banks.iter().map(bank).collect::<Vec<_>>().join(", ")
}

/// `size` bytes rounded up to pages.
fn whole_pages(size: u64) -> Bytes {
    Bytes(Pages::covering(size).bytes())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownRegion { name } => {
                write!(f, "there is no region \"{name}\"; requests pass it over")
            }
            Problem::LeadsNowhere { regions } => {
                f.write_str(
                    "this rule leads nowhere, so whoever it matches gets nothing: there is no region ",
                )?;
                for (n, region) in regions.iter().take(LISTED).enumerate() {
                    write!(f, "{}\"{region}\"", if n == 0 { "" } else { " or " })?;
                }
                match regions.len().saturating_sub(LISTED) {
                    0 => Ok(()),
                    more => write!(f, ", nor {more} more"),
                }
            }
            Problem::NamedTwice { region } => {
                write!(f, "this rule names region \"{region}\" a second time")
            }
            Problem::StartMoved { region, start, moved, alignment } => write!(
                f,
                "region \"{region}\" will start at {moved}: {start} is no multiple of its alignment, {}",
                Bytes(*alignment)
            ),
            Problem::SizeRounded { region, size } => write!(
                f,
                "region \"{region}\" will have {}: a size of {} is not whole pages",
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
                        "{what} never matches: \"{covered_by}\" comes before it and matches all that \"{pattern}\" does"
                    )
                }
            }
            Problem::Unreached { region } => {
                write!(f, "no rule of the map leads to region \"{region}\"")
            }
            Problem::UnknownAllocator { name, .. } => {
                write!(f, "no allocator \"{name}\" is known; the region would wait for it")
            }
            Problem::NoRegions => {
                f.write_str("no region is configured, so no request can be served")
            }
            Problem::NoMemory { region, overlaps: Some(other), reason, .. } => {
                write!(f, "region \"{region}\" overlaps region \"{other}\": {reason}")
            }
            Problem::NoMemory { region, reason, .. } => {
                write!(f, "there is no memory for region \"{region}\": {reason}")
            }
        }
    }
}

/// Looks a whole configuration over: `regions` and `map` on a board's `banks`, with the allocators
/// of the names `allocators`. Findings come in the order of the texts, those of the regions first.
///
/// ```
/// use cma_framework::config::lint::{Problem, lint};
/// use cma_framework::config::{Bank, Growth, Map, parse_regions};
///
/// let regions = parse_regions("b1=32M;b2=16M")?;
/// let map = Map::parse("*=b1;camera=b2")?;
/// let found = lint(&regions, &map, &[Bank::new(0x4000_0000, 0x1000_0000)], Growth::Up, &[]);
/// assert!(matches!(&found[0].problem, Problem::NeverMatches { covered_by, .. } if covered_by == "*"));
/// assert_eq!(&map.text()[found[0].span.clone()], "camera");
/// # Ok::<(), cma_framework::config::ConfigError>(())
/// ```
pub fn lint(
    regions: &[ParsedRegion<'_>],
    map: &Map,
    banks: &[Bank],
    growth: Growth,
    allocators: &[&str],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if regions.is_empty() {
        findings.push(Finding { problem: Problem::NoRegions, source: Source::Regions, span: 0..0 });
    }
    no_memory(regions, banks, growth, &mut findings);
    let named =
        map.rule_spans().iter().flat_map(|rule| &rule.regions).map(|span| map.part(span)).collect();
    for region in regions {
        rounded(region, &mut findings);
        region_alone(region, &named, allocators, &mut findings);
    }
    findings.sort_by_key(|finding| finding.span.start);
    unknown_regions(regions, map, &mut findings);
    covered_patterns(map, &mut findings);
    let map_findings = findings.partition_point(|f| f.source == Source::Regions);
    findings[map_findings..].sort_by_key(|finding| finding.span.start);
    findings
}

fn no_memory(
    regions: &[ParsedRegion<'_>],
    banks: &[Bank],
    growth: Growth,
    findings: &mut Vec<Finding>,
) {
    let mut free = Banks::new(banks, growth);
    let mut placed: HashMap<u64, &str> = HashMap::new();
    for region in regions {
        match free.place(region.request()) {
            Ok(range) => {
                placed.insert(range.first_page(), region.spec.name);
            }
            Err(reason) => {
                let overlaps = match &reason {
                    ReserveError::Taken { taken, .. } => placed.get(&taken.first_page()),
                    _ => None,
                };
                let overlaps = overlaps.map(ToString::to_string);
                let span = region.spans.start.clone().unwrap_or(region.spans.size.clone());
                let region = region.spec.name.to_string();
                let problem = Problem::NoMemory { region, reason, banks: banks.to_vec(), overlaps };
                findings.push(Finding { problem, source: Source::Regions, span });
            }
        }
    }
}

/// What is rounded up, so that what was written is not what one gets.
fn rounded(region: &ParsedRegion<'_>, findings: &mut Vec<Finding>) {
    let (spec, spans) = (&region.spec, &region.spans);
    let name = spec.name.to_string();
    if !spec.size.is_multiple_of(PAGE_SIZE) {
        let problem = Problem::SizeRounded { region: name.clone(), size: spec.size };
        findings.push(Finding { problem, source: Source::Regions, span: spans.size.clone() });
    }
    let request = region.request();
    if let (Some(start), Some(span)) = (spec.start, &spans.start)
        && let Some(moved) = request.start
        && moved != start
    {
        let alignment = request.alignment.bytes();
        let problem = Problem::StartMoved { region: name, start, moved, alignment };
        findings.push(Finding { problem, source: Source::Regions, span: span.clone() });
    }
}

/// `named` are the regions that the map names.
fn region_alone(
    region: &ParsedRegion<'_>,
    named: &HashSet<&str>,
    allocators: &[&str],
    findings: &mut Vec<Finding>,
) {
    let name = region.spec.name;
    if !named.contains(name) {
        let problem = Problem::Unreached { region: name.to_string() };
        findings.push(Finding {
            problem,
            source: Source::Regions,
            span: region.spans.name.clone(),
        });
    }
    if let (Some(AllocatorSpec { name, .. }), Some(span)) =
        (region.spec.allocator, &region.spans.allocator)
        && !allocators.contains(&name)
    {
        let known = allocators.iter().map(ToString::to_string).collect();
        let problem = Problem::UnknownAllocator { name: name.to_string(), known };
        findings.push(Finding { problem, source: Source::Regions, span: span.clone() });
    }
}

fn unknown_regions(regions: &[ParsedRegion<'_>], map: &Map, findings: &mut Vec<Finding>) {
    let configured: HashSet<&str> = regions.iter().map(|region| region.spec.name).collect();
    for rule in map.rule_spans() {
        let mut found =
            |problem, span| findings.push(Finding { problem, source: Source::Map, span });
        let mut named = HashSet::new();
        let (again, once): (Vec<&Span>, Vec<&Span>) =
            rule.regions.iter().partition(|span| !named.insert(map.part(span)));
        let unknown: Vec<&Span> =
            once.iter().copied().filter(|s| !configured.contains(map.part(s))).collect();
        match (&rule.regions[..], unknown.len() == once.len()) {
            ([first, .., last] | [first @ last], true) => {
                let start = rule.patterns.first().map_or(first.start, |p| p.span.start);
                let regions = once.iter().map(|span| map.part(span).to_string()).collect();
                found(Problem::LeadsNowhere { regions }, start..last.end);
            }
            _ => unknown.into_iter().for_each(|span| {
                found(Problem::UnknownRegion { name: map.part(span).to_string() }, span.clone());
            }),
        }
        for span in again {
            found(Problem::NamedTwice { region: map.part(span).to_string() }, span.clone());
        }
    }
}

fn covered_patterns(map: &Map, findings: &mut Vec<Finding>) {
    // By device and, under it, by type: the place of the first pattern that is written so.
    let mut earlier: Patterns<Patterns<Span>> = Patterns::default();
    for rule in map.rule_spans() {
        let mut covered = Vec::new();
        for pattern in &rule.patterns {
            let device = map.part(&pattern.device);
            let kind = pattern.kind.as_ref().map_or("*", |span| map.part(span));
            let by = earlier.covering(device).flat_map(|kinds| kinds.covering(kind));
            if let Some(by) = by.min_by_key(|by| by.start) {
                covered.push((pattern.span.clone(), by.clone()));
            }
            let known = earlier.at(device).get_or_insert_default().at(kind);
            known.get_or_insert_with(|| pattern.span.clone());
        }
        // A pattern that repeats one of its own rule is harmless; only what earlier rules take away
        // makes a rule dead.
        let whole_rule = covered.len() == rule.patterns.len();
        for (span, by) in covered {
            let problem = Problem::NeverMatches {
                pattern: map.part(&span).to_string(),
                covered_by: map.part(&by).to_string(),
                whole_rule,
            };
            findings.push(Finding { problem, source: Source::Map, span });
        }
    }
}

#[cfg(test)]
mod tests;
