//! Finds problems that the grammar allows: rules that never match, regions that no rule reaches,
//! regions without memory.
//!
//! The linter is pure: parsed texts and a board in, findings with positions out.

mod pattern_index;
mod problem;

pub use problem::{Finding, Problem, Severity, Source};

use crate::core::reserve::Banks;
use crate::vocabulary::{
    AllocatorSpec, Bank, Growth, Map, NamePattern, ParsedRegion, Place, RulePattern, Span,
};
use cma_api::{PAGE_SIZE, PageRange};
use pattern_index::PatternIndex;
use std::collections::{BTreeMap, HashSet};

/// Checks a whole configuration: `regions` and `map` on a board's `banks`, with the allocators
/// named `allocators`. Findings come in the order of the texts, those of the regions first.
///
/// ```
/// use cma_framework::config::lint::{Problem, lint};
/// use cma_framework::config::{Bank, Growth, Map, parse_regions};
///
/// let regions = parse_regions("b1=32M;b2=16M")?;
/// let map = Map::parse("*=b1;camera=b2")?;
/// let found = lint(&regions, &map, &[Bank::new(0x4000_0000, 0x1000_0000)], Growth::Up, &[]);
/// let Problem::NeverMatches { covered_by, .. } = &found[0].problem else { unreachable!() };
/// assert_eq!(covered_by, "*");
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
    match banks {
        [] if regions.is_empty() => {}
        [] => findings.push(Finding {
            problem: Problem::NoBanks,
            source: Source::Regions,
            span: 0..0,
        }),
        banks => missing_memory(regions, banks, growth, &mut findings),
    }
    let named = map.region_names().collect();
    for region in regions {
        rounding(region, &mut findings);
        names(region, &named, allocators, &mut findings);
    }
    findings.sort_by_key(|finding| finding.span.start);
    region_lists(regions, map, &mut findings);
    covered_patterns(map, &mut findings);
    let map_findings = findings.partition_point(|f| f.source == Source::Regions);
    findings[map_findings..].sort_by_key(|finding| finding.span.start);
    findings
}

/// Reports the regions that the banks have no memory for.
fn missing_memory(
    regions: &[ParsedRegion<'_>],
    banks: &[Bank],
    growth: Growth,
    findings: &mut Vec<Finding>,
) {
    let mut free = Banks::new(banks, growth);
    let mut in_turn: Vec<&ParsedRegion<'_>> = regions.iter().collect();
    in_turn.sort_by_key(|region| region.request().place.reserving_rank());
    // By the number of their first page.
    let mut placed: BTreeMap<u64, (PageRange, &str)> = BTreeMap::new();
    for region in in_turn {
        match free.place(region.request()) {
            Ok(range) => {
                placed.insert(range.first_page(), (range, region.spec.name));
            }
            Err(reason) => {
                let wanted = match region.request().place {
                    Place::Anywhere => PageRange::from_pages(0, 0),
                    Place::At(_) | Place::Within(_) => region.request().window(),
                };
                let below = placed.range(..wanted.end_page()).rev();
                let there = below.take_while(|(_, (range, _))| range.overlaps(wanted));
                let mut others: Vec<_> = there.map(|(_, (_, name))| name.to_string()).collect();
                others.reverse();
                let span = region.spans.place.clone().unwrap_or(region.spans.size.clone());
                let size = region.spec.size;
                let (region, banks) = (region.spec.name.to_string(), banks.to_vec());
                let problem = Problem::NoMemory { region, reason, size, banks, others };
                findings.push(Finding { problem, source: Source::Regions, span });
            }
        }
    }
}

/// Reports a size or start that is rounded up.
fn rounding(region: &ParsedRegion<'_>, findings: &mut Vec<Finding>) {
    let (spec, spans) = (&region.spec, &region.spans);
    let name = spec.name.to_string();
    if !spec.size.is_multiple_of(PAGE_SIZE) {
        let problem = Problem::SizeRounded { region: name.clone(), size: spec.size };
        findings.push(Finding { problem, source: Source::Regions, span: spans.size.clone() });
    }
    let request = region.request();
    if let (Some(start), Some(span)) = (spec.place.start(), &spans.place)
        && let Some(moved) = request.place.start()
        && moved != start
    {
        let alignment = request.alignment.bytes();
        let problem = Problem::StartMoved { region: name, start, moved, alignment };
        findings.push(Finding { problem, source: Source::Regions, span: span.clone() });
    }
}

/// Reports a region that is not in `named`, the regions that the map names, and an allocator that
/// is not in `allocators`.
fn names(
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

/// Reports region names of the map that are not configured or are repeated in a rule.
fn region_lists(regions: &[ParsedRegion<'_>], map: &Map, findings: &mut Vec<Finding>) {
    let configured: HashSet<&str> = regions.iter().map(|region| region.spec.name).collect();
    for rule in map.parsed_rules() {
        let mut found =
            |problem, span| findings.push(Finding { problem, source: Source::Map, span });
        let mut named = HashSet::new();
        let (repeated, distinct): (Vec<&Span>, Vec<&Span>) =
            rule.regions().partition(|span| !named.insert(map.part(span)));
        let unknown: Vec<&Span> =
            distinct.iter().copied().filter(|s| !configured.contains(map.part(s))).collect();
        match (rule.patterns.first(), rule.regions().last()) {
            (Some(RulePattern { span: first, .. }), Some(last))
                if unknown.len() == distinct.len() =>
            {
                let regions = distinct.iter().map(|span| map.part(span).to_string()).collect();
                found(Problem::NoConfiguredRegion { regions }, first.start..last.end);
            }
            _ => unknown.into_iter().for_each(|span| {
                found(Problem::UnknownRegion { name: map.part(span).to_string() }, span.clone());
            }),
        }
        for span in repeated {
            found(Problem::NamedTwice { region: map.part(span).to_string() }, span.clone());
        }
    }
}

/// Reports the patterns that earlier patterns cover.
fn covered_patterns(map: &Map, findings: &mut Vec<Finding>) {
    let any = NamePattern::any();
    // By device pattern and, within it, by type pattern: the first such pattern of the map.
    let mut earlier: PatternIndex<PatternIndex<Span>> = PatternIndex::default();
    for rule in map.parsed_rules() {
        let mut covered = Vec::new();
        for RulePattern { span, pattern, .. } in &rule.patterns {
            let kind = pattern.kind.as_ref().unwrap_or(&any);
            let by = earlier.covering(&pattern.device).flat_map(|kinds| kinds.covering(kind));
            if let Some(by) = by.min_by_key(|by| by.start) {
                covered.push((span.clone(), by.clone()));
            }
            let kinds = earlier.entry(&pattern.device).get_or_insert_default();
            kinds.entry(kind).get_or_insert_with(|| span.clone());
        }
        // One pattern that repeats another of the same rule is harmless: the rule still matches.
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
