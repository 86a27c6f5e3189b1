//! `Map`, the text of `cma.map=`.

use super::patterns::{matches, names_near};
use super::{names_its_place, rules_of, spaced, text, variant};
use crate::{Form, Outcome, Target};
use cma_framework::config::{Map, RuleSpec};
use proptest::prelude::*;
use std::fmt::Debug;

pub(super) const TARGET: Target = Target {
    name: "map",
    about: "the map of devices to regions (cma.map=)",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/map.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const RULE: &str = "([a-d?]{1,3}[*]?(/[xy?]{1,2}[*]?)?,){0,2}[a-d?]{1,3}[*]?(/[xy?]{1,2}[*]?)?\
        =([r-t]{1,2}[,|]){0,3}[r-t]";
    const NEARLY: &str = "(([a-d?]{1,3}[*]?|\\PC{1,2})?(/[xy?]{1,2}[*]?)?,){0,2}\
        [a-d?]{1,3}[*]?(/[xy?]{0,2}[*]?)?=([r-t]{1,2}[,|]){0,3}[r-t][|*]?";
    rules_of(RULE, NEARLY)
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let map = match Map::parse(&text) {
        Ok(map) => map,
        Err(error) => {
            assert_eq!(error.text, text);
            names_its_place(&text, &error.span, &error.to_string());
            return Outcome::refused(variant(&error.kind));
        }
    };
    assert_eq!(map.text(), text);
    let rules: Vec<RuleSpec<'_>> = map.rules().collect();
    assert_eq!(map.is_empty(), rules.is_empty());
    survives_printing(&map, &rules);
    first_match_decides(&map, &rules);
    Outcome::accepted(format!("{} rules", rules.len().min(5)))
}

/// The map means the same when it is printed and parsed, spaced out, or made from its own rules.
fn survives_printing(map: &Map, rules: &[RuleSpec<'_>]) {
    let printed = map.to_string();
    let spaced = spaced(map.text(), &[';', ',', '=', '|']);
    for text in [&printed, &spaced] {
        let again = Map::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(parts(again.rules()), parts(rules), "{text:?}");
    }
    assert!(!printed.contains(char::is_control), "{printed:?} is not one line");
    let made = Map::from_rules(rules).unwrap_or_else(|error| panic!("from its rules: {error}"));
    assert_eq!(parts(made.rules()), parts(rules));
    for rule in rules {
        assert!(!rule.patterns.is_empty() && !rule.groups.is_empty(), "{rule} is incomplete");
    }
}

/// Rules in a form in which those of different maps can be compared.
fn parts<T: Debug>(rules: impl IntoIterator<Item = T>) -> Vec<String> {
    rules.into_iter().map(|rule| format!("{rule:?}")).collect()
}

/// `regions_for` finds what a plain reading of the rules finds.
fn first_match_decides(map: &Map, rules: &[RuleSpec<'_>]) {
    let mut device = "";
    // Every pattern with its device and the groups it leads to.
    let mut patterns = Vec::new();
    for rule in rules {
        for pattern in rule.patterns.iter() {
            device = pattern.device.unwrap_or(device);
            patterns.push((device, pattern.kind, &rule.groups));
        }
    }
    for (device, kind, _) in patterns.iter().take(8) {
        for device in names_near(device) {
            for kind in names_near(kind.unwrap_or("common")) {
                let expected = patterns.iter().find(|(device_pattern, kind_pattern, _)| {
                    matches(device_pattern, &device)
                        && kind_pattern.is_none_or(|pattern| matches(pattern, &kind))
                });
                let found = map
                    .regions_for(&device, &kind)
                    .map(|groups| groups.map(Iterator::collect).collect::<Vec<Vec<&str>>>());
                let expected = expected.map(|(_, _, groups)| {
                    groups.iter().map(|group| group.regions().collect()).collect::<Vec<Vec<&str>>>()
                });
                assert_eq!(found, expected, "for {device}/{kind}");
            }
        }
    }
}
