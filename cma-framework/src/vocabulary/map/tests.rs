//! The map's grammar and meaning, also against a second matcher.

use super::*;
use proptest::prelude::*;

fn map(text: &str) -> Map {
    Map::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn route(text: &str, device: &str, kind: &str) -> Option<String> {
    map(text).regions_for(device, kind).map(|names| names.collect::<Vec<_>>().join(","))
}

#[test]
fn the_examples_of_the_specification() {
    for (text, device, kind, answer) in [
        ("video,camera=region", "camera", COMMON, Some("region")),
        ("video,camera=region;*=common", "audio", COMMON, Some("common")),
        ("foo/quaz=r1;foo/*=r2", "foo", "quaz", Some("r1")),
        ("foo/quaz=r1;foo/*=r2", "foo", "other", Some("r2")),
        ("foo/quaz=r1;/*=r2", "foo", "quaz", Some("r1")),
        ("foo/quaz=r1;/*=r2", "foo", "other", Some("r2")),
        ("bar=r1,r2", "bar", COMMON, Some("r1,r2")),
        ("baz?/a,baz?/b=r3", "baz1", "b", Some("r3")),
        ("baz?/a,baz?/b=r3", "baz", "a", None),
        ("foo/a=a,b;foo/b=b,a;*=a,b", "foo", "b", Some("b,a")),
        ("s3c-mfc5/f=fw;s3c-mfc5/a=b1;s3c-mfc5/b=b2", "s3c-mfc5", COMMON, None),
        ("foobar=r1;/x=r2", "foo", "x", None),
    ] {
        assert_eq!(route(text, device, kind).as_deref(), answer, "{text}: {device}/{kind}");
    }
}

#[test]
fn an_empty_map_matches_nothing() {
    assert_eq!(route("", "foo", COMMON), None);
    assert_eq!(route("\n", "foo", COMMON), None);
    assert!(map("").is_empty());
}

#[test]
fn a_star_matches_the_rest_and_also_nothing() {
    assert_eq!(route("foo*=r", "foo", COMMON).as_deref(), Some("r"));
    assert_eq!(route("foo*=r", "foobar", COMMON).as_deref(), Some("r"));
    assert_eq!(route("foo*=r", "fo", COMMON), None);
    assert_eq!(route("x/b*=r", "x", "bitstream").as_deref(), Some("r"));
    assert_eq!(route("?=r", "ü", COMMON).as_deref(), Some("r"));
}

#[test]
fn every_mistake_is_named_at_its_place() {
    for (text, mistake, found) in [
        (";a=r", Mistake::Empty, ";"),
        ("a=r;;b=r", Mistake::Empty, ";"),
        ("a", Mistake::NoRegions, ""),
        ("a=", Mistake::NoRegions, ""),
        ("a=;b=r", Mistake::NoRegions, ""),
        ("a=r,", Mistake::NoRegionName, ""),
        ("a=r,,s", Mistake::NoRegionName, ""),
        ("a==b", Mistake::SecondEquals, "="),
        ("a=b=c", Mistake::SecondEquals, "="),
        ("=r", Mistake::NoPattern, ""),
        ("a,=r", Mistake::NoPattern, ""),
        ("/x=r", Mistake::NoDeviceBefore, "/x"),
        ("a/=r", Mistake::NoType, "/"),
        ("a/b/c=r", Mistake::SecondSlash, "/"),
        ("a*b=r", Mistake::StarInside, "*"),
        ("a**=r", Mistake::StarInside, "*"),
        ("a/*b=r", Mistake::StarInside, "*"),
        ("a b=r", Mistake::BadPattern, "a b"),
        ("a,b c=r", Mistake::BadPattern, "b c"),
        ("a|b=r", Mistake::BadPattern, "a|b"),
        ("a/x y=r", Mistake::BadPattern, "x y"),
        ("a=r|s", Mistake::Group, "r|s"),
        ("a=r | s,t", Mistake::Group, "r | s"),
        ("a=soc:r", Mistake::BadName, "soc:r"),
        ("a=r s", Mistake::BadName, "r s"),
        (" a = r ; ; b = s", Mistake::Empty, ";"),
        ("a=r; b", Mistake::NoRegions, ""),
        ("a=r*", Mistake::WildcardInName, "r*"),
        ("a=r/s", Mistake::BadName, "r/s"),
        ("a=r\nb=s", Mistake::SecondEquals, "="),
    ] {
        let error = Map::parse(text).expect_err(text);
        assert_eq!((&error.mistake, error.found()), (&mistake, found), "{text}");
    }
}

#[test]
fn devices_may_have_the_names_that_linux_gives_them() {
    for name in ["soc:gpu", "0000:03:00.0", "amba_pl@0", "amba_pl@0:udmabuf@0x00", "gpu(0)", "日本"]
    {
        assert_eq!(route(&format!("{name}=r"), name, COMMON).as_deref(), Some("r"), "{name}");
        assert_eq!(route(&format!("x/{name}=r"), "x", name).as_deref(), Some("r"), "{name}");
        let patterns = [PatternSpec::typed(name, name)];
        let map = Map::from_rules(&[RuleSpec::new(&patterns, &["r"])]).unwrap();
        assert_eq!(map.text(), format!("{name}/{name}=r"));
    }
}

#[test]
fn white_space_beside_separators_means_nothing() {
    let plain = Map::parse("a/x,b=r,s;/y=t").unwrap();
    for text in
        [" a/x , b = r , s ; /y = t ; ", "a/x,\n\tb=r,\ns;\r\n/y=t\n", "\u{2003}a/x,b=r,s ;/y=t;\n"]
    {
        let map = Map::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert!(map.rules().eq(plain.rules()), "{text:?}");
        assert_eq!(map.text(), text);
    }
}

#[test]
fn an_error_says_where() {
    let error = Map::parse("video=b1;cam*era=b2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "'*' may only stand at the end of a device or type at column 13: \"*\""
    );
}

/// Patterns (device, type) and regions.
type PlainRule = (Vec<(String, Option<String>)>, Vec<String>);

/// The rules as plain data, matched the slow and obvious way.
fn second_matcher(rules: &[PlainRule], device: &str, kind: &str) -> Option<String> {
    fn glob(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) => true,
            (Some('?'), Some(_)) => glob(&pattern[1..], &name[1..]),
            (Some(p), Some(c)) if p == c => glob(&pattern[1..], &name[1..]),
            _ => false,
        }
    }
    let chars = |s: &str| s.chars().collect::<Vec<_>>();
    for (patterns, regions) in rules {
        for (d, k) in patterns {
            if glob(&chars(d), &chars(device))
                && k.as_ref().is_none_or(|k| glob(&chars(k), &chars(kind)))
            {
                return Some(regions.join(","));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_maps_agree_with_a_second_matcher(
        rules in proptest::collection::vec(
            (
                proptest::collection::vec(("[ab?]{1,3}[*]?", proptest::option::of("[xy?]{1,2}[*]?"), any::<bool>()), 1..4),
                proptest::collection::vec("[r-t]", 1..3),
            ),
            0..6,
        ),
        asked in proptest::collection::vec(("[ab]{1,4}", "[xy]{1,3}"), 1..20),
    ) {
        let (mut text, mut plain, mut last) = (Vec::new(), Vec::new(), None::<String>);
        for (patterns, regions) in &rules {
            let (mut written, mut meant) = (Vec::new(), Vec::new());
            for (device, kind, inherits) in patterns {
                // A pattern that leaves its device out takes that of the one before, also across
                // rules.
                let (shown, device) = match (&last, kind, inherits) {
                    (Some(last), Some(_), true) => ("", last.clone()),
                    _ => (device.as_str(), device.clone()),
                };
                written.push(format!("{shown}{}", kind.as_ref().map_or(String::new(), |k| format!("/{k}"))));
                last = Some(device.clone());
                meant.push((device, kind.clone()));
            }
            text.push(format!("{}={}", written.join(","), regions.join(",")));
            plain.push((meant, regions.clone()));
        }
        let text = text.join(";");
        let map = Map::parse(&text).unwrap();
        for (device, kind) in &asked {
            let found = map.regions_for(device, kind).map(|names| names.collect::<Vec<_>>().join(","));
            prop_assert_eq!(found, second_matcher(&plain, device, kind), "{} for {}/{}", text, device, kind);
        }
        let again = Map::from_rules(&map.rules().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(again.text(), text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*", likely in "[ab=/,;*? \\n]{0,24}") {
        for text in [text, likely] {
            if let Err(error) = Map::parse(&text) {
                prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, text);
                let _ = error.to_string();
            }
        }
    }
}
