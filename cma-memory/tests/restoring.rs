//! Memory of a process that has ended, restored in another one.

mod machine;

use cma_framework::config::{Bank, Bytes, Growth};
use cma_framework::memory::Contiguity;
use cma_framework::reserve::{Banks, ReserveError, Reserver};
use cma_framework::restore::{RestoreError, RestoredChunk, WithMemory};
use cma_framework::{
    ChunkRequest, Cma, DmaAddr, MemoryError, Owner, PageRange, Plugin, Process, Region,
    SharedChunk, Source,
};
use cma_memory::{Memfd, Port, Ports, RestoredRegion, map_shared};
use machine::{
    HUGE, Machine, OtherProcess, POOL, Window, all_pages, banks, boot, free, open_files, refusal,
    role,
};
use proptest::prelude::*;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate,
    memfd_create, open,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::Instant;

/// A framework with one region, and its handle.
fn framework(spec: &str, reserver: &mut dyn Reserver) -> (Cma, Region) {
    let cma = boot(spec, reserver);
    let region = cma.regions().remove(0);
    (cma, region)
}

fn recorded(range: PageRange) -> RestoredChunk {
    RestoredChunk {
        range,
        request: ChunkRequest::new(Bytes(range.bytes())),
        device: Some(("camera".into(), "common".into())),
        process: Some(Process { uid: 0, pid: 1, name: "camera".into() }),
        since: None,
    }
}

fn restore(cma: &Cma, region: &Region, range: PageRange, files: Vec<OwnedFd>) -> SharedChunk {
    match cma.restore_chunk(region, &recorded(range), files).unwrap() {
        WithMemory::Shared(shared) => shared,
        WithMemory::AddressesOnly(chunk) => panic!("{chunk:?} has no memory"),
    }
}

/// Another descriptor of the same open file description.
fn duplicate(file: impl AsFd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

fn reopened(file: impl AsFd, flags: OFlags) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn shared(cma: &Cma, size: u64) -> SharedChunk {
    cma.alloc("camera", None, size, 0).unwrap().share().unwrap()
}

fn bytes(chunk: &SharedChunk) -> Vec<u8> {
    let mut bytes = vec![0; chunk.chunk().size() as usize];
    map_shared(chunk).unwrap().read(0, &mut bytes);
    bytes
}

/// What a keeper has of a chunk.
fn lasting(chunk: &SharedChunk) -> Vec<OwnedFd> {
    chunk.lasting().unwrap().into_iter().map(|lasting| duplicate(lasting.file)).collect()
}

/// Bytes that differ from those of other seeds.
fn pattern(seed: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| (seed.wrapping_mul(31).wrapping_add(at) % 251) as u8).collect()
}

#[test]
fn the_files_that_a_keeper_has_do_not_count_as_holders_before_and_after() {
    let (cma, _) = framework("lease=1M", &mut Memfd::new(banks()));
    let chunk = shared(&cma, 8192);
    map_shared(&chunk).unwrap().write(0, &pattern(1, 8192));
    let kept = lasting(&chunk);
    assert_eq!(kept.len(), 1);
    let client = chunk.pieces().unwrap().next().unwrap().unwrap().into_file();
    let chunk = chunk.reclaim().unwrap_err();
    let range = chunk.chunk().range();
    drop((chunk, cma));

    let (cma, region) = framework("lease=1M", &mut Memfd::new(banks()));
    let keeper = duplicate(&kept[0]);
    let chunk = restore(&cma, &region, range, kept);
    assert_eq!(bytes(&chunk), pattern(1, 8192));
    let chunk = chunk.reclaim().unwrap_err();
    drop(client);
    let chunk = chunk.reclaim().unwrap();
    drop(keeper);
    drop(chunk);
    assert_eq!(open_files("cma:lease"), 0);
}

/// A file in memory that was made elsewhere.
fn file(label: &str, len: u64, flags: MemfdFlags, seals: SealFlags) -> OwnedFd {
    let file =
        memfd_create(label, flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

#[test]
fn a_wrong_file_is_refused_with_its_fault_and_nothing_changes() {
    let (before, _) = framework("wrong=1M", &mut Memfd::new(banks()));
    let kept = || lasting(&shared(&before, 8192)).remove(0);
    let (first, second) = (kept(), kept());
    let (cma, region) = framework("wrong=1M;other=1M", &mut Memfd::new(banks()));
    let at = |page: u64| PageRange::from_pages(region.range().first_page() + page, 2);
    let used = duplicate(&first);
    let _live = restore(&cma, &region, at(0), vec![first]);
    cma.finish_restoring(&region).unwrap();

    let named = |label: &str, len, seals| vec![file(label, len, MemfdFlags::empty(), seals)];
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let ordinary = std::fs::File::open("/proc/self/exe").unwrap();
    let unsealed = SealFlags::SHRINK.union(SealFlags::GROW);
    let cases: Vec<(Vec<OwnedFd>, &str)> = vec![
        (vec![], "it takes 1 file, and 0 are given"),
        (vec![duplicate(&second), duplicate(&second)], "it takes 1 file, and 2 are given"),
        (vec![pipe], "its descriptor is no file"),
        (vec![ordinary.into()], "its file is no file in memory"),
        (vec![reopened(&second, OFlags::PATH)], "not open for access"),
        (vec![reopened(&second, OFlags::RDONLY)], "not open for reading and writing"),
        (named("cma:wrong", 8192, unsealed), "has the seals"),
        (named("cma:wrong", 8192, SEALS.union(SealFlags::WRITE)), "has the seals"),
        (named("cma:wrong", 4096, SEALS), "its file has 4096 bytes instead of 8192"),
        (named("cma:wrong", 12288, SEALS), "its file has 12288 bytes instead of 8192"),
        (named("cma:other", 8192, SEALS), "is named \"cma:other\" instead of cma:wrong"),
        (
            vec![file("cma:wrong", 2 << 20, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, SEALS)],
            "its file has huge pages of 2097152 bytes instead of ordinary pages",
        ),
        (vec![used], "its file is other memory already"),
    ];
    let state = |cma: &Cma| (cma.owners(&region).unwrap(), region.check(), region.status());
    let before = state(&cma);
    for (files, said) in cases {
        let error = cma.restore_chunk(&region, &recorded(at(8)), files).unwrap_err();
        let memory = matches!(error, RestoreError::Memory(MemoryError::NotRestored { .. }));
        assert!(memory && error.to_string().contains(said), "{error} instead of {said}");
        assert_eq!(state(&cma), before, "{said}");
    }
    // The file that was refused because of others is as usable as before.
    let _second = restore(&cma, &region, at(8), vec![second]);
}

#[test]
fn a_file_can_be_restored_again_after_its_chunk_was_freed() {
    let (before, _) = framework("again=1M", &mut Memfd::new(banks()));
    let kept = lasting(&shared(&before, 4096)).remove(0);
    let (cma, region) = framework("again=1M", &mut Memfd::new(banks()));
    let at = |page| PageRange::from_pages(region.range().first_page() + page, 1);
    for page in [0, 7] {
        let chunk = restore(&cma, &region, at(page), vec![duplicate(&kept)]);
        let twice = cma.restore_chunk(&region, &recorded(at(3)), vec![duplicate(&kept)]);
        assert!(twice.unwrap_err().to_string().contains("other memory already"));
        drop(chunk);
    }
}

/// Sends `text` and descriptors.
fn send(socket: BorrowedFd<'_>, text: &str, files: &[OwnedFd]) {
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::empty()).unwrap();
}

/// Receives what [`send`] sent; `None` after the last.
fn receive(socket: BorrowedFd<'_>) -> Option<(String, Vec<OwnedFd>)> {
    let mut text = [0; 200];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let received = recvmsg(socket, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap();
    let files = beside.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    let text = String::from_utf8(text[..received.bytes].to_vec()).unwrap();
    (received.bytes > 0).then_some((text, files))
}

/// The sizes that the process allocates that is killed.
const SIZES: [u64; 4] = [4096, 1 << 20, 12288, 65536];

/// Allocates, writes, frees every second chunk, sends the others, and waits for its end.
fn be_killed(cma: &Cma) {
    let socket = std::io::stdin();
    let chunks: Vec<_> = SIZES.iter().chain(&SIZES).map(|size| shared(cma, *size)).collect();
    let mut kept = Vec::new();
    for (index, chunk) in chunks.into_iter().enumerate() {
        let range = chunk.chunk().range();
        map_shared(&chunk).unwrap().write(0, &pattern(range.first_page(), range.bytes()));
        if index % 2 == 1 {
            send(socket.as_fd(), &text_of(range), &lasting(&chunk));
            kept.push(chunk);
        }
    }
    send(socket.as_fd(), "done", &[duplicate(&socket)]);
    loop {
        std::thread::park();
    }
}

fn text_of(range: PageRange) -> String {
    format!("{} {}", range.first_page(), range.pages().get())
}

/// What the other process of this test sent until it was done. It still runs.
fn left_by(test: &str) -> (Vec<(PageRange, Vec<OwnedFd>)>, OtherProcess) {
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let other = OtherProcess::with(test, "killed", there);
    let mut records = Vec::new();
    while let Some((text, files)) = receive(here.as_fd()) {
        let Some((first, pages)) = text.split_once(' ') else { return (records, other) };
        let range = PageRange::from_pages(first.parse().unwrap(), pages.parse().unwrap());
        records.push((range, files));
    }
    panic!("the other process ended before it was done");
}

#[test]
fn a_process_that_is_killed_leaves_its_chunks_with_their_bytes_to_the_next() {
    const NAME: &str = "a_process_that_is_killed_leaves_its_chunks_with_their_bytes_to_the_next";
    let banks = || Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up);
    if role().is_some() {
        let (cma, _) = framework("killed=64M", &mut Memfd::new(banks()));
        return be_killed(&cma);
    }
    let (records, other) = left_by(NAME);
    // A client of the process has one of them mapped.
    let client = Window::onto(reopened(&records[0].1[0], OFlags::RDWR), records[0].0.bytes());
    drop(other);

    let (cma, region) = framework("killed=64M", &mut Memfd::new(banks()));
    let ranges: Vec<_> = records.iter().map(|(range, _)| *range).collect();
    assert_eq!(ranges.len(), SIZES.len());
    let chunks: Vec<_> =
        records.into_iter().map(|(range, files)| restore(&cma, &region, range, files)).collect();
    cma.finish_restoring(&region).unwrap();
    assert_eq!(region.check(), Ok(()));
    for chunk in &chunks {
        let range = chunk.chunk().range();
        assert_eq!(bytes(chunk), pattern(range.first_page(), range.bytes()), "{range}");
    }
    client.write(5, 99);
    assert_eq!(bytes(&chunks[0])[5], 99);
    let new = shared(&cma, 1 << 20);
    assert!(ranges.iter().all(|range| !range.overlaps(new.chunk().range())));
    assert!(bytes(&new).iter().all(|byte| *byte == 0));
    let held = |chunk: SharedChunk| chunk.reclaim().is_err();
    let held: Vec<_> = chunks.into_iter().map(held).collect();
    assert_eq!(held, [true, false, false, false]);
}

/// What happens to a framework and its process.
#[derive(Clone, Debug)]
enum Step {
    Alloc {
        device: &'static str,
        request: ChunkRequest,
    },
    Free(usize),
    Write {
        chunk: usize,
        seed: u64,
    },
    /// The process ends. The next one has another allocator, which is registered before or after
    /// its chunks, and these come in another order.
    End {
        allocator: usize,
        registered_first: bool,
        order: usize,
    },
}

const REGION_PAGES: u64 = 256;
const START: u64 = 0x4000_0000;

fn step() -> impl Strategy<Value = Step> {
    let limits = (1..30 * 4096u64, 12..18u32, prop::option::of(30..REGION_PAGES), any::<bool>());
    let request = limits.prop_map(|(size, log2, below, bounded)| {
        let plain = ChunkRequest::new(Bytes(size)).aligned(Bytes(1 << log2));
        let plain = below.map_or(plain, |page| plain.below(DmaAddr::new(START + page * 4096)));
        if bounded { plain.boundary(Bytes(32 * 4096)) } else { plain }
    });
    let end = (0..4usize, any::<bool>(), any::<usize>());
    prop_oneof![
        6 => (prop::sample::select(vec!["camera", "codec"]), request)
            .prop_map(|(device, request)| Step::Alloc { device, request }),
        3 => any::<usize>().prop_map(Step::Free),
        3 => any::<(usize, u64)>().prop_map(|(chunk, seed)| Step::Write { chunk, seed }),
        2 => end.prop_map(|(allocator, registered_first, order)| Step::End { allocator, registered_first, order }),
    ]
}

fn plugin(number: usize) -> Plugin {
    match number {
        0 => Plugin::built_in::<cma_best_fit::BestFit>(),
        1 => Plugin::built_in::<cma_buddy::Buddy>(),
        2 => Plugin::built_in::<cma_bitmap::Bitmap>(),
        _ => Plugin::built_in::<cma_tlsf::Tlsf>(),
    }
}

/// A process: a framework with one region of ordinary memory.
fn process(allocator: Option<usize>) -> (Cma, Region) {
    let cma = Cma::new();
    cma.command_line(Some("any=1M"), Some("*=any")).unwrap();
    let banks = Banks::new(&[Bank::new(START, REGION_PAGES * 4096)], Growth::Up);
    cma.early_regions_reserve(&mut Memfd::new(banks));
    cma.initialise();
    let region = cma.region("any").unwrap();
    if let Some(number) = allocator {
        cma.allocator_register(plugin(number)).unwrap();
        // It attaches with the first request.
        drop(cma.alloc("camera", None, 4096, 0).unwrap());
    }
    (cma, region)
}

/// A live chunk of the model.
struct Live {
    owner: Owner,
    bytes: Vec<u8>,
    chunk: SharedChunk,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_done_before_the_next_process_goes_on_as_if_it_were_the_same(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut cma, mut region) = process(Some(0));
        let mut live: Vec<Live> = Vec::new();
        for step in steps {
            match step {
                Step::Alloc { device, request } => {
                    let by = Process { uid: 1, pid: 2, name: device.into() };
                    let source = Source::Device { name: device, kind: None };
                    let Ok(chunk) = cma.to_share(by, source, &request).unwrap().alloc() else {
                        continue;
                    };
                    let range = chunk.range();
                    prop_assert!(live.iter().all(|other| !other.owner.range.overlaps(range)));
                    let chunk = chunk.share().unwrap();
                    prop_assert!(bytes(&chunk).iter().all(|byte| *byte == 0));
                    let mut owners = cma.owners(&region).unwrap();
                    owners.retain(|owner| owner.range == range);
                    prop_assert_eq!(owners.len(), 1);
                    let owner = owners.remove(0);
                    live.push(Live { owner, bytes: vec![0; range.bytes() as usize], chunk });
                }
                Step::Free(which) if !live.is_empty() => {
                    let which = which % live.len();
                    let Live { chunk, .. } = live.swap_remove(which);
                    drop(chunk.reclaim().unwrap());
                }
                Step::Write { chunk, seed } if !live.is_empty() => {
                    let which = chunk % live.len();
                    let Live { bytes, chunk, .. } = &mut live[which];
                    *bytes = pattern(seed, bytes.len() as u64);
                    map_shared(chunk).unwrap().write(0, bytes);
                }
                Step::End { allocator, registered_first, order } => {
                    let mut left: Vec<_> = live
                        .drain(..)
                        .map(|Live { owner, bytes, chunk }| (owner, bytes, lasting(&chunk)))
                        .collect();
                    if !left.is_empty() {
                        let middle = order % left.len();
                        left.rotate_left(middle);
                    }
                    let count = left.len() as u64;
                    (cma, region) = process(registered_first.then_some(allocator));
                    for (owner, bytes, files) in left {
                        let recorded = RestoredChunk {
                            range: owner.range,
                            request: owner.request,
                            device: owner.device.clone(),
                            process: owner.process.clone(),
                            since: None,
                        };
                        let copies = files.iter().map(duplicate).collect();
                        let chunk = match cma.restore_chunk(&region, &recorded, files).unwrap() {
                            WithMemory::Shared(chunk) => chunk,
                            WithMemory::AddressesOnly(_) => unreachable!("the region has memory"),
                        };
                        prop_assert!(cma.restore_chunk(&region, &recorded, copies).is_err());
                        live.push(Live { owner, bytes, chunk });
                    }
                    if !registered_first {
                        cma.allocator_register(plugin(allocator)).unwrap();
                    }
                    let finished = cma.finish_restoring(&region).unwrap();
                    prop_assert_eq!((finished.stand_in, finished.missing), (None, vec![]));
                    prop_assert_eq!(region.statistics().unwrap().chunks_restored, count);
                }
                Step::Free(_) | Step::Write { .. } => {}
            }
            prop_assert_eq!(region.check(), Ok(()));
            let mut expected: Vec<_> = live.iter().map(|live| live.owner.clone()).collect();
            expected.sort_by_key(|owner| owner.range.first_page());
            prop_assert_eq!(cma.owners(&region).unwrap(), expected);
            let used: u64 = live.iter().map(|live| live.owner.range.bytes()).sum();
            prop_assert_eq!(region.status().free_bytes, REGION_PAGES * 4096 - used);
            for Live { bytes: expected, chunk, .. } in &live {
                prop_assert!(bytes(chunk) == *expected);
            }
        }
    }
}

// Huge pages.

/// One region `b` of huge pages.
fn huge_region(size: &str) -> (Cma, Region) {
    framework(&format!("b={size}"), &mut Ports::new(banks(), Port::Hugetlb))
}

/// The region `b` again, at `range`, and its outcome.
fn huge_again(range: PageRange, files: Vec<OwnedFd>) -> (Cma, Region) {
    let restored = RestoredRegion { name: Some("b".into()), range, port: Port::Hugetlb, files };
    let mut ports = Ports::new(banks(), Port::Memfd).with_restored(vec![restored]).unwrap();
    framework(&format!("b={}", range.bytes()), &mut ports)
}

/// Checks by this test's own means that every huge page of a chunk is where its address says.
fn assert_at_their_addresses(chunk: &SharedChunk) {
    let mut expected = chunk.start().get() / 4096;
    for piece in chunk.pieces().unwrap() {
        let piece = piece.unwrap();
        let window = Window::onto(&piece, piece.offset + piece.len);
        for at in (piece.offset..piece.offset + piece.len).step_by(HUGE as usize) {
            assert_eq!(window.frame_at(at as usize), Some(expected));
            expected += HUGE / 4096;
        }
    }
}

/// What remains of a process: the region's place and files, and its chunks.
struct Remains {
    range: PageRange,
    files: Vec<OwnedFd>,
    chunks: Vec<(PageRange, Vec<OwnedFd>)>,
}

impl Remains {
    /// Ends a framework. Its memory has the bytes of `pattern` by chunk.
    fn of(cma: Cma, region: Region, chunks: Vec<SharedChunk>) -> Remains {
        let (range, files) = (region.range(), region.lasting().unwrap());
        let kept = |chunk: &SharedChunk| (chunk.chunk().range(), lasting(chunk));
        let kept = chunks.iter().map(kept).collect();
        drop((chunks, region, cma));
        Remains { range, files, chunks: kept }
    }

    fn restored(self) -> (Cma, Region, Vec<SharedChunk>) {
        let (cma, region) = huge_again(self.range, self.files);
        let chunks = self.chunks.into_iter();
        let chunks = chunks.map(|(range, files)| restore(&cma, &region, range, files)).collect();
        (cma, region, chunks)
    }
}

fn written(cma: &Cma, pages: u64) -> SharedChunk {
    let chunk = shared(cma, pages * HUGE);
    let range = chunk.chunk().range();
    map_shared(&chunk).unwrap().write(0, &pattern(range.first_page(), range.bytes()));
    chunk
}

fn assert_written(chunk: &SharedChunk) {
    let range = chunk.chunk().range();
    assert!(bytes(chunk) == pattern(range.first_page(), range.bytes()), "{range} has other bytes");
}

/// Waits until no memory is set aside.
fn recover_all(cma: &Cma) {
    while let Some(due) = cma.recover_memory() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Allocates each huge page of `region` that is free, and checks it.
fn assert_all_usable(cma: &Cma, region: &Region) {
    let mut all = Vec::new();
    while region.status().free_bytes > 0 {
        let chunk = cma.alloc("camera", None, HUGE, HUGE).unwrap().share().unwrap();
        assert_at_their_addresses(&chunk);
        assert!(bytes(&chunk).iter().all(|byte| *byte == 0));
        all.push(chunk);
    }
    assert!(cma.owners(region).unwrap().iter().all(|owner| !owner.set_aside));
}

#[test]
fn huge_pages_are_restored_at_their_addresses_and_those_of_freed_chunks_come_out_of_the_pool() {
    let Some(_machine) = Machine::with_huge_pages(13) else { return };
    let (cma, region) = huge_region("24M");
    let mut chunks: Vec<_> = [2, 3, 1, 2, 1].map(|pages| written(&cma, pages)).into();
    // Its pages stay in its file, which ends with the process.
    drop(chunks.remove(1));
    drop(chunks.remove(1));
    let (cma, region, chunks) = Remains::of(cma, region, chunks).restored();
    assert_eq!(free(POOL), 13 - 12 + 4, "the pages of the two freed chunks are not found yet");
    let finished = cma.finish_restoring(&region).unwrap();
    assert_eq!((finished.missing, free(POOL)), (vec![], 1));
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
    for chunk in &chunks {
        assert_written(chunk);
        assert_at_their_addresses(chunk);
    }
    assert_all_usable(&cma, &region);
    let chunk = chunks.into_iter().next().unwrap();
    let client = file_of(&chunk);
    let chunk = chunk.reclaim().unwrap_err();
    drop(client);
    drop(chunk.reclaim().unwrap());
    assert_all_usable(&cma, &region);
    // And once more.
    let chunks = vec![written(&cma, 2)];
    let (cma, region, chunks) = Remains::of(cma, region, chunks).restored();
    assert_eq!(cma.finish_restoring(&region).unwrap().missing, []);
    assert_written(&chunks[0]);
    assert_all_usable(&cma, &region);
    drop((chunks, region, cma));
    assert_eq!((free(POOL), open_files("cma:b")), (13, 0));
}

fn file_of(chunk: &SharedChunk) -> OwnedFd {
    chunk.pieces().unwrap().next().unwrap().unwrap().into_file()
}

#[test]
fn a_killed_process_leaves_its_huge_pages_to_the_next() {
    const NAME: &str = "a_killed_process_leaves_its_huge_pages_to_the_next";
    if role().is_some() {
        let socket = std::io::stdin();
        let (cma, region) = huge_region("16M");
        let mut chunks: Vec<_> = [1, 2, 3].map(|pages| written(&cma, pages)).into();
        drop(chunks.remove(0));
        send(socket.as_fd(), &text_of(region.range()), &region.lasting().unwrap());
        for chunk in &chunks {
            send(socket.as_fd(), &text_of(chunk.chunk().range()), &lasting(chunk));
        }
        send(socket.as_fd(), "done", &[duplicate(&socket)]);
        loop {
            std::thread::park();
        }
    }
    let Some(_machine) = Machine::with_huge_pages(9) else { return };
    let (records, other) = left_by(NAME);
    drop(other);
    let mut records = records.into_iter();
    let (range, files) = records.next().unwrap();
    let remains = Remains { range, files, chunks: records.collect() };
    let (cma, region, chunks) = remains.restored();
    cma.finish_restoring(&region).unwrap();
    // The kernel may take its time to unpin pages of a process that was killed.
    recover_all(&cma);
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
    chunks.iter().for_each(assert_written);
    chunks.iter().for_each(assert_at_their_addresses);
    assert_all_usable(&cma, &region);
}

#[test]
fn a_page_that_somebody_took_meanwhile_is_set_aside_until_it_is_back() {
    let Some(_machine) = Machine::with_huge_pages(7) else { return };
    let (cma, region) = huge_region("12M");
    let mut chunks: Vec<_> = [2, 2, 1].map(|pages| written(&cma, pages)).into();
    let lost = chunks.remove(0).chunk().range();
    let remains = Remains::of(cma, region, chunks);
    let taken = all_pages();
    assert_eq!(taken.len(), 3);
    let (cma, region, chunks) = remains.restored();
    let mut missing = cma.finish_restoring(&region).unwrap().missing;
    missing.sort_by_key(|range| range.first_page());
    let halves = [0, 512].map(|at| PageRange::from_pages(lost.first_page() + at, 512));
    assert_eq!(missing, halves);
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
    let small = shared(&cma, HUGE);
    assert!(!small.chunk().range().overlaps(lost));
    drop((small, taken));
    recover_all(&cma);
    chunks.iter().for_each(assert_written);
    assert_all_usable(&cma, &region);
}

#[test]
fn a_page_of_a_chunk_that_moved_is_named_until_it_is_back_at_its_address() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, region) = huge_region("8M");
    let chunks = vec![written(&cma, 3)];
    let remains = Remains::of(cma, region, chunks);
    // As if the kernel had moved the second page.
    let moved = &remains.chunks[0].1[0];
    let first = remains.chunks[0].0.first_page();
    let strangers = all_pages();
    fallocate(moved, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, HUGE, HUGE).unwrap();
    let right = all_pages();
    assert_eq!((right.len(), right[0].0), (1, first + 512));
    drop(strangers);
    fallocate(moved, FallocateFlags::empty(), HUGE, HUGE).unwrap();
    let to = Window::onto(moved, 3 * HUGE).frame_at(HUGE as usize).unwrap();
    drop(right);

    let (cma, region, mut chunks) = remains.restored();
    assert_eq!(cma.finish_restoring(&region).unwrap().missing, []);
    let at = |page: u64| PageRange::from_pages(page, 1).start();
    let Contiguity::Moved(told) = region.backing().unwrap().contiguity else {
        panic!("{:?}", region.backing());
    };
    let index = (first - region.range().first_page()) / 512 + 1;
    assert_eq!(told, format!("huge page {index}, at {}, is at {} now", at(first + 512), at(to)));
    let range = chunks[0].chunk().range();
    let (have, had) = (bytes(&chunks[0]), pattern(range.first_page(), range.bytes()));
    assert!(have[..HUGE as usize] == had[..HUGE as usize]);
    assert!(have[2 * HUGE as usize..] == had[2 * HUGE as usize..]);

    drop(chunks.remove(0).reclaim().unwrap());
    assert_all_usable(&cma, &region);
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
}

#[test]
fn a_client_that_returned_pages_or_grew_its_file_does_not_prevent_a_restoring() {
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let (cma, region) = huge_region("8M");
    let chunks = vec![written(&cma, 2), written(&cma, 1)];
    let hole = file_of(&chunks[0]);
    fallocate(&hole, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, HUGE).unwrap();
    let grown = Window::onto(file_of(&chunks[1]), 2 * HUGE);
    grown.write(HUGE as usize, 1);
    let remains = Remains::of(cma, region, chunks);
    let (cma, region, chunks) = remains.restored();
    drop((hole, grown));
    cma.finish_restoring(&region).unwrap();
    assert_written(&chunks[1]);
    let range = chunks[0].chunk().range();
    assert!(
        bytes(&chunks[0])[HUGE as usize..]
            == pattern(range.first_page(), 2 * HUGE)[HUGE as usize..]
    );
    for chunk in chunks {
        drop(chunk.reclaim().unwrap());
    }
    assert_all_usable(&cma, &region);
}

#[test]
fn wrong_files_of_a_region_or_a_chunk_of_huge_pages_are_refused_and_change_nothing() {
    let Some(_machine) = Machine::with_huge_pages(9) else { return };
    let (cma, region) = huge_region("8M");
    let chunks = vec![written(&cma, 1), written(&cma, 2)];
    let mut remains = Remains::of(cma, region, chunks);
    let all = |files: &[OwnedFd]| files.iter().map(duplicate).collect::<Vec<_>>();
    let [home, table] = [0, 1].map(|at| duplicate(&remains.files[at]));
    let huge =
        |label: &str, len| file(label, len, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, SEALS);
    let plain = |len| file("cma:b", len, MemfdFlags::empty(), SEALS);
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let cases: Vec<(Vec<OwnedFd>, &str)> = vec![
        (vec![], "it takes 2 files, and 0 are given"),
        (vec![duplicate(&home)], "it takes 2 files, and 1 are given"),
        (vec![duplicate(&table), duplicate(&home)], "has the seals"),
        (vec![duplicate(&home), plain(5 * 8)], "has the seals"),
        (vec![huge("cma:c", 16 << 20), duplicate(&table)], "is named \"cma:c\""),
        (vec![huge("cma:b", 2 << 20), duplicate(&table)], "2097152 bytes instead of"),
        (vec![plain(16 << 20), duplicate(&table)], "ordinary pages instead of huge pages"),
        (vec![pipe, duplicate(&table)], "is no file"),
    ];
    for (files, said) in cases {
        let restored = RestoredRegion {
            name: Some("b".into()),
            range: remains.range,
            port: Port::Hugetlb,
            files,
        };
        let mut ports = Ports::new(banks(), Port::Memfd).with_restored(vec![restored]).unwrap();
        let why = refusal("b=8M", &mut ports);
        assert!(why.contains(said), "{why} instead of {said}");
    }
    let elsewhere = PageRange::from_pages(remains.range.first_page() + 512, 4 * 512);
    let files = all(&remains.files);
    let restored =
        RestoredRegion { name: Some("b".into()), range: elsewhere, port: Port::Hugetlb, files };
    let mut ports = Ports::new(banks(), Port::Memfd).with_restored(vec![restored]).unwrap();
    assert!(refusal("b=8M", &mut ports).contains("is not that of a region at"));

    let (cma, region) = huge_again(remains.range, std::mem::take(&mut remains.files));
    let [(small, _), (large, _)] = [0, 1].map(|at| (remains.chunks[at].0, ()));
    let [one, two] = [0, 1].map(|at| &remains.chunks[at].1);
    let cases: Vec<(PageRange, Vec<OwnedFd>, &str)> = vec![
        (small, vec![], "0 files are given"),
        (small, all(one).into_iter().chain(all(two)).collect(), "2 files are given"),
        (small, vec![duplicate(&home)], "other memory already"),
        (small, vec![plain(HUGE)], "ordinary pages instead of huge pages"),
        (large, all(one), "2097152 bytes instead of"),
        (
            large,
            vec![
                huge("cma:b", HUGE),
                huge("cma:b", HUGE),
                huge("cma:b", HUGE),
                huge("cma:b", HUGE),
            ],
            "4 files are given",
        ),
        (PageRange::from_pages(small.first_page(), 3), all(one), "not multiples"),
    ];
    for (range, files, said) in cases {
        let error = cma.restore_chunk(&region, &recorded(range), files).unwrap_err().to_string();
        assert!(error.contains(said), "{error} instead of {said}");
        assert_eq!(region.status().users, 0);
    }
    let chunks: Vec<_> = remains
        .chunks
        .into_iter()
        .map(|(range, files)| restore(&cma, &region, range, files))
        .collect();
    drop((home, table));
    cma.finish_restoring(&region).unwrap();
    let late =
        cma.restore_chunk(&region, &recorded(free_place(&cma, &region)), vec![huge("cma:b", HUGE)]);
    assert!(late.unwrap_err().to_string().contains("not any more"));
    chunks.iter().for_each(assert_written);
    assert_all_usable(&cma, &region);
}

/// A huge page of `region` that no chunk has.
fn free_place(cma: &Cma, region: &Region) -> PageRange {
    let range = region.range();
    let owners = cma.owners(region).unwrap();
    let pages = (range.first_page()..range.end_page()).step_by(512);
    let mut places = pages.map(|page| PageRange::from_pages(page, 512));
    places.find(|place| owners.iter().all(|owner| !owner.range.overlaps(*place))).unwrap()
}

#[test]
fn where_addresses_are_hidden_a_region_keeps_those_that_it_had() {
    const NAME: &str = "where_addresses_are_hidden_a_region_keeps_those_that_it_had";
    if role().is_some() {
        return hidden_addresses();
    }
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let mut command = OtherProcess::command(NAME, "unprivileged");
    command.uid(65534).gid(65534);
    OtherProcess::start(command).succeed();
}

/// The other process, as an unprivileged user.
fn hidden_addresses() {
    let (cma, region) = huge_region("8M");
    let Contiguity::Unknown(_) = region.backing().unwrap().contiguity else {
        panic!("{:?}", region.backing());
    };
    let mut chunks = vec![written(&cma, 1), written(&cma, 2)];
    drop(chunks.remove(0));
    let remains = Remains::of(cma, region, chunks);
    let range = remains.range;
    let (cma, region, chunks) = remains.restored();
    assert_eq!((cma.finish_restoring(&region).unwrap().missing, region.range()), (vec![], range));
    let Contiguity::Unknown(why) = region.backing().unwrap().contiguity else {
        panic!("{:?}", region.backing());
    };
    assert_eq!(why, "physical addresses were hidden when the region was made");
    assert_written(&chunks[0]);
    let whole: Vec<_> = (0..2).map(|_| shared(&cma, HUGE)).collect();
    assert_eq!(region.status().free_bytes, 0);
    assert!(whole.iter().all(|chunk| bytes(chunk).iter().all(|byte| *byte == 0)));
    assert_written(&chunks[0]);
}

#[test]
fn restored_regions_get_their_places_and_no_other_region_does() {
    let banks = || Banks::new(&[Bank::new(0x4000_0000, 64 << 20)], Growth::Up);
    let range = |start: u64, size: u64| PageRange::from_pages(start >> 12, size >> 12);
    let restored = |name: &str, range, port| RestoredRegion {
        name: Some(name.into()),
        range,
        port,
        files: vec![],
    };
    let (mem, sim) = (range(0x4010_0000, 8 << 20), range(0x4200_0000, 4 << 20));
    let both = || vec![restored("mem", mem, Port::Memfd), restored("sim", sim, Port::Simulated)];
    let mut ports = Ports::new(banks(), Port::Memfd).with_restored(both()).unwrap();
    let cma = boot("new=16M;sim=4M;large=24M;mem=8M", &mut ports);
    let at = |name: &str| cma.region(name).unwrap().range();
    assert_eq!([at("mem"), at("sim")], [mem, sim]);
    let kinds = ["mem", "sim"].map(|name| cma.region(name).unwrap().backing().map(|b| b.kind));
    assert_eq!(kinds, [Some("memfd"), None]);
    assert!(ports.outcomes()[1].to_string().ends_with("addresses alone (restored)"));

    let mut ports = Ports::new(banks(), Port::Memfd).with_restored(both()).unwrap();
    let why = refusal("mem=16M", &mut ports);
    assert_eq!(why, "its size can't change from 8M to 16M with chunks in it");
    let mut overlapping = both();
    overlapping.push(restored("third", range(0x4080_0000, 1 << 20), Port::Memfd));
    let error = Ports::new(banks(), Port::Memfd).with_restored(overlapping).unwrap_err();
    assert_eq!(error, ReserveError::Taken { wanted: range(0x4080_0000, 1 << 20), taken: mem });
}
