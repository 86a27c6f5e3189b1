//! Requests with limits, and requests for an exact place.

mod common;

use cma_framework::config::{Bytes, Map};
use cma_framework::{
    AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, DmaAddr, Errno, Holder, Plugin, Process,
    Reason, Source,
};
use common::{BASE, MIB};

const CAMERA: Source<'_> = Source::Device { name: "camera", kind: None };

fn algorithms() -> [Plugin; 4] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ]
}

/// A framework with `plugin` and the regions `a` and `b` of 16 MiB, one behind the other.
fn framework(plugin: Plugin) -> Cma {
    let cma = Cma::new();
    cma.allocator_register(plugin).unwrap();
    for (name, start) in [("a", BASE), ("b", BASE + 16 * MIB)] {
        common::region(&cma, name, start, 16 * MIB, AllocatorChoice::Default);
    }
    cma.set_map(Map::parse("*=a,b").unwrap());
    cma
}

fn request(text: &str) -> ChunkRequest {
    ChunkRequest::parse(text).unwrap()
}

fn start(chunk: &Chunk) -> u64 {
    chunk.start().get()
}

fn reasons(error: AllocError) -> Vec<Reason> {
    match error {
        AllocError::NoRegion(refusals) => refusals.iter().map(|r| r.reason.clone()).collect(),
        error => panic!("{error}"),
    }
}

#[test]
fn a_chunk_lies_within_the_limits_of_its_request_by_whichever_way_it_is_requested() {
    for plugin in algorithms() {
        let cma = framework(plugin);
        let device = cma.device("camera", None).unwrap();
        let wanted = request("1M/64K above=0x40800000 below=0x40c00000 boundary=2M");
        let process = Process { uid: 1, pid: 2, name: "p".into() };
        let a = cma.region("a").unwrap();
        let chunks = [
            cma.allocate(CAMERA, &wanted).unwrap(),
            cma.allocate(Source::Regions("none,a"), &wanted).unwrap(),
            device.allocate(&wanted).unwrap(),
            cma.to_share(process, Source::Region(&a), &wanted).unwrap().alloc().unwrap(),
        ];
        for chunk in &chunks {
            let (first, last) = (start(chunk), start(chunk) + MIB - 1);
            assert!(first >= 0x4080_0000 && last < 0x40c0_0000, "{chunk:?}");
            assert_eq!(first / (2 * MIB), last / (2 * MIB), "{chunk:?}");
        }
        // All four megabytes of the window are in use, and region b has no part of it.
        let refused = reasons(cma.allocate(CAMERA, &wanted).unwrap_err());
        assert!(matches!(refused[1], Reason::NoPlace { .. }), "{refused:?}");
        assert_eq!(refused.len(), 2);
    }
}

#[test]
fn a_request_at_an_address_gets_exactly_that_place() {
    for plugin in algorithms() {
        let name = plugin.name().to_string();
        let cma = framework(plugin);
        // Sizes and places that no allocator would choose by itself, in both regions.
        for (size, at) in [(12 << 10, 0x4012_3000), (MIB, 0x4100_1000), (16 << 10, 0x40ff_c000)] {
            let wanted = ChunkRequest::new(Bytes(size)).at(DmaAddr::new(at));
            let chunk = cma.allocate(CAMERA, &wanted).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((start(&chunk), chunk.size()), (at, size), "{name}");
            let _ = chunk.into_addr();
        }
        // The allocator knows them: it places nothing there, and frees them.
        let rest: Vec<_> = std::iter::from_fn(|| cma.alloc("x", None, MIB, 0).ok()).collect();
        assert!(rest.len() > 8, "{name}");
        for region in cma.regions() {
            region.check().unwrap();
        }
        for at in [0x4012_3000, 0x4100_1000, 0x40ff_c000] {
            cma.free(DmaAddr::new(at)).unwrap();
        }
        drop(rest);
        for region in cma.regions() {
            region.check().unwrap();
            assert_eq!(region.status().free_bytes, 16 * MIB, "{name}");
        }
    }
}

#[test]
fn a_place_that_is_taken_is_busy_and_the_error_says_who_is_there() {
    for plugin in algorithms() {
        let cma = framework(plugin);
        let mut taken = cma.allocate(CAMERA, &request("64K at=0x40100000")).unwrap();
        let free = cma.region("a").unwrap().status().free_bytes;
        let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
        taken.set_holder(Holder { process, device: Some(("camera".into(), "frame".into())) });
        let error = cma.allocate(CAMERA, &request("1M at=0x40080000")).unwrap_err();
        assert_eq!(error.errno(), Errno::EBUSY);
        assert_eq!(
            error.to_string(),
            "no region could serve it: a: 0x40080000+0x100000 is taken: 0x40100000+0x10000 of \
             camera/frame for ffmpeg (process 4711 of user 1000) is there; b: 0x40080000+0x100000 \
             is not in it"
        );
        // Without a holder, the device is the one that requested it.
        let other = cma.allocate(CAMERA, &request("4K at=0x40000000")).unwrap();
        let refused = reasons(cma.allocate(CAMERA, &request("8K at=0x40000000")).unwrap_err());
        let Reason::Taken { owner, .. } = &refused[0] else { panic!("{refused:?}") };
        assert_eq!(owner.range, other.range());
        assert_eq!(owner.device, Some(("camera".into(), "common".into())));
        drop(other);
        // Nothing has changed.
        assert_eq!(cma.region("a").unwrap().status().free_bytes, free);
        cma.region("a").unwrap().check().unwrap();
        drop(taken);
        assert_eq!(
            start(&cma.allocate(CAMERA, &request("1M at=0x40080000")).unwrap()),
            0x4008_0000
        );
    }
}

#[test]
fn a_place_outside_every_region_is_an_invalid_argument() {
    let cma = framework(Plugin::built_in::<cma_bitmap::Bitmap>());
    // Beside the regions, and across the end of the first one.
    for text in ["4K at=0x3ffff000", "4K at=0x42000000", "8K at=0x40fff000"] {
        let error = cma.allocate(CAMERA, &request(text)).unwrap_err();
        assert_eq!(error.errno(), Errno::EINVAL, "{text}: {error}");
        assert!(error.to_string().contains("is not in it"), "{error}");
    }
    let error = cma.allocate(CAMERA, &request("4K at=0x40000000")).map(drop);
    assert_eq!(error, Ok(()));
}

#[test]
fn contradicting_limits_are_an_invalid_argument_and_leave_no_trace() {
    let cma = framework(Plugin::built_in::<cma_bitmap::Bitmap>());
    let wanted = ChunkRequest::new(Bytes::mib(1)).above(DmaAddr::new(2)).below(DmaAddr::new(1));
    let error = cma.allocate(CAMERA, &wanted).unwrap_err();
    assert!(matches!(error, AllocError::Invalid(_)), "{error}");
    assert_eq!(error.errno(), Errno::EINVAL);
    assert!(cma.failures(&cma.region("a").unwrap()).unwrap().is_empty());
    let other = Cma::new();
    let foreign = framework(Plugin::built_in::<cma_bitmap::Bitmap>()).region("a").unwrap();
    let error = other.allocate(Source::Region(&foreign), &request("4K")).unwrap_err();
    assert_eq!(error, AllocError::Unregistered);
}

#[test]
fn a_region_that_was_unregistered_serves_no_request_by_its_handle() {
    let cma = framework(Plugin::built_in::<cma_bitmap::Bitmap>());
    let a = cma.region("a").unwrap();
    cma.region_unregister(&a).unwrap();
    let error = cma.allocate(Source::Region(&a), &request("4K below=4G")).unwrap_err();
    assert_eq!(error, AllocError::Unregistered);
}
