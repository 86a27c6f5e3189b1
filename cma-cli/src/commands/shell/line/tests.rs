use super::*;
use proptest::prelude::*;

fn alloc(device: &str, kind: Option<&str>, size: u64, alignment: u64) -> Line {
    let (device, kind) = (device.to_string(), kind.map(String::from));
    Line::Command(Command::Alloc { device, kind, amount: Amount { size, alignment } })
}

#[test]
fn every_command_has_a_short_and_a_long_name() {
    for (short, long) in [
        ("l", "list"),
        ("a cam 1M", "alloc cam 1M"),
        ("A b1,b2 4K/1M", "afrom b1,b2 4K/1M"),
        ("f 3", "free 3"),
        ("h", "help"),
        ("?", "help"),
        ("q", "quit"),
        ("q", "exit"),
    ] {
        assert_eq!(Line::parse(short.as_bytes()).unwrap(), Line::parse(long.as_bytes()).unwrap());
    }
}

#[test]
fn a_size_may_have_an_alignment_behind_a_slash() {
    assert_eq!(Line::parse(b"a cam 1M/1M\n"), Ok(alloc("cam", None, 1 << 20, 1 << 20)));
    assert_eq!(Line::parse(b"a cam 0x1000 / 64k"), Ok(alloc("cam", None, 4096, 65536)));
    assert_eq!(Line::parse(b"  a\tcam   010\r\n"), Ok(alloc("cam", None, 8, 0)));
}

#[test]
fn the_type_is_what_follows_the_slash() {
    assert_eq!(Line::parse(b"a s3c-mfc5/f 1M"), Ok(alloc("s3c-mfc5", Some("f"), 1 << 20, 0)));
}

#[test]
fn a_name_that_no_map_could_have_is_a_mistake() {
    for (target, fault) in [
        ("c/a/b", "\"a/b\" is no type that a map could name: there is one '/'"),
        ("cam*", "\"cam*\" is no device that a map could name: wildcards"),
        ("c/f?", "\"f?\" is no type that a map could name: wildcards"),
        ("a=b", "names take no"),
        ("a\x1b[2J", "\"a\\u{1b}[2J\" is no device"),
    ] {
        let mistake = Line::parse(format!("a {target} 1M").as_bytes()).unwrap_err().to_string();
        assert!(mistake.contains(fault), "{target}: {mistake}");
    }
}

#[test]
fn devices_may_have_the_names_that_linux_gives_them() {
    for name in ["soc:gpu", "0000:03:00.0", "amba_pl@0:udmabuf@0x00", "gpu(0)"] {
        let line = format!("a {name}/{name} 1MiB");
        assert_eq!(Line::parse(line.as_bytes()), Ok(alloc(name, Some(name), 1 << 20, 0)));
    }
}

#[test]
fn a_list_of_regions_may_have_blanks_beside_its_commas() {
    for (list, rest) in
        [("b1,b2", "4K"), ("b1, b2", "4K"), ("b1 ,b2", " 4K"), ("b1 , b2,\tb3", "4K/8K")]
    {
        let line = format!("A {list} {rest}");
        let Ok(Line::Command(Command::AllocFrom { regions, amount })) =
            Line::parse(line.as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!((regions, amount.size), (list.replace([' ', '\t'], ""), 4096), "{line}");
    }
    assert!(matches!(Line::parse(b"A b1,"), Err(Mistake::Missing(_))));
}

#[test]
fn an_empty_line_repeats_and_a_comment_does_nothing() {
    assert_eq!(Line::parse(b""), Ok(Line::Repeat));
    assert_eq!(Line::parse(b" \t\r\n"), Ok(Line::Repeat));
    assert_eq!(Line::parse(b"# a cam 1M\n"), Ok(Line::Comment));
}

#[test]
fn free_takes_the_newest_or_a_number() {
    assert_eq!(Line::parse(b"f"), Ok(Line::Command(Command::Free(None))));
    assert_eq!(Line::parse(b"free 7"), Ok(Line::Command(Command::Free(Some(7)))));
    for wrong in ["-1", "0x7", "1 2", "18446744073709551616"] {
        let line = format!("f {wrong}");
        assert_eq!(Line::parse(line.as_bytes()), Err(Mistake::ChunkNumber(wrong.to_string())));
    }
}

#[test]
fn a_mistake_names_what_was_expected_or_found() {
    let message = |line: &str| Line::parse(line.as_bytes()).unwrap_err().to_string();
    assert!(
        message("allocate cam 1M").contains("there is no command \"allocate\"; there are: l[ist]")
    );
    assert!(message("a").contains("expected a device"));
    assert!(message("a /frame 1M").contains("expected a device"));
    assert!(message("a cam/ 1M").contains("expected a type"));
    assert!(message("a cam").contains("expected a size"));
    assert!(message("A").contains("expected regions"));
    assert!(message("a cam big").contains("\"big\" is no size"));
    assert!(message("a cam 1M/x").contains("\"x\" is no alignment"));
    assert!(message("a cam 1M/").contains("\"\" is no alignment"));
    assert!(message("A b1").contains("as in: afrom b1,b2"));
    for wrong in ["1X", "1MM"] {
        assert!(message(&format!("a cam {wrong}")).contains("K, M, G, T, P or E"));
    }
    assert!(message("a cam 1MB").contains("M or MiB"));
    assert!(message("A b1 8.5M").contains("\"8.5M\" is no size: sizes are whole numbers"));
    assert!(message("a cam 1M 2").contains("\"2\" is left over"));
    assert!(message("l all").contains("\"all\" is left over"));
    assert_eq!(Line::parse(b"a \xff 1M"), Err(Mistake::NotText));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Line::parse(&line);
    }

    #[test]
    fn no_line_of_nearly_right_words_makes_it_panic(line in "[laAf#]{0,2}[ \t]{0,2}[a-z/é]{0,4} {0,2}[0-9x]{0,22}[KMé]?/?[0-9KMx]{0,4}") {
        let _ = Line::parse(line.as_bytes());
    }

    #[test]
    fn what_was_written_is_what_is_read(
        device in "[a-z][a-z0-9.-]{0,8}", kind in proptest::option::of("[a-z]{1,4}"), size: u64, alignment: u64,
    ) {
        let kind_text = kind.as_ref().map(|kind| format!("/{kind}")).unwrap_or_default();
        let line = format!("a {device}{kind_text} {size:#x}/{alignment}\n");
        prop_assert_eq!(Line::parse(line.as_bytes()), Ok(alloc(&device, kind.as_deref(), size, alignment)));
    }
}
