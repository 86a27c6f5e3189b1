use super::*;
use cma_framework::config::Mistake as MapMistake;
use proptest::prelude::*;

fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
    Peer { uid, gid, groups: groups.into(), pid: 1 }
}

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules("camera=uid:1000;video=gid:44,uid:0;*=*");
    let (root, owner, viewer) = (peer(0, 0, &[]), peer(1000, 100, &[]), peer(7, 7, &[3, 44]));
    for (device, allowed) in
        [("camera", [false, true, false]), ("video", [true, false, true]), ("audio", [true; 3])]
    {
        for (peer, allowed) in [&root, &owner, &viewer].into_iter().zip(allowed) {
            assert_eq!(rules.allow_device(peer, device, "frame"), allowed, "{peer:?} {device}");
        }
    }
}

#[test]
fn a_group_may_be_the_first_or_a_supplementary_one() {
    let rules = rules("video=gid:44");
    assert!(rules.allow_device(&peer(1, 44, &[]), "video", ""));
    assert!(rules.allow_device(&peer(1, 1, &[2, 44]), "video", ""));
    assert!(!rules.allow_device(&peer(44, 1, &[2]), "video", ""));
}

#[test]
fn types_and_what_a_request_without_one_means_are_as_in_the_map() {
    let rules = rules("video/secure=uid:0;/common=uid:1;/*=uid:2");
    let may = |uid, kind| rules.allow_device(&peer(uid, 9, &[]), "video", kind);
    assert!(may(0, "secure") && !may(1, "secure") && !may(2, "secure"));
    assert!(may(1, "") && may(1, "common") && !may(2, ""));
    assert!(may(2, "other") && !may(1, "other"));
    assert!(!rules.allow_device(&peer(2, 9, &[]), "vide", "other"));
}

#[test]
fn who_may_use_devices_may_not_name_regions() {
    assert!(!rules("*=*").allow_region(&peer(0, 0, &[]), "b1"));
    let rules = rules("@b?,camera=uid:5;@*=uid:0;*=*");
    assert!(rules.allow_region(&peer(5, 5, &[]), "b1"));
    assert!(!rules.allow_region(&peer(0, 0, &[]), "b1"));
    assert!(rules.allow_region(&peer(0, 0, &[]), "fw"));
    assert!(!rules.allow_device(&peer(0, 0, &[]), "camera", ""));
}

#[test]
fn one_semicolon_may_end_the_rules_and_an_empty_rule_is_refused() {
    assert_eq!(rules("a=*;\n"), rules("a=*"));
    for (text, place) in [("a=*;;", 4..4), ("a=*; ;", 4..5), (";", 0..0), (";a=*", 0..0)] {
        let error = Rules::parse(text).unwrap_err();
        assert_eq!((error.mistake, error.span), (Mistake::NoWho, place), "{text}");
    }
}

#[test]
fn by_default_everyone_may_and_by_an_empty_text_nobody() {
    let everyone = Rules::default();
    assert_eq!(everyone, rules("*,@*=*"));
    assert!(
        everyone.allow_device(&peer(1, 1, &[]), "any", "thing")
            && everyone.allow_region(&peer(1, 1, &[]), "b1")
    );
    for text in ["", " ", ";"] {
        let nobody = rules(text);
        assert!(
            !nobody.allow_device(&peer(0, 0, &[]), "any", "")
                && !nobody.allow_region(&peer(0, 0, &[]), "b1")
        );
    }
}

#[test]
fn mistakes_have_their_place() {
    for (text, mistake, found) in [
        ("camera", Mistake::NoWho, "camera"),
        ("camera=", Mistake::NoWho, ""),
        ("camera=*;;video=*", Mistake::NoWho, ""),
        ("camera=uid", Mistake::BadWho, "uid"),
        ("camera=uid:", Mistake::BadWho, "uid:"),
        ("camera=uid:+1", Mistake::BadWho, "uid:+1"),
        ("camera=*,gid:4294967296", Mistake::BadWho, "gid:4294967296"),
        ("camera=user:me", Mistake::BadWho, "user:me"),
        ("=uid:1", Mistake::Pattern(MapMistake::NoPattern), ""),
        ("video=*; ca*ra =uid:1", Mistake::Pattern(MapMistake::StarInside), "*"),
        ("/f=*", Mistake::Pattern(MapMistake::NoDeviceBefore), "/f"),
        ("video/a=*;/b*c=*", Mistake::Pattern(MapMistake::StarInside), "*"),
        ("video/a/b=*", Mistake::Pattern(MapMistake::SecondSlash), "/"),
        ("video/=*", Mistake::Pattern(MapMistake::NoType), "/"),
        ("@b1/x=*", Mistake::RegionType, "/x"),
        ("@=*", Mistake::Pattern(MapMistake::NoPattern), ""),
        ("@b*1=*", Mistake::Pattern(MapMistake::StarInside), "*"),
        ("vi deo=*", Mistake::Pattern(MapMistake::BadPattern), "vi deo"),
    ] {
        let error = Rules::parse(text).unwrap_err();
        assert_eq!((&error.mistake, &text[error.span.clone()]), (&mistake, found), "{text}");
    }
    let error = Rules::parse("camera=uid:me").unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected uid:NUMBER, gid:NUMBER or * for everyone at column 8: \"uid:me\""
    );
}

proptest! {
    /// Of any text at all there are rules, or a mistake that has its place in it.
    #[test]
    fn any_text_is_understood_or_has_a_place(
        text in prop_oneof![".{0,30}", "[a-z@*?/,;=: é0-9]{0,30}", "((@?[ab*/]{1,3},?){1,3}=(uid:[0-9]|\\*),?;){1,3}"],
    ) {
        match Rules::parse(&text) {
            Ok(rules) => drop(rules.allow_device(&peer(1, 1, &[]), "a", "b")),
            Err(error) => {
                prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                prop_assert!(error.to_string().contains(" at column "));
            }
        }
    }
}
