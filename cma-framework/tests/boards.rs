//! Published configurations of real boards: each is parsed, boots, and routes requests as its board
//! needs.
//!
//! The texts are from published board files and device trees. The boards that the project ships as
//! platforms have tests in their own crates.

use cma_framework::config::{Bank, COMMON, Growth, Map, RegionSpec, SyntaxError, parse_regions};
use cma_framework::reserve::{Banks, ReserveError};
use cma_framework::{AllocError, Cma, EarlyState, Errno, PageRange, Reason};

const MIB: u64 = 1 << 20;

/// Memory of an Exynos 4210 board.
const EXYNOS: [Bank; 2] = [Bank::new(0x4000_0000, 512 * MIB), Bank::new(0x6000_0000, 512 * MIB)];

/// `mach-smdkc210.c` and `mach-smdkv310.c`.
const SMDK_REGIONS: &str = "fimd=3072K;mfc0=36864K/128K;mfc1=36864K/128K;fimc0=5120K;fimc1=3072K;fimc2=3072K;\
    fimc3=24576K;srp=1024K;fimg2d=8192K";
const SMDKC210_MAP: &str = "android_pmem.0=pmem;android_pmem.1=pmem_gpu1;s3cfb.0=fimd;s3c-fimc.0=fimc0;\
    s3c-fimc.1=fimc1;s3c-fimc.2=fimc2;s3c-fimc.3=fimc3;s3c-mfc=mfc,mfc0,mfc1;s5p-rp=srp;s5p-jpeg=jpeg;\
    s5p-fimg2d=fimg2d";
/// Its rule for the codec is misspelt: `sc3-mfc` in place of `s3c-mfc`.
const SMDKV310_MAP: &str = "android_pmem.0=pmem;android_pmem.1=pmem_gpu1;s3cfb.0=fimd;s3c-fimc.0=fimc0;\
    s3c-fimc.1=fimc1;s3c-fimc.2=fimc2;s3c-fimc.3=fimc3;sc3-mfc=mfc,mfc0,mfc1;s5p-rp=srp;s5p-fimg2d=fimg2d";

/// `mx_cma.c`.
const MEIZU_REGIONS: &str = "jpeg=1024K;fimc1=32768K;fimc0=25600K;fimc3=4K;mfc0=49152K/128K;mfc1=24576K/128K;\
    fimd=9600K;ram_console=128K";
const MEIZU_MAP: &str = "ram_console=ram_console;android_pmem.0=pmem;android_pmem.1=pmem_gpu1;s3cfb.0/fimd=fimd;\
    exynos4-fb.0/fimd=fimd;s3c-fimc.0=fimc0;s3c-fimc.1=fimc1;s3c-fimc.2=fimc2;s3c-fimc.3=fimc3;\
    exynos4210-fimc.0=fimc0;exynos4210-fimc.1=fimc1;exynos4210-fimc.2=fimc2;exynos4210-fimc.3=fimc3;\
    s3c-mfc/A=mfc0,mfc-secure;s3c-mfc/B=mfc1,mfc-normal;s3c-mfc/AB=mfc;samsung-rp=srp;s5p-jpeg=jpeg;jpeg_v1=jpeg;\
    jpeg_v2=jpeg;exynos4-fimc-is/f=fimc_is;s5p-mixer=tv;s5p-fimg2d=fimg2d;\
    ion-exynos=ion,fimd,fimc0,fimc1,fimc2,fimc3,fw,b1,b2;s5p-smem/mfc=mfc0,mfc-secure;s5p-smem/fimc=fimc3;\
    s5p-smem/mfc-shm=mfc1,mfc-normal;";

/// A framework with these texts on its command line, and its regions registered in an Exynos
/// board's memory, from the top of the banks down.
fn booted(regions: &str, map: &str) -> Cma {
    let cma = Cma::new();
    cma.command_line(Some(regions), Some(map)).unwrap();
    cma.early_regions_reserve(&mut Banks::new(&EXYNOS, Growth::Down));
    for early in cma.initialise() {
        assert!(early.registered().is_some(), "{early:?}");
    }
    cma
}

/// Asserts that the board's regions are placed as described: with their sizes and alignments,
/// inside a bank, and disjoint.
fn assert_placed_as_described(cma: &Cma, text: &str) {
    let described = parse_regions(text).unwrap();
    assert_eq!(cma.regions().len(), described.len());
    for RegionSpec { name, size, alignment, .. } in described.into_iter().map(|region| region.spec)
    {
        let range = cma.region(name).unwrap().range();
        assert_eq!(range.bytes(), size, "{name}");
        assert_eq!(range.start().get() % alignment.unwrap_or(1), 0, "{name}");
        assert!(EXYNOS.iter().any(|bank| range.within(bank.0)), "{name} at {range}");
    }
    for pair in cma.regions().windows(2) {
        assert!(!pair[0].range().overlaps(pair[1].range()), "{pair:?}");
    }
}

/// The regions that the map gives a device, separated by commas; `None` without a rule. Regions
/// that don't exist are in parentheses.
fn route(cma: &Cma, device: &str, kind: Option<&str>) -> Option<String> {
    // No allocator is registered, so the error names every region that was tried.
    match cma.alloc(device, kind, 4096, 0).unwrap_err() {
        AllocError::NoRule { .. } => None,
        AllocError::NoRegion(refusals) => {
            let tried = refusals.iter().map(|refusal| match refusal.reason {
                Reason::UnknownRegion => format!("({})", refusal.region),
                _ => refusal.region.clone(),
            });
            Some(tried.collect::<Vec<_>>().join(","))
        }
        error => panic!("{error}"),
    }
}

/// The names of regions in the map that don't exist, each once, in order.
fn unknown_names(cma: &Cma) -> Vec<String> {
    let map = cma.map();
    let mut unknown = Vec::new();
    for name in map
        .rules()
        .flat_map(|rule| rule.groups.to_vec())
        .flat_map(|group| group.regions().collect::<Vec<_>>())
    {
        if cma.region(name).is_none() && !unknown.iter().any(|known| known == name) {
            unknown.push(name.to_string());
        }
    }
    unknown
}

#[test]
fn smdkc210_boots_and_its_devices_find_their_regions() {
    let cma = booted(SMDK_REGIONS, SMDKC210_MAP);
    assert_placed_as_described(&cma, SMDK_REGIONS);
    for (device, regions) in [
        ("android_pmem.0", "(pmem)"),
        ("android_pmem.1", "(pmem_gpu1)"),
        ("s3cfb.0", "fimd"),
        ("s3c-fimc.0", "fimc0"),
        ("s3c-fimc.1", "fimc1"),
        ("s3c-fimc.2", "fimc2"),
        ("s3c-fimc.3", "fimc3"),
        ("s3c-mfc", "(mfc),mfc0,mfc1"),
        ("s5p-rp", "srp"),
        ("s5p-jpeg", "(jpeg)"),
        ("s5p-fimg2d", "fimg2d"),
    ] {
        assert_eq!(route(&cma, device, None).as_deref(), Some(regions), "{device}");
    }
    assert_eq!(route(&cma, "android_pmem.2", None), None);
}

#[test]
fn smdkv310_boots_and_its_codec_gets_enoent_because_its_map_misspells_it() {
    let cma = booted(SMDK_REGIONS, SMDKV310_MAP);
    assert_placed_as_described(&cma, SMDK_REGIONS);
    let error = cma.alloc("s3c-mfc", None, 4096, 0).unwrap_err();
    assert_eq!(error.errno(), Errno::ENOENT);
    assert_eq!(
        error.to_string(),
        "no rule of the map matches s3c-mfc/common; add one, such as s3c-mfc/common=<region>, or *=<region>"
    );
    assert_eq!(route(&cma, "sc3-mfc", None).as_deref(), Some("(mfc),mfc0,mfc1"));
    assert_eq!(route(&cma, "s5p-jpeg", None), None);
    assert_eq!(route(&cma, "s5p-fimg2d", None).as_deref(), Some("fimg2d"));
}

#[test]
fn meizu_mx_boots_with_a_trailing_separator_and_fourteen_undefined_names() {
    let cma = booted(MEIZU_REGIONS, MEIZU_MAP);
    assert_placed_as_described(&cma, MEIZU_REGIONS);
    assert_eq!(cma.map().rules().count(), 27);
    let unknown = unknown_names(&cma);
    assert_eq!(
        unknown.join(" "),
        "pmem pmem_gpu1 fimc2 mfc-secure mfc-normal mfc srp fimc_is tv fimg2d ion fw b1 b2"
    );
    assert_eq!(unknown.len(), 14);
    for (device, kind, regions) in [
        ("ram_console", None, Some("ram_console")),
        ("s3cfb.0", Some("fimd"), Some("fimd")),
        ("s3cfb.0", None, None),
        ("exynos4-fb.0", Some("fimd"), Some("fimd")),
        ("exynos4210-fimc.2", None, Some("(fimc2)")),
        ("exynos4210-fimc.3", Some("anything"), Some("fimc3")),
        ("jpeg_v2", None, Some("jpeg")),
        ("ion-exynos", None, Some("(ion),fimd,fimc0,fimc1,(fimc2),fimc3,(fw),(b1),(b2)")),
        ("s5p-smem", Some("mfc"), Some("mfc0,(mfc-secure)")),
        ("s5p-smem", Some("mfc-shm"), Some("mfc1,(mfc-normal)")),
        ("s5p-smem", Some("mfc-"), None),
    ] {
        assert_eq!(route(&cma, device, kind).as_deref(), regions, "{device} {kind:?}");
    }
}

#[test]
fn on_meizu_mx_type_a_does_not_match_ab() {
    let cma = booted(MEIZU_REGIONS, MEIZU_MAP);
    assert_eq!(route(&cma, "s3c-mfc", Some("A")).as_deref(), Some("mfc0,(mfc-secure)"));
    assert_eq!(route(&cma, "s3c-mfc", Some("B")).as_deref(), Some("mfc1,(mfc-normal)"));
    assert_eq!(route(&cma, "s3c-mfc", Some("AB")).as_deref(), Some("(mfc)"));
    assert_eq!(route(&cma, "s3c-mfc", None), None, "{COMMON} is none of the codec's types");
}

#[test]
fn every_map_of_these_boards_is_displayed_as_it_was_written() {
    for text in [SMDKC210_MAP, SMDKV310_MAP, MEIZU_MAP] {
        let map = Map::parse(text).unwrap();
        assert_eq!(map.text(), text);
        let written = map.rules().map(|rule| rule.to_string()).collect::<Vec<_>>().join(";");
        assert_eq!(written, text.trim_end_matches(';'));
    }
}

/// The state of the early region `text` after it was reserved in `banks` and registered.
fn pool(text: &str, banks: &[Bank], growth: Growth) -> EarlyState {
    let cma = Cma::new();
    cma.command_line(Some(text), None).unwrap();
    cma.early_regions_reserve(&mut Banks::new(banks, growth));
    cma.initialise().remove(0).state()
}

/// A bank of 4 GiB that starts at 0, which contains the windows of all boards below.
const WIDE: &[Bank] = &[Bank::new(0, 4096 * MIB)];

/// The default pools of current boards, as their device trees describe them, each in memory that is
/// larger than its window.
#[test]
fn default_pools_of_device_trees_are_placed_within_their_windows() {
    for (board, text, window, size, alignment) in [
        ("Raspberry Pi 5", "default=64M@0-1G", 0..0x4000_0000, 64 * MIB, 1),
        ("Raspberry Pi 5, overlay", "default=64M@0-1G/4M", 0..0x4000_0000, 64 * MIB, 4 * MIB),
        ("Raspberry Pi 5, overlay", "default=96M@0-1G/4M", 0..0x4000_0000, 96 * MIB, 4 * MIB),
        ("Raspberry Pi 5, overlay", "default=128M@0-1G/4M", 0..0x4000_0000, 128 * MIB, 4 * MIB),
        ("Raspberry Pi 5, overlay", "default=192M@0-1G/4M", 0..0x4000_0000, 192 * MIB, 4 * MIB),
        ("Raspberry Pi 5, overlay", "default=256M@0-1G/4M", 0..0x4000_0000, 256 * MIB, 4 * MIB),
        ("i.MX 8ULP EVK", "default=640M", 0..1 << 32, 640 * MIB, 1),
        ("i.MX 93 11x11 EVK", "default=256M@2G-3G", 0x8000_0000..0xc000_0000, 256 * MIB, 1),
        (
            "i.MX 8QXP MEK",
            "default=960M@0xc0000000-0xfc000000",
            0xc000_0000..0xfc00_0000,
            960 * MIB,
            1,
        ),
        ("Amlogic GX", "default=256M/4M", 0..1 << 32, 256 * MIB, 4 * MIB),
        (
            "Allwinner A10/A20",
            "default=96M@0x4a000000-0x50000000",
            0x4a00_0000..0x5000_0000,
            96 * MIB,
            1,
        ),
        ("TI AM62x SK", "default=128M", 0..1 << 32, 128 * MIB, 1),
    ] {
        let window = Bank::new(window.start, window.end - window.start).0;
        for growth in [Growth::Up, Growth::Down] {
            let EarlyState::Registered(region) = pool(text, WIDE, growth) else {
                panic!("{board}: {:?}", pool(text, WIDE, growth));
            };
            let range = region.range();
            assert!(range.within(window), "{board}: {range}");
            assert_eq!(range.bytes(), size, "{board}");
            assert_eq!(range.start().get() % alignment, 0, "{board}");
        }
    }
}

#[test]
fn a_pool_as_large_as_its_window_fills_it_and_a_larger_one_is_an_error_of_the_text() {
    for (text, larger, first_page, pages) in [
        (
            "default=960M@0xc0000000-0xfc000000",
            "default=983044K@0xc0000000-0xfc000000",
            0xc0000,
            0x3c000,
        ),
        (
            "default=96M@0x4a000000-0x50000000",
            "default=98308K@0x4a000000-0x50000000",
            0x4a000,
            0x6000,
        ),
    ] {
        let EarlyState::Registered(region) = pool(text, WIDE, Growth::Up) else { panic!("{text}") };
        assert_eq!(region.range(), PageRange::from_pages(first_page, pages));
        let error = parse_regions(larger).unwrap_err();
        assert_eq!(error.kind, SyntaxError::WindowTooSmall, "{larger}");
    }
}

#[test]
fn the_8qxp_pool_outside_its_own_memory_node_is_refused_until_a_boot_loader_extends_it() {
    let text = "default=960M@0xc0000000-0xfc000000";
    let node = Bank::new(0x8000_0000, 0x4000_0000);
    let state = pool(text, &[node], Growth::Up);
    assert!(
        matches!(state, EarlyState::NotReserved(ReserveError::NoMemoryWithin { .. })),
        "{state:?}"
    );
    let extended = Bank::new(0x8000_0000, 0x8000_0000);
    let state = pool(text, &[extended], Growth::Up);
    assert!(
        matches!(&state, EarlyState::Registered(region) if region.range().start().get() == 0xc000_0000),
        "{state:?}"
    );
}
