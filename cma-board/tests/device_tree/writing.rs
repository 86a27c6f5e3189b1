//! Boards written as the source of device trees.

use crate::trees::{board_of, compiled};
use cma_board::device_tree::{read, write};
use cma_board::{Board, BoardAllocator, BoardRegion};
use cma_framework::config::{Bank, Growth, Map, Place, Window};
use cma_framework::{DmaAddr, PAGE_SIZE};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};

fn region(name: &str, size: u64) -> BoardRegion {
    BoardRegion { name: name.into(), size, ..BoardRegion::default() }
}

/// The notes of a board's tree, as texts.
fn notes(board: &Board) -> Vec<String> {
    write(board).1.iter().map(ToString::to_string).collect()
}

/// What the map answers: the regions in order, without their groups.
fn regions_for(board: &Board, device: &str, kind: &str) -> Option<Vec<String>> {
    Some(board.map.regions_for(device, kind)?.flatten().map(String::from).collect())
}

#[test]
fn a_board_without_what_a_tree_lacks_is_read_back_as_it_was_written() {
    let board = Board {
        name: Some("The \"small\" board \\ 1".into()),
        banks: vec![Bank::new(0x4000_0000, 1 << 30), Bank::new(0x8_0000_0000, 1 << 30)],
        growth: Growth::Down,
        regions: vec![
            BoardRegion {
                place: Place::At(DmaAddr::new(0x4100_0000)),
                no_map: true,
                ..region("fw", 1 << 20)
            },
            BoardRegion { alignment: Some(1 << 22), ..region("frames", 0x180_1234) },
            BoardRegion {
                place: Place::Within(Window::new(0, 1 << 32).expect("a window")),
                ..region("low", 64 << 20)
            },
            BoardRegion {
                place: Place::Within(Window::sized(0x8_0000_0000, 1 << 30).expect("a window")),
                ..region("b1.a_b+c-d", 6 << 20)
            },
        ],
        map: Map::parse(
            "codec@1000/fw=fw;codec@1000/in=frames,low;codec@1000=low;camera=frames,low;*=low",
        )
        .expect("a map"),
        memory: None,
    };
    let (source, notes) = write(&board);
    assert_eq!(notes, []);
    let Some(read) = board_of(&source) else { return };
    assert_eq!(read.board, board);
    assert_eq!(read.notes, []);
}

/// Boards that a tree expresses.
fn expressible_boards() -> impl Strategy<Value = Board> {
    let name = "[a-z][a-z0-9._+-]{0,12}";
    let names = prop::collection::hash_set(name, 1..6);
    let regions =
        names.prop_flat_map(|names| names.into_iter().map(any_region).collect::<Vec<_>>());
    regions.prop_flat_map(|regions| {
        let names: Vec<_> = regions.iter().map(|region| region.name.clone()).collect();
        let pools = regions.iter().filter(|region| !region.no_map).map(|r| r.name.clone());
        let default =
            prop::option::of(prop::sample::select(pools.chain(["".into()]).collect::<Vec<_>>()));
        let banks = prop::collection::vec((1_u64..1 << 28, 1_u64..1 << 20), 0..4);
        (Just(regions), any_rules(names), default, banks).prop_map(|parts| {
            let (regions, mut rules, default, banks) = parts;
            rules.extend(default.filter(|name| !name.is_empty()).map(|name| format!("*={name}")));
            let bank = |(page, pages)| Bank::new(page * PAGE_SIZE, pages * PAGE_SIZE);
            Board {
                name: Some("any".into()),
                banks: banks.into_iter().map(bank).collect(),
                growth: Growth::Down,
                regions,
                map: Map::parse(&rules.join(";")).expect("a map"),
                memory: None,
            }
        })
    })
}

fn any_region(name: String) -> impl Strategy<Value = BoardRegion> {
    let place = prop_oneof![
        Just(Place::Anywhere),
        (1_u64..1 << 28).prop_map(|page| Place::At(DmaAddr::new(page * PAGE_SIZE))),
        (0..1_u64 << 40, 1_u64 << 37..1 << 40).prop_map(|(start, size)| {
            Place::Within(Window::sized(start, size).expect("a window"))
        }),
    ];
    let alignment = prop::option::of((0_u32..30).prop_map(|order| 1 << order));
    (1..1_u64 << 36, place, alignment, any::<bool>()).prop_map(
        move |(size, place, alignment, no_map)| BoardRegion {
            place,
            alignment,
            no_map,
            ..region(&name, size)
        },
    )
}

/// Rules of up to four devices, each with types and regions of its own, in an order in which the
/// rules of different devices alternate.
fn any_rules(names: Vec<String>) -> impl Strategy<Value = Vec<String>> {
    let most = names.len();
    let regions = move || subsequence(names.clone(), 1..=most).prop_shuffle();
    let kinds = prop::collection::btree_map("[a-z]{1,3}|\"|é", regions(), 0..3);
    let device = ("[a-z][a-z0-9,._-]{0,5}(@[0-9a-f]{1,4})?", kinds, prop::option::of(regions()));
    prop::collection::vec(device, 0..5).prop_map(|devices| {
        let mut rules = Vec::new();
        for (device, kinds, rest) in &devices {
            let device = device.replace(',', "-");
            rules.extend(kinds.iter().map(|(k, r)| format!("{device}/{k}={}", r.join(","))));
            rules.extend(rest.iter().map(|r| format!("{device}={}", r.join(","))));
        }
        rules
    })
}

#[test]
fn every_board_that_a_tree_expresses_keeps_its_regions_its_memory_and_the_answers_of_its_map() {
    if compiled("/dts-v1/; / {};").is_none() {
        return;
    }
    let mut runner = TestRunner::new(Config { cases: 150, ..Config::default() });
    let result = runner.run(&expressible_boards(), |board| {
        let (source, notes) = write(&board);
        prop_assert!(notes.iter().all(|note| note.message.contains("no banks")), "{:?}", notes);
        let read = board_of(&source).expect("dtc").board;
        // A start that is rounded up, and a fixed region's size.
        let rounded = |region: &BoardRegion| match region.place {
            Place::At(start) => BoardRegion {
                place: Place::At(DmaAddr::new(
                    start.get().next_multiple_of(region.alignment.unwrap_or(1).max(PAGE_SIZE)),
                )),
                size: region.size.next_multiple_of(PAGE_SIZE),
                alignment: None,
                ..region.clone()
            },
            _ => region.clone(),
        };
        let wanted: Vec<_> = board.regions.iter().map(rounded).collect();
        prop_assert_eq!(&read.regions, &wanted);
        for Bank(bank) in &board.banks {
            prop_assert!(read.banks.iter().any(|Bank(read)| bank.within(*read)), "{bank}");
        }
        let patterns = board.map.rules().flat_map(|rule| {
            rule.patterns.iter().filter_map(|p| p.device.map(String::from)).collect::<Vec<_>>()
        });
        let devices: Vec<_> = patterns.filter(|d| d != "*").chain(["other".into()]).collect();
        let kinds = board.map.rules().flat_map(|rule| {
            rule.patterns.iter().filter_map(|p| p.kind.map(String::from)).collect::<Vec<_>>()
        });
        let kinds: Vec<_> = kinds.chain(["common".into()]).collect();
        for device in &devices {
            for kind in &kinds {
                prop_assert_eq!(
                    regions_for(&read, device, kind),
                    regions_for(&board, device, kind),
                    "{}/{}",
                    device,
                    kind
                );
            }
        }
        let again = write(&read).0;
        let reread = board_of(&again).expect("dtc").board;
        prop_assert_eq!(&reread, &read);
        prop_assert_eq!(write(&reread).0, again);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_a_tree_does_not_express_is_noted_by_name() {
    let mut board = Board::of(&cma_platform_goni::PLATFORM).expect("a board");
    board.growth = Growth::Up;
    board.regions[0].allocator = Some(BoardAllocator { name: "tlsf".into(), params: "x=1".into() });
    board.memory = Some("memfd".parse().expect("a choice"));
    board.map = Map::parse(
        "s3c-mfc5/f=fw;cam*=b1;isp/x?=b1;soc:gpu=b1;gpu=b1|b2,b2;tv=none,b2;memory@30000000=b1;\
         *=b1,b2;never=fw",
    )
    .expect("a map");
    assert_eq!(
        notes(&board),
        [
            "the default pool is one region, b1; the map also has: b2",
            "a device tree has no patterns, so these are left out: cam*, isp/x?",
            "devices with names that no node can have, left out: soc:gpu, memory@30000000",
            "regions that the map names but the board doesn't have: none",
            "a device tree doesn't choose the best of a group, so its regions are in order: b1|b2",
            "a device tree names no allocators: fw (tlsf(x=1))",
            "Linux places these regions as high as it can, not as low: fw, b1",
            "a device tree chooses no kind of memory: memfd",
        ]
    );
}

#[test]
fn a_board_without_banks_has_a_tree_without_memory_and_a_note() {
    let board = Board { growth: Growth::Down, ..Board::default() };
    assert_eq!(notes(&board), ["the board has no banks, so the tree has no memory node"]);
    assert!(!write(&board).0.contains("memory"));
}

#[test]
fn banks_are_written_in_ascending_order() {
    let banks = vec![Bank::new(0x8000_0000, 1 << 20), Bank::new(0x4000_0000, 1 << 20)];
    let source = write(&Board { banks, ..Board::default() }).0;
    let (low, high) = (source.find("0x40000000 0x0"), source.find("0x80000000 0x0"));
    assert!(low.is_some() && low < high, "{source}");
}

#[test]
fn a_device_that_no_node_can_be_called_after_is_left_out_and_named_once() {
    let long = "l".repeat(32);
    let rules = format!("a@=r;a@1@2=r;1a=r;{long}=r;a@=r,none;b@1=none,r;{}=r", &long[1..]);
    let board = Board {
        banks: vec![Bank::new(0x4000_0000, 1 << 30)],
        growth: Growth::Down,
        regions: vec![region("r", PAGE_SIZE)],
        map: Map::parse(&rules).expect("a map"),
        ..Board::default()
    };
    assert_eq!(
        notes(&board),
        [
            &format!("devices with names that no node can have, left out: a@, a@1@2, 1a, {long}"),
            "regions that the map names but the board doesn't have: none",
        ]
    );
    let source = write(&board).0;
    assert!(source.contains("b@1 {") && source.contains(&format!("\t{} {{", &long[1..])));
}

#[test]
fn a_default_pool_that_is_no_map_is_not_written_as_the_default_one() {
    let board = Board {
        regions: vec![BoardRegion { no_map: true, ..region("r", PAGE_SIZE) }],
        map: Map::parse("*=r").expect("a map"),
        ..Board::default()
    };
    assert!(notes(&board).contains(&"the default pool can't be no-map: r".to_string()));
    assert!(!write(&board).0.contains("linux,cma-default"));
}

#[test]
fn a_rule_that_is_never_reached_is_not_written() {
    let board = Board {
        regions: vec![region("a", PAGE_SIZE), region("b", PAGE_SIZE)],
        growth: Growth::Down,
        map: Map::parse("tv/x=b;tv=a;tv/y=b;tv/x=a;tv=b").expect("a map"),
        ..Board::default()
    };
    let Some(read) = board_of(&write(&board).0) else { return };
    assert_eq!(read.board.map_text(), "tv/x=b;tv=a");
}

#[test]
fn the_published_boards_keep_their_regions_and_the_answers_of_their_maps() {
    for platform in [&cma_platform_goni::PLATFORM, &cma_platform_galaxy_s2::PLATFORM] {
        let board = Board::of(platform).expect("a board");
        let Some(read) = board_of(&write(&board).0) else { return };
        let places = |board: &Board| {
            let regions = board.regions.iter();
            regions.map(|r| (r.name.clone(), r.size, r.place, r.alignment)).collect::<Vec<_>>()
        };
        assert_eq!(places(&read.board), places(&board));
        for (device, kind) in [("s3c-mfc5", "f"), ("s3c-mfc5", "a"), ("s3c-mfc5", "b")] {
            let regions = regions_for(&board, device, kind);
            assert_eq!(regions_for(&read.board, device, kind), regions);
        }
    }
}

#[test]
fn names_that_no_node_can_have_are_changed_without_becoming_equal_and_noted() {
    let names = ["1st", "a!b", "a#b", &"long".repeat(9), "région", "plain"];
    let board = Board {
        regions: names.map(|name| region(name, PAGE_SIZE)).to_vec(),
        map: Map::parse("video=a#b,a!b").expect("a map"),
        growth: Growth::Down,
        ..Board::default()
    };
    assert_eq!(
        notes(&board)[0],
        "regions with names that no node can have: 1st as region-1st, a!b as a-b, a#b as a-b.2, \
         longlonglonglonglonglonglonglonglong as longlonglonglonglonglonglonglon, \
         région as r-gion"
    );
    let Some(read) = board_of(&write(&board).0) else { return };
    assert_eq!(read.board.map_text(), "video=a-b.2,a-b");
    assert_eq!(read.board.regions.len(), names.len());
}

#[test]
fn a_tree_that_was_read_is_written_with_the_same_pools() {
    let board = read(include_bytes!("pools.dtb")).expect("a blob").board;
    let Some(read) = board_of(&write(&board).0) else { return };
    assert_eq!(read.board.banks, board.banks);
    assert_eq!(read.board.regions_text(), board.regions_text());
    for (device, kind) in [
        ("video-codec@1000", "fw"),
        ("video0", "frames"),
        ("camera@3000", "common"),
        ("other", "common"),
    ] {
        assert_eq!(regions_for(&read.board, device, kind), regions_for(&board, device, kind));
    }
}
