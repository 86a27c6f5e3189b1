//! The `cma=` grammar: what is read, and every mistake at its place.

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
fn every_part_is_read() {
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
fn every_mistake_is_named_at_its_place() {
    for (text, mistake, found) in [
        ("=1M", Mistake::NoRegionName, ""),
        ("a=1M;;b=1M", Mistake::Empty, ";"),
        (";a=1M", Mistake::NoRegionName, ""),
        ("a b=1M", Mistake::BadName, "a b"),
        ("a*=1M", Mistake::WildcardInName, "a*"),
        ("a=1M;a=2M", Mistake::DuplicateName, "a"),
        ("a", Mistake::NoEquals, ""),
        ("a:best-fit", Mistake::NoEquals, ""),
        ("a=", Mistake::NoNumber, ""),
        ("a=M", Mistake::NoNumber, ""),
        ("a==1", Mistake::NoNumber, ""),
        ("a=0x", Mistake::NoNumber, "0x"),
        ("a=-1", Mistake::NoNumber, ""),
        ("a=09", Mistake::BadOctal, "09"),
        ("a=0", Mistake::Zero, "0"),
        ("a=1M@0", Mistake::Zero, "0"),
        ("a=1M/0x0", Mistake::Zero, "0x0"),
        ("a=1M/3", Mistake::NotPowerOfTwo, "3"),
        ("a=16E", Mistake::NumberTooLarge, "16E"),
        ("a=18446744073709551616", Mistake::NumberTooLarge, "18446744073709551616"),
        ("a=0xffffffffffffffff", Mistake::SizeTooLarge, "0xffffffffffffffff"),
        ("a=2@0xfffffffffffff001", Mistake::PastTheTop, "0xfffffffffffff001"),
        ("a=1M@15E/8E", Mistake::PastTheTop, "15E"),
        ("a=1M:b(c", Mistake::UnclosedParams, "(c"),
        ("a=1M:(c)", Mistake::ParamsOfNobody, "("),
        ("a=1MB", Mistake::DecimalSuffix, "1MB"),
        ("a=1gb", Mistake::DecimalSuffix, "1gb"),
        ("a=1B", Mistake::BadSuffix, "1B"),
        ("a=1iB", Mistake::BadSuffix, "1iB"),
        ("a=1MiBs", Mistake::BadSuffix, "1MiBs"),
        ("a=8X", Mistake::BadSuffix, "8X"),
        ("a=8.5M", Mistake::Fraction, "8.5M"),
        ("a=1M x;b=1", Mistake::LeftOver, " x"),
        ("a=1M @1G;b=1", Mistake::Blank, " @1G"),
        ("a=1M\n/4K", Mistake::Blank, "\n/4K"),
        ("a=1M :buddy", Mistake::Blank, " :buddy"),
        ("a=1M:buddy (x)", Mistake::Blank, " "),
        ("a=1M@ 1G", Mistake::NoNumber, ""),
        ("linux,cma=64M", Mistake::BadName, "linux,cma"),
        ("a@1=64M", Mistake::BadName, "a@1"),
        ("a|b=1M", Mistake::BadName, "a|b"),
        ("a=1M;b,c", Mistake::NoEquals, ""),
        ("cma=64M@0-4G", Mistake::Window, "0-4G"),
        ("a=64M@1G-2G/1M:buddy", Mistake::Window, "1G-2G"),
        ("a=1M@2G-", Mistake::Window, "2G-"),
        ("a=1M ; ; b=1M", Mistake::Empty, ";"),
        ("a=1M/4K@1M", Mistake::StartAfterAlignment, "@"),
        ("a=1M:b(c)d", Mistake::LeftOver, "d"),
    ] {
        let error = parse_regions(text).expect_err(text);
        assert_eq!((&error.mistake, error.found()), (&mistake, found), "{text}");
    }
}

#[test]
fn white_space_beside_separators_means_nothing() {
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
fn suffixes_of_1024_may_be_written_out() {
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
fn the_name_of_an_allocator_is_refused_where_it_stands() {
    let long = "x".repeat(65);
    for name in ["-", "büddy", "[x", "x]", "b@x", "a:b", "x=y", "*", "a b", &long] {
        let text = format!("a=1M;b=32M:{name};c=1M");
        let error = parse_regions(&text).expect_err(name);
        assert!(matches!(error.mistake, Mistake::BadAllocatorName { .. }), "{name}: {error}");
        assert_eq!(error.found(), name);
        let error = parse_allocator(name).expect_err(name);
        assert!(matches!(error.mistake, Mistake::BadAllocatorName { .. }), "{name}: {error}");
    }
}

#[test]
fn a_region_may_end_at_the_top_of_the_address_space() {
    assert_eq!(parsed("a=64K@0xffffffffffff0000").len(), 1);
}

/// Name, size, start, log2 of the alignment, allocator with its parameters.
type Parts = (String, u64, Option<u64>, Option<u32>, Option<(String, String)>);

fn parts() -> impl Strategy<Value = Parts> {
    (
        "[a-z][a-z0-9._-]{0,8}",
        1..u64::MAX / 4,
        proptest::option::of(1..u64::MAX / 4),
        proptest::option::of(0..62u32),
        proptest::option::of(("[a-z][a-z-]{0,8}", "[^)]{0,12}")),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(parts in parts()) {
        let (name, size, start, alignment, allocator) = &parts;
        let region = RegionSpec {
            name,
            size: *size,
            start: start.map(DmaAddr::new),
            alignment: alignment.map(|log2| 1 << log2),
            allocator: allocator.as_ref().map(|(name, params)| AllocatorSpec { name, params }),
        };
        let text = region.to_string();
        // White space at the end of the text is passed over, also that of unclosed nonsense.
        prop_assert_eq!(parse_regions(&text).unwrap()[0].spec, region);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*", likely in "[a-c=@/:();,0-9xKMGE \\n*]{0,24}") {
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
