//! Findings, each on the smallest configuration that has it.

use super::*;
use crate::vocabulary::parse_regions;

const BANKS: &[Bank] = &[Bank::new(0x4000_0000, 0x1000_0000)];

/// The findings, as the text they underline and what they are.
fn found(regions: &str, map: &str) -> Vec<(String, Problem)> {
    let parsed = parse_regions(regions).unwrap();
    let parsed_map = Map::parse(map).unwrap();
    lint(&parsed, &parsed_map, BANKS, Growth::Up, &["best-fit", "buddy"])
        .into_iter()
        .map(|f| {
            (if f.source == Source::Map { map } else { regions }[f.span].to_string(), f.problem)
        })
        .collect()
}

#[test]
fn a_clean_configuration_has_no_findings() {
    assert_eq!(found("a=1M:best-fit;b=2M", "x/f=a;x=b;*=a,b"), []);
}

#[test]
fn what_an_earlier_pattern_covers_never_matches() {
    for (map, dead) in [
        ("*=a;camera=a", "camera"),
        ("camera=a;camera=a", "camera"),
        ("cam*=a;camera/x=a", "camera/x"),
        ("cam?ra=a;camera=a", "camera"),
        ("foo/*=a;foo=a", "foo"),
        ("foo=a;/x=a", "/x"),
        ("foo?*=a;foob*=a", "foob*"),
    ] {
        let found = found("a=1M", map);
        assert_eq!(found.len(), 1, "{map}: {found:?}");
        assert_eq!(found[0].0, dead, "{map}");
        assert!(matches!(found[0].1, Problem::NeverMatches { whole_rule: true, .. }), "{map}");
    }
    for map in [
        "camera=a;*=a",
        "foo/a=a;foo=a",
        "foo?*=a;foo*=a",
        "fo=a;foo=a",
        "foo=a;fo?=a",
        "foo?=a;foo=a",
    ] {
        assert_eq!(found("a=1M", map), [], "{map}");
    }
}

#[test]
fn a_rule_of_which_some_patterns_live_is_told_from_a_dead_one() {
    let found = found("a=1M", "foo=a;foo,bar=a");
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].1, Problem::NeverMatches { whole_rule: false, .. }));
}

/// A second matcher, by trying every name over a small alphabet.
#[test]
fn covering_agrees_with_trying_every_name() {
    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([b'*'], _) => true,
            ([], []) => true,
            ([p, pattern @ ..], [c, name @ ..]) => (*p == b'?' || p == c) && matches(pattern, name),
            _ => false,
        }
    }
    fn words(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
        let mut all = vec![vec![]];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last
                .iter()
                .flat_map(|w| alphabet.iter().map(move |c| [&w[..], &[*c]].concat()))
                .collect::<Vec<_>>();
            all.extend(last.clone());
        }
        all
    }
    let names = words(b"abc", 4);
    let mut patterns = words(b"ab?", 3);
    patterns.extend(patterns.clone().into_iter().map(|p| [&p[..], b"*"].concat()));
    for by in &patterns {
        for pattern in &patterns {
            let all = names.iter().all(|name| !matches(pattern, name) || matches(by, name));
            let (by, pattern) = (str::from_utf8(by).unwrap(), str::from_utf8(pattern).unwrap());
            let mut earlier = Patterns::default();
            earlier.at(by).get_or_insert(());
            assert_eq!(earlier.covering(pattern).count() > 0, all, "{by} covers {pattern}");
        }
    }
}

#[test]
fn regions_nobody_names_and_names_nobody_has() {
    let found = found("a=1M;b=1M", "x=a,c;y=d");
    assert_eq!(found[0], ("b".to_string(), Problem::Unreached { region: "b".to_string() }));
    assert_eq!(found[1], ("c".to_string(), Problem::UnknownRegion { name: "c".to_string() }));
    assert_eq!(
        found[2],
        ("y=d".to_string(), Problem::LeadsNowhere { regions: vec!["d".to_string()] })
    );
    assert_eq!(found.len(), 3);
}

#[test]
fn a_rule_that_leads_nowhere_is_one_finding_that_names_its_regions() {
    let (one, many) = (found("a=1M", "x=d;*=a"), found("a=1M", "x=p,q,r,s,t,u,p;*=a"));
    assert_eq!(one.len(), 1);
    assert!(one[0].1.to_string().ends_with("there is no region \"d\""), "{}", one[0].1);
    assert_eq!(many[0].0, "x=p,q,r,s,t,u,p");
    let message = many[0].1.to_string();
    assert!(message.ends_with("\"p\" or \"q\" or \"r\" or \"s\", nor 2 more"), "{message}");
}

#[test]
fn a_region_named_twice_in_a_rule() {
    let found = found("a=1M;b=1M", "*=a,b,a;x/y=a");
    assert_eq!(found[0], ("a".to_string(), Problem::NamedTwice { region: "a".to_string() }));
    assert_eq!(found.len(), 2, "once in each of two rules is fine: {found:?}");
}

#[test]
fn what_is_rounded_up_is_found_where_it_is_written() {
    let found = found("a=1M@0x40001000/1M;b=1;c=4097@0x40000001;d=4K@0x40004000/16K", "*=a,b,c,d");
    let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["0x40001000", "1", "4097", "0x40000001"]);
    let messages: Vec<_> = found.iter().map(|(_, problem)| problem.to_string()).collect();
    assert!(messages[0].contains("will start at 0x40100000"), "{}", messages[0]);
    assert!(messages[1].contains("will have 4K: a size of 1 is"), "{}", messages[1]);
    assert!(messages[2].contains("will have 8K"), "{}", messages[2]);
    assert!(messages[3].contains("will start at 0x40001000"), "{}", messages[3]);
    assert_eq!(found[1].1.remedy(), "write 4K");
}

#[test]
fn allocators_nobody_knows() {
    let found = found("a=1M:bestfit", "*=a");
    assert_eq!(found[0].0, "bestfit");
    assert!(found[0].1.remedy().contains("best-fit, buddy"));
}

#[test]
fn no_region_at_all_is_found() {
    assert_eq!(found("", ""), [(String::new(), Problem::NoRegions)]);
}

#[test]
fn what_to_do_about_missing_memory_depends_on_what_is_missing() {
    let remedy = |regions| found(regions, "*=a")[0].1.remedy();
    assert_eq!(remedy("a=1M/4G"), "give it a smaller alignment");
    assert!(remedy("a=1G").starts_with("make it smaller"));
    assert!(remedy("a=1M@0x20000000").contains("a bank that holds it: 256M@0x40000000"));
}

#[test]
fn the_first_of_the_patterns_that_cover_one_is_named() {
    let found = found("a=1M", "ca*/x=a;cam?ra=a;c*/x=a;camera/x=a");
    let (place, problem) = found.last().unwrap();
    assert_eq!(place, "camera/x");
    assert!(matches!(problem, Problem::NeverMatches { covered_by, .. } if covered_by == "ca*/x"));
}

#[test]
fn regions_without_memory_are_errors() {
    let found = found("a=16M@0x40000000;b=16M@0x40800000;c=1G;d=1M@0x10000000", "*=a,b,c,d");
    assert!(matches!(&found[0].1, Problem::NoMemory { overlaps: Some(other), .. } if other == "a"));
    assert_eq!(
        (found[0].0.as_str(), found[1].0.as_str(), found[2].0.as_str()),
        ("0x40800000", "1G", "0x10000000")
    );
    assert_eq!(found.len(), 3);
}
