//! Patterns against reference implementations, exhaustively over a small alphabet.

use super::*;
use proptest::prelude::*;

fn name_pattern(text: &str) -> NamePattern {
    NamePattern::parse(text, 0..text.len()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// All words over `alphabet` of up to `longest` characters, the empty one included.
fn words(alphabet: &[char], longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        let longer =
            last.iter().flat_map(|word| alphabet.iter().map(move |c| format!("{word}{c}")));
        last = longer.collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// All valid patterns of up to three characters of `a`, `é` and `?`, with and without a final `*`.
fn patterns() -> Vec<String> {
    let fixed = words(&['a', 'é', '?'], 3);
    let open: Vec<_> = fixed.iter().map(|fixed| format!("{fixed}*")).collect();
    fixed.into_iter().filter(|fixed| !fixed.is_empty()).chain(open).collect()
}

/// The reference matcher.
fn reference_matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        (['*'], _) | ([], []) => true,
        ([p, pattern @ ..], [c, name @ ..]) => {
            (*p == '?' || p == c) && reference_matches(pattern, name)
        }
        _ => false,
    }
}

fn characters(text: &str) -> Vec<char> {
    text.chars().collect()
}

#[test]
fn matching_agrees_with_the_reference_for_every_pattern_and_name() {
    for pattern in patterns() {
        let parsed = name_pattern(&pattern);
        for name in words(&['a', 'é', 'z'], 4) {
            let expected = reference_matches(&characters(&pattern), &characters(&name));
            assert_eq!(parsed.matches(&name), expected, "{pattern} matches {name}");
        }
    }
}

/// `z` occurs in no pattern, so it stands for every character that only a wildcard matches.
#[test]
fn a_pattern_covers_another_exactly_if_it_matches_all_names_of_the_other() {
    let names = words(&['a', 'é', 'z'], 4);
    let patterns: Vec<_> = patterns().iter().map(|text| name_pattern(text)).collect();
    for covering in &patterns {
        for covered in &patterns {
            let all = names.iter().all(|name| !covered.matches(name) || covering.matches(name));
            assert_eq!(covering.covers(covered), all, "{covering} covers {covered}");
        }
    }
}

#[test]
fn a_pattern_covers_another_if_it_covers_device_and_type() {
    let pattern = |text| Pattern::parse(text).unwrap();
    for (covering, covered, expected) in [
        ("*", "camera/f", true),
        ("camera", "camera/*", true),
        ("camera/*", "camera", true),
        ("camera/f", "camera", false),
        ("camera/f", "camera/f?", false),
        ("cam*/f?", "camera/fa", true),
        ("camera/f", "video/f", false),
    ] {
        let covers = pattern(covering).covers(&pattern(covered));
        assert_eq!(covers, expected, "{covering} covers {covered}");
    }
}

#[test]
fn a_pattern_without_a_device_takes_that_of_the_pattern_before() {
    let text = "cam*/a,/b";
    let first = Pattern::parse_part(text, 0..6, None).unwrap();
    let second = Pattern::parse_part(text, 7..9, Some(&first)).unwrap();
    assert!(second.matches("camera", "b") && !second.matches("video", "b"));
    assert_eq!(second.to_string(), "cam*/b");
    let error = Pattern::parse_part(text, 7..9, None).unwrap_err();
    assert_eq!((error.kind.clone(), error.found()), (SyntaxError::NoDeviceBefore, "/b"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_parsed_pattern_is_displayed_as_it_was_written(
        text in "[ab?@:.é]{1,4}[*]?(/[xy?é]{1,3}[*]?|/[*])?"
    ) {
        let pattern = Pattern::parse(&text).unwrap();
        prop_assert_eq!(pattern.to_string(), text.clone());
        prop_assert_eq!(Pattern::parse(&pattern.to_string()).unwrap(), pattern);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_with_a_position(
        text in prop_oneof!["\\PC{0,12}", "[ab/*?, é]{0,8}"],
    ) {
        match Pattern::parse(&text) {
            Ok(pattern) => prop_assert_eq!(pattern.to_string(), text),
            Err(error) => prop_assert!(text.get(error.span).is_some()),
        }
    }
}
