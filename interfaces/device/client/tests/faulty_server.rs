//! A faulty or malicious server: the client gets an error, never memory that could be truncated,
//! and never waits for ever.

use cma_client::{AttributeText, Client, Error, MapError};
use cma_device_protocol::wire::{receive, send};
use cma_device_protocol::{
    Answer, ChunkAnswer, Extent, MAX_ATTRIBUTE_BYTES, MESSAGE_BYTES, Message, Request, TextAnswer,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen,
    socket_with,
};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers a request that came on a connection.
type Responder<'l> = dyn Fn(BorrowedFd<'_>, &Message) + Sync + 'l;

/// The result of `then` with a client of a server that answers by `respond`.
fn with_server<T>(respond: &Responder<'_>, then: impl FnOnce(&Client) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("liar");
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 8).unwrap();
    std::thread::scope(|threads| {
        let server = threads.spawn(|| answer_all(&listener, respond));
        let answer = then(&Client::connect(&path).unwrap());
        end(&path);
        server.join().unwrap();
        answer
    })
}

/// Answers all clients until one sends a malformed message.
fn answer_all(listener: &OwnedFd, respond: &Responder<'_>) {
    loop {
        let connection = accept(listener).unwrap();
        loop {
            poll(&mut [PollFd::new(&connection, PollFlags::IN)], None).unwrap();
            match receive(connection.as_fd()) {
                Ok(message) => respond(connection.as_fd(), &message),
                Err(cma_device_protocol::wire::ReceiveError::Malformed(_)) => return,
                Err(_) => break,
            }
        }
    }
}

fn end(path: &Path) {
    let connection = cma_client::exchange::connect(&SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::send(&connection, b"end", SendFlags::NOSIGNAL).unwrap();
}

fn file(size: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("lie", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, size).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn extents(of: &[(u64, u64, u64)]) -> ChunkAnswer {
    let extents =
        of.iter().map(|(count, offset, len)| Extent { count: *count, offset: *offset, len: *len });
    ChunkAnswer {
        start: 0x1000,
        size: 8192,
        granule: 4096,
        pieces: 1,
        first: 0,
        extents: extents.collect(),
    }
}

fn mapped(chunk: &ChunkAnswer, files: &[&OwnedFd]) -> Result<usize, Error> {
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let respond = |connection: BorrowedFd<'_>, message: &Message| {
        send(connection, &Message::answer(message.id(), &Answer::Chunk(chunk.clone())), &files)
            .unwrap();
    };
    with_server(&respond, |client| {
        let chunk = client.alloc("camera", None, 8192, 0)?;
        chunk.map().map(|mapped| mapped.len()).map_err(|refused| refused.error)
    })
}

#[test]
fn a_consistent_answer_is_accepted() {
    let sealed = file(8192, SealFlags::SHRINK);
    assert_eq!(mapped(&extents(&[(1, 0, 8192)]), &[&sealed]).unwrap(), 8192);
}

#[test]
fn memory_that_could_be_truncated_is_not_mapped() {
    let open = file(8192, SealFlags::GROW);
    let refused = mapped(&extents(&[(1, 0, 8192)]), &[&open]);
    assert!(matches!(refused, Err(Error::Unmappable(MapError::NotSealed { index: 0 }))));
    let short = file(4096, SealFlags::SHRINK);
    let refused = mapped(&extents(&[(1, 0, 8192)]), &[&short]);
    assert!(matches!(refused, Err(Error::Unmappable(MapError::TooShort { end: 8192, .. }))));
    let too_far = file(8192, SealFlags::SHRINK);
    let refused = mapped(&extents(&[(1, 4096, 8192)]), &[&too_far]);
    assert!(matches!(refused, Err(Error::Unmappable(MapError::TooShort { end: 12288, .. }))));
    let pipe = rustix::pipe::pipe().unwrap().0;
    assert!(mapped(&extents(&[(1, 0, 8192)]), &[&pipe]).is_err());
}

/// The kernel would map whole pages, over what stands behind the piece.
#[test]
fn a_piece_that_is_not_whole_pages_of_its_file_is_not_mapped() {
    let sealed = file(8192, SealFlags::SHRINK);
    for (offset, len) in [(0, 100), (100, 4096)] {
        let second = (1, 0, 8192 - len);
        let parts = ChunkAnswer { pieces: 2, ..extents(&[(1, offset, len), second]) };
        let refused = mapped(&parts, &[&sealed, &sealed]);
        let Err(Error::Unmappable(MapError::NotWholePages { index: 0, page, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(page, 4096);
    }
}

#[test]
fn inconsistent_answers_are_errors() {
    let sealed = file(8192, SealFlags::SHRINK);
    let nonsense = [
        // More or fewer pieces than descriptors.
        (extents(&[(2, 0, 8192)]), 1),
        (extents(&[(1, 0, 8192)]), 2),
        (extents(&[(1, 0, 8192)]), 0),
        (extents(&[]), 0),
        (extents(&[]), 1),
        (ChunkAnswer { pieces: 0, ..extents(&[(1, 0, 8192)]) }, 1),
        // Pieces of no length, or beyond the end of every file.
        (extents(&[(1, 0, 0)]), 1),
        (extents(&[(1, u64::MAX, 2)]), 1),
        (extents(&[(1, 0, u64::MAX)]), 1),
        (extents(&[(u64::MAX, 0, 1), (u64::MAX, 0, 1)]), 1),
        // Other pieces than requested.
        (ChunkAnswer { first: 1, pieces: 9, ..extents(&[(1, 0, 8192)]) }, 1),
        (ChunkAnswer { first: u64::MAX, pieces: u64::MAX, ..extents(&[(1, 0, 8192)]) }, 1),
        (ChunkAnswer { granule: 4097, ..extents(&[(1, 0, 8192)]) }, 1),
    ];
    for (chunk, files) in nonsense {
        let answer = mapped(&chunk, &vec![&sealed; files]);
        assert!(
            matches!(answer, Err(Error::Exchange(_))),
            "{chunk:?} with {files} descriptors: {answer:?}"
        );
    }
    // Pieces that don't reach the chunk's end, and an impossible size.
    let (few, vast) = (
        ChunkAnswer { size: 1 << 20, ..extents(&[(1, 0, 8192)]) },
        ChunkAnswer { size: u64::MAX, ..extents(&[(1, 0, 8192)]) },
    );
    assert!(mapped(&few, &[&sealed]).is_err() && mapped(&vast, &[&sealed]).is_err());
}

#[test]
fn fetching_the_pieces_of_a_faulty_server_terminates() {
    let sealed = file(8192, SealFlags::SHRINK);
    let respond = |connection: BorrowedFd<'_>, message: &Message| {
        let chunk = ChunkAnswer { pieces: u64::MAX, ..extents(&[(1, 0, 4096)]) };
        send(connection, &Message::answer(message.id(), &Answer::Chunk(chunk)), &[sealed.as_fd()])
            .unwrap();
    };
    with_server(&respond, |client| {
        // The second answer has the first piece again.
        assert!(client.alloc("camera", None, 8192, 0).unwrap().share().is_err());
        assert!(client.alloc("camera", None, 8192, 0).unwrap().map().is_err());
    });
}

#[test]
fn unexpected_answers_and_closed_connections_are_errors() {
    let wrong = |connection: BorrowedFd<'_>, message: &Message| {
        send(connection, &Message::answer(message.id(), &Answer::Freed), &[]).unwrap();
    };
    with_server(&wrong, |client| {
        assert!(matches!(client.alloc("camera", None, 1, 0), Err(Error::Exchange(_))));
        assert!(matches!(client.info("camera", None), Err(Error::Exchange(_))));
        assert!(matches!(client.chunks(), Err(Error::Exchange(_))));
    });
    let short = |connection: BorrowedFd<'_>, _: &Message| {
        rustix::net::send(connection, &[0; MESSAGE_BYTES - 1], SendFlags::NOSIGNAL).unwrap();
    };
    with_server(&short, |client| {
        assert!(matches!(client.info("camera", None), Err(Error::Exchange(_))));
    });
    let ends = |connection: BorrowedFd<'_>, _: &Message| {
        rustix::net::shutdown(connection, rustix::net::Shutdown::Both).unwrap();
    };
    let gone = with_server(&ends, |client| client.info("camera", None).unwrap_err());
    assert_eq!(gone.errno(), Errno::NODEV.raw_os_error());
}

#[test]
fn a_text_that_is_not_as_the_server_says_is_an_error() {
    let read = |bytes, files: &[&OwnedFd]| {
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let respond = |connection: BorrowedFd<'_>, message: &Message| {
            let text = Answer::Text(TextAnswer { bytes, is_folder: false });
            send(connection, &Message::answer(message.id(), &text), &files).unwrap();
        };
        with_server(&respond, |client| client.attribute("map"))
    };
    let zeros = file(4, SealFlags::SHRINK);
    assert_eq!(read(4, &[&zeros]).unwrap(), AttributeText::Text("\0\0\0\0".to_string()));
    let not_text = file(4, SealFlags::empty());
    rustix::io::pwrite(&not_text, &[0xff], 0).unwrap();
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    for (bytes, files) in [
        (5, &[&zeros][..]),
        (MAX_ATTRIBUTE_BYTES, &[&zeros]),
        (MAX_ATTRIBUTE_BYTES + 1, &[&zeros]),
        (u64::MAX, &[&zeros]),
        (4, &[]),
        (4, &[&zeros, &zeros]),
        (4, &[&not_text]),
    ] {
        assert!(matches!(read(bytes, files), Err(Error::Exchange(_))), "{bytes} {}", files.len());
    }
    assert!(matches!(read(4, &[&pipe]), Err(Error::System { call: "pread", .. })));
}

#[test]
fn answers_to_other_requests_are_ignored() {
    let sealed = file(8192, SealFlags::SHRINK);
    let respond = |connection: BorrowedFd<'_>, message: &Message| {
        let Ok((id, Request::Alloc { .. })) = message.as_request() else { panic!("{message:?}") };
        // Answers to requests of a process that was killed before they arrived.
        send(connection, &Message::refusal(id ^ 1, 12, "not yours"), &[]).unwrap();
        send(connection, &Message::answer(id ^ 2, &Answer::Freed), &[sealed.as_fd()]).unwrap();
        send(
            connection,
            &Message::answer(id, &Answer::Chunk(extents(&[(1, 0, 8192)]))),
            &[sealed.as_fd()],
        )
        .unwrap();
    };
    with_server(&respond, |client| {
        assert_eq!(client.alloc("camera", None, 8192, 0).unwrap().size(), 8192);
    });
}

#[test]
fn after_a_connection_was_closed_to_make_room_the_request_is_repeated_once() {
    let sealed = file(8192, SealFlags::SHRINK);
    let closes = AtomicUsize::new(1);
    let full = |connection: BorrowedFd<'_>, message: &Message| {
        let has_room =
            closes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err();
        if has_room {
            let chunk = Answer::Chunk(extents(&[(1, 0, 8192)]));
            return send(connection, &Message::answer(message.id(), &chunk), &[sealed.as_fd()])
                .unwrap();
        }
        let closed = Message::refusal(0, Errno::USERS.raw_os_error(), "closed to make room");
        send(connection, &closed, &[]).unwrap();
        rustix::net::shutdown(connection, rustix::net::Shutdown::Both).unwrap();
    };
    with_server(&full, |client| {
        assert_eq!(client.alloc("camera", None, 8192, 0).unwrap().size(), 8192);
        // A server without a free slot refuses the repetition, too.
        closes.store(2, Ordering::SeqCst);
        let refused = client.alloc("camera", None, 8192, 0).unwrap_err();
        assert_eq!(refused.errno(), Errno::USERS.raw_os_error());
        assert_eq!(closes.load(Ordering::SeqCst), 0);
    });
}
