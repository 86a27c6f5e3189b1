//! The map: which device may get memory of which type from which regions (specification section 5).
//!
//! ```text
//! map     ::= [ rule { ';' rule } [ ';' ] ]
//! rule    ::= pattern { ',' pattern } '=' group { ',' group }
//! group   ::= region-name { '|' region-name }
//! ```
//!
//! The grammar of patterns is in the module `pattern`. White space beside `;`, `,`, `=` and `|` and
//! at both ends is ignored.

use super::names::{is_pattern_char, is_region_char, is_region_name};
use super::pattern::{NamePattern, Pattern};
use super::syntax::{ConfigError, Span, SyntaxError};
use std::borrow::Cow;
use std::fmt;

/// The type of a request that names none.
pub const COMMON: &str = "common";

/// One rule as a board writes it: a request that matches any of `patterns` is served from the
/// `groups`, tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec<'a> {
    /// Its patterns, in order; not empty.
    pub patterns: Cow<'a, [PatternSpec<'a>]>,
    /// Its groups of regions, in order; not empty.
    pub groups: Cow<'a, [GroupSpec<'a>]>,
}

impl<'a> RuleSpec<'a> {
    /// A rule of `patterns` and `groups`, for constants.
    pub const fn new(patterns: &'a [PatternSpec<'a>], groups: &'a [GroupSpec<'a>]) -> Self {
        RuleSpec { patterns: Cow::Borrowed(patterns), groups: Cow::Borrowed(groups) }
    }
}

/// Regions of which the one that fits a request best serves it: of those that can, the one whose
/// hole for the request is smallest, the first named of equals. Most groups have one region.
#[derive(Clone, Copy)]
pub struct GroupSpec<'a>(&'a str);

impl<'a> GroupSpec<'a> {
    /// The group that is written as `regions`: one name, or several separated by `|`.
    pub const fn new(regions: &'a str) -> Self {
        GroupSpec(regions)
    }

    /// The names of its regions, in order.
    pub fn regions(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.0.split('|').map(str::trim)
    }
}

impl PartialEq for GroupSpec<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.regions().eq(other.regions())
    }
}

impl Eq for GroupSpec<'_> {}

impl fmt::Debug for GroupSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupSpec({self})")
    }
}

impl fmt::Display for GroupSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.regions().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

/// One pattern as a board writes it. `?` matches any one character; a `*` at the end matches the
/// rest of the name, which may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternSpec<'a> {
    /// The pattern for the device; `None` for that of the pattern before.
    pub device: Option<&'a str>,
    /// The pattern for the type; `None` matches any type.
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
        for (i, group) in self.groups.iter().enumerate() {
            write!(f, "{}{group}", if i == 0 { "=" } else { "," })?;
        }
        Ok(())
    }
}

/// A map: its text and its parsed rules. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    text: String,
    rules: Vec<Rule>,
}

/// One parsed rule. Its spans refer to the map's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) patterns: Vec<RulePattern>,
    pub(crate) groups: Vec<Group>,
}

/// A group of a rule, with the positions of its regions' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    span: Span,
    pub(crate) regions: Vec<Span>,
}

impl Rule {
    /// The positions of its regions' names, in order.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Span> {
        self.groups.iter().flat_map(|group| &group.regions)
    }
}

/// A pattern of a rule, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RulePattern {
    pub(crate) span: Span,
    pub(crate) pattern: Pattern,
    /// Whether the pattern takes the device of the pattern before.
    inherits_device: bool,
}

impl Map {
    /// Reads a map. White space beside `;`, `,`, `=` and `|` and at both ends is ignored; an empty
    /// text is the empty map, which matches nothing.
    ///
    /// # Errors
    ///
    /// The first error with its position.
    pub fn parse(text: &str) -> Result<Map, ConfigError> {
        let mut rules = Vec::new();
        let mut previous = None;
        let mut at = text.len() - text.trim_start().len();
        let end = text.trim_end().len();
        while at < end {
            let rule_end = text[at..end].find(';').map_or(end, |n| at + n);
            rules.push(parse_rule(text, at..rule_end, &mut previous)?);
            at = rule_end + 1;
        }
        Ok(Map { text: text.to_string(), rules })
    }

    /// The map of `rules`.
    ///
    /// # Errors
    ///
    /// The first name or pattern that the grammar doesn't allow.
    pub fn from_rules(rules: &[RuleSpec<'_>]) -> Result<Map, ConfigError> {
        for rule in rules {
            // A separator in a name would change the structure of the text.
            let mut names = rule.patterns.iter().flat_map(|p| p.device.into_iter().chain(p.kind));
            if let Some(part) = names.find(|part| !part.chars().all(is_pattern_char)) {
                return Err(ConfigError::new(part, 0..part.len(), SyntaxError::BadPattern));
            }
            let mut names = rule.groups.iter().flat_map(GroupSpec::regions);
            if let Some(name) = names.find(|name| !name.chars().all(is_region_char)) {
                return Err(ConfigError::new(name, 0..name.len(), SyntaxError::BadName));
            }
        }
        Map::parse(&rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"))
    }

    /// The text as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the map has no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in the form of board constants.
    pub fn rules(&self) -> impl Iterator<Item = RuleSpec<'_>> {
        self.rules.iter().map(|rule| RuleSpec {
            patterns: rule
                .patterns
                .iter()
                .map(|p| PatternSpec {
                    device: (!p.inherits_device).then(|| p.pattern.device.as_str()),
                    kind: p.pattern.kind.as_ref().map(NamePattern::as_str),
                })
                .collect(),
            groups: rule.groups.iter().map(|group| GroupSpec(self.part(&group.span))).collect(),
        })
    }

    /// The groups of regions that may serve `device` with memory of type `kind`, in the order in
    /// which they are tried, each as the names of its regions; `None` when no rule matches.
    pub fn regions_for<'m>(
        &'m self,
        device: &str,
        kind: &str,
    ) -> Option<impl Iterator<Item = impl Iterator<Item = &'m str> + use<'m>> + use<'m>> {
        let matches = |rule: &&Rule| rule.patterns.iter().any(|p| p.pattern.matches(device, kind));
        let rule = self.rules.iter().find(matches)?;
        Some(rule.groups.iter().map(|group| self.names(group)))
    }

    fn names<'m>(&'m self, group: &'m Group) -> impl Iterator<Item = &'m str> + use<'m> {
        group.regions.iter().map(|name| self.part(name))
    }

    /// The names of the regions in all rules, as often as they occur.
    pub(crate) fn region_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(Rule::regions).map(|name| self.part(name))
    }

    pub(crate) fn parsed_rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn part(&self, span: &Span) -> &str {
        &self.text[span.clone()]
    }
}

impl fmt::Display for Map {
    /// The text in one line, without line ends and tabs. They occur only beside separators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.trim().replace(char::is_control, ""))
    }
}

/// `previous` is the pattern before this rule, and afterwards the last one of this rule.
fn parse_rule(text: &str, span: Span, previous: &mut Option<Pattern>) -> Result<Rule, ConfigError> {
    let fail = |span, kind| Err(ConfigError::new(text, span, kind));
    let whole = span.clone();
    let span = trimmed(text, span);
    let rule = &text[span.clone()];
    if rule.is_empty() {
        // Points to the separator after it; the last rule is never empty.
        return fail(whole.end..text.len().min(whole.end + 1), SyntaxError::Empty);
    }
    let Some(equals) = rule.find('=').map(|n| span.start + n) else {
        return fail(span.end..span.end, SyntaxError::NoRegions);
    };
    if let Some(second) = text[equals + 1..span.end].find('=').map(|n| equals + 1 + n) {
        return fail(second..second + 1, SyntaxError::SecondEquals);
    }
    let mut patterns = Vec::new();
    for part in split(text, span.start..equals, ',') {
        let pattern = Pattern::parse_part(text, part.clone(), previous.as_ref())?;
        *previous = Some(pattern.clone());
        let inherits_device = text[part.clone()].starts_with('/');
        patterns.push(RulePattern { span: part, pattern, inherits_device });
    }
    let mut groups = Vec::new();
    for part in split(text, equals + 1..span.end, ',') {
        if part.is_empty() && groups.is_empty() {
            return fail(part, SyntaxError::NoRegions);
        }
        groups.push(parse_group(text, part)?);
    }
    Ok(Rule { patterns, groups })
}

fn parse_group(text: &str, span: Span) -> Result<Group, ConfigError> {
    let check = |part: Span| {
        let name = &text[part.clone()];
        let kind = if name.is_empty() {
            SyntaxError::NoRegionName
        } else if is_region_name(name) {
            return Ok(part);
        } else if name.chars().all(is_region_char) {
            SyntaxError::WildcardInName
        } else {
            SyntaxError::BadName
        };
        Err(ConfigError::new(text, part, kind))
    };
    let regions = split(text, span.clone(), '|').map(check).collect::<Result<_, _>>()?;
    Ok(Group { span, regions })
}

/// `span` without the white space at both ends.
fn trimmed(text: &str, span: Span) -> Span {
    let part = &text[span.clone()];
    let start = span.end - part.trim_start().len();
    start..start + part.trim().len()
}

/// The parts of `span` between separators, without the white space at their ends.
fn split(text: &str, span: Span, separator: char) -> impl Iterator<Item = Span> {
    let mut at = span.start;
    text[span].split(separator).map(move |part| {
        let part = at..at + part.len();
        at = part.end + 1;
        trimmed(text, part)
    })
}

#[cfg(test)]
mod tests;
