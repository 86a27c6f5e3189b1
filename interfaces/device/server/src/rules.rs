//! Who may ask in the name of which device, and who may name regions.

use crate::config::{ConfigError, Mistake, split};
use crate::peer::Peer;
use cma_framework::config::{COMMON, Map, Span};

/// Who may have memory of which device.
///
/// ```text
/// rules   ::= [ rule { ';' rule } [ ';' ] ]
/// rule    ::= pattern { ',' pattern } '=' who { ',' who }
/// pattern ::= device pattern of a map, with or without a type | '@' pattern of a region's name
/// who     ::= 'uid:' number | 'gid:' number | '*'
/// ```
///
/// As in a map, rules are tried in order, and the first with a pattern that matches decides: a user
/// or group that it names may, everyone else may not. What no rule matches nobody may. A group is
/// the process' own or one of its supplementary ones.
///
/// Somebody who names *regions* in place of a device passes the map by, so that is something else:
/// each region needs a rule with a pattern behind `@`. Rules for devices alone let nobody name
/// regions.
///
/// ```
/// use cma_device_server::{Peer, Rules};
///
/// let rules = Rules::parse("camera=uid:1000;video/secure=uid:0;video=gid:44;@fw=uid:0")?;
/// let somebody = Peer { uid: 1001, gid: 100, groups: [44].into(), pid: 1 };
/// assert!(rules.allow_device(&somebody, "video", "frame"));
/// assert!(!rules.allow_device(&somebody, "video", "secure"));
/// assert!(!rules.allow_device(&somebody, "camera", ""));
/// assert!(!rules.allow_region(&somebody, "fw"));
/// # Ok::<(), cma_device_server::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    patterns: Vec<Pattern>,
    who: Vec<Who>,
}

/// A pattern, as the map that has it and nothing else: matching is the map's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Device(Map),
    Region(Map),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Everyone,
    User(u32),
    Group(u32),
}

impl Default for Rules {
    /// Everyone may: `*,@*=*`.
    fn default() -> Self {
        let anything = || Map::parse("*=x").unwrap_or_default();
        let patterns = vec![Pattern::Device(anything()), Pattern::Region(anything())];
        Rules(vec![Rule { patterns, who: vec![Who::Everyone] }])
    }
}

impl Rules {
    /// Reads rules. Of an empty text nobody may anything.
    ///
    /// # Errors
    ///
    /// The first mistake with its place.
    pub fn parse(text: &str) -> Result<Rules, ConfigError> {
        let mut rules = Vec::new();
        let mut device = "";
        if text.trim().is_empty() {
            return Ok(Rules(rules));
        }
        let trimmed = text.trim_end();
        let end = trimmed.strip_suffix(';').unwrap_or(trimmed).len();
        for rule in split(text, 0..end, ';') {
            let Some(equals) = text[rule.clone()].find('=').map(|n| rule.start + n) else {
                return Err(ConfigError::new(text, rule, Mistake::NoWho));
            };
            let mut patterns = Vec::new();
            for part in split(text, rule.start..equals, ',') {
                patterns.push(Pattern::parse(text, trim(text, part), &mut device)?);
            }
            let who = split(text, equals + 1..rule.end, ',')
                .map(|part| Who::parse(text, trim(text, part)));
            rules.push(Rule { patterns, who: who.collect::<Result<_, _>>()? });
        }
        Ok(Rules(rules))
    }

    /// Whether `peer` may have memory of type `kind` for `device`; an empty type is `common`.
    pub fn allow_device(&self, peer: &Peer, device: &str, kind: &str) -> bool {
        let kind = if kind.is_empty() { COMMON } else { kind };
        self.allow(peer, |pattern| match pattern {
            Pattern::Device(map) => map.regions_for(device, kind).is_some(),
            Pattern::Region(_) => false,
        })
    }

    /// Whether `peer` may have memory of the region of that name.
    pub fn allow_region(&self, peer: &Peer, region: &str) -> bool {
        self.allow(peer, |pattern| match pattern {
            Pattern::Device(_) => false,
            Pattern::Region(map) => map.regions_for(region, COMMON).is_some(),
        })
    }

    fn allow(&self, peer: &Peer, matches: impl Fn(&Pattern) -> bool) -> bool {
        let first = self.0.iter().find(|rule| rule.patterns.iter().any(&matches));
        first.is_some_and(|rule| rule.who.iter().any(|who| who.is(peer)))
    }
}

impl Pattern {
    /// `device` is the one of the pattern before, which a pattern that starts with `/` takes.
    fn parse<'t>(text: &'t str, span: Span, device: &mut &'t str) -> Result<Pattern, ConfigError> {
        let written = &text[span.clone()];
        if let Some(region) = written.strip_prefix('@') {
            if let Some(slash) = region.find('/') {
                let at = span.start + 1 + slash;
                return Err(ConfigError::new(text, at..span.end, Mistake::RegionType));
            }
            return map(text, "", region, span.start + 1).map(Pattern::Region);
        }
        let before = if written.starts_with('/') { *device } else { "" };
        let map = map(text, before, written, span.start)?;
        if before.is_empty() {
            *device = written.split('/').next().unwrap_or_default();
        }
        Ok(Pattern::Device(map))
    }
}

/// The map with the one pattern `before` + `written`, which stands at `at` of `text`.
fn map(text: &str, before: &str, written: &str, at: usize) -> Result<Map, ConfigError> {
    Map::parse(&format!("{before}{written}=x")).map_err(|error| {
        // What is wrong is in what was written: what stands before it was read already.
        let place = |n: usize| at + n.saturating_sub(before.len()).min(written.len());
        let span = place(error.span.start)..place(error.span.end);
        ConfigError::new(text, span, Mistake::Pattern(error.mistake))
    })
}

impl Who {
    fn parse(text: &str, span: Span) -> Result<Who, ConfigError> {
        let written = &text[span.clone()];
        let number = |digits: &str| {
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        };
        let who = match written.split_once(':') {
            None if written == "*" => Some(Who::Everyone),
            Some(("uid", digits)) => number(digits).map(Who::User),
            Some(("gid", digits)) => number(digits).map(Who::Group),
            _ => None,
        };
        let mistake = if written.is_empty() { Mistake::NoWho } else { Mistake::BadWho };
        who.ok_or_else(|| ConfigError::new(text, span, mistake))
    }

    fn is(self, peer: &Peer) -> bool {
        match self {
            Who::Everyone => true,
            Who::User(uid) => peer.uid == uid,
            Who::Group(gid) => peer.gid == gid || peer.groups.contains(&gid),
        }
    }
}

/// `span` without the white space at its ends.
fn trim(text: &str, span: Span) -> Span {
    let written = &text[span.clone()];
    let start = span.start + (written.len() - written.trim_start().len());
    start..start + written.trim().len()
}

#[cfg(test)]
mod tests;
