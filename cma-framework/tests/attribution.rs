//! Owners of chunks: devices whose names come and go, and processes that front ends serve.

mod common;

use cma_framework::config::Bytes;
use cma_framework::{AllocatorChoice, ChunkRequest, Cma, Holder, Plugin, Process, Region, Source};
use common::region;

fn framework() -> (Cma, Region) {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.command_line(None, Some("*=a")).unwrap();
    let a = region(&cma, "a", 0x4000_0000, 1 << 30, AllocatorChoice::Default);
    (cma, a)
}

#[test]
fn owners_report_the_process_that_a_front_end_noted() {
    let cma = framework().0;
    let tree = cma.attributes();
    let process = |name: &str| Process { uid: 1000, pid: 4711, name: name.into() };
    // The client chooses the names. Those of a holder are not bounded by the table of pairs.
    let long = "d".repeat(300);
    let devices = [("cam", "ffmpeg"), (&long, "two words"), ("mic", "")];
    let chunks: Vec<_> = devices
        .iter()
        .map(|(device, name)| {
            let mut chunk = cma.alloc(device, None, 4096, 0).unwrap();
            let device = Some(((*device).into(), "common".into()));
            chunk.set_holder(Holder { process: process(name), device });
            chunk
        })
        .collect();
    assert_eq!(
        tree.read("regions/a/owners").unwrap(),
        format!(
            "0x40000000 4096 - cam/common - 1000 4711 ffmpeg\n\
             0x40001000 4096 - {long}/common - 1000 4711 two\\u{{20}}words\n\
             0x40002000 4096 - mic/common - 1000 4711 -\n"
        )
    );
    drop(chunks);
    let _next = cma.alloc("cam", None, 4096, 0).unwrap();
    assert_eq!(tree.read("regions/a/owners").unwrap(), "0x40000000 4096 - cam/common - - - -\n");
}

/// 65,536 (device, type) pairs have a number. Devices that no longer make requests give theirs up,
/// so later ones have a name in `owners`.
#[test]
fn numbers_of_former_devices_are_reused_for_later_ones() {
    let (cma, region) = framework();
    let _kept = cma.alloc("kept", None, 4096, 0).unwrap();
    let device = cma.device("driver", None).unwrap();
    for n in 0..(1 << 17) + 10 {
        drop(cma.alloc(&format!("vm{n}"), None, 4096, 0).unwrap());
    }
    let _later = cma.alloc("later", None, 4096, 0).unwrap();
    let _again = cma.alloc("vm7", None, 4096, 0).unwrap();
    let _driver = device.alloc(4096, 0).unwrap();
    let names: Vec<_> =
        cma.owners(&region).unwrap().into_iter().map(|owner| owner.device.unwrap().0).collect();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["kept", "later", "vm7", "driver"]
    );
}

#[test]
fn more_pairs_of_names_with_live_chunks_than_are_numbered_are_served() {
    let (cma, region) = framework();
    let live: Vec<_> =
        (0..(1 << 16) + 10).map(|n| cma.alloc(&format!("d{n}"), None, 4096, 0).unwrap()).collect();
    let named =
        || cma.owners(&region).unwrap().iter().filter(|owner| owner.device.is_some()).count();
    assert_eq!(named(), 1 << 16);
    drop(live);
    // So many requests get no number that the table is swept.
    for n in 0..1 << 15 {
        drop(cma.alloc(&format!("e{n}"), None, 4096, 0).unwrap());
    }
    let _known = cma.alloc("one-more", None, 4096, 0).unwrap();
    assert_eq!(named(), 1);
}

/// Names that clients of a front end invent don't evict those of other users and of the host.
#[test]
fn a_user_that_invents_names_evicts_no_others() {
    let (cma, region) = framework();
    let ask = |uid: u32, device: &str| {
        let process = Process { uid, pid: 1, name: "p".into() };
        let source = Source::Device { name: device, kind: None };
        let request = ChunkRequest::new(Bytes::kib(4));
        cma.to_share(process, source, &request).unwrap().alloc().unwrap()
    };
    let _known = cma.alloc("known", None, 4096, 0).unwrap();
    for n in 0..1 << 17 {
        drop(ask(1000, &format!("invented{n}")));
    }
    let _other = ask(1001, "other");
    let _host = cma.alloc("host", None, 4096, 0).unwrap();
    let _invented = ask(1000, "one-more");
    let names: Vec<_> =
        cma.owners(&region).unwrap().into_iter().map(|owner| owner.device.unwrap().0).collect();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["known", "other", "host", "one-more"]
    );
}
