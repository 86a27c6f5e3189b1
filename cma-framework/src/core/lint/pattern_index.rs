//! An index of patterns that finds the ones that cover a given pattern without comparing each.

use crate::vocabulary::NamePattern;
use std::collections::HashMap;

/// Name patterns with a value each, as a tree of their characters.
#[derive(Debug)]
pub(super) struct PatternIndex<T> {
    /// The child of a node for a character. The root is node 0.
    children: HashMap<(usize, char), usize>,
    /// For each node the values of the patterns that end there: without and with a final `*`.
    values: Vec<[Option<T>; 2]>,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        PatternIndex { children: HashMap::new(), values: vec![[None, None]] }
    }
}

impl<T> PatternIndex<T> {
    /// The value of exactly `pattern`.
    pub(super) fn entry(&mut self, pattern: &NamePattern) -> &mut Option<T> {
        let mut node = 0;
        for c in pattern.fixed().chars() {
            node = *self.children.entry((node, c)).or_insert(self.values.len());
            if node == self.values.len() {
                self.values.push([None, None]);
            }
        }
        &mut self.values[node][usize::from(pattern.is_open())]
    }

    /// The values of the patterns that cover `pattern`; see [`NamePattern::covers`].
    pub(super) fn covering(&self, pattern: &NamePattern) -> impl Iterator<Item = &T> {
        let mut found: Vec<&T> = Vec::new();
        // The nodes of all prefixes that cover the characters so far.
        let mut nodes = vec![0];
        for c in pattern.fixed().chars() {
            found.extend(nodes.iter().filter_map(|node| self.values[*node][1].as_ref()));
            let step =
                |c| nodes.iter().filter_map(move |node| self.children.get(&(*node, c)).copied());
            nodes = match c {
                '?' => step('?').collect(),
                c => step('?').chain(step(c)).collect(),
            };
        }
        let closed = |node: &usize| self.values[*node][0].as_ref().filter(|_| !pattern.is_open());
        found.extend(
            nodes.iter().flat_map(|node| closed(node).into_iter().chain(&self.values[*node][1])),
        );
        found.into_iter()
    }
}
