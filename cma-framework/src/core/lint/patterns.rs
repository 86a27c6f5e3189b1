//! Patterns kept so that those which cover another one are found without looking at each.

use std::collections::HashMap;

/// Patterns with a value each, as a tree of their characters. Patterns may have `?` anywhere and a
/// `*` at the end.
#[derive(Debug)]
pub(super) struct Patterns<T> {
    /// The node behind a node and a character. The root is node 0.
    next: HashMap<(usize, char), usize>,
    /// For each node the values of the pattern that ends there, without and with a final `*`.
    ends: Vec<[Option<T>; 2]>,
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Patterns { next: HashMap::new(), ends: vec![[None, None]] }
    }
}

/// A pattern without its final `*`, and whether it has one.
fn parts(pattern: &str) -> (&str, bool) {
    pattern.strip_suffix('*').map_or((pattern, false), |fixed| (fixed, true))
}

impl<T> Patterns<T> {
    /// The value of `pattern`.
    pub(super) fn at(&mut self, pattern: &str) -> &mut Option<T> {
        let (fixed, open) = parts(pattern);
        let mut node = 0;
        for c in fixed.chars() {
            node = *self.next.entry((node, c)).or_insert(self.ends.len());
            if node == self.ends.len() {
                self.ends.push([None, None]);
            }
        }
        &mut self.ends[node][usize::from(open)]
    }

    /// The values of the patterns that match every name that `pattern` matches.
    pub(super) fn covering(&self, pattern: &str) -> impl Iterator<Item = &T> {
        let (fixed, open) = parts(pattern);
        let mut found: Vec<&T> = Vec::new();
        // The nodes of all beginnings that match what was looked at.
        let mut nodes = vec![0];
        for c in fixed.chars() {
            found.extend(nodes.iter().filter_map(|node| self.ends[*node][1].as_ref()));
            let step = |c| nodes.iter().filter_map(move |node| self.next.get(&(*node, c)).copied());
            nodes = match c {
                '?' => step('?').collect(),
                c => step('?').chain(step(c)).collect(),
            };
        }
        let closed = |node: &usize| self.ends[*node][0].as_ref().filter(|_| !open);
        found.extend(
            nodes.iter().flat_map(|node| closed(node).into_iter().chain(&self.ends[*node][1])),
        );
        found.into_iter()
    }
}
