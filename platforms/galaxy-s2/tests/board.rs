//! The board's guarantees, from the text of its constants to the chunks of its codec.

use cma_framework::config::{Map, parse_regions};
use cma_framework::reserve::Banks;
use cma_framework::{Alignment, Cma, Plugin, Reason};
use cma_platform_galaxy_s2::PLATFORM;
use std::sync::LazyLock;

/// The texts of the board file.
const REGIONS: &str = "pmem=4096K;pmem_gpu1=4096K;pmem_adsp=3600K;fimd=3072K;mfc0=36864K/128K;mfc1=36864K/128K;\
    fimc0=5120K;fimc1=14336K;fimc2=24576K;fimc3=7168K;srp=1024K;jpeg=20480K;fimg2d=8192K";
const MAP: &str = "android_pmem.0=pmem;android_pmem.1=pmem_gpu1;android_pmem.2=pmem_adsp;s3cfb.0=fimd;\
    s3c-fimc.0=fimc0;s3c-fimc.1=fimc1;s3c-fimc.2=fimc2;s3c-fimc.3=fimc3;s3c-mfc=mfc,mfc0,mfc1;s5p-rp=srp;\
    s5p-jpeg=jpeg;s5p-fimg2d=fimg2d";

static PARSED: LazyLock<Map> = LazyLock::new(|| Map::parse(MAP).unwrap());

const CODEC_BYTES: u64 = 36864 << 10;

/// The board with its regions registered in its own simulated memory.
fn booted() -> Cma {
    let cma = Cma::new();
    cma.set_platform(&PLATFORM).unwrap();
    cma.early_regions_reserve(&mut Banks::new(PLATFORM.banks, PLATFORM.growth));
    for early in cma.initialise() {
        assert!(early.registered().is_some(), "{early:?}");
    }
    cma
}

fn allocators() -> [Plugin; 3] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
    ]
}

#[test]
fn the_constants_agree_with_the_board_file_and_with_the_grammar() {
    assert_eq!(PLATFORM.name, "galaxy-s2");
    let specs =
        |text| parse_regions(text).map(|all| all.into_iter().map(|r| r.spec).collect::<Vec<_>>());
    assert_eq!(specs(REGIONS).unwrap(), PLATFORM.regions);
    assert_eq!(specs(&PLATFORM.regions_text()).unwrap(), PLATFORM.regions);

    assert_eq!(PLATFORM.map_text(), MAP);
    assert_eq!(PARSED.rules().collect::<Vec<_>>(), PLATFORM.map);
    assert_eq!(PLATFORM.parsed_map().unwrap(), *PARSED);
}

#[test]
fn regions_are_placed_downwards_from_the_end_of_the_first_bank_in_order() {
    let cma = booted();
    let regions = cma.regions();
    let places: Vec<_> = regions
        .iter()
        .rev()
        .map(|r| (r.name().unwrap(), r.range().start().get(), r.range().bytes() >> 10))
        .collect();
    assert_eq!(
        places,
        [
            ("pmem", 0x5fc0_0000, 4096),
            ("pmem_gpu1", 0x5f80_0000, 4096),
            ("pmem_adsp", 0x5f47_c000, 3600),
            ("fimd", 0x5f17_c000, 3072),
            ("mfc0", 0x5cd6_0000, 36864),
            ("mfc1", 0x5a96_0000, 36864),
            ("fimc0", 0x5a46_0000, 5120),
            ("fimc1", 0x5966_0000, 14336),
            ("fimc2", 0x57e6_0000, 24576),
            ("fimc3", 0x5776_0000, 7168),
            ("srp", 0x5766_0000, 1024),
            ("jpeg", 0x5626_0000, 20480),
            ("fimg2d", 0x55a6_0000, 8192),
        ]
    );
    let bank = PLATFORM.banks[0].0;
    assert!(regions.iter().all(|region| region.range().within(bank)));
}

#[test]
fn an_aligned_region_below_an_unaligned_end_moves_down_and_never_overlaps() {
    let cma = booted();
    // The region above mfc0 does not start on a 128 KiB boundary, so rounding the start of mfc0 up
    // would make the two overlap.
    let above = cma.region("fimd").unwrap().range();
    let boundary = Alignment::new(128 << 10).unwrap();
    assert!(!above.start().is_aligned(boundary));
    for codec in ["mfc0", "mfc1"] {
        assert!(cma.region(codec).unwrap().range().start().is_aligned(boundary));
    }
    for pair in cma.regions().windows(2) {
        assert!(!pair[0].range().overlaps(pair[1].range()), "{pair:?}");
    }
}

#[test]
fn the_codec_gets_the_whole_of_mfc0_in_one_chunk_from_every_allocator() {
    for allocator in allocators() {
        let name = allocator.name();
        let cma = booted();
        cma.allocator_register(allocator).unwrap();

        let whole = cma
            .alloc("s3c-mfc", None, CODEC_BYTES, 128 << 10)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(whole.region().name(), Some("mfc0"), "{name}");
        assert_eq!(whole.range(), cma.region("mfc0").unwrap().range(), "{name}");
        let next = cma
            .alloc("s3c-mfc", None, CODEC_BYTES, 128 << 10)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(next.region().name(), Some("mfc1"), "{name}");

        // After it is freed, mfc0 is used again.
        drop(whole);
        let again = cma
            .alloc("s3c-mfc", None, CODEC_BYTES, 128 << 10)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again.region().name(), Some("mfc0"), "{name}");
    }
}

#[test]
fn a_refusal_names_the_region_that_this_configuration_lacks() {
    let cma = booted();
    let Err(cma_framework::AllocError::NoRegion(refusals)) = cma.alloc("s3c-mfc", None, 4096, 0)
    else {
        panic!("a request was served without an allocator");
    };
    let unknown: Vec<_> =
        refusals.iter().map(|r| (&*r.region, r.reason == Reason::UnknownRegion)).collect();
    assert_eq!(unknown, [("mfc", true), ("mfc0", false), ("mfc1", false)]);
}

#[test]
fn every_device_is_served_from_its_own_region() {
    for allocator in allocators() {
        let cma = booted();
        cma.allocator_register(allocator).unwrap();
        for (device, region) in [
            ("android_pmem.0", "pmem"),
            ("android_pmem.1", "pmem_gpu1"),
            ("android_pmem.2", "pmem_adsp"),
            ("s3cfb.0", "fimd"),
            ("s3c-fimc.0", "fimc0"),
            ("s3c-fimc.1", "fimc1"),
            ("s3c-fimc.2", "fimc2"),
            ("s3c-fimc.3", "fimc3"),
            ("s3c-mfc", "mfc0"),
            ("s5p-rp", "srp"),
            ("s5p-jpeg", "jpeg"),
            ("s5p-fimg2d", "fimg2d"),
        ] {
            // The whole region, so that a wrong size fails the test.
            let size = cma.region(region).unwrap().range().bytes();
            let chunk =
                cma.alloc(device, None, size, 0).unwrap_or_else(|e| panic!("{device}: {e}"));
            assert_eq!(chunk.region().name(), Some(region), "{device}");
        }
        assert!(cma.alloc("s3c-fimc.4", None, 4096, 0).is_err(), "this map has no catch-all rule");
    }
}
