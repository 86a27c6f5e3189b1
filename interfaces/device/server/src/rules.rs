//! Access rules: which users may have memory for which devices, and which may name regions.

use crate::peer::Peer;
use crate::policy::{PolicyError, PolicyErrorKind, split, trim};
use cma_framework::config::{COMMON, ConfigError, NamePattern, Pattern, Span};
use nix::unistd;

/// Which users may have memory for which devices and from which regions.
///
/// ```text
/// rules   ::= [ rule { ';' rule } [ ';' ] ]
/// rule    ::= pattern { ',' pattern } '=' user { ',' user }
/// pattern ::= device pattern as in a map, with or without a type | '@' pattern of a region's name
/// user    ::= 'uid:' number | 'gid:' number | 'user:' name | 'group:' name | '*'
/// ```
///
/// As in a map, rules are tried in order, and the first one with a matching pattern decides: it
/// admits the users and groups that it lists and refuses everyone else. A request that no rule
/// matches is refused. A group is the primary or a supplementary group of the process. A name
/// becomes its number when the rules are read.
///
/// A request that names *regions* in place of a device bypasses the map, so it needs rules of its
/// own: a pattern after `@` must match each region. Rules for devices alone admit no such request.
///
/// ```
/// use cma_device_server::{Peer, Rules};
///
/// let rules = Rules::parse("camera=uid:1000;video/secure=uid:0;video=gid:44;@fw=uid:0")?;
/// let viewer = Peer { uid: 1001, gid: 100, groups: [44].into(), pid: 1 };
/// assert!(rules.allow_device(&viewer, "video", "frame"));
/// assert!(!rules.allow_device(&viewer, "video", "secure"));
/// assert!(!rules.allow_device(&viewer, "camera", ""));
/// assert!(!rules.allow_region(&viewer, "fw"));
/// # Ok::<(), cma_device_server::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    subjects: Vec<Subject>,
    users: Vec<User>,
}

/// The requests that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Device(Pattern),
    Region(NamePattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Everyone,
    Id(u32),
    Group(u32),
}

impl Default for Rules {
    /// Everyone may have everything: `*,@*=*`.
    fn default() -> Self {
        let device = Pattern { device: NamePattern::any(), kind: None };
        let subjects = vec![Subject::Device(device), Subject::Region(NamePattern::any())];
        Rules(vec![Rule { subjects, users: vec![User::Everyone] }])
    }
}

impl Rules {
    /// Reads rules. An empty text refuses every request.
    ///
    /// # Errors
    ///
    /// The first error with its position, also a name that the system doesn't have.
    pub fn parse(text: &str) -> Result<Rules, PolicyError> {
        let mut rules = Vec::new();
        let mut previous = None;
        if text.trim().is_empty() {
            return Ok(Rules(rules));
        }
        let trimmed = text.trim_end();
        let end = trimmed.strip_suffix(';').unwrap_or(trimmed).len();
        for rule in split(text, 0..end, ';') {
            let Some(equals) = text[rule.clone()].find('=').map(|n| rule.start + n) else {
                return Err(ConfigError::new(text, rule, PolicyErrorKind::NoUsers));
            };
            let mut subjects = Vec::new();
            for part in split(text, rule.start..equals, ',') {
                let subject = Subject::parse(text, trim(text, part), previous.as_ref())?;
                if let Subject::Device(pattern) = &subject {
                    previous = Some(pattern.clone());
                }
                subjects.push(subject);
            }
            let users = split(text, equals + 1..rule.end, ',')
                .map(|part| User::parse(text, trim(text, part)));
            rules.push(Rule { subjects, users: users.collect::<Result<_, _>>()? });
        }
        Ok(Rules(rules))
    }

    /// Whether every user may have memory for every device and from every region.
    pub fn admit_everyone(&self) -> bool {
        let any = NamePattern::any();
        let subjects = || self.0.iter().flat_map(|rule| &rule.subjects);
        // A rule that admits some users only restricts, wherever it stands.
        self.0.iter().all(|rule| rule.users.contains(&User::Everyone))
            && subjects().any(|subject| *subject == Subject::Region(any.clone()))
            && subjects().any(|subject| match subject {
                Subject::Device(Pattern { device, kind }) => {
                    *device == any && kind.as_ref().is_none_or(|kind| *kind == any)
                }
                Subject::Region(_) => false,
            })
    }

    /// Whether `peer` may have memory of type `kind` for `device`; an empty type means `common`.
    pub fn allow_device(&self, peer: &Peer, device: &str, kind: &str) -> bool {
        let kind = if kind.is_empty() { COMMON } else { kind };
        self.allow(peer, |subject| match subject {
            Subject::Device(pattern) => pattern.matches(device, kind),
            Subject::Region(_) => false,
        })
    }

    /// Whether `peer` may have memory from the region named `region`.
    pub fn allow_region(&self, peer: &Peer, region: &str) -> bool {
        self.allow(peer, |subject| match subject {
            Subject::Device(_) => false,
            Subject::Region(pattern) => pattern.matches(region),
        })
    }

    fn allow(&self, peer: &Peer, matches: impl Fn(&Subject) -> bool) -> bool {
        let first = self.0.iter().find(|rule| rule.subjects.iter().any(&matches));
        first.is_some_and(|rule| rule.users.iter().any(|user| user.includes(peer)))
    }
}

impl Subject {
    /// `previous` is the device pattern before this one; a pattern that starts with `/` takes its
    /// device.
    fn parse(text: &str, span: Span, previous: Option<&Pattern>) -> Result<Self, PolicyError> {
        let written = &text[span.clone()];
        let pattern_error = |error: ConfigError| error.map(PolicyErrorKind::Pattern);
        let Some(region) = written.strip_prefix('@') else {
            let pattern = Pattern::parse_part(text, span, previous);
            return pattern.map(Subject::Device).map_err(pattern_error);
        };
        let name = span.start + 1..span.end;
        if let Some(slash) = region.find('/') {
            let at = name.start + slash;
            return Err(ConfigError::new(text, at..span.end, PolicyErrorKind::RegionType));
        }
        NamePattern::parse(text, name).map(Subject::Region).map_err(pattern_error)
    }
}

impl User {
    fn parse(text: &str, span: Span) -> Result<User, PolicyError> {
        let written = &text[span.clone()];
        let number = |digits: &str| {
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        };
        let user = match written.split_once(':') {
            None if written == "*" => Some(User::Everyone),
            Some(("uid", digits)) => number(digits).map(User::Id),
            Some(("gid", digits)) => number(digits).map(User::Group),
            Some(("user", name)) if !name.is_empty() => Some(user_named(text, &span, name)?),
            Some(("group", name)) if !name.is_empty() => Some(group_named(text, &span, name)?),
            _ => None,
        };
        let kind =
            if written.is_empty() { PolicyErrorKind::NoUsers } else { PolicyErrorKind::BadUser };
        user.ok_or_else(|| ConfigError::new(text, span, kind))
    }

    fn includes(self, peer: &Peer) -> bool {
        match self {
            User::Everyone => true,
            User::Id(uid) => peer.uid == uid,
            User::Group(gid) => peer.gid == gid || peer.groups.contains(&gid),
        }
    }
}

/// The user of that name, by the system's database.
fn user_named(text: &str, span: &Span, name: &str) -> Result<User, PolicyError> {
    let found = unistd::User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()));
    number_of(found.map(|uid| uid.map(User::Id)), PolicyErrorKind::UnknownUser)
        .map_err(|kind| ConfigError::new(text, span.clone(), kind))
}

/// The group of that name, by the system's database.
fn group_named(text: &str, span: &Span, name: &str) -> Result<User, PolicyError> {
    let found = unistd::Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()));
    number_of(found.map(|gid| gid.map(User::Group)), PolicyErrorKind::UnknownGroup)
        .map_err(|kind| ConfigError::new(text, span.clone(), kind))
}

fn number_of(
    found: nix::Result<Option<User>>,
    unknown: PolicyErrorKind,
) -> Result<User, PolicyErrorKind> {
    match found {
        Ok(found) => found.ok_or(unknown),
        Err(errno) => Err(PolicyErrorKind::LookUp { reason: errno.desc().to_string() }),
    }
}

#[cfg(test)]
mod tests;
