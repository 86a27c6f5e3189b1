//! Plug-ins that break their contract. The host survives, its books stay correct, other regions and
//! live chunks are untouched, and the error reports what happened. The plug-in is a real library
//! whose parameters select the breach.

mod common;

use cma_framework::config::Map;
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, ChangeError, Chunk, ChunkRequest, Cma, Errno,
    Plugin, Reason, Region, Source,
};
use common::{BASE, MIB, region};

fn misbehaving() -> Plugin {
    Plugin::load(cma_testkit::built_library("cma_fixture_misbehaving")).unwrap()
}

/// A framework with a sound region and one whose allocator misbehaves as `params` select.
struct Scene {
    cma: Cma,
    sound: Region,
    bad: Region,
    neighbour: Chunk,
}

impl Scene {
    fn new(params: &str) -> Scene {
        let cma = Cma::new();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        cma.allocator_register(misbehaving()).unwrap();
        let sound = region(&cma, "sound", BASE, MIB, AllocatorChoice::Default);
        let choice =
            AllocatorChoice::Named { name: "misbehaving".to_string(), params: params.to_string() };
        let bad = region(&cma, "bad", BASE + MIB, MIB, choice);
        let neighbour = cma.alloc_from("sound", 8192, 0).unwrap();
        Scene { cma, sound, bad, neighbour }
    }

    fn alloc(&self) -> Result<Chunk, Reason> {
        self.cma.alloc_from("bad", 16384, 16384).map_err(|error| {
            let AllocError::NoRegion(refusals) = error else { panic!("{error}") };
            refusals.iter().next().unwrap().reason.clone()
        })
    }

    /// The other region works as before, and a new allocator adopts the live chunks.
    fn heals(&self, live: &[Chunk]) {
        self.sound.check().unwrap();
        assert_eq!((self.sound.status().users, self.neighbour.size()), (1, 8192));
        drop(self.cma.alloc_from("sound", 4096, 0).unwrap());

        let live_bytes: u64 = live.iter().map(Chunk::size).sum();
        let status = self.bad.status();
        assert_eq!((status.users as usize, status.free_bytes), (live.len(), MIB - live_bytes));
        self.cma.set_region_allocator(&self.bad, AllocatorChoice::Default).unwrap();
        self.bad.check().unwrap();
        drop(self.cma.alloc_from("bad", MIB / 4, 0).unwrap());
        self.bad.check().unwrap();
    }

    fn is_out_of_service(&self, what: &str) {
        let AllocatorState::OutOfService { allocator, reason } = self.bad.status().allocator else {
            panic!("still trusted: {:?}", self.bad.status().allocator)
        };
        assert_eq!(allocator, "misbehaving");
        assert!(reason.contains(what), "{reason}");
        assert!(matches!(self.alloc(), Err(Reason::OutOfService { .. })), "it is not called again");
    }
}

#[test]
fn a_faulty_placement_is_refused_and_ends_the_allocators_service() {
    for (place, what) in [
        ("outside", "outside the region"),
        ("unaligned", "not aligned"),
        ("small", "wrong size"),
        ("large", "wrong size"),
        ("overlapping", "overlaps a live chunk"),
        ("wrapping", ""),
    ] {
        let scene = Scene::new(&format!("place={place},after=2"));
        let live = [scene.alloc().unwrap(), scene.alloc().unwrap()];
        let error = scene.cma.alloc_from("bad", 16384, 16384).unwrap_err();
        assert_eq!(error.errno(), Errno::EADDRINUSE, "{place}: {error}");
        assert!(error.to_string().contains(what), "{place}: {error}");
        scene.is_out_of_service(what);
        scene.heals(&live);
        drop(live);
        assert_eq!(scene.bad.status().users, 0);
        scene.bad.check().unwrap();
    }
}

#[test]
fn a_placement_beyond_the_limits_of_its_request_is_refused_and_ends_the_allocators_service() {
    for (limit, what) in [
        (format!("16K above={:#x}", BASE + MIB + MIB / 2), "window"),
        ("16K boundary=16K".to_string(), "boundary"),
    ] {
        let scene = Scene::new("place=unlimited,after=1");
        // After it, the lowest place crosses a multiple of the boundary.
        let live = [scene.cma.alloc_from("bad", 4096, 0).unwrap()];
        let request = ChunkRequest::parse(&limit).unwrap();
        let error = scene.cma.allocate(Source::Regions("bad"), &request).unwrap_err();
        assert_eq!(error.errno(), Errno::EADDRINUSE, "{error}");
        assert!(error.to_string().contains(what), "{error}");
        scene.is_out_of_service(what);
        scene.heals(&live);
    }
}

#[test]
fn a_panic_while_a_group_chooses_a_region_leaves_the_choice_to_the_others() {
    let scene = Scene::new("panic=fit,after=0");
    let live = [scene.alloc().unwrap()];
    scene.cma.set_map(Map::parse("*=bad|sound").unwrap());
    let chunk = scene.cma.alloc("camera", None, 4096, 0).unwrap();
    assert_eq!(chunk.region().name(), Some("sound"));
    drop(chunk);
    scene.is_out_of_service("failed while looking for a place");
    scene.heals(&live);
}

#[test]
fn a_panic_while_allocating_affects_only_that_request_and_region() {
    let scene = Scene::new("panic=allocate,after=2");
    let mut live = vec![scene.alloc().unwrap(), scene.alloc().unwrap()];
    assert!(matches!(scene.alloc(), Err(Reason::OutOfService { .. })));
    scene.is_out_of_service("failed while allocating");
    // Live chunks can be freed without the allocator.
    live.pop();
    scene.heals(&live);
}

#[test]
fn a_panic_while_freeing_still_frees_the_chunk() {
    let scene = Scene::new("panic=free,after=0");
    let (first, second) = (scene.alloc().unwrap(), scene.alloc().unwrap());
    drop(first);
    scene.is_out_of_service("failed while freeing");
    scene.heals(&[second]);
}

#[test]
fn a_refused_free_ends_the_service_and_frees_the_chunk() {
    let scene = Scene::new("free=refuse,after=0");
    let (first, second) = (scene.alloc().unwrap(), scene.alloc().unwrap());
    drop(first);
    scene.is_out_of_service("refused to free");
    scene.heals(&[second]);
}

#[test]
fn freeing_the_wrong_chunk_is_detected_at_the_next_overlapping_placement() {
    let scene = Scene::new("free=other,after=0");
    let mut live: Vec<Chunk> = (0..4).map(|_| scene.alloc().unwrap()).collect();
    drop(live.remove(2));
    let reason = loop {
        match scene.alloc() {
            Ok(chunk) => live.push(chunk),
            Err(reason) => break reason,
        }
    };
    assert!(matches!(reason, Reason::Misplaced { .. }), "{reason}");
    scene.is_out_of_service("overlaps a live chunk");
    scene.heals(&live);
}

#[test]
fn a_panic_while_initialising_or_a_refusal_leaves_the_region_without_an_allocator() {
    for (params, what) in
        [("panic=initialise", "panicked"), ("init=refuse", "refuse"), ("no=such", "no")]
    {
        let scene = Scene::new(params);
        let Err(Reason::AttachFailed { allocator, reason }) = scene.alloc() else {
            panic!("{params}")
        };
        assert_eq!(allocator, "misbehaving");
        assert!(reason.contains(what), "{params}: {reason}");
        let AllocatorState::Waiting { wanted, failure } = scene.bad.status().allocator else {
            panic!()
        };
        assert_eq!(wanted.as_deref(), Some("misbehaving"));
        assert!(failure.unwrap().contains(what));
        scene.heals(&[]);
    }
}

#[test]
fn a_panic_in_a_query_ends_the_allocators_service() {
    for panic in ["check", "holes", "largest_request"] {
        let scene = Scene::new(&format!("panic={panic},after=0"));
        let chunk = scene.alloc().unwrap();
        assert!(scene.bad.check().is_err(), "{panic}");
        assert!(scene.alloc().is_err());
        scene.heals(&[chunk]);
    }
}

#[test]
fn figures_and_refusals_come_from_the_books_without_calling_the_allocator() {
    let scene = Scene::new("panic=largest_request,after=0");
    let whole = scene.cma.alloc_from("bad", MIB / 2, 0).unwrap();
    let hole = scene.cma.alloc_from("bad", MIB / 4, 0).unwrap();
    assert_eq!(scene.bad.status().largest_hole_bytes, MIB / 4);
    let error = scene.cma.alloc_from("bad", MIB / 8, MIB).unwrap_err();
    assert!(
        error.to_string().contains("no hole has room aligned to 1M; the largest is 256K"),
        "{error}"
    );
    scene.heals(&[whole, hole]);
}

#[test]
fn a_panic_while_dropping_an_allocator_is_contained() {
    let scene = Scene::new("panic=drop,after=0");
    drop(scene.alloc().unwrap());
    scene.heals(&[]);
    scene.cma.region_unregister(&scene.bad).unwrap();
}

#[test]
fn a_failed_adoption_keeps_the_old_allocator_and_a_false_one_is_detected() {
    for params in ["panic=adopt,after=1", "panic=initialise", "init=refuse"] {
        let scene = Scene::new("");
        let live: Vec<Chunk> = (0..3).map(|_| scene.alloc().unwrap()).collect();
        let choice = AllocatorChoice::Given { plugin: misbehaving(), params: params.to_string() };
        let error = scene.cma.set_region_allocator(&scene.bad, choice).unwrap_err();
        match params {
            "panic=adopt,after=1" => {
                assert!(
                    matches!(error, ChangeError::Adopt { chunk, .. } if chunk == live[1].range())
                );
            }
            _ => assert!(matches!(error, ChangeError::Initialise { .. })),
        }
        scene.bad.check().unwrap();
        drop(scene.alloc().unwrap());
        scene.heals(&live);
    }
    // A false adoption is detected when the allocator proposes an adopted place, or when the books
    // are compared with its report.
    for hands_out in [true, false] {
        let scene = Scene::new("");
        let live: Vec<Chunk> = (0..3).map(|_| scene.alloc().unwrap()).collect();
        let choice =
            AllocatorChoice::Given { plugin: misbehaving(), params: "adopt=lie".to_string() };
        scene.cma.set_region_allocator(&scene.bad, choice).unwrap();
        if hands_out {
            assert!(matches!(scene.alloc(), Err(Reason::Misplaced { .. })));
        } else {
            assert!(scene.bad.check().is_err());
        }
        scene.heals(&live);
    }
}

/// Declines requests that fit, or reports a largest request that exceeds what is free.
struct Liar(cma_best_fit::BestFit, &'static str);

impl cma_api::Allocator for Liar {
    const INFO: cma_api::AllocatorInfo =
        cma_api::AllocatorInfo { name: "liar", version: "1", description: "makes false reports" };
    fn new(region: cma_api::PageRange, params: &str) -> Result<Self, cma_api::InitError> {
        if params.contains("line") {
            return Err(cma_api::InitError::new("one\n\u{1b}[31mtwo"));
        }
        let what = if params == "huge" { "huge" } else { "decline" };
        Ok(Liar(cma_api::Allocator::new(region, "")?, what))
    }
    fn allocate(&mut self, _: &cma_api::Request) -> Result<cma_api::Placement, cma_api::NoRoom> {
        Err(cma_api::NoRoom)
    }
    fn fit(&mut self, _: &cma_api::Request) -> Option<cma_api::PageRange> {
        None
    }
    fn free(&mut self, chunk: cma_api::Placement) -> Result<(), cma_api::NotMine> {
        self.0.free(chunk)
    }
    fn adopt(&mut self, range: cma_api::PageRange) -> Result<cma_api::Tag, cma_api::CannotAdopt> {
        self.0.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(cma_api::PageRange)) {
        self.0.holes(visit);
    }
    fn largest_request(&self) -> cma_api::Pages {
        if self.1 == "huge" { cma_api::Pages::new(u64::MAX) } else { self.0.largest_request() }
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

fn lying(params: &str) -> (Cma, Region) {
    let cma = Cma::new();
    let choice = AllocatorChoice::Named { name: "liar".to_string(), params: params.to_string() };
    cma.allocator_register(Plugin::built_in::<Liar>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, choice);
    (cma, region)
}

#[test]
fn a_declined_request_that_fits_has_a_reason_of_its_own() {
    let (cma, _) = lying("");
    let why = |size, alignment| cma.alloc_from("r", size, alignment).unwrap_err().to_string();
    assert!(why(4096, 0).contains(
        "declined: liar passes over the free range 0x40000000+0x100000, which holds the request; it \
         reports 1M as the largest request that it serves"
    ));
    assert!(why(2 * MIB, 0).contains("too small: 2M requested of a region of 1M"));
}

#[test]
fn an_excessive_largest_request_ends_the_service() {
    let (cma, r) = lying("huge");
    assert_eq!(cma.info_about("r").unwrap().free_bytes, MIB, "from the books");
    assert_eq!(
        r.status().allocator,
        AllocatorState::Waiting { wanted: Some("liar".to_string()), failure: None }
    );
    cma.alloc_from("r", 4096, 0).unwrap_err();
    assert_eq!(r.status().largest_hole_bytes, MIB, "by the books");
    assert!(r.check().unwrap_err().contains("out of service"));
    let error = cma.alloc_from("r", 4096, 0).unwrap_err();
    assert!(error.to_string().contains("out of service"), "{error}");
}

#[test]
fn line_breaks_and_escape_codes_are_removed_from_a_plug_ins_text() {
    let (cma, _) = lying("line");
    let error = cma.alloc_from("r", 4096, 0).unwrap_err().to_string();
    assert!(!error.contains(['\n', '\u{1b}']) && error.contains("two"), "{error:?}");
}
