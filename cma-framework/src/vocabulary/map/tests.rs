//! The map's grammar and routing, checked by examples and against a reference implementation.

use super::*;
use proptest::prelude::*;

fn map(text: &str) -> Map {
    Map::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Groups as a map has them.
fn shown<'a>(groups: impl Iterator<Item: Iterator<Item = &'a str>>) -> String {
    groups.map(|names| names.collect::<Vec<_>>().join("|")).collect::<Vec<_>>().join(",")
}

fn route(text: &str, device: &str, kind: &str) -> Option<String> {
    map(text).regions_for(device, kind).map(shown)
}

#[test]
fn the_examples_of_the_specification_are_routed_as_it_says() {
    for (text, device, kind, answer) in [
        ("video,camera=region", "camera", COMMON, Some("region")),
        ("video,camera=region;*=common", "audio", COMMON, Some("common")),
        ("foo/quaz=r1;foo/*=r2", "foo", "quaz", Some("r1")),
        ("foo/quaz=r1;foo/*=r2", "foo", "other", Some("r2")),
        ("foo/quaz=r1;/*=r2", "foo", "quaz", Some("r1")),
        ("foo/quaz=r1;/*=r2", "foo", "other", Some("r2")),
        ("bar=r1,r2", "bar", COMMON, Some("r1,r2")),
        ("bar=r1|r2,r3", "bar", COMMON, Some("r1|r2,r3")),
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
fn a_star_matches_the_rest_which_may_be_empty() {
    assert_eq!(route("foo*=r", "foo", COMMON).as_deref(), Some("r"));
    assert_eq!(route("foo*=r", "foobar", COMMON).as_deref(), Some("r"));
    assert_eq!(route("foo*=r", "fo", COMMON), None);
    assert_eq!(route("x/b*=r", "x", "bitstream").as_deref(), Some("r"));
    assert_eq!(route("?=r", "ü", COMMON).as_deref(), Some("r"));
}

#[test]
fn every_syntax_error_has_its_position() {
    for (text, kind, found) in [
        (";a=r", SyntaxError::Empty, ";"),
        ("a=r;;b=r", SyntaxError::Empty, ";"),
        ("a", SyntaxError::NoRegions, ""),
        ("a=", SyntaxError::NoRegions, ""),
        ("a=;b=r", SyntaxError::NoRegions, ""),
        ("a=r,", SyntaxError::NoRegionName, ""),
        ("a=r,,s", SyntaxError::NoRegionName, ""),
        ("a==b", SyntaxError::SecondEquals, "="),
        ("a=b=c", SyntaxError::SecondEquals, "="),
        ("=r", SyntaxError::NoPattern, ""),
        ("a,=r", SyntaxError::NoPattern, ""),
        ("/x=r", SyntaxError::NoDeviceBefore, "/x"),
        ("a/=r", SyntaxError::NoType, "/"),
        ("a/b/c=r", SyntaxError::SecondSlash, "/"),
        ("a*b=r", SyntaxError::StarInside, "*"),
        ("a**=r", SyntaxError::StarInside, "*"),
        ("a/*b=r", SyntaxError::StarInside, "*"),
        ("a b=r", SyntaxError::BadPattern, "a b"),
        ("a,b c=r", SyntaxError::BadPattern, "b c"),
        ("a|b=r", SyntaxError::BadPattern, "a|b"),
        ("a/x y=r", SyntaxError::BadPattern, "x y"),
        ("a=|", SyntaxError::NoRegionName, ""),
        ("a=r|", SyntaxError::NoRegionName, ""),
        ("a=|r", SyntaxError::NoRegionName, ""),
        ("a=r||s", SyntaxError::NoRegionName, ""),
        ("a=r|,s", SyntaxError::NoRegionName, ""),
        ("a=r|s*,t", SyntaxError::WildcardInName, "s*"),
        ("a=q,r | s t", SyntaxError::BadName, "s t"),
        ("a|=r", SyntaxError::BadPattern, "a|"),
        ("a=soc:r", SyntaxError::BadName, "soc:r"),
        ("a=r s", SyntaxError::BadName, "r s"),
        (" a = r ; ; b = s", SyntaxError::Empty, ";"),
        ("a=r; b", SyntaxError::NoRegions, ""),
        ("a=r*", SyntaxError::WildcardInName, "r*"),
        ("a=r/s", SyntaxError::BadName, "r/s"),
        ("a=r\nb=s", SyntaxError::SecondEquals, "="),
    ] {
        let error = Map::parse(text).expect_err(text);
        assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
    }
}

#[test]
fn device_names_of_linux_are_valid() {
    for name in ["soc:gpu", "0000:03:00.0", "amba_pl@0", "amba_pl@0:udmabuf@0x00", "gpu(0)", "日本"]
    {
        assert_eq!(route(&format!("{name}=r"), name, COMMON).as_deref(), Some("r"), "{name}");
        assert_eq!(route(&format!("x/{name}=r"), "x", name).as_deref(), Some("r"), "{name}");
        let patterns = [PatternSpec::typed(name, name)];
        let map = Map::from_rules(&[RuleSpec::new(&patterns, &[GroupSpec::new("r")])]).unwrap();
        assert_eq!(map.text(), format!("{name}/{name}=r"));
    }
}

#[test]
fn white_space_beside_separators_is_ignored() {
    let plain = Map::parse("a/x,b=r,s|u;/y=t").unwrap();
    for text in [
        " a/x , b = r , s | u ; /y = t ; ",
        "a/x,\n\tb=r,\ns|\nu;\r\n/y=t\n",
        "\u{2003}a/x,b=r,s\t|u ;/y=t;\n",
    ] {
        let map = Map::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert!(map.rules().eq(plain.rules()), "{text:?}");
        assert_eq!(map.text(), text);
    }
}

#[test]
fn an_error_names_its_column() {
    let error = Map::parse("video=b1;cam*era=b2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "'*' is allowed only at the end of a device or type at column 13: \"*\""
    );
}

/// Patterns (device, type) and regions.
type PlainRule = (Vec<(String, Option<String>)>, Vec<String>);

/// The reference: rules as plain data, matched recursively.
fn reference_route(rules: &[PlainRule], device: &str, kind: &str) -> Option<String> {
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
    fn random_maps_agree_with_the_reference(
        rules in proptest::collection::vec(
            (
                proptest::collection::vec(("[ab?]{1,3}[*]?", proptest::option::of("[xy?]{1,2}[*]?"), any::<bool>()), 1..4),
                proptest::collection::vec("[r-t]([|][r-t]){0,2}", 1..3),
            ),
            0..6,
        ),
        requests in proptest::collection::vec(("[ab]{1,4}", "[xy]{1,3}"), 1..20),
    ) {
        let (mut text, mut plain, mut last) = (Vec::new(), Vec::new(), None::<String>);
        for (patterns, regions) in &rules {
            let (mut written, mut resolved) = (Vec::new(), Vec::new());
            for (device, kind, inherits) in patterns {
                // A pattern without a device takes that of the pattern before, also across rules.
                let (shown, device) = match (&last, kind, inherits) {
                    (Some(last), Some(_), true) => ("", last.clone()),
                    _ => (device.as_str(), device.clone()),
                };
                written.push(format!("{shown}{}", kind.as_ref().map_or(String::new(), |k| format!("/{k}"))));
                last = Some(device.clone());
                resolved.push((device, kind.clone()));
            }
            text.push(format!("{}={}", written.join(","), regions.join(",")));
            plain.push((resolved, regions.clone()));
        }
        let text = text.join(";");
        let map = Map::parse(&text).unwrap();
        for (device, kind) in &requests {
            let found = map.regions_for(device, kind).map(shown);
            prop_assert_eq!(found, reference_route(&plain, device, kind), "{} for {}/{}", text, device, kind);
        }
        let again = Map::from_rules(&map.rules().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(again.text(), text);
    }

    #[test]
    fn the_parser_never_panics(text in "\\PC*", likely in "[ab=/,;*? \\n]{0,24}") {
        for text in [text, likely] {
            if let Err(error) = Map::parse(&text) {
                prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, text);
                let _ = error.to_string();
            }
        }
    }
}
