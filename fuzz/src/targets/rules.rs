//! `Rules` of the device server: which users may make requests for which device.

use super::patterns::{matches, names_near};
use super::{names_its_place, rules_of, spaced, text, variant};
use crate::{Form, Outcome, Target};
use cma_device_server::{Peer, PolicyErrorKind, Rules};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

pub(super) const TARGET: Target = Target {
    name: "rules",
    about: "access rules of the device server (--rules)",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/rules.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const RULE: &str = "(@?[a-c?]{1,2}[*]?,){0,2}([a-c?]{1,2}[*]?/[xy?][*]?,/[xy]|@[*]|[a-c][*]?)\
        [ ]?=[ ]?(uid:[0-2],|gid:[0-2],|(user|group):root,){0,2}(uid:[0-9]{1,9}|gid:1|user:daemon|[*])";
    const NEARLY: &str = "((@?[a-c?]{1,2}[*]?(/[xy?][*]?)?|/[xy]|@[*]|\\PC),){0,2}\
        @?[a-c?]{1,2}[*]?(/[xy])?[ ]?=[ ]?(uid:[0-2],|gid:[0-2],){0,2}\
        (uid:[0-9]{1,11}|gid:1|(user|group):(root|[a-z]{0,3})|[*])";
    rules_of(RULE, NEARLY)
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let rules = match Rules::parse(&text) {
        Ok(rules) => rules,
        Err(error) => {
            assert_eq!(error.text, text);
            names_its_place(&text, &error.span, &error.to_string());
            let who = &text[error.span.clone()];
            match error.kind {
                PolicyErrorKind::UnknownUser => assert_eq!(id_of("user", &USERS, who), None),
                PolicyErrorKind::UnknownGroup => assert_eq!(id_of("group", &GROUPS, who), None),
                _ => {}
            }
            return Outcome::refused(variant(&error.kind));
        }
    };
    assert_eq!(Rules::parse(&spaced(&text, &[';', ',', '='])), Ok(rules.clone()));
    let plain = read(&text);
    if plain.iter().flat_map(|rule| &rule.who).any(|who| is_from_elsewhere(who)) {
        return Outcome::accepted("a name that the files of the system don't have");
    }
    let mut denials = 0;
    for pattern in plain.iter().flat_map(|rule| &rule.patterns).take(8) {
        for name in names_near(&pattern.name) {
            for peer in peers(&plain) {
                let kind = pattern.kind.as_deref().unwrap_or_default().replace('?', "x");
                let found = if pattern.is_region {
                    rules.allow_region(&peer, &name)
                } else {
                    rules.allow_device(&peer, &name, &kind)
                };
                let kind = if kind.is_empty() { "common" } else { &kind };
                let expected = allow(&plain, &peer, pattern.is_region, &name, kind);
                assert_eq!(found, expected, "{peer:?} requests {name}/{kind}");
                denials += usize::from(!found);
            }
        }
    }
    Outcome::accepted(format!("{} rules, denials: {}", plain.len(), denials > 0))
}

/// A rule, parsed in the plainest way.
struct Rule {
    patterns: Vec<Pattern>,
    who: Vec<String>,
}

struct Pattern {
    is_region: bool,
    name: String,
    kind: Option<String>,
}

/// Reads rules that the parser accepted.
fn read(text: &str) -> Vec<Rule> {
    let text = text.trim_end();
    let text = text.strip_suffix(';').unwrap_or(text);
    let mut device = String::new();
    let mut rules = Vec::new();
    for rule in text.split(';').filter(|_| !text.trim().is_empty()) {
        let Some((patterns, who)) = rule.split_once('=') else {
            panic!("{rule:?} was accepted, and has no '='");
        };
        let patterns = patterns.split(',').map(|pattern| {
            let pattern = pattern.trim();
            if let Some(region) = pattern.strip_prefix('@') {
                return Pattern { is_region: true, name: region.trim().to_string(), kind: None };
            }
            let (name, kind) = match pattern.split_once('/') {
                Some((name, kind)) => (name, Some(kind.to_string())),
                None => (pattern, None),
            };
            if !name.is_empty() {
                device = name.to_string();
            }
            Pattern { is_region: false, name: device.clone(), kind }
        });
        let patterns = patterns.collect();
        let who = who.split(',').map(|who| who.trim().to_string()).collect();
        rules.push(Rule { patterns, who });
    }
    rules
}

/// Whether the first rule that matches names `peer`.
fn allow(rules: &[Rule], peer: &Peer, is_region: bool, name: &str, kind: &str) -> bool {
    let matching = rules.iter().find(|rule| {
        rule.patterns.iter().any(|pattern| {
            pattern.is_region == is_region
                && matches(&pattern.name, name)
                && pattern.kind.as_ref().is_none_or(|pattern| matches(pattern, kind))
        })
    });
    matching.is_some_and(|rule| {
        rule.who.iter().any(|who| {
            let groups = || peer.groups.iter().copied().chain([peer.gid]);
            who == "*"
                || uid(who) == Some(peer.uid)
                || gid(who).is_some_and(|gid| groups().any(|own| own == gid))
        })
    })
}

/// The users and groups of the system's files, by name.
static USERS: LazyLock<HashMap<String, u32>> = LazyLock::new(|| ids_in("/etc/passwd"));
static GROUPS: LazyLock<HashMap<String, u32>> = LazyLock::new(|| ids_in("/etc/group"));

/// The numbers of the names in a file; the first line of a name decides.
fn ids_in(file: &str) -> HashMap<String, u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().rev().map(|line| line.split(':').collect::<Vec<_>>());
    let entries = lines
        .filter_map(|fields| Some((fields.first()?.to_string(), fields.get(2)?.parse().ok()?)));
    entries.collect()
}

/// The user of a rule.
fn uid(who: &str) -> Option<u32> {
    number(who, "uid").or_else(|| id_of("user", &USERS, who))
}

/// The group of a rule.
fn gid(who: &str) -> Option<u32> {
    number(who, "gid").or_else(|| id_of("group", &GROUPS, who))
}

fn number(who: &str, key: &str) -> Option<u32> {
    who.strip_prefix(key)?.strip_prefix(':')?.parse().ok()
}

fn id_of(key: &str, ids: &HashMap<String, u32>, who: &str) -> Option<u32> {
    ids.get(who.strip_prefix(key)?.strip_prefix(':')?).copied()
}

/// Whether the system knows a name from elsewhere than its files, as from a directory service.
fn is_from_elsewhere(who: &str) -> bool {
    let is_name = who.starts_with("user:") || who.starts_with("group:");
    is_name && uid(who).or_else(|| gid(who)).is_none()
}

/// Peers that the rules name, and one that they don't.
fn peers(rules: &[Rule]) -> Vec<Peer> {
    let stranger = Peer { uid: 77, gid: 78, groups: [79].into(), pid: 1 };
    let ids = rules.iter().flat_map(|rule| &rule.who).filter_map(|who| {
        uid(who).map(|uid| (true, uid)).or_else(|| gid(who).map(|gid| (false, gid)))
    });
    let ids = ids.take(4);
    let named = ids.flat_map(|(is_user, id)| {
        let stranger = || Peer { uid: 77, gid: 78, groups: [79].into(), pid: 1 };
        if is_user {
            [Peer { uid: id, ..stranger() }, Peer { gid: id, ..stranger() }]
        } else {
            [Peer { gid: id, ..stranger() }, Peer { groups: [5, id].into(), ..stranger() }]
        }
    });
    named.chain([stranger]).collect()
}
