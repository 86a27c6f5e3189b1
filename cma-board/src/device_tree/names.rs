//! Names of nodes as names of the framework, and the other way round.
//!
//! The grammars of the map and of `cma=` reserve characters that node names may have, and names of
//! regions may have characters that node names may not. A name is changed as little as its target
//! allows, two names never become one, and the same names always change in the same way.

use std::collections::{HashMap, HashSet};

/// A node's name without its address: `vdev0buffer` of `vdev0buffer@55400000`.
pub(super) fn without_address(node: &str) -> &str {
    node.split_once('@').map_or(node, |(name, _)| name)
}

/// `name` with `-` in place of every character that no name of a region may have.
pub(super) fn region_name(name: &str) -> String {
    replaced(name, |c| is_reserved(c) || matches!(c, '@' | ':' | '(' | ')'))
}

/// `name` with `-` in place of every character that no name of a device or a type may have.
pub(super) fn device_name(name: &str) -> String {
    replaced(name, is_reserved)
}

/// `wanted`, each changed to be different from the others: a name that comes again gets `.2`, `.3`
/// and so on. The first of equal names keeps it, and so does every name that is wanted once.
pub(super) fn distinct(wanted: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = wanted.iter().cloned().collect();
    let mut last = HashMap::new();
    let distinct = wanted.iter().map(|name| {
        let last = last.entry(name).or_insert(0_usize);
        *last += 1;
        if *last == 1 {
            return name.clone();
        }
        loop {
            let numbered = format!("{name}.{last}");
            if taken.insert(numbered.clone()) {
                return numbered;
            }
            *last += 1;
        }
    });
    distinct.collect()
}

fn replaced(name: &str, is_wrong: impl Fn(char) -> bool) -> String {
    name.chars().map(|c| if is_wrong(c) { '-' } else { c }).collect()
}

/// Whether the grammar of the map reserves `c`.
fn is_reserved(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, ';' | ',' | '=' | '/' | '|' | '*' | '?')
}
