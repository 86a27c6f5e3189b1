//! Memory of a process that has ended, restored in another one.

mod machine;

use cma_framework::config::{Bank, Bytes, Growth};
use cma_framework::reserve::{Banks, Reserver};
use cma_framework::restore::{RestoreError, RestoredChunk, WithMemory};
use cma_framework::{ChunkRequest, Cma, MemoryError, PageRange, Process, Region, SharedChunk};
use cma_memory::{Memfd, map_shared};
use machine::{OtherProcess, Window, banks, boot, open_files, role};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
    chunk.lasting().unwrap().into_iter().map(duplicate).collect()
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
            let text = format!("{} {}", range.first_page(), range.pages().get());
            send(socket.as_fd(), &text, &lasting(&chunk));
            kept.push(chunk);
        }
    }
    send(socket.as_fd(), "done", &[duplicate(&socket)]);
    loop {
        std::thread::park();
    }
}

#[test]
fn a_process_that_is_killed_leaves_its_chunks_with_their_bytes_to_the_next() {
    const NAME: &str = "a_process_that_is_killed_leaves_its_chunks_with_their_bytes_to_the_next";
    let banks = || Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up);
    if role().is_some() {
        let (cma, _) = framework("killed=64M", &mut Memfd::new(banks()));
        return be_killed(&cma);
    }
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let other = OtherProcess::with(NAME, "killed", there);
    let mut records = Vec::new();
    while let Some((text, files)) = receive(here.as_fd()) {
        let Some((first, pages)) = text.split_once(' ') else { break };
        let range = PageRange::from_pages(first.parse().unwrap(), pages.parse().unwrap());
        records.push((range, files));
    }
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
