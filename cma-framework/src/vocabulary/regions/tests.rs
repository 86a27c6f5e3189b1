//! The `cma=` grammar: parsed values, and every error with its position.

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Vec<RegionSpec<'_>> {
    parse_regions(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .into_iter()
        .map(|r| r.spec)
        .collect()
}

#[test]
fn every_part_of_a_region_is_parsed() {
    let all = parsed("fw=1M/128K;b2=0x1000@0x40000000:buddy(max-order=9,x=;y);c=010:;d=2g");
    assert_eq!(all[0], RegionSpec::new("fw", 1 << 20).aligned(128 << 10));
    let allocator = Some(AllocatorSpec { name: "buddy", params: "max-order=9,x=;y" });
    assert_eq!(all[1], RegionSpec { allocator, ..RegionSpec::new("b2", 4096).at(0x4000_0000) });
    assert_eq!(all[2], RegionSpec::new("c", 8));
    assert_eq!(all[3], RegionSpec::new("d", 2 << 30));
    assert_eq!(parsed(""), []);
    assert_eq!(parsed("a=1;"), [RegionSpec::new("a", 1)]);
    assert_eq!(parsed("a=1\n"), [RegionSpec::new("a", 1)]);
}

#[test]
fn every_syntax_error_has_its_position() {
    for (text, kind, found) in [
        ("=1M", SyntaxError::NoRegionName, ""),
        ("a=1M;;b=1M", SyntaxError::Empty, ";"),
        (";a=1M", SyntaxError::NoRegionName, ""),
        ("a b=1M", SyntaxError::BadName, "a b"),
        ("a*=1M", SyntaxError::WildcardInName, "a*"),
        ("a=1M;a=2M", SyntaxError::DuplicateName, "a"),
        ("a", SyntaxError::NoEquals, ""),
        ("a:best-fit", SyntaxError::NoEquals, ""),
        ("a=", SyntaxError::NoNumber, ""),
        ("a=M", SyntaxError::NoNumber, ""),
        ("a==1", SyntaxError::NoNumber, ""),
        ("a=0x", SyntaxError::NoNumber, "0x"),
        ("a=-1", SyntaxError::NoNumber, ""),
        ("a=09", SyntaxError::BadOctal, "09"),
        ("a=0", SyntaxError::Zero, "0"),
        ("a=1M@0", SyntaxError::ZeroStart, "0"),
        ("a=1M/0x0", SyntaxError::Zero, "0x0"),
        ("a=1M/3", SyntaxError::NotPowerOfTwo, "3"),
        ("a=16E", SyntaxError::NumberTooLarge, "16E"),
        ("a=18446744073709551616", SyntaxError::NumberTooLarge, "18446744073709551616"),
        ("a=0xffffffffffffffff", SyntaxError::SizeTooLarge, "0xffffffffffffffff"),
        ("a=2@0xfffffffffffff001", SyntaxError::PastTheTop, "0xfffffffffffff001"),
        ("a=1M@15E/8E", SyntaxError::PastTheTop, "15E"),
        ("a=1M:b(c", SyntaxError::UnclosedParams, "(c"),
        ("a=1M:(c)", SyntaxError::ParamsWithoutAllocator, "("),
        ("a=1MB", SyntaxError::DecimalSuffix, "1MB"),
        ("a=1gb", SyntaxError::DecimalSuffix, "1gb"),
        ("a=1B", SyntaxError::BadSuffix, "1B"),
        ("a=1iB", SyntaxError::BadSuffix, "1iB"),
        ("a=1MiBs", SyntaxError::BadSuffix, "1MiBs"),
        ("a=8X", SyntaxError::BadSuffix, "8X"),
        ("a=8.5M", SyntaxError::Fraction { remedy: Some("8704K for 8.5M".to_string()) }, "8.5M"),
        ("a=8.5", SyntaxError::Fraction { remedy: None }, "8.5"),
        ("a=1M x;b=1", SyntaxError::TextAfterRegion, " x"),
        ("a=1M @1G;b=1", SyntaxError::WhiteSpace, " @1G"),
        ("a=1M\n/4K", SyntaxError::WhiteSpace, "\n/4K"),
        ("a=1M :buddy", SyntaxError::WhiteSpace, " :buddy"),
        ("a=1M:buddy (x)", SyntaxError::WhiteSpace, " "),
        ("a=1M@ 1G", SyntaxError::NoNumber, ""),
        ("linux,cma=64M", SyntaxError::BadName, "linux,cma"),
        ("a@1=64M", SyntaxError::BadName, "a@1"),
        ("a|b=1M", SyntaxError::BadName, "a|b"),
        ("a=1M;b,c", SyntaxError::NoEquals, ""),
        ("a=1M@0-0", SyntaxError::EmptyWindow, "0-0"),
        ("a=64M@2G-1G/1M:buddy", SyntaxError::EmptyWindow, "2G-1G"),
        ("a=1M@2G-", SyntaxError::NoNumber, ""),
        ("a=1M@-2G", SyntaxError::NoNumber, ""),
        ("a=1M@0 - 2G", SyntaxError::ZeroStart, "0"),
        ("a=1M@1G -2G", SyntaxError::WhiteSpace, " -2G"),
        ("a=1M@1G-2G-3G", SyntaxError::TextAfterRegion, "-3G"),
        ("a=1M@1G-2GB", SyntaxError::DecimalSuffix, "2GB"),
        ("a=1M@8E-17E", SyntaxError::EndPastTheTop, "17E"),
        ("a=1M@16E-17E", SyntaxError::NumberTooLarge, "16E"),
        ("a=1M@0-0x10000000000000001", SyntaxError::EndPastTheTop, "0x10000000000000001"),
        ("a=1M@1M-0x1fffff", SyntaxError::WindowTooSmall, "1M-0x1fffff"),
        ("a=1@1-2", SyntaxError::WindowTooSmall, "1-2"),
        ("a=1M@3M-7M/8M", SyntaxError::WindowUnaligned, "3M-7M"),
        ("a=16E@0-1G", SyntaxError::NumberTooLarge, "16E"),
        ("a=1M ; ; b=1M", SyntaxError::Empty, ";"),
        ("a=1M/4K@1M", SyntaxError::StartAfterAlignment, "@"),
        ("a=1M:b(c)d", SyntaxError::TextAfterRegion, "d"),
    ] {
        let error = parse_regions(text).expect_err(text);
        assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
    }
}

#[test]
fn white_space_beside_separators_is_ignored() {
    let plain = parsed("b1=32M@1G/4K:buddy(max-order=9);b2=16M");
    for text in [
        "b1=32M@1G/4K:buddy(max-order=9);\nb2=16M",
        " b1 = 32M@1G/4K:buddy(max-order=9) ; b2\t= 16M ;\n",
        "b1=32M@1G/4K:buddy(max-order=9)\r\n;\r\nb2=16M\r\n;",
    ] {
        assert_eq!(parsed(text), plain, "{text:?}");
    }
    assert_eq!(
        parsed("a=1M: ;b=1M:best-fit ;")[1].allocator,
        Some(AllocatorSpec { name: "best-fit", params: "" })
    );
}

#[test]
fn binary_suffixes_may_be_written_in_full() {
    for (written, bytes) in
        [("8KiB", 8 << 10), ("8mib", 8 << 20), ("0x8GIB", 8 << 30), ("1TiB", 1 << 40)]
    {
        assert_eq!(parsed(&format!("a={written}")), [RegionSpec::new("a", bytes)], "{written}");
    }
    assert_eq!(
        parsed("a=8MiB@16MiB/2MiB"),
        [RegionSpec::new("a", 8 << 20).at(16 << 20).aligned(2 << 20)]
    );
}

#[test]
fn an_invalid_allocator_name_is_reported_at_its_position() {
    let long = "x".repeat(65);
    for name in ["-", "büddy", "[x", "x]", "b@x", "a:b", "x=y", "*", "a b", &long] {
        let text = format!("a=1M;b=32M:{name};c=1M");
        let error = parse_regions(&text).expect_err(name);
        assert!(matches!(error.kind, SyntaxError::BadAllocatorName { .. }), "{name}: {error}");
        assert_eq!(error.found(), name);
        let error = parse_allocator(name).expect_err(name);
        assert!(matches!(error.kind, SyntaxError::BadAllocatorName { .. }), "{name}: {error}");
    }
}

#[test]
fn a_window_may_begin_at_0_and_end_at_the_top_of_the_address_space() {
    let within = |window| RegionSpec { place: Place::Within(window), ..RegionSpec::new("a", 4096) };
    assert_eq!(parsed("a=4K@0-4G"), [RegionSpec::new("a", 4096).within(0, 4 << 30)]);
    assert_eq!(
        parsed("a=4K@00-0x2000/8K:buddy")[0],
        RegionSpec {
            alignment: Some(8192),
            allocator: Some(AllocatorSpec { name: "buddy", params: "" }),
            ..RegionSpec::new("a", 4096).within(0, 8192)
        }
    );
    let top = Window::sized(15 << 60, 1 << 60).unwrap();
    for text in ["a=4K@15E-16E", "a=4K@0xf000000000000000-0x10000000000000000"] {
        assert_eq!(parsed(text), [within(top)], "{text}");
    }
    assert_eq!(within(top).to_string(), "a=4K@0xf000000000000000-0x10000000000000000");
}

#[test]
fn a_region_may_end_at_the_top_of_the_address_space() {
    assert_eq!(parsed("a=64K@0xffffffffffff0000").len(), 1);
}

/// Name, size, place, log2 of the alignment, allocator with its parameters.
type Parts = (String, u64, Place, Option<u32>, Option<(String, String)>);

fn parts() -> impl Strategy<Value = Parts> {
    (
        "[a-z][a-z0-9._-]{0,8}",
        1..u64::MAX / 4,
        prop_oneof![
            Just(Place::Anywhere),
            (1..u64::MAX / 4).prop_map(|start| Place::At(DmaAddr::new(start))),
            // Has a multiple of every alignment with room for every size.
            (0..=1_u64 << 62, any::<bool>()).prop_map(|(start, to_the_top)| {
                let end = if to_the_top { 1 << 64 } else { (15 << 60) + u128::from(start % 4096) };
                Place::Within(Window::up_to(start, end).unwrap())
            }),
        ],
        proptest::option::of(0..62u32),
        proptest::option::of(("[a-z][a-z-]{0,8}", "[^)]{0,12}")),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_displayed_region_parses_to_the_same_region(parts in parts()) {
        let (name, size, place, alignment, allocator) = &parts;
        let region = RegionSpec {
            name,
            size: *size,
            place: *place,
            alignment: alignment.map(|log2| 1 << log2),
            allocator: allocator.as_ref().map(|(name, params)| AllocatorSpec { name, params }),
        };
        let text = region.to_string();
        prop_assert_eq!(parse_regions(&text).unwrap()[0].spec, region);
    }

    #[test]
    fn the_parser_never_panics(text in "\\PC*", likely in "[a-c=@/:();,0-9xKMGE \\n*-]{0,24}") {
        for text in [text, likely] {
            match parse_regions(&text) {
                Err(error) => {
                    prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, text);
                    let _ = error.to_string();
                }
                Ok(regions) => for region in regions {
                    prop_assert_eq!(&text[region.spans.name], region.spec.name);
                },
            }
        }
    }
}
