//! Every form of a board that is written is read as the same board, every mistake has its place,
//! and no text makes a reader panic.

use cma_board::{
    Board, BoardAllocator, BoardRegion, Origin, ReadBoard, command_line, options, toml_file,
};
use cma_framework::DmaAddr;
use cma_framework::config::{Bank, Growth, Map, Place, Window, parse_regions};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// Boards whose regions the grammar allows.
fn boards() -> impl Strategy<Value = Board> {
    let banks = vec((0..1_u64 << 40, 1..1_u64 << 30), 0..4);
    let names = btree_set("[a-z][a-z0-9_.\"'\\\\-]{0,9}", 0..6);
    let parts = vec((1..1_u64 << 40, 0..3, 1..1_u64 << 40, proptest::option::of(0..40_u32)), 6);
    let allocators = vec((proptest::option::of("[a-z][a-z-]{0,5}"), "[a-z= ;,\"\\\\é]{0,6}"), 6);
    let rules =
        vec(("[a-z\"'][a-z0-9:.]{0,4}", proptest::option::of("[a-z]{1,3}"), 0..63_usize), 0..5);
    (banks, names, parts, allocators, rules, any::<[bool; 8]>()).prop_map(
        |(banks, names, parts, allocators, rules, flags)| {
            let regions: Vec<_> = names
                .into_iter()
                .zip(parts)
                .zip(allocators)
                .zip(flags)
                .map(|(((name, (size, place, at, order)), (allocator, params)), no_map)| {
                    let alignment = order.map(|order| 1 << order);
                    // With room for the size at any of these alignments.
                    let end = at + size + (1 << 41);
                    BoardRegion {
                        name,
                        size,
                        place: match place {
                            0 => Place::Anywhere,
                            1 => Place::At(DmaAddr::new(at)),
                            _ => Place::Within(Window::new(at, end).unwrap()),
                        },
                        alignment,
                        allocator: allocator.map(|name| BoardAllocator { name, params }),
                        no_map,
                    }
                })
                .collect();
            let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
            let rules = rules.into_iter().filter_map(|(device, kind, chosen)| {
                let list = names.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1);
                let list: Vec<_> = list
                    .map(|(n, name)| format!("{}{name}", if n % 2 == 0 { "," } else { "|" }))
                    .collect();
                let list = list.concat();
                let kind = kind.map_or(String::new(), |kind| format!("/{kind}"));
                (!list.is_empty()).then(|| format!("{device}{kind}={}", &list[1..]))
            });
            let map = Map::parse(&rules.collect::<Vec<_>>().join(";")).unwrap();
            Board {
                name: flags[5].then(|| "board \"one\"\n".to_string()),
                banks: banks
                    .into_iter()
                    .map(|(page, pages)| Bank::new(page << 12, pages << 12))
                    .collect(),
                growth: if flags[7] { Growth::Down } else { Growth::Up },
                map,
                memory: flags[6].then(|| "frames=memfd,auto".parse().unwrap()),
                regions,
            }
        },
    )
}

/// The text that an origin names.
fn found(text: &str, origin: Origin) -> &str {
    match origin {
        Origin::Text(span) => &text[span],
        origin => panic!("{origin:?} is no place in the text"),
    }
}

/// A board in every key.
const FULL: &str = r#"
name = "two"
banks = ["512M@0x40000000", "1G@0x80000000"]
growth = "down"
memory = "frames=memfd,auto"
map = ["camera/frame = frames", "* = frames|rest,spare"]

[[regions]]
name = "frames"
size = "64M"
within = "0x40000000-0x60000000"
alignment = "1M"
allocator = "buddy(max-order=10)"

[[regions]]
name = "rest"
size = 0x100_0000
at = "0x80000000"
no-map = true

[[regions]]
name = "spare"
size = "16M"
"#;

#[test]
fn every_key_is_read() {
    let ReadBoard { board, notes, .. } = toml_file::read(FULL).unwrap();
    assert_eq!(notes, []);
    assert_eq!((board.name.as_deref(), board.growth), (Some("two"), Growth::Down));
    assert_eq!(board.banks, Bank::parse_list("512M@1G;1G@2G").unwrap());
    assert_eq!(
        board.regions_text(),
        "frames=64M@0x40000000-0x60000000/1M:buddy(max-order=10);rest=16M@0x80000000;spare=16M"
    );
    assert_eq!(board.map_text(), "camera/frame=frames;*=frames|rest,spare");
    assert_eq!(board.memory, Some("frames=memfd,auto".parse().unwrap()));
    let no_map: Vec<_> = board.regions.iter().map(|region| region.no_map).collect();
    assert_eq!(no_map, [false, true, false]);
    let short = toml_file::read("banks = '2G@0'").unwrap().board;
    assert_eq!((short.name, short.banks), (None, vec![Bank::new(0, 2 << 30)]));
}

#[test]
fn every_mistake_in_toml_has_its_place_and_says_what_is_wrong() {
    let region = |keys: &str| format!("banks = []\n[[regions]]\n{keys}\n");
    for (text, place, what) in [
        ("banks = [\n", "", "array"),
        ("banks = []\nregoins = []", "regoins", "no key \"regoins\""),
        ("banks = 7", "7", "expected a string, found a number"),
        ("banks = ['1G@0', '1G']", "", "expected '@'"),
        ("banks = ['1G@0', '1G@x']", "", "expected a number"),
        ("banks = []\ngrowth = 'upward'", "upward", "\"up\" or \"down\""),
        ("banks = []\nmemory = 'flash'", "flash", "no kind of memory"),
        ("banks = []\nmap = ['a=b', 'c=d=e']", "=", "a rule has one '='"),
        ("banks = []\nmap = '''\na=b;\nc==d'''", "=", "a rule has one '='"),
        ("banks = []\nregions = 'b=1M'", "'b=1M'", "an array of tables"),
        ("banks = []\nregions = ['b=1M']", "'b=1M'", "expected a table"),
        (&region("name = 'a'\nsize = '1M'\nalignmnt = 4096"), "alignmnt", "no key \"alignmnt\""),
        (&region("name = 'a;b=1M'\nsize = '1M'"), "a;b=1M", "region name"),
        (&region("name = 'a b'\nsize = '1M'"), "a b", "region name"),
        (&region("name = 'a'\nsize = '1M@4G'"), "@4G", "one number"),
        (&region("name = 'a'\nsize = '1MB'"), "1MB", "ambiguous"),
        (&region("name = 'a'\nsize = 0"), "0", "a size"),
        (&region("name = 'a'\nsize = -1"), "-1", "a number of bytes is from 0"),
        (&region("name = 'a'\nsize = 1.5"), "1.5", "found a fraction"),
        (&region("name = 'a'\nsize = '1M'\nat = '1G/4K'"), "/4K", "one number"),
        (&region("name = 'a'\nsize = '1M'\nwithin = '1G'"), "1G", "a start and an end"),
        (&region("name = 'a'\nsize = '1M'\nwithin = '0-4K'"), "0-4K", "window"),
        (&region("name = 'a'\nsize = '1M'\nat = 4096\nwithin = '0-1G'"), "'0-1G'", "not both"),
        (&region("name = 'a'\nsize = '1M'\nalignment = '3K'"), "3K", "power of two"),
        (&region("name = 'a'\nsize = '1M'\nallocator = 'buddy(x'"), "(x", "expected ')'"),
        (&region("name = 'a'\nsize = '1M'\nallocator = 'x(y);b=1M'"), ";b=1M", "expected the end"),
        (&region("name = 'a'\nsize = '1M'\nno-map = 1"), "1", "true or false"),
        (&region("name = 'a'\nsize = '1M'\n[[regions]]\nname = 'a'\nsize = '1M'"), "a", "already"),
    ] {
        let error = toml_file::read(text).expect_err(text).0;
        assert!(error.message.contains(what), "{text}: {}", error.message);
        assert_eq!(found(text, error.at), place, "{text}: {}", error.message);
    }
    for (text, what) in [
        ("", "nothing of the board's memory"),
        (&region("size = '1M'")[..], "without a name"),
        (&region("name = 'a'"), "without a size"),
    ] {
        let error = toml_file::read(text).expect_err(text).0;
        assert!(error.message.contains(what) && error.remedy.is_some(), "{error:?}");
    }
}

#[test]
fn a_misspelt_key_gets_the_nearest_one_and_a_foreign_one_the_list() {
    for (text, remedy) in [
        ("bank = []", "write banks"),
        ("banks = []\nmemry = ''", "write memory"),
        ("banks = []\nzzzzzzz = ''", "the keys of a board are name, banks,"),
        ("banks = []\n[[regions]]\naligment = 1", "write alignment"),
        ("banks = []\n[[regions]]\nno_map = 1", "write no-map"),
    ] {
        let error = toml_file::read(text).expect_err(text).0;
        assert!(error.remedy.as_ref().unwrap().starts_with(remedy), "{error:?}");
    }
}

#[test]
fn a_part_of_the_derived_texts_is_found_where_it_is_written() {
    let read = toml_file::read(FULL).unwrap();
    let parsed = parse_regions(read.regions.text()).unwrap();
    let at = |span| found(FULL, read.regions.origin(&span));
    let spans = &parsed[0].spans;
    assert_eq!(at(spans.name.clone()), "frames");
    assert_eq!(at(spans.size.clone()), "64M");
    assert_eq!(at(spans.place.clone().unwrap()), "0x40000000-0x60000000");
    assert_eq!(at(spans.alignment.clone().unwrap()), "1M");
    assert_eq!(at(spans.allocator.clone().unwrap()), "buddy");
    // Not written as in cma=, so the whole value.
    assert_eq!(at(parsed[1].spans.size.clone()), "0x100_0000");
    let rest = read.map.text().find("rest").unwrap();
    assert_eq!(found(FULL, read.map.origin(&(rest..rest + 4))), "rest");
    assert_eq!(read.memory.text(), "frames=memfd,auto");
    assert_eq!(found(FULL, read.memory.origin(&(7..12))), "memfd");
}

#[test]
fn a_kernels_parameters_become_regions_and_rules() {
    for (text, regions, map) in [
        ("cma=64M", "cma=64M", "*=cma"),
        ("cma=64m@0x10000000", "cma=64M@0x10000000", "*=cma"),
        ("cma=64M@0-4G", "cma=64M@0x0-0x100000000", "*=cma"),
        // The kernel fixes the start when there is no end, and when the end leaves no choice.
        ("cma=64M@0", "cma=64M@0x0-0x4000000", "*=cma"),
        ("cma=64M@64M-128M", "cma=64M@0x4000000", "*=cma"),
        ("cma=0", "", ""),
        ("hugetlb_cma=3G", "hugetlb=3G/1G", "hugetlb=hugetlb"),
        ("hugetlb-cma=2G", "hugetlb=2G/1G", "hugetlb=hugetlb"),
        ("hugetlb_cma=0:1G,2:1536M", "hugetlb0=1G/1G;hugetlb2=2G/1G", "hugetlb=hugetlb0,hugetlb2"),
        ("hugetlb_cma=1M", "", ""),
        ("cma=1M hugetlb_cma=1G", "hugetlb=1G/1G;cma=1M", "hugetlb=hugetlb;*=cma"),
        ("cma=a=1M;b=2M/64K:buddy(x) cma.map=v/f=a;*=b", "a=1M;b=2M/64K:buddy(x)", "v/f=a;*=b"),
        ("cma=\"a=1M:x(p q)\" \"cma.map= *=a\"", "a=1M:x(p q)", "*=a"),
        ("cma=a=1M;", "a=1M", ""),
        ("cma=", "", ""),
        ("cma=1M cma=2M", "cma=2M", "*=cma"),
        ("cma=1M cma.map=x=cma", "cma=1M", "x=cma"),
        (
            "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=x ro quiet cma=32M cmap=1 console=ttyS0,115200 -- cma=1G",
            "cma=32M",
            "*=cma",
        ),
    ] {
        let board = command_line::read(text).expect(text).board;
        assert_eq!((&*board.regions_text(), &*board.map_text()), (regions, map), "{text}");
    }
}

#[test]
fn parameters_of_both_kernels_are_read_together() {
    let board = command_line::read("hugetlb_cma=1G cma=a=1M cma.map=*=a").unwrap().board;
    assert_eq!(board.regions_text(), "hugetlb=1G/1G;a=1M");
}

#[test]
fn what_a_kernel_would_do_otherwise_is_noted_at_its_place() {
    let no_rule = "no rule says which device may use which region";
    for (text, expected) in [
        ("cma=1M", vec![]),
        ("cma=a=1M cma.map=*=a", vec![]),
        ("hugetlb_cma=3G", vec![]),
        ("cma=a=1M", vec![("", no_rule)]),
        (
            "cma=1M quiet cma=2M cma=3M",
            vec![
                ("cma=1M", "a later parameter of this name replaces this one"),
                ("cma=2M", "a later parameter of this name replaces this one"),
            ],
        ),
        (
            "hugetlb_cma=0:1M,1:1G",
            vec![("1M", "a kernel gives no memory for less than one huge page of 1G")],
        ),
        ("hugetlb_cma=1536M", vec![("1536M", "the size is rounded up to 2G")]),
        ("quiet cma=0", vec![("cma=0", "a size of 0 means no region")]),
    ] {
        let notes = command_line::read(text).expect(text).notes;
        let noted = notes.iter().map(|note| match &note.at {
            Origin::Whole => ("", note.message.as_str()),
            at => (found(text, at.clone()), note.message.as_str()),
        });
        assert_eq!(noted.collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn a_text_is_a_command_line_if_a_word_is_a_parameter_that_is_read() {
    for text in ["cma=1M", "quiet hugetlb-cma=1G", "ro \"cma.map=*=a\""] {
        assert!(command_line::is_command_line(text), "{text}");
    }
    for text in ["", "quiet ro", "board.toml", "xcma=1M", "quiet -- cma=1M"] {
        assert!(!command_line::is_command_line(text), "{text}");
    }
}

#[test]
fn every_mistake_in_a_kernels_parameters_has_its_place() {
    for (text, place, what) in [
        ("quiet cma=64MB", "64MB", "ambiguous"),
        ("quiet cma=64M@", "", "expected a number"),
        ("quiet cma=64M@0-4G,x quiet", ",x", "expected cma="),
        ("quiet cma=64M@4G-1G", "4G-1G", "end"),
        ("quiet cma=64M@0-1M", "0-1M", "window"),
        ("quiet cma=a=1M;b=1X;c=2M", "1X", "suffix"),
        ("quiet cma=a=1M cma.map=x=a;y=*", "*", "region name"),
        ("hugetlb_cma=0:1G,1G", "1G", "node:size"),
        ("hugetlb_cma=0:1G,0:1G", "0:1G", "twice"),
        ("hugetlb_cma=1024:1G", "1024", "no node"),
        ("hugetlb_cma=0:1G;1:1G", ";1:1G", "expected hugetlb_cma="),
        ("hugetlb_cma=16E", "16E", "64 bits"),
        ("hugetlb_cma=18446744073709551615", "18446744073709551615", "address space"),
    ] {
        let error = command_line::read(text).expect_err(text).0;
        assert!(error.message.contains(what), "{text}: {}", error.message);
        assert_eq!(found(text, error.at), place, "{text}: {}", error.message);
    }
    for text in ["", "quiet ro", "-- cma=1M", "banks = []"] {
        let error = command_line::read(text).expect_err(text).0;
        assert!(error.message.contains("none of its words"), "{}", error.message);
    }
}

#[test]
fn what_a_form_cannot_express_is_named() {
    let board = toml_file::read(FULL).unwrap().board;
    let messages = |notes: Vec<cma_board::Note>| -> Vec<String> {
        notes.into_iter().map(|note| note.message).collect()
    };
    let (text, notes) = command_line::write(&board);
    assert_eq!(text, "cma=64M@0x40000000-0x60000000");
    let notes = messages(notes);
    for named in [
        "the name \"two\"",
        "its alignment",
        "its allocator",
        "\"rest\" is left out",
        "\"spare\" is left out",
        "camera/frame=frames",
        "frames|rest,spare",
        "512M@0x40000000;1G@0x80000000",
        "from their ends",
        "frames=memfd,auto",
        "no-map",
    ] {
        assert!(notes.iter().any(|note| note.contains(named)), "{named}: {notes:#?}");
    }
    let (text, notes) = command_line::write_v4(&board);
    assert_eq!(
        text,
        "cma=frames=64M/1M:buddy(max-order=10);rest=16M@0x80000000;spare=16M \
         cma.map=camera/frame=frames;*=frames,rest,spare"
    );
    let notes = messages(notes);
    for named in
        ["window 0x40000000-0x60000000", "frames|rest,spare", "\"two\"", "512M@", "memfd", "no-map"]
    {
        assert!(notes.iter().any(|note| note.contains(named)), "{named}: {notes:#?}");
    }
    let (text, notes) = options::write(&board);
    assert_eq!(
        text,
        "--banks '512M@0x40000000;1G@0x80000000' \
         --cma 'frames=64M@0x40000000-0x60000000/1M:buddy(max-order=10);rest=16M@0x80000000;spare=16M' \
         --map 'camera/frame=frames;*=frames|rest,spare' --memory 'frames=memfd,auto'"
    );
    let notes = messages(notes);
    assert_eq!(notes.len(), 3, "{notes:#?}");
    for named in ["the name \"two\"", "from their ends", "no-map"] {
        assert!(notes.iter().any(|note| note.contains(named)), "{named}: {notes:#?}");
    }
}

#[test]
fn a_region_that_hugetlb_cma_does_not_describe_is_left_out_by_name() {
    let board = |text: &str| Board {
        regions: parse_regions(text)
            .unwrap()
            .iter()
            .map(|parsed| BoardRegion::from(&parsed.spec))
            .collect(),
        ..Board::default()
    };
    for text in [
        "hugetlb1024=1G/1G",
        "hugetlb01=1G/1G",
        "hugetlbx=1G/1G",
        "hugetlb=1G",
        "hugetlb=1G/2G",
        "hugetlb=1G/1G:buddy",
        "hugetlb=1536M/1G",
        "hugetlb=1G@4G/1G",
        // Beside one of a single node.
        "hugetlb=1G/1G;hugetlb1023=1G/1G",
    ] {
        let (written, notes) = command_line::write(&board(text));
        let rest = if text.contains("1023") { "hugetlb_cma=1023:1G" } else { "" };
        assert_eq!(written, rest, "{text}");
        let name = &text[..text.find('=').unwrap()];
        let left_out = format!("region \"{name}\" is left out: ");
        assert!(notes.iter().any(|note| note.message.starts_with(&left_out)), "{text}: {notes:?}");
    }
}

#[test]
fn regions_with_quotation_marks_are_left_out_of_version_4_and_noted() {
    let board = toml_file::read(
        "banks = []\nmap = '*=a'\n[[regions]]\nname = 'a\"'\nsize = '1M'\n\
         [[regions]]\nname = 'a'\nsize = '1M'",
    );
    let (text, notes) = command_line::write_v4(&board.unwrap().board);
    let notes: Vec<_> = notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(text, "cma.map=*=a");
    assert_eq!(
        notes,
        ["cma= is left out: its value contains a quotation mark or a control character"]
    );
}

#[test]
fn what_a_kernels_parameters_say_is_written_as_it_was_read() {
    for text in [
        "cma=64M",
        "cma=64M@0x10000000",
        "cma=64M@0x0-0x100000000",
        "cma=32M hugetlb_cma=2G",
        "hugetlb_cma=0:1G,3:2G",
    ] {
        let board = command_line::read(text).unwrap().board;
        let (written, notes) = command_line::write(&board);
        assert_eq!((written.as_str(), notes.len()), (text, 0), "{notes:?}");
    }
}

#[test]
fn a_value_with_a_line_break_is_left_out_and_named() {
    let board = command_line::read("cma=\"a=1M:x(\n)\" cma.map=*=a").unwrap().board;
    let (text, notes) = command_line::write_v4(&board);
    assert_eq!(text, "cma.map=*=a");
    assert!(notes.iter().any(|note| note.message.contains("control character")), "{notes:?}");
}

#[test]
fn a_rule_that_a_kernel_adds_or_reorders_is_named() {
    for (text, written, what) in [
        ("hugetlb_cma=1G cma.map=", "hugetlb_cma=1G", "\"hugetlb=hugetlb\" is not in the map"),
        (
            "cma=a=1M;hugetlb=1G/1G cma.map=*=a;hugetlb=hugetlb",
            "cma=1M hugetlb_cma=1G",
            "the order of the rules",
        ),
    ] {
        let board = command_line::read(text).unwrap().board;
        let (found, notes) = command_line::write(&board);
        assert_eq!(found, written, "{text}");
        assert!(notes.iter().any(|note| note.message.contains(what)), "{text}: {notes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_board_written_as_toml_is_read_as_the_same_board(board in boards()) {
        let text = toml_file::write(&board);
        let read = toml_file::read(&text);
        prop_assert!(read.is_ok(), "{}\n{:?}", text, read);
        prop_assert_eq!(read.unwrap().board, board, "{}", text);
    }

    #[test]
    fn regions_and_map_written_for_version_4_are_read_as_the_same(board in boards()) {
        let (text, notes) = command_line::write_v4(&board);
        let lost = |note: &cma_board::Note| ["window", "groups", "quotation"].iter().any(|w| note.message.contains(w));
        if !text.is_empty() && !notes.iter().any(lost) {
            let read = command_line::read(&text);
            prop_assert!(read.is_ok(), "{}\n{:?}", text, read);
            let read = read.unwrap().board;
            prop_assert_eq!(read.regions_text(), board.regions_text(), "{}", text);
            prop_assert_eq!(read.map_text(), board.map_text(), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        text in "\\PC*",
        toml in "(name|banks|map|\\[\\[regions\\]\\]|size|within|[=\"'\\n\\[\\] {},0-9@KMG-]){0,40}",
        kernel in "(cma=|cma.map=|hugetlb_cma=|[0-9a-z:,;=@\" -]){0,20}",
    ) {
        for text in [text, toml, kernel] {
            for result in [toml_file::read(&text), command_line::read(&text)] {
                if let Err(error) = result
                    && let Origin::Text(span) = error.0.at
                {
                    prop_assert!(text.get(span.clone()).is_some(), "{:?} in {:?}", span, text);
                }
            }
        }
    }
}
