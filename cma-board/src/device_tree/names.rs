//! Names of nodes as names of the framework, and the other way round.
//!
//! The grammars of the map and of `cma=` reserve characters that node names may have, and names of
//! regions may have characters that node names may not. A name is changed as little as its target
//! allows, two names never become one, and the same names always change in the same way.

use std::collections::{HashMap, HashSet};

/// The longest name of a node without its address (Devicetree Specification 2.2.1).
const MOST_NODE_NAME_BYTES: usize = 31;

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

/// `name` as the name of a node without an address: with `-` in place of the characters that such a
/// name may not have, of at most 31 bytes, and with a letter first.
pub(super) fn node_name(name: &str) -> String {
    let replaced = replaced(name, |c| !is_node_char(c));
    let letter = replaced.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut name = if letter { replaced } else { format!("region-{replaced}") };
    name.truncate(MOST_NODE_NAME_BYTES);
    name
}

/// Whether a node can be called `name`.
pub(super) fn is_node_name(name: &str) -> bool {
    let mut parts = name.split('@');
    let base = parts.next().unwrap_or_default();
    let address = parts.next();
    base.starts_with(|c: char| c.is_ascii_alphabetic())
        && base.len() <= MOST_NODE_NAME_BYTES
        && address.is_none_or(|address| !address.is_empty())
        && parts.next().is_none()
        && name.chars().all(|c| c == '@' || is_node_char(c))
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

fn is_node_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ',' | '.' | '_' | '+' | '-')
}
