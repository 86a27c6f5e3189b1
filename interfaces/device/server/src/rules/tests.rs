//! Access rules: decisions, and every error with its position.

use super::*;
use cma_framework::config::SyntaxError;
use proptest::prelude::*;

fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
    Peer { uid, gid, groups: groups.into(), pid: 1 }
}

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

#[test]
fn the_first_matching_rule_decides() {
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
fn a_rule_for_a_group_admits_primary_and_supplementary_members() {
    let rules = rules("video=gid:44");
    assert!(rules.allow_device(&peer(1, 44, &[]), "video", ""));
    assert!(rules.allow_device(&peer(1, 1, &[2, 44]), "video", ""));
    assert!(!rules.allow_device(&peer(44, 1, &[2]), "video", ""));
}

#[test]
fn types_match_as_in_a_map_and_an_empty_type_is_common() {
    let rules = rules("video/secure=uid:0;/common=uid:1;/*=uid:2");
    let may = |uid, kind| rules.allow_device(&peer(uid, 9, &[]), "video", kind);
    assert!(may(0, "secure") && !may(1, "secure") && !may(2, "secure"));
    assert!(may(1, "") && may(1, "common") && !may(2, ""));
    assert!(may(2, "other") && !may(1, "other"));
    assert!(!rules.allow_device(&peer(2, 9, &[]), "vide", "other"));
}

#[test]
fn rules_for_devices_do_not_admit_requests_by_region() {
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
        assert_eq!((error.kind, error.span), (PolicyErrorKind::NoUsers, place), "{text}");
    }
}

#[test]
fn the_default_admits_everyone_and_an_empty_text_admits_none() {
    let everyone = Rules::default();
    assert_eq!(everyone, rules("*,@*=*"));
    assert!(
        everyone.allow_device(&peer(1, 1, &[]), "any", "thing")
            && everyone.allow_region(&peer(1, 1, &[]), "b1")
    );
    for text in ["", " "] {
        let none = rules(text);
        assert!(
            !none.allow_device(&peer(0, 0, &[]), "any", "")
                && !none.allow_region(&peer(0, 0, &[]), "b1")
        );
    }
}

#[test]
fn errors_have_their_position() {
    for (text, kind, found) in [
        ("camera", PolicyErrorKind::NoUsers, "camera"),
        ("camera=", PolicyErrorKind::NoUsers, ""),
        ("camera=*;;video=*", PolicyErrorKind::NoUsers, ""),
        ("camera=uid", PolicyErrorKind::BadUser, "uid"),
        ("camera=uid:", PolicyErrorKind::BadUser, "uid:"),
        ("camera=uid:+1", PolicyErrorKind::BadUser, "uid:+1"),
        ("camera=*,gid:4294967296", PolicyErrorKind::BadUser, "gid:4294967296"),
        ("=uid:1", PolicyErrorKind::Pattern(SyntaxError::NoPattern), ""),
        ("video=*; ca*ra =uid:1", PolicyErrorKind::Pattern(SyntaxError::StarInside), "*"),
        ("/f=*", PolicyErrorKind::Pattern(SyntaxError::NoDeviceBefore), "/f"),
        ("video/a=*;/b*c=*", PolicyErrorKind::Pattern(SyntaxError::StarInside), "*"),
        ("video/a/b=*", PolicyErrorKind::Pattern(SyntaxError::SecondSlash), "/"),
        ("video/=*", PolicyErrorKind::Pattern(SyntaxError::NoType), "/"),
        ("@b1/x=*", PolicyErrorKind::RegionType, "/x"),
        ("@=*", PolicyErrorKind::Pattern(SyntaxError::NoPattern), ""),
        ("@b*1=*", PolicyErrorKind::Pattern(SyntaxError::StarInside), "*"),
        ("vi deo=*", PolicyErrorKind::Pattern(SyntaxError::BadPattern), "vi deo"),
    ] {
        let error = Rules::parse(text).unwrap_err();
        assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
    }
    let error = Rules::parse("camera=uid:me").unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected user:NAME, group:NAME, uid:NUMBER, gid:NUMBER or * for everyone at column 8: \"uid:me\""
    );
}

proptest! {
    #[test]
    fn any_text_parses_or_has_an_error_with_a_position(
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

#[test]
fn users_and_groups_have_names_or_numbers() {
    assert_eq!(rules("camera=user:root,group:root"), rules("camera=uid:0,gid:0"));
    for (text, kind, found) in [
        ("camera=user:no-such-user", PolicyErrorKind::UnknownUser, "user:no-such-user"),
        ("camera=uid:0, group:no-such-group", PolicyErrorKind::UnknownGroup, "group:no-such-group"),
        ("camera=user:", PolicyErrorKind::BadUser, "user:"),
        ("camera=uid:root", PolicyErrorKind::BadUser, "uid:root"),
    ] {
        let error = Rules::parse(text).unwrap_err();
        assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
    }
}

#[test]
fn rules_admit_everyone_if_none_of_them_restricts_and_all_is_covered() {
    assert!(Rules::default().admit_everyone());
    for text in ["*,@*=*", "*=*;@*=*", "camera=*;*/*=uid:0,*;@*=*"] {
        assert!(rules(text).admit_everyone(), "{text}");
    }
    for text in ["", "*=*", "@*=*", "camera=uid:0;*,@*=*", "*,@*=uid:0", "*/common,@*=*"] {
        assert!(!rules(text).admit_everyone(), "{text}");
    }
}
