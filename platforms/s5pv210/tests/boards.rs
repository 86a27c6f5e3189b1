//! The guarantees of both boards, from the text of their constants to the addresses of their
//! regions.

use cma_framework::config::{Map, Platform, parse_regions};
use cma_framework::reserve::Banks;
use cma_framework::{Alignment, Cma, PageRange};
use std::sync::LazyLock;

/// The texts of the board files.
const REGIONS: &str = "fw=1M/128K;b1=32M;b2=16M@0x40000000";
const MAP: &str = "s3c-mfc5/f=fw;s3c-mfc5/a=b1;s3c-mfc5/b=b2;*=b1,b2";

static PARSED: LazyLock<Map> = LazyLock::new(|| Map::parse(MAP).unwrap());

const BOARDS: [Platform; 2] = [cma_platform_aquila::PLATFORM, cma_platform_goni::PLATFORM];

/// The board with its regions registered in its own simulated memory.
fn booted(board: &Platform) -> Cma {
    let cma = Cma::new();
    cma.set_platform(board).unwrap();
    cma.early_regions_reserve(&mut Banks::new(board.banks, board.growth));
    for early in cma.initialise() {
        assert!(early.registered().is_some(), "{}: {early:?}", board.name);
    }
    cma
}

fn range(cma: &Cma, name: &str) -> PageRange {
    cma.region(name).unwrap().range()
}

#[test]
fn the_boards_have_their_published_names() {
    assert_eq!(BOARDS.map(|board| board.name), ["aquila", "goni"]);
}

#[test]
fn the_constants_agree_with_the_board_files_and_with_the_grammar() {
    for board in &BOARDS {
        assert_eq!(board.regions_text(), REGIONS);
        let parsed: Vec<_> =
            parse_regions(REGIONS).unwrap().into_iter().map(|region| region.spec).collect();
        assert_eq!(parsed, board.regions);

        assert_eq!(board.map_text(), MAP);
        assert_eq!(PARSED.rules().collect::<Vec<_>>(), board.map);
        assert_eq!(board.parsed_map().unwrap(), *PARSED);
    }
}

#[test]
fn every_region_lies_within_one_bank_and_no_two_overlap() {
    for board in &BOARDS {
        let cma = booted(board);
        let places: Vec<_> = cma
            .regions()
            .iter()
            .map(|r| (r.name().unwrap().to_string(), r.range().to_string()))
            .collect();
        let expected = [
            ("fw", "0x30000000+0x100000"),
            ("b1", "0x30100000+0x2000000"),
            ("b2", "0x40000000+0x1000000"),
        ];
        assert_eq!(places, expected.map(|(name, place)| (name.to_string(), place.to_string())));
        for region in cma.regions() {
            let bank = board.banks.iter().find(|bank| region.range().within(bank.0));
            assert!(bank.is_some(), "{}: {region:?} lies in no bank", board.name);
        }
        for pair in cma.regions().windows(2) {
            assert!(!pair[0].range().overlaps(pair[1].range()), "{}: {pair:?}", board.name);
        }
    }
}

#[test]
fn the_firmware_lies_on_a_128_kib_boundary_below_both_buffers() {
    for board in &BOARDS {
        let cma = booted(board);
        let firmware = range(&cma, "fw");
        assert!(firmware.start().is_aligned(Alignment::new(128 << 10).unwrap()));
        assert!(firmware.end_page() <= range(&cma, "b1").first_page());
        assert!(firmware.end_page() <= range(&cma, "b2").first_page());
    }
}

#[test]
fn the_codec_gets_each_type_from_its_region_and_other_devices_use_both_buffers() {
    for board in &BOARDS {
        let map = board.parsed_map().unwrap();
        let regions = |device, kind| {
            map.regions_for(device, kind)
                .map_or(String::new(), |names| names.flatten().collect::<Vec<_>>().join(","))
        };
        assert_eq!(regions("s3c-mfc5", "f"), "fw");
        assert_eq!(regions("s3c-mfc5", "a"), "b1");
        assert_eq!(regions("s3c-mfc5", "b"), "b2");
        assert_eq!(regions("s3c-mfc5", "common"), "b1,b2");
        assert_eq!(regions("s3c-fimc", "f"), "b1,b2");
    }
}
