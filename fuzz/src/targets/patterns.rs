//! The patterns of maps and rules, read a second time in the plainest way.

use std::collections::BTreeSet;

/// Whether `name` matches `pattern`, character by character.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    fn rest(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            (['*'], _) => true,
            ([], []) => true,
            (['?', pattern @ ..], [_, name @ ..]) => rest(pattern, name),
            ([p, pattern @ ..], [n, name @ ..]) => p == n && rest(pattern, name),
            _ => false,
        }
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    rest(&pattern, &name)
}

/// Names that match `pattern`, and some that nearly do.
pub(super) fn names_near(pattern: &str) -> BTreeSet<String> {
    let exact = pattern.replace('?', "x").replace('*', "");
    let longer = pattern.replace('?', "\u{fc}").replace('*', "rest");
    let shorter: String = exact.chars().skip(1).collect();
    [format!("{exact}y"), exact, longer, shorter].into_iter().collect()
}
