use super::*;
use cma_framework::config::Bytes;
use proptest::prelude::*;

fn alloc(device: &str, kind: Option<&str>, size: u64, alignment: u64) -> Statement {
    let (device, kind) = (device.to_string(), kind.map(String::from));
    let request = ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment));
    Statement::Action(Action::Alloc(Requester::Device { device, kind }, request))
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
        assert_eq!(
            Statement::parse(short.as_bytes()).unwrap(),
            Statement::parse(long.as_bytes()).unwrap()
        );
    }
}

#[test]
fn a_size_may_have_an_alignment_behind_a_slash() {
    assert_eq!(Statement::parse(b"a cam 1M/1M\n"), Ok(alloc("cam", None, 1 << 20, 1 << 20)));
    assert_eq!(Statement::parse(b"a cam 0x1000 / 64k"), Ok(alloc("cam", None, 4096, 65536)));
    assert_eq!(Statement::parse(b"  a\tcam   010\r\n"), Ok(alloc("cam", None, 8, 0)));
}

#[test]
fn limits_follow_the_size() {
    for (line, text) in [
        ("a cam/frame 3M/64K below=4G  wait=2s", "3M/64K below=4G wait=2s"),
        ("A b1, b2 1M at=0x40000000\n", "1M at=0x40000000"),
    ] {
        let Ok(Statement::Action(Action::Alloc(_, request))) = Statement::parse(line.as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!(request, ChunkRequest::parse(text).unwrap(), "{line}");
    }
}

#[test]
fn an_error_in_a_limit_has_its_column_in_the_line() {
    for (line, column, found) in [
        ("  a é/f 3M under=4G", 12, "under=4G"),
        ("A b1,b2 3M below=4X", 18, "4X"),
        ("a cam 1M above=4G below=1G", 19, "below=1G"),
        ("a cam 1M 2", 10, "2"),
    ] {
        let error = Statement::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error.ends_with(&format!(" at column {column}: \"{found}\"")), "{line}: {error}");
    }
}

#[test]
fn the_type_follows_the_slash() {
    assert_eq!(Statement::parse(b"a s3c-mfc5/f 1M"), Ok(alloc("s3c-mfc5", Some("f"), 1 << 20, 0)));
}

#[test]
fn a_name_that_is_not_valid_in_a_map_is_an_error() {
    for (target, fault) in [
        ("c/a/b", "\"a/b\" is no valid type: the only '/'"),
        ("cam*", "\"cam*\" is no valid device: wildcards"),
        ("c/f?", "\"f?\" is no valid type: wildcards"),
        ("a=b", "names take no"),
        ("a\x1b[2J", "\"a\\u{1b}[2J\" is no valid device"),
    ] {
        let error = Statement::parse(format!("a {target} 1M").as_bytes()).unwrap_err().to_string();
        assert!(error.contains(fault), "{target}: {error}");
    }
}

#[test]
fn devices_may_have_their_linux_names() {
    for name in ["soc:gpu", "0000:03:00.0", "amba_pl@0:udmabuf@0x00", "gpu(0)"] {
        let line = format!("a {name}/{name} 1MiB");
        assert_eq!(Statement::parse(line.as_bytes()), Ok(alloc(name, Some(name), 1 << 20, 0)));
    }
}

#[test]
fn a_list_of_regions_may_have_groups_and_blanks_around_separators() {
    for (list, rest) in [
        ("b1,b2", "4K"),
        ("b1, b2", "4K"),
        ("b1 ,b2", " 4K"),
        ("b1 , b2,\tb3", "4K/8K"),
        ("b1|b2", "4K"),
        ("b1 | b2, b3 |b4", " 4K"),
    ] {
        let line = format!("A {list} {rest}");
        let Ok(Statement::Action(Action::Alloc(Requester::Regions(regions), request))) =
            Statement::parse(line.as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!((regions, request.size), (list.replace([' ', '\t'], ""), Bytes(4096)), "{line}");
    }
    assert!(matches!(Statement::parse(b"A b1,"), Err(ParseError::Missing(_))));
}

#[test]
fn an_empty_line_repeats_and_a_comment_does_nothing() {
    assert_eq!(Statement::parse(b""), Ok(Statement::Repeat));
    assert_eq!(Statement::parse(b" \t\r\n"), Ok(Statement::Repeat));
    assert_eq!(Statement::parse(b"# a cam 1M\n"), Ok(Statement::Comment));
}

#[test]
fn free_takes_a_number_or_frees_the_newest() {
    assert_eq!(Statement::parse(b"f"), Ok(Statement::Action(Action::Free(None))));
    assert_eq!(Statement::parse(b"free 7"), Ok(Statement::Action(Action::Free(Some(7)))));
    for wrong in ["-1", "0x7", "1 2", "18446744073709551616"] {
        let line = format!("f {wrong}");
        assert_eq!(
            Statement::parse(line.as_bytes()),
            Err(ParseError::ChunkNumber(wrong.to_string()))
        );
    }
}

#[test]
fn an_error_names_the_expected_or_the_found_text() {
    let message = |line: &str| Statement::parse(line.as_bytes()).unwrap_err().to_string();
    assert!(
        message("allocate cam 1M").contains("there is no command \"allocate\"; there are: l[ist]")
    );
    assert!(message("a").contains("expected a device"));
    assert!(message("a /frame 1M").contains("expected a device"));
    assert!(message("a cam/ 1M").contains("expected a type"));
    assert!(message("a cam").contains("expected a size"));
    assert!(message("A").contains("expected regions"));
    assert!(message("a cam big").starts_with("expected a number"));
    assert!(message("a cam 1M/").ends_with("at column 10, where the text ends"));
    assert!(message("A b1").contains("as in: afrom b1,b2"));
    for wrong in ["1X", "1MM"] {
        assert!(message(&format!("a cam {wrong}")).contains("K, M, G, T, P or E"));
    }
    assert!(message("a cam 1MB").contains("M or MiB"));
    let fraction = "sizes are whole numbers; write 1536K for 1.5M at column 6: \"1.5M\"";
    assert_eq!(message("A b1 1.5M"), fraction);
    assert!(message("l all").contains("unexpected \"all\""));
    assert_eq!(Statement::parse(b"a \xff 1M"), Err(ParseError::NotText));
}

proptest! {
    #[test]
    fn parsing_any_bytes_does_not_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Statement::parse(&line);
    }

    #[test]
    fn parsing_nearly_valid_lines_does_not_panic(
        line in "[laAf#]{0,2}[ \t]{0,2}[a-z/é]{0,4} {0,2}[0-9x]{0,22}[KMé]?/?[0-9KMx]{0,4}( (at|below|wait)=[0-9]{0,2}[GMsé]?)?",
    ) {
        let _ = Statement::parse(line.as_bytes());
    }

    #[test]
    fn a_written_request_is_parsed_as_it_was_meant(
        device in "[a-z][a-z0-9.-]{0,8}", kind in proptest::option::of("[a-z]{1,4}"),
        size in 1..1_u64 << 60, shift in 0..64,
    ) {
        let kind_text = kind.as_ref().map(|kind| format!("/{kind}")).unwrap_or_default();
        let alignment = 1_u64 << shift;
        let line = format!("a {device}{kind_text} {size:#x}/{alignment}\n");
        prop_assert_eq!(Statement::parse(line.as_bytes()), Ok(alloc(&device, kind.as_deref(), size, alignment)));
    }
}
