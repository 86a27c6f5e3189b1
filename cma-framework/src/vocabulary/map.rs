//! The map: which device may get memory of which type from which regions (specification section 5).
//!
//! ```text
//! map     ::= [ rule { ';' rule } [ ';' ] ]
//! rule    ::= pattern { ',' pattern } '=' region-name { ',' region-name }
//! pattern ::= dev-pattern [ '/' type-pattern ] | '/' type-pattern
//! ```
//!
//! White space beside `;`, `,` and `=` and at both ends means nothing.

use super::names::{is_pattern_char, is_region_char, is_region_name};
use super::syntax::{ConfigError, Mistake, Span};
use std::borrow::Cow;
use std::fmt;

/// The type of a request that names none.
pub const COMMON: &str = "common";

/// One rule as a board writes it: any of `patterns` leads to `regions`, tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec<'a> {
    /// Its patterns, in order; not empty.
    pub patterns: Cow<'a, [PatternSpec<'a>]>,
    /// The names of its regions, in order; not empty.
    pub regions: Cow<'a, [&'a str]>,
}

impl<'a> RuleSpec<'a> {
    /// A rule of `patterns` and `regions`, for constants.
    pub const fn new(patterns: &'a [PatternSpec<'a>], regions: &'a [&'a str]) -> Self {
        RuleSpec { patterns: Cow::Borrowed(patterns), regions: Cow::Borrowed(regions) }
    }
}

/// One pattern as a board writes it. `?` matches any one character; a `*` at the end matches the
/// rest, also nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternSpec<'a> {
    /// What the device's name must match; `None` takes it from the pattern before.
    pub device: Option<&'a str>,
    /// What the type must match; `None` matches any type.
    pub kind: Option<&'a str>,
}

impl<'a> PatternSpec<'a> {
    /// Any type of devices that match `device`.
    pub const fn device(device: &'a str) -> Self {
        PatternSpec { device: Some(device), kind: None }
    }

    /// Types that match `kind`, of devices that match `device`.
    pub const fn typed(device: &'a str, kind: &'a str) -> Self {
        PatternSpec { device: Some(device), kind: Some(kind) }
    }
}

impl fmt::Display for RuleSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pattern) in self.patterns.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "," }, pattern.device.unwrap_or_default())?;
            if let Some(kind) = pattern.kind {
                write!(f, "/{kind}")?;
            }
        }
        write!(f, "={}", self.regions.join(","))
    }
}

/// A whole map: the text and what it means. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    text: String,
    rules: Vec<Rule>,
}

/// One rule; its parts are spans of the map's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) regions: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The pattern as it is written.
    pub(crate) span: Span,
    /// Its device part, which may stand in an earlier pattern.
    pub(crate) device: Span,
    pub(crate) kind: Option<Span>,
}

impl Map {
    /// Reads a map. White space beside `;`, `,` and `=` and at both ends is passed over; an empty
    /// text is the empty map, which matches nothing.
    ///
    /// # Errors
    ///
    /// The first mistake with its place.
    pub fn parse(text: &str) -> Result<Map, ConfigError> {
        let mut rules = Vec::new();
        let mut device = None;
        let mut at = text.len() - text.trim_start().len();
        let end = text.trim_end().len();
        while at < end {
            let rule_end = text[at..end].find(';').map_or(end, |n| at + n);
            rules.push(parse_rule(text, at..rule_end, &mut device)?);
            at = rule_end + 1;
        }
        Ok(Map { text: text.to_string(), rules })
    }

    /// The map that `rules` write.
    ///
    /// # Errors
    ///
    /// A name or pattern in them that the grammar doesn't have, with its place in the text they
    /// write.
    pub fn from_rules(rules: &[RuleSpec<'_>]) -> Result<Map, ConfigError> {
        for rule in rules {
            // Each is one part of the text, or the text would say something else.
            let mut patterns =
                rule.patterns.iter().flat_map(|p| p.device.into_iter().chain(p.kind));
            if let Some(part) = patterns.find(|part| !part.chars().all(is_pattern_char)) {
                return Err(ConfigError::new(part, 0..part.len(), Mistake::BadPattern));
            }
            if let Some(name) = rule.regions.iter().find(|name| !name.chars().all(is_region_char)) {
                return Err(ConfigError::new(name, 0..name.len(), Mistake::BadName));
            }
        }
        Map::parse(&rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"))
    }

    /// The text, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, as a board would write them.
    pub fn rules(&self) -> impl Iterator<Item = RuleSpec<'_>> {
        self.rules.iter().map(|rule| RuleSpec {
            patterns: rule
                .patterns
                .iter()
                .map(|p| PatternSpec {
                    device: (p.span.start == p.device.start).then(|| self.part(&p.device)),
                    kind: p.kind.as_ref().map(|kind| self.part(kind)),
                })
                .collect(),
            regions: rule.regions.iter().map(|name| self.part(name)).collect(),
        })
    }

    /// The names of the regions that may serve `device` with memory of type `kind`, in the order in
    /// which they are tried; `None` when no rule matches.
    pub fn regions_for<'m>(
        &'m self,
        device: &str,
        kind: &str,
    ) -> Option<impl Iterator<Item = &'m str> + use<'m>> {
        let rule = self.rules.iter().find(|rule| {
            rule.patterns.iter().any(|p| {
                matches(self.part(&p.device), device)
                    && p.kind.as_ref().is_none_or(|pattern| matches(self.part(pattern), kind))
            })
        })?;
        Some(rule.regions.iter().map(|name| self.part(name)))
    }

    pub(crate) fn rule_spans(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn part(&self, span: &Span) -> &str {
        &self.text[span.clone()]
    }
}

impl fmt::Display for Map {
    /// The text in one line: line ends and tabs, which stand only beside separators, are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.trim().replace(char::is_control, ""))
    }
}

/// Whether `name` matches `pattern`.
fn matches(pattern: &str, name: &str) -> bool {
    let (fixed, open) = pattern.strip_suffix('*').map_or((pattern, false), |fixed| (fixed, true));
    let mut rest = name.chars();
    fixed.chars().all(|p| rest.next().is_some_and(|c| p == '?' || p == c))
        && (open || rest.next().is_none())
}

fn parse_rule(text: &str, span: Span, device: &mut Option<Span>) -> Result<Rule, ConfigError> {
    let fail = |span, mistake| Err(ConfigError::new(text, span, mistake));
    let whole = span.clone();
    let span = trimmed(text, span);
    let rule = &text[span.clone()];
    if rule.is_empty() {
        // The separator that ends it; the last rule is never empty.
        return fail(whole.end..text.len().min(whole.end + 1), Mistake::Empty);
    }
    let Some(equals) = rule.find('=').map(|n| span.start + n) else {
        return fail(span.end..span.end, Mistake::NoRegions);
    };
    if let Some(second) = text[equals + 1..span.end].find('=').map(|n| equals + 1 + n) {
        return fail(second..second + 1, Mistake::SecondEquals);
    }
    let mut patterns = Vec::new();
    for part in split(text, span.start..equals) {
        patterns.push(parse_pattern(text, part, device)?);
    }
    let mut regions = Vec::new();
    for part in split(text, equals + 1..span.end) {
        let name = &text[part.clone()];
        if name.contains('|') {
            return fail(part, Mistake::Group);
        } else if name.is_empty() {
            return fail(
                part,
                if regions.is_empty() { Mistake::NoRegions } else { Mistake::NoRegionName },
            );
        } else if !is_region_name(name) {
            let wild = name.chars().all(is_region_char);
            return fail(part, if wild { Mistake::WildcardInName } else { Mistake::BadName });
        }
        regions.push(part);
    }
    Ok(Rule { patterns, regions })
}

fn parse_pattern(
    text: &str,
    span: Span,
    device: &mut Option<Span>,
) -> Result<Pattern, ConfigError> {
    let fail = |span, mistake| Err(ConfigError::new(text, span, mistake));
    let pattern = &text[span.clone()];
    if pattern.is_empty() {
        return fail(span, Mistake::NoPattern);
    }
    let slash = pattern.find('/').map(|n| span.start + n);
    let own_device = span.start..slash.unwrap_or(span.end);
    let kind = slash.map(|slash| slash + 1..span.end);
    if let Some(kind) = &kind {
        if let Some(second) = text[kind.clone()].find('/').map(|n| kind.start + n) {
            return fail(second..second + 1, Mistake::SecondSlash);
        }
        if kind.is_empty() {
            return fail(kind.start - 1..kind.end, Mistake::NoType);
        }
    }
    for part in std::iter::once(&own_device).chain(&kind) {
        let written = &text[part.clone()];
        if let Some(star) = written.find('*')
            && star + 1 != written.len()
        {
            return fail(part.start + star..part.start + star + 1, Mistake::StarInside);
        }
        if !written.chars().all(is_pattern_char) {
            return fail(part.clone(), Mistake::BadPattern);
        }
    }
    if !own_device.is_empty() {
        *device = Some(own_device);
    }
    match device {
        Some(device) => Ok(Pattern { span, device: device.clone(), kind }),
        None => fail(span, Mistake::NoDeviceBefore),
    }
}

/// `span` without the white space at both ends of it.
fn trimmed(text: &str, span: Span) -> Span {
    let part = &text[span.clone()];
    let start = span.end - part.trim_start().len();
    start..start + part.trim().len()
}

/// The comma-separated parts of `span`, without white space around them.
fn split(text: &str, span: Span) -> impl Iterator<Item = Span> {
    let mut at = span.start;
    text[span].split(',').map(move |part| {
        let part = at..at + part.len();
        at = part.end + 1;
        trimmed(text, part)
    })
}

#[cfg(test)]
mod tests;
