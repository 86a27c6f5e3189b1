//! The state of a server is the framework's own, whichever way it is read.

use cma_device_server::{Address, Limits, Rules, Server as DeviceServer, Shutdown};
use cma_framework::config::{Bytes, Map};
use cma_framework::{
    AllocatorChoice, ChunkRequest, Cma, DmaAddr, Holder, PAGE_SIZE, PageRange, Plugin, Process,
    Source,
};
use cma_running::{AllocatorStatus, EntryKind, Error, Requester, Server, State};
use cma_sysfs::Sysfs;
use std::io::{self, Write};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

const BASE: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

fn framework() -> Cma {
    let cma = Cma::new();
    let at = |n: u64| DmaAddr::new(BASE + n * 64 * MIB);
    cma.region_register(Some("ram"), at(0), 16 * MIB, AllocatorChoice::Default).unwrap();
    cma.region_register(None, at(2), MIB, AllocatorChoice::named("absent")).unwrap();
    // A name without a link: it could be the folder of another region.
    cma.region_register(Some("0x1"), at(1), MIB, AllocatorChoice::Default).unwrap();
    cma.set_map(Map::parse("*=ram").unwrap());
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma
}

/// `check` with the framework's own tree, with a mount of it and with a socket. Says what it skips.
fn in_every_way(cma: &Cma, check: impl Fn(&Server)) {
    check(&Server::local(cma.attributes()));
    over_a_mount(cma, |folder| check(&Server::mount(folder).unwrap()));
    over_a_socket(cma, |socket| check(&Server::connect(socket).unwrap()));
}

fn over_a_mount(cma: &Cma, check: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    match Sysfs::mount(cma.attributes(), folder.path()) {
        Ok(mounted) => {
            check(folder.path());
            mounted.unmount().unwrap();
        }
        Err(error) => {
            writeln!(io::stderr(), "SKIPPED the mount: {error}").expect("standard error is open");
        }
    }
}

fn over_a_socket(cma: &Cma, check: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cma.sock");
    let rules = Rules::parse("*,@*=*").unwrap();
    let server =
        DeviceServer::bind(&Address::new(&path), cma.clone(), Limits::default(), rules).unwrap();
    let shutdown = Shutdown::new().unwrap();
    std::thread::scope(|threads| {
        let running = threads.spawn(|| server.run(&shutdown));
        // Also when the check panics.
        struct Ends<'s>(&'s Shutdown);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.begin();
            }
        }
        let ends = Ends(&shutdown);
        check(&path);
        drop(ends);
        running.join().unwrap().unwrap();
    });
}

fn ram(state: &State) -> &cma_running::RegionState {
    state.region("ram").unwrap()
}

#[test]
fn regions_have_their_names_places_and_allocators() {
    let cma = framework();
    in_every_way(&cma, |server| {
        let state = server.state().unwrap();
        let found: Vec<_> = state
            .regions
            .iter()
            .map(|region| (region.to_string(), region.range.bytes(), region.allocator.clone()))
            .collect();
        let best_fit = || AllocatorStatus::Serving { name: Some("best-fit".to_string()) };
        let waiting = AllocatorStatus::Waiting { wanted: Some("absent".to_string()) };
        assert_eq!(
            found,
            [
                ("ram".to_string(), 16 * MIB, best_fit()),
                ("0x1".to_string(), MIB, best_fit()),
                ("0x48000000".to_string(), MIB, waiting)
            ]
        );
        assert_eq!(state.regions[0].problem, None);
        let problem = state.regions[2].problem.as_deref().unwrap();
        assert!(problem.contains("absent"), "{problem}");
        assert_eq!(state.region("0x48000000"), Some(&state.regions[2]));
    });
}

#[test]
fn chunks_have_their_places_limits_and_owners_and_holes_are_what_is_left() {
    let cma = framework();
    let alloc = |device: &str, kind, size| cma.alloc(device, Some(kind), size, 0).unwrap();
    let first = alloc("camera", "frame", MIB);
    let gap = alloc("gap", "x", 2 * MIB);
    let limited =
        ChunkRequest::new(Bytes(MIB)).below(DmaAddr::new(BASE + 8 * MIB)).boundary(Bytes(4 * MIB));
    let mut last = cma.allocate(Source::Regions("ram"), &limited).unwrap();
    // Names that would be several fields, or another escape.
    let process = Process { uid: 1000, pid: 4711, name: "a b\n\\u{20}-é".into() };
    let device = Some(("my device".into(), "".into()));
    last.set_holder(Holder { process: process.clone(), device });
    drop(gap);
    in_every_way(&cma, |server| {
        let state = server.state().unwrap();
        let ram = ram(&state);
        let books = ram.books.as_ref().unwrap();
        let page = BASE / PAGE_SIZE;
        let pages = MIB / PAGE_SIZE;
        assert_eq!(books.chunks.len(), 2);
        let (camera, held) = (&books.chunks[0], &books.chunks[1]);
        assert_eq!(camera.range, PageRange::from_pages(page, pages));
        assert_eq!(camera.requester.as_ref().unwrap().to_string(), "camera/frame");
        assert_eq!((&camera.process, camera.request.below), (&None, None));
        assert_eq!(held.range, last.range());
        let expected = Requester { device: "my device".to_string(), kind: String::new() };
        assert_eq!(held.requester.as_ref(), Some(&expected));
        assert_eq!(held.process.as_ref(), Some(&process));
        assert_eq!((held.request.below, held.request.boundary), (limited.below, limited.boundary));
        let holes = [
            PageRange::from_pages(page + pages, 2 * pages),
            PageRange::from_pages(page + 4 * pages, 12 * pages),
        ];
        assert_eq!(ram.holes(), holes);
        assert_eq!(books.free_bytes, holes.iter().map(|hole| hole.bytes()).sum::<u64>());
        assert_eq!((books.largest_free_bytes, books.high_water_bytes), (12 * MIB, 4 * MIB));
        assert_eq!([books.chunks_placed, books.chunks_freed, books.requests_refused], [3, 1, 0]);
        assert_eq!(state.regions[1].holes(), [state.regions[1].range]);
    });
    drop((first, last));
}

#[test]
fn waiters_and_refusals_have_their_requests_and_reasons() {
    let cma = framework();
    let request = ChunkRequest::parse("17M/64K below=0x60000000").unwrap();
    cma.allocate(Source::Device { name: "codec", kind: Some("b") }, &request).unwrap_err();
    let all = cma.alloc("camera", None, 16 * MIB, 0).unwrap();
    let wanted = ChunkRequest::parse("1M wait=1m").unwrap();
    let source = Source::Device { name: "dsp", kind: None };
    let mut waiting = pin!(cma.allocate_async(source, &wanted).unwrap());
    let polled = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    in_every_way(&cma, |server| {
        let state = server.state().unwrap();
        let waiters: Vec<_> = state.waiters().collect();
        let [(region, waiter)] = waiters[..] else { panic!("{waiters:?}") };
        assert_eq!((region.to_string().as_str(), waiter.request.size.0), ("ram", MIB));
        assert_eq!(waiter.requester.as_ref().unwrap().to_string(), "dsp/common");
        let (region, refused) = state.failures().next().unwrap();
        assert_eq!((region.to_string().as_str(), refused.request), ("ram", request));
        assert_eq!(refused.requester.as_ref().unwrap().to_string(), "codec/b");
        assert!(refused.reason.contains("16M"), "{}", refused.reason);
    });
    drop((waiting, all));
}

#[test]
fn attributes_and_folders_that_are_not_there_have_the_same_errors_in_every_way() {
    let cma = framework();
    in_every_way(&cma, |server| {
        assert_eq!(server.read("map").unwrap(), "*=ram\n");
        assert_eq!(server.read("regions/ram/size").unwrap(), "16777216\n");
        for path in ["nothing", "map/x", "regions/ram/nothing", "../map"] {
            let error = server.read(path).unwrap_err();
            assert_eq!(error.to_string(), format!("{path}: there is no such attribute"));
            assert!(!error.is_gone());
        }
        assert!(matches!(server.read("regions/ram"), Err(Error::Folder { .. })));
        assert!(matches!(server.list("map"), Err(Error::NotFolder { .. })));
        let entries = server.list("regions").unwrap();
        let link = entries.iter().find(|entry| entry.name == "ram").unwrap();
        assert_eq!(link.kind, EntryKind::Link { target: "0x40000000".to_string() });
        assert_eq!(entries.len(), 4);
    });
}

#[test]
fn a_server_that_has_ended_is_gone_and_one_that_starts_in_its_place_is_read() {
    let cma = framework();
    let folder = tempfile::tempdir().unwrap();
    let mut by_mount = None;
    if let Ok(mounted) = Sysfs::mount(cma.attributes(), folder.path()) {
        let server = Server::mount(folder.path()).unwrap();
        mounted.unmount().unwrap();
        assert!(server.state().unwrap_err().is_gone());
        let again = Sysfs::mount(cma.attributes(), folder.path()).unwrap();
        assert_eq!(server.state().unwrap().regions.len(), 3);
        again.unmount().unwrap();
        by_mount = Some(server);
    }
    if by_mount.is_none() {
        writeln!(io::stderr(), "SKIPPED: nothing can be mounted here").expect("it is open");
    }
    let mut by_socket = None;
    over_a_socket(&cma, |socket| by_socket = Some(Server::connect(socket).unwrap()));
    assert!(by_socket.unwrap().state().unwrap_err().is_gone());
}

#[test]
fn a_write_over_a_mount_has_the_servers_reason_and_none_goes_over_a_socket() {
    let cma = framework();
    over_a_mount(&cma, |folder| {
        let server = Server::mount(folder).unwrap();
        server.write("map", "camera=ram").unwrap();
        let Err(Error::NotWritten { reason, .. }) = server.write("map", "a==b") else { panic!() };
        assert!(reason.starts_with("EINVAL: a rule has one '='"), "{reason}");
        assert!(matches!(server.write("size", ""), Err(Error::Missing { .. })));
    });
    over_a_socket(&cma, |socket| {
        let server = Server::connect(socket).unwrap();
        assert!(matches!(server.write("map", ""), Err(Error::ReadOnlySocket { .. })));
    });
}
