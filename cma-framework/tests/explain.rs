//! Explanations of refused requests: what they say is so. When the chunks leave that an explanation
//! names, the request is placed where the explanation says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use cma_api::{Pages, Request};
use cma_framework::config::Map;
use cma_framework::explain::{AfterLeaving, Explanation, Layout, LeastRoom, OwnersRoom, Room};
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, Chunk, ChunkRequest, Cma, DmaAddr, PageRange,
    Plugin, Reason, Source,
};
use common::{BASE, MIB};
use proptest::prelude::*;
use std::time::Duration;

fn algorithms() -> [Plugin; 4] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ]
}

fn given(plugin: &Plugin) -> AllocatorChoice {
    AllocatorChoice::Given { plugin: plugin.clone(), params: String::new() }
}

/// A framework with the region `r` of 1 MiB, and the map `*=r`.
fn framework(plugin: &Plugin) -> Cma {
    let cma = Cma::new();
    common::region(&cma, "r", BASE, MIB, given(plugin));
    cma.set_map(Map::parse("*=r").unwrap());
    cma
}

fn allocate(cma: &Cma, device: &str, text: &str) -> Result<Chunk, AllocError> {
    let source = Source::Device { name: device, kind: None };
    cma.allocate(source, &ChunkRequest::parse(text).unwrap())
}

fn layout(explanation: &Explanation) -> &Layout {
    explanation.regions[0].layout.as_ref().unwrap()
}

fn room(explanation: &Explanation) -> &LeastRoom {
    layout(explanation).room.as_ref().unwrap()
}

/// A set that may leave: its chunks, and what is said of it.
struct Leaving {
    ranges: Vec<PageRange>,
    after: AfterLeaving,
}

/// The sets of an explanation.
fn sets(layout: &Layout, least: &LeastRoom) -> Vec<Leaving> {
    let LeastRoom { by_bytes, by_number, owners_by_bytes, owners_by_number, wider, .. } = least;
    let of_chunks = [by_bytes, by_number].into_iter().chain(wider).map(|room| {
        assert_eq!(room.bytes, layout.leaving(room).iter().map(|c| c.range.bytes()).sum::<u64>());
        let ranges = layout.leaving(room).iter().map(|owner| owner.range).collect();
        Leaving { ranges, after: room.after.clone() }
    });
    let owners = layout.owners();
    let of_owners = [owners_by_bytes, owners_by_number].into_iter().map(|room| {
        let leaves = |device| room.owners.iter().any(|owner| owners[*owner].device == device);
        let leaving = layout.chunks.iter().filter(|chunk| leaves(chunk.device.clone()));
        let ranges: Vec<PageRange> = leaving.map(|chunk| chunk.range).collect();
        assert_eq!(room.chunks.ranges, ranges.len() as u64);
        assert_eq!(room.chunks.bytes, ranges.iter().map(|range| range.bytes()).sum::<u64>());
        Leaving { ranges, after: room.after.clone() }
    });
    of_chunks.chain(of_owners).collect()
}

/// Frees the chunks of a set, of which each is live.
fn free(chunks: &mut Vec<Chunk>, leaving: &[PageRange]) {
    let before = chunks.len();
    chunks.retain(|chunk| !leaving.contains(&chunk.range()));
    assert_eq!(before - chunks.len(), leaving.len(), "each is a live chunk");
}

/// Requests of sizes and alignments in pages, some with limits, as text.
fn request() -> impl Strategy<Value = String> {
    let limits = prop::option::of((0_u64..200, 60_u64..256, 5_u32..9));
    (1_u64..60, 0_u32..5, limits).prop_map(|(pages, alignment, limits)| {
        let text = format!("{}K/{}K", pages * 4, 4 << alignment);
        match limits {
            None => text,
            Some((above, window, boundary)) => format!(
                "{text} above={:#x} below={:#x} boundary={}K",
                BASE + above * 4096,
                BASE + (above + window) * 4096,
                4 << boundary
            ),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_request_is_served_where_it_says_when_the_chunks_have_left(
        sizes in prop::collection::vec((1_u64..24, 0_usize..5, prop::bool::weighted(0.7)), 20..60),
        wanted in request(),
    ) {
        if ChunkRequest::parse(&wanted).is_err() {
            return Ok(());
        }
        for plugin in algorithms() {
            // Each set is tried on a framework of its own, which is built in the same way.
            let built = || {
                let cma = framework(&plugin);
                let chunks: Vec<_> = sizes.iter().map(|(pages, device, stays)| {
                    let device = ["cam", "gpu", "mic", "net", "usb"][*device];
                    (cma.alloc(device, None, pages * 4096, 0).ok(), *stays)
                }).collect();
                let chunks = chunks.into_iter().filter(|(_, stays)| *stays);
                let chunks: Vec<Chunk> = chunks.filter_map(|(chunk, _)| chunk).collect();
                let refused = allocate(&cma, "late", &wanted).err();
                refused.map(|error| (cma, chunks, error))
            };
            let Some((cma, chunks, error)) = built() else { continue };
            let explanation = error.explain(&cma);
            let layout = layout(&explanation);
            prop_assert_eq!(layout.free().bytes, cma.region("r").unwrap().free().unwrap().bytes());
            drop(chunks);
            let Some(least) = layout.room.as_ref() else {
                // Nothing helps: it is refused in the empty region, too.
                prop_assert!(!layout.fits_empty);
                prop_assert!(allocate(&framework(&plugin), "late", &wanted).is_err());
                continue;
            };
            for Leaving { ranges, after } in sets(layout, least) {
                // By a new allocator, which the explanation is about. What these two place does not
                // depend on the chunks that were, so the allocator at work does the same.
                let finds_all = matches!(plugin.name(), "best-fit" | "bitmap");
                for new in [true, false] {
                    if !new && !finds_all {
                        continue;
                    }
                    let Some((cma, mut chunks, _)) = built() else { continue };
                    free(&mut chunks, &ranges);
                    if new {
                        cma.set_region_allocator(&cma.region("r").unwrap(), given(&plugin)).unwrap();
                    }
                    let served = allocate(&cma, "late", &wanted);
                    match &after {
                        AfterLeaving::Placed(place) => {
                            prop_assert_eq!(served.unwrap().range(), *place);
                        }
                        AfterLeaving::Declined => prop_assert!(served.is_err()),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                // And they find every place.
                if finds_all {
                    prop_assert!(matches!(after, AfterLeaving::Placed(_)));
                }
            }
        }
    }
}

#[test]
fn the_fewest_bytes_and_the_fewest_chunks_differ_and_both_are_told() {
    let cma = framework(&algorithms()[0]);
    let request = |device: &str, text: &str| allocate(&cma, device, text).unwrap();
    // Two small chunks in a row, then a large one: 256K is free before, between and behind them.
    let at = |offset: u64, size: &str| format!("{size} at={:#x}", BASE + (offset << 10));
    let small = [request("cam", &at(256, "4K")), request("mic", &at(300, "4K"))];
    let _large = request("gpu", &at(576, "192K"));
    let _wall = request("gpu", &at(448, "4K"));
    let error = allocate(&cma, "codec", "440K").unwrap_err();
    let explanation = error.explain(&cma);
    let (layout, room) = (layout(&explanation), room(&explanation));
    let leaving = |room: &Room| -> Vec<_> {
        layout.leaving(room).iter().map(|owner| owner.range.start()).collect()
    };
    assert_eq!(leaving(&room.by_bytes), small.each_ref().map(Chunk::start));
    assert_eq!(room.by_bytes.bytes, 8192);
    assert_eq!(leaving(&room.by_number), [DmaAddr::new(BASE + (576 << 10))]);
    let text = explanation.to_string();
    for said in [
        "440K for codec/common\n",
        "r: fragmented: ",
        "  to make room (fewest bytes): 8K in 2 chunks; a new best-fit then places it at ",
        "    0x40040000+0x1000 of cam/common\n",
        "  to make room (fewest chunks): 192K in 1 chunk; a new best-fit then places it at ",
        " are smaller",
    ] {
        let expected = said != " are smaller";
        assert_eq!(text.contains(said), expected, "{said}\n{text}");
    }
    let json = explanation.to_json();
    for said in [
        r#""request":"440K/4K","device":"codec","type":"common","age":null,"cause":null"#,
        r#""by_bytes":{"bytes":8192,"chunks":2,"leaving":[{"start":"0x40040000","bytes":4096,"#,
        r#"{"device":"gpu","type":"common","set_aside":false,"chunks":2,"bytes":200704,"#,
    ] {
        assert!(json.contains(said), "{said}\n{json}");
    }
    assert!(!json.contains('\n'));
}

#[test]
fn the_fewest_owners_and_those_with_the_fewest_bytes_are_told_with_all_their_chunks() {
    let cma = framework(&algorithms()[0]);
    let at = |offset: u64, size: u64| format!("{size}K at={:#x}", BASE + (offset << 10));
    let chunk = |device: &str, offset, size| allocate(&cma, device, &at(offset, size)).unwrap();
    // Between walls of the gpu: 64K with one chunk of each of two small owners, and 64K with one
    // chunk of an owner that has a large chunk, too.
    let _chunks = [
        chunk("cam", 0, 4),
        chunk("mic", 60, 4),
        chunk("gpu", 64, 256),
        chunk("codec", 320, 4),
        chunk("gpu", 384, 256),
        chunk("codec", 640, 384),
    ];
    let explanation = allocate(&cma, "late", "64K").unwrap_err().explain(&cma);
    let (layout, room) = (layout(&explanation), room(&explanation));
    let owners = layout.owners();
    let names = |room: &OwnersRoom| -> Vec<_> {
        let owners = room.owners.iter().map(|owner| owners[*owner].device.as_ref().unwrap());
        owners.map(|(device, _)| device.to_string()).collect()
    };
    assert_eq!(names(&room.owners_by_bytes), ["cam", "mic"]);
    assert_eq!(names(&room.owners_by_number), ["codec"]);
    let chunks = room.owners_by_number.chunks;
    assert_eq!((chunks.ranges, chunks.bytes), (2, (4 + 384) << 10));
    // The codec frees both of its chunks, and best fit takes the smaller hole.
    let smaller = PageRange::from_pages((BASE + (320 << 10)) >> 12, 16);
    assert_eq!(room.owners_by_number.after, AfterLeaving::Placed(smaller));
    let text = explanation.to_string();
    for said in [
        "  to make room (least): 4K in 1 chunk; a new best-fit then places it at 0x40050000\n",
        "  to make room (owners, fewest bytes): 8K in 2 chunks; a new best-fit then places it at 0x40000000\n\
         \x20   4K in 1 chunk of cam/common\n    4K in 1 chunk of mic/common\n",
        "  to make room (fewest owners): 388K in 2 chunks; a new best-fit then places it at 0x40050000\n\
         \x20   388K in 2 chunks of codec/common\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&explanation.to_json()).unwrap();
    let json = &json["regions"][0]["room"]["owners_by_number"];
    assert_eq!((&json["owner_count"], &json["bytes"]), (&1.into(), &(388 << 10).into()));
    assert_eq!(
        (&json["owners"][0]["device"], &json["placed"]),
        (&"codec".into(), &"0x40050000".into())
    );
}

/// Best fit that places a chunk only at a multiple of the next power of two, as a simple buddy
/// allocator does.
#[derive(Debug)]
struct Blocks(cma_best_fit::BestFit);

impl Blocks {
    fn aligned(request: &Request) -> Request {
        let block = Pages::new(request.pages().get().next_power_of_two()).bytes();
        let alignment = cma_api::Alignment::new(block).unwrap().max(request.alignment());
        Request::new(request.pages(), alignment, request.asker()).unwrap()
    }
}

impl cma_api::Allocator for Blocks {
    const INFO: cma_api::AllocatorInfo =
        cma_api::AllocatorInfo { name: "blocks", version: "1", description: "powers of two" };
    fn new(region: PageRange, params: &str) -> Result<Self, cma_api::InitError> {
        cma_api::Allocator::new(region, params).map(Blocks)
    }
    fn allocate(&mut self, request: &Request) -> Result<cma_api::Placement, cma_api::NoRoom> {
        self.0.allocate(&Self::aligned(request))
    }
    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.0.fit(&Self::aligned(request))
    }
    fn free(&mut self, chunk: cma_api::Placement) -> Result<(), cma_api::NotMine> {
        self.0.free(chunk)
    }
    fn adopt(&mut self, range: PageRange) -> Result<cma_api::Tag, cma_api::CannotAdopt> {
        self.0.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.0.holes(visit);
    }
    fn largest_request(&self) -> Pages {
        self.0.largest_request()
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

#[test]
fn if_the_allocator_declines_after_the_least_chunks_left_more_are_named_as_enough_and_not_as_least()
{
    let plugin = Plugin::built_in::<Blocks>();
    let cma = framework(&plugin);
    let mut chunks: Vec<_> = (0..4).map(|_| cma.alloc("a", None, 256 << 10, 0).unwrap()).collect();
    drop(chunks.remove(1));
    // The chunk of `b` is the least in the way, and no block of 512K is free without it.
    let small = cma.alloc("b", None, 4096, 0).unwrap();
    let explanation = cma.alloc("late", None, 260 << 10, 0).unwrap_err().explain(&cma);
    let room = room(&explanation);
    assert_eq!(room.by_bytes.after, AfterLeaving::Declined);
    assert_eq!(room.by_number.after, AfterLeaving::Declined);
    let wider = room.wider.as_ref().unwrap();
    assert_eq!(wider.after, AfterLeaving::Placed(PageRange::from_pages(BASE >> 12, 65)));
    let text = explanation.to_string();
    for said in
        ["declines all the same\n", "  to make room (enough, less may do): 260K in 2 chunks"]
    {
        assert!(text.contains(said), "{said}\n{text}");
    }
    // And that is so.
    let leaving: Vec<_> = layout(&explanation).leaving(wider).iter().map(|c| c.range).collect();
    chunks.push(small);
    free(&mut chunks, &leaving);
    let served = cma.alloc("late", None, 260 << 10, 0).unwrap();
    assert_eq!(wider.after, AfterLeaving::Placed(served.range()));
}

#[test]
fn each_limit_is_named_with_the_free_ranges_that_it_rules_out() {
    let cma = framework(&algorithms()[0]);
    let at = |offset: u64, size: u64| format!("{size}K at={:#x}", BASE + (offset << 10));
    let taken = [(16, 48), (128, 128), (384, 64), (508, 36), (1020, 4)];
    let _chunks = taken.map(|(from, size)| allocate(&cma, "a", &at(from, size)).unwrap());
    // Free: 0+16K, 64K+64K, 256K+128K, 448K+60K, 544K+476K.
    let wanted = format!("64K/64K above={:#x} boundary=64K", BASE + (300 << 10));
    let wanted = format!("{wanted} below={:#x}", BASE + (640 << 10));
    // Two places serve it; then none is left.
    let _served: Vec<_> = std::iter::from_fn(|| allocate(&cma, "b", &wanted).ok()).collect();
    let explanation = allocate(&cma, "b", &wanted).unwrap_err().explain(&cma);
    let ruled_out = layout(&explanation).ruled_out;
    assert_eq!((ruled_out.size.ranges, ruled_out.size.bytes), (3, (16 + 60 + 32) << 10));
    assert_eq!(ruled_out.window.ranges, 3, "{ruled_out:?}");
    assert_eq!(ruled_out.nothing.ranges, 0);
    let text = explanation.to_string();
    assert!(text.contains("smaller than 64K\n") && text.contains("without room above="), "{text}");
}

#[test]
fn refusals_without_a_place_to_look_for_are_explained_as_what_they_are() {
    let plugin = &algorithms()[0];
    let cma = framework(plugin);
    let causes = [(cma.alloc("", None, 4096, 0), "device"), (cma.alloc("a", None, 0, 0), "size")];
    for (refused, said) in causes {
        let explanation = refused.unwrap_err().explain(&cma);
        assert!(explanation.cause.as_ref().unwrap().contains(said), "{explanation}");
        assert!(explanation.regions.is_empty() && explanation.request.is_none());
    }
    cma.set_map(Map::parse("x=r").unwrap());
    let unmatched = cma.alloc("a", None, 4096, 0).unwrap_err().explain(&cma);
    assert!(unmatched.to_string().contains("no rule of the map matches a/common"), "{unmatched}");

    let unknown = cma.alloc_from("nowhere", 4096, 0).unwrap_err().explain(&cma);
    assert_eq!(unknown.regions[0].reason, Reason::UnknownRegion);
    assert_eq!(unknown.regions[0].layout, None);

    let outside = cma.alloc_from("r", 2 * MIB, 0).unwrap_err().explain(&cma);
    assert_eq!(layout(&outside).room, None);
    assert!(outside.to_string().contains("no place even when it is empty"), "{outside}");

    // No allocator: the books say what would have to leave, and nobody places it.
    let choice = AllocatorChoice::named("absent");
    let waiting = common::region(&cma, "w", BASE + MIB, MIB, choice);
    let refused = cma.alloc_from("w", 4096, 0).unwrap_err().explain(&cma);
    assert!(matches!(waiting.allocator(), AllocatorState::Waiting { .. }));
    assert_eq!(room(&refused).by_bytes.after, AfterLeaving::NoAllocator);
    assert!(refused.to_string().contains("\"absent\", which is not registered"), "{refused}");

    // A private region goes by its range.
    let start = DmaAddr::new(BASE + 8 * MIB);
    let private = cma.region_register(None, start, MIB, given(plugin)).unwrap();
    let _all = cma.alloc_from_region(&private, MIB, 0).unwrap();
    let full = cma.alloc_from_region(&private, 4096, 0).unwrap_err().explain(&cma);
    assert_eq!(room(&full).by_bytes.chunks, 0..1);
}

#[test]
fn the_last_refusals_are_explained_once_for_each_request_the_newest_first() {
    let cma = framework(&algorithms()[0]);
    common::region(&cma, "s", BASE + MIB, MIB, given(&algorithms()[2]));
    cma.set_map(Map::parse("*=r,s").unwrap());
    assert_eq!(cma.explain_refusals(), []);
    let tree = cma.attributes();
    assert_eq!((tree.read("why").unwrap(), tree.read("why.json").unwrap()), Default::default());

    let _all = [cma.alloc("a", None, MIB, 0).unwrap(), cma.alloc("a", None, MIB, 0).unwrap()];
    for _ in 0..3 {
        cma.alloc("b", None, 8192, 0).unwrap_err();
    }
    let explained = cma.explain_refusals();
    let by = |n: usize| -> Vec<_> {
        let regions = explained[n].regions.iter().map(|region| region.region.as_str());
        let mut names: Vec<_> = regions.collect();
        names.sort_unstable();
        names
    };
    // `s` refused nothing of `a`: the second chunk went there after `r` had refused it.
    assert_eq!(explained.len(), 2);
    let device = |n: usize| explained[n].device.as_ref().map(|(device, _)| &**device);
    let of_b = (0..2).find(|n| device(*n) == Some("b")).unwrap();
    assert_eq!((by(of_b), by(1 - of_b)), (vec!["r", "s"], vec!["r"]));
    let text = tree.read("why").unwrap();
    assert!(text.contains("8K for b/common, refused ") && text.contains("s: full: "), "{text}");
    // The reason is that of the refusal, and the chunks are not.
    assert!(text.contains("free\n  its chunks now:\n"), "{text}");
    let at_once = cma.alloc("b", None, 8192, 0).unwrap_err().explain(&cma).to_string();
    assert!(!at_once.contains("now"), "{at_once}");
    let json = tree.read("why.json").unwrap();
    assert!(json.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{json}");
    assert_eq!(json.lines().count(), 2);
}

#[test]
fn a_hundred_thousand_chunks_are_explained_in_a_bounded_text() {
    let cma = Cma::new();
    common::region(&cma, "r", BASE, 400_000 << 12, given(&algorithms()[0]));
    let chunk = |n: u64| cma.alloc_from("r", (1 + n % 3) << 12, 0).unwrap();
    let chunks: Vec<Chunk> = (0..100_000).map(chunk).collect();
    let error = cma.alloc_from("r", 399_000 << 12, 0).unwrap_err();
    let explanation = error.explain(&cma);
    assert_eq!(layout(&explanation).chunks.len(), chunks.len());
    assert!(room(&explanation).by_number.chunks.len() > 50_000);
    let (text, json) = (explanation.to_string(), explanation.to_json());
    assert!(text.len() < 4096, "{text}");
    assert!(json.len() < 1 << 20, "{} bytes", json.len());
}

#[test]
fn ten_thousand_owners_are_counted_and_the_first_of_them_listed() {
    let cma = framework(&algorithms()[0]);
    let start = DmaAddr::new(BASE + MIB);
    let large = cma.region_register(Some("l"), start, 40 * MIB, given(&algorithms()[0])).unwrap();
    cma.set_map(Map::parse("*=l").unwrap());
    let chunk = |n: u32| cma.alloc(&format!("d{n}"), None, 4096, 0).unwrap();
    let _chunks: Vec<Chunk> = (0..10_240).map(chunk).collect();
    let explanation = cma.alloc_from_region(&large, 32 * MIB, 0).unwrap_err().explain(&cma);
    let (text, json) = (explanation.to_string(), explanation.to_json());
    assert!(text.contains("    and 10232 others, 40928K\n"), "{text}");
    assert!(json.len() < 1 << 20, "{} bytes", json.len());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let region = &json["regions"][0];
    assert_eq!(
        (&region["owner_count"], &region["room"]["owners_by_bytes"]["owner_count"]),
        (&10_240.into(), &8192.into())
    );
    assert_eq!(region["owners"].as_array().unwrap().len(), 1000);
    assert_eq!(region["room"]["owners_by_bytes"]["owners"].as_array().unwrap().len(), 1000);
}

#[test]
fn what_the_host_notes_of_the_chunks_is_explained_and_their_places_stay() {
    let cma = framework(&algorithms()[0]);
    let chunks =
        [cma.alloc("a", None, MIB / 2, 0).unwrap(), cma.alloc("b", None, MIB / 2, 0).unwrap()];
    let error = cma.alloc("late", None, MIB, 0).unwrap_err();
    let explanation = error.explain_with(&cma, |owner| {
        owner.device = Some(("same".into(), "kind".into()));
        owner.age = Some(Duration::from_micros(1_234_567));
        owner.range = PageRange::from_pages(0, 1);
        owner.set_aside = true;
    });
    let layout = layout(&explanation);
    assert!(layout.chunks.iter().map(|chunk| chunk.range).eq(chunks.iter().map(Chunk::range)));
    assert_eq!(room(&explanation).owners_by_number.owners, [0]);
    assert!(explanation.to_string().contains("    same/kind  1M  2 chunks  1.2 s old\n"));
    // Programs get what was noted.
    assert!(explanation.to_json().contains(r#""age":1.234567}"#), "{}", explanation.to_json());
}
