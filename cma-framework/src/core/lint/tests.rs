//! Each finding on the smallest configuration that causes it.

use super::*;
use crate::vocabulary::parse_regions;
use std::collections::BTreeSet;

const BANKS: &[Bank] = &[Bank::new(0x4000_0000, 0x1000_0000)];

/// The findings, each as the text at its position and the problem.
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
fn a_board_without_banks_is_one_finding_for_all_its_regions() {
    let regions = parse_regions("a=1M;b=2M@0x40000000;c=3M@0-1G").unwrap();
    let map = Map::parse("*=a,b,c").unwrap();
    let found = lint(&regions, &map, &[], Growth::Up, &[]);
    assert_eq!(found.iter().map(|f| &f.problem).collect::<Vec<_>>(), [&Problem::NoBanks]);
    assert_eq!((found[0].severity(), found[0].span.clone()), (Severity::Error, 0..0));
    let found = lint(&[], &Map::default(), &[], Growth::Up, &[]);
    assert_eq!(found.iter().map(|f| &f.problem).collect::<Vec<_>>(), [&Problem::NoRegions]);
}

#[test]
fn a_pattern_that_an_earlier_one_covers_is_reported() {
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
fn a_rule_with_some_matching_patterns_is_not_reported_as_dead() {
    let found = found("a=1M", "foo=a;foo,bar=a");
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].1, Problem::NeverMatches { whole_rule: false, .. }));
}

/// For all patterns of up to three characters of `a`, `b` and `?`, with and without a final `*`.
#[test]
fn the_index_finds_exactly_the_patterns_that_cover_another() {
    let alphabet = &["", "a", "b", "?"];
    let fixed = alphabet.iter().flat_map(|a| {
        alphabet.iter().flat_map(move |b| alphabet.iter().map(move |c| format!("{a}{b}{c}")))
    });
    let texts: BTreeSet<_> = fixed.flat_map(|fixed| [format!("{fixed}*"), fixed]).collect();
    let parsed = texts.iter().filter(|text| !text.is_empty());
    let patterns: Vec<_> =
        parsed.map(|text| NamePattern::parse(text, 0..text.len()).unwrap()).collect();
    let mut index = PatternIndex::default();
    for (n, pattern) in patterns.iter().enumerate() {
        assert_eq!(index.entry(pattern).replace(n), None);
    }
    for pattern in &patterns {
        let found: BTreeSet<_> = index.covering(pattern).copied().collect();
        let covering = (0..patterns.len()).filter(|n| patterns[*n].covers(pattern));
        assert_eq!(found, covering.collect(), "{pattern}");
    }
}

#[test]
fn unused_regions_and_unknown_names_are_reported() {
    let found = found("a=1M;b=1M", "x=a,c;y=d");
    assert_eq!(found[0], ("b".to_string(), Problem::Unreached { region: "b".to_string() }));
    assert_eq!(found[1], ("c".to_string(), Problem::UnknownRegion { name: "c".to_string() }));
    assert_eq!(
        found[2],
        ("y=d".to_string(), Problem::NoConfiguredRegion { regions: vec!["d".to_string()] })
    );
    assert_eq!(found.len(), 3);
}

#[test]
fn a_rule_without_a_configured_region_is_one_finding_that_names_its_regions() {
    let (one, many) = (found("a=1M", "x=d;*=a"), found("a=1M", "x=p,q,r,s,t,u,p;*=a"));
    assert_eq!(one.len(), 1);
    assert!(one[0].1.to_string().ends_with("there is no region \"d\""), "{}", one[0].1);
    assert_eq!(many[0].0, "x=p,q,r,s,t,u,p");
    let message = many[0].1.to_string();
    assert!(message.ends_with("\"p\" or \"q\" or \"r\" or \"s\", nor 2 more"), "{message}");
}

#[test]
fn a_region_named_twice_in_one_rule_is_reported() {
    let found = found("a=1M;b=1M", "*=a,b,a;x/y=a");
    assert_eq!(found[0], ("a".to_string(), Problem::NamedTwice { region: "a".to_string() }));
    assert_eq!(found.len(), 2, "once in each of two rules is fine: {found:?}");
}

#[test]
fn rounding_is_reported_at_the_position_of_the_number() {
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
fn an_unknown_allocator_is_reported_with_the_known_ones() {
    let found = found("a=1M:bestfit", "*=a");
    assert_eq!(found[0].0, "bestfit");
    assert!(found[0].1.remedy().contains("best-fit, buddy"));
}

#[test]
fn an_empty_configuration_is_reported() {
    assert_eq!(found("", ""), [(String::new(), Problem::NoRegions)]);
}

#[test]
fn the_remedy_for_missing_memory_depends_on_the_reason() {
    let remedy = |regions| found(regions, "*=a")[0].1.remedy();
    assert_eq!(remedy("a=1M/4G"), "give it a smaller alignment");
    assert!(remedy("a=1G").starts_with("make it smaller"));
    assert!(remedy("a=1M@0x20000000").contains("a bank with room for it: 256M@0x40000000"));
}

#[test]
fn the_remedy_for_missing_memory_names_only_banks_that_can_hold_the_region() {
    let remedy = |regions, banks: &[Bank]| {
        let (regions, map) = (parse_regions(regions).unwrap(), Map::parse("*=a").unwrap());
        lint(&regions, &map, banks, Growth::Up, &[])[0].problem.remedy()
    };
    let banks = [Bank::new(0x4000_0000, 4 << 20), Bank::new(0x5000_0000, 8 << 20)];
    assert_eq!(remedy("a=8M@2G", &banks), "move it into a bank with room for it: 8M@0x50000000");
    assert_eq!(
        remedy("a=9M@2G-3G", &banks),
        "write a window in a bank, and make it smaller; the banks are 4M@0x40000000, 8M@0x50000000"
    );
    for regions in ["a=1M", "a=1M@1G", "a=1M@0-1G"] {
        assert_eq!(remedy(regions, &[]), "name the board's memory banks, as in 2G@0x40000000");
    }
}

#[test]
fn a_window_without_memory_for_its_region_is_an_error_at_its_position() {
    // The bank is 0x40000000 to 0x50000000.
    for (regions, message, remedy) in [
        (
            "a=1M@0-1G",
            "no memory bank has a page within the window 0x0-0x40000000",
            "write a window in a bank with room for it: 256M@0x40000000",
        ),
        (
            "a=2M@0x3ff00000-0x40100000",
            "has 2M free in one piece within 0x3ff00000-0x40100000; the largest free piece there is 1M",
            "make it smaller, or widen its window; the banks are 256M@0x40000000",
        ),
        (
            "a=2M@1G-0x40400000;f=1M@0x40100000;g=4K@0x40300000",
            "the largest free piece there is 1M; in the window lie regions \"f\" and \"g\"",
            "make it smaller, widen its window, or move what lies there",
        ),
        (
            "a=2M@0x40100000-0x40500000/2M;f=1M@0x40300000",
            "aligned to 2M within 0x40100000-0x40500000; the largest free piece there is 2M; in the \
             window lies region \"f\"",
            "give it a smaller alignment, widen its window, or move what lies there",
        ),
        (
            "a=1M@1G-0x40100000;b=1M@1G-0x40100000",
            "there is no memory for region \"b\"",
            "make it smaller, widen its window, or move what lies there",
        ),
    ] {
        let found = found(regions, "*=a,b,f,g");
        let (place, problem) = &found[0];
        assert!(matches!(problem, Problem::NoMemory { .. }), "{found:?}");
        assert!(place.contains('-') && regions.contains(&format!("@{place}")), "{place}");
        assert!(problem.to_string().contains(message), "{problem}");
        assert_eq!(problem.remedy(), remedy, "{regions}");
    }
}

#[test]
fn a_region_is_placed_after_those_that_were_promised_a_place() {
    // In the order of the text, each of the first three would take the place of the next.
    let regions = |size: &str| {
        format!("any={size};wide=64M@1G-0x50000000;narrow=32M@1G-0x48000000;fixed=1M@1G")
    };
    assert_eq!(found(&regions("128M"), "*=any,wide,narrow,fixed"), []);
    let found = found(&regions("192M"), "*=any,wide,narrow,fixed");
    let at: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(at, ["192M"], "{found:?}");
}

#[test]
fn regions_of_a_group_are_checked_one_by_one() {
    let found = found("a=1M;b=1M;c=1M", "x=a|d,b|a;y=c|c;z=d|e;*=a | b");
    let found: Vec<_> = found.iter().map(|(place, problem)| (place.as_str(), problem)).collect();
    let twice = |region: &str| Problem::NamedTwice { region: region.to_string() };
    assert_eq!(found[0], ("d", &Problem::UnknownRegion { name: "d".to_string() }));
    assert_eq!(found[1], ("a", &twice("a")));
    assert_eq!(found[2], ("c", &twice("c")));
    let none = Problem::NoConfiguredRegion { regions: vec!["d".to_string(), "e".to_string()] };
    assert_eq!(found[3], ("z=d|e", &none));
    assert_eq!(found.len(), 4);
}

#[test]
fn the_first_of_several_covering_patterns_is_named() {
    let found = found("a=1M", "ca*/x=a;cam?ra=a;c*/x=a;camera/x=a");
    let (place, problem) = found.last().unwrap();
    assert_eq!(place, "camera/x");
    assert!(matches!(problem, Problem::NeverMatches { covered_by, .. } if covered_by == "ca*/x"));
}

#[test]
fn regions_without_memory_are_errors() {
    let found = found("a=16M@0x40000000;b=16M@0x40800000;c=1G;d=1M@0x10000000", "*=a,b,c,d");
    assert!(matches!(&found[0].1, Problem::NoMemory { others, .. } if others[..] == ["a"]));
    assert_eq!(
        (found[0].0.as_str(), found[1].0.as_str(), found[2].0.as_str()),
        ("0x40800000", "1G", "0x10000000")
    );
    assert_eq!(found.len(), 3);
}
