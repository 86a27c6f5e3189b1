//! What must hold on both boards of this family, from the text of their constants to the places
//! their regions get.

use cma_framework::config::{Map, Platform, parse_regions};
use cma_framework::reserve::Banks;
use cma_framework::{Alignment, Cma, PageRange};
use std::sync::LazyLock;

/// As the board files say it.
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
fn people_choose_the_boards_by_these_names() {
    assert_eq!(BOARDS.map(|board| board.name), ["aquila", "goni"]);
}

#[test]
fn the_constants_are_what_the_board_files_say_and_the_grammar_reads_them_back() {
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
fn every_region_gets_its_place_within_one_bank_and_none_overlaps_another() {
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
fn the_firmware_lies_on_a_128_kib_boundary_below_both_banks_it_works_with() {
    for board in &BOARDS {
        let cma = booted(board);
        let firmware = range(&cma, "fw");
        assert!(firmware.start().is_aligned(Alignment::new(128 << 10).unwrap()));
        assert!(firmware.end_page() <= range(&cma, "b1").first_page());
        assert!(firmware.end_page() <= range(&cma, "b2").first_page());
    }
}

#[test]
fn the_codec_gets_each_type_from_its_region_and_everybody_else_the_banks() {
    for board in &BOARDS {
        let map = board.parsed_map().unwrap();
        let regions = |device, kind| {
            map.regions_for(device, kind)
                .map_or(String::new(), |names| names.collect::<Vec<_>>().join(","))
        };
        assert_eq!(regions("s3c-mfc5", "f"), "fw");
        assert_eq!(regions("s3c-mfc5", "a"), "b1");
        assert_eq!(regions("s3c-mfc5", "b"), "b2");
        assert_eq!(regions("s3c-mfc5", "common"), "b1,b2");
        assert_eq!(regions("s3c-fimc", "f"), "b1,b2");
    }
}
