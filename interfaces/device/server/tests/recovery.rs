//! A server that dies is continued by the next one, and its clients notice a delay.

#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod common;
mod lasting;

use cma_device_protocol::{
    Answer, ChunkAnswer, ChunkRequest, Extent, Message, RegionSelector, Request, wire,
};
use cma_keeper::{Keeper, Name};
use common::{MIB, RawConnection, alloc, eventually};
use lasting::{Kept, Options, has_message_within, serve_if_started};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{pread, pwrite};
use rustix::process::geteuid;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

#[test]
#[ignore = "the server; other tests start it"]
fn server_process() {
    serve_if_started();
}

/// An answer as a client acts on it, and its descriptors.
struct Got {
    text: String,
    files: Vec<OwnedFd>,
}

/// The server is started again whenever it dies, until the answer of that id has come. Answers to
/// earlier requests are ignored, as PROTOCOL.md tells clients.
fn answer(kept: &mut Kept, connection: &RawConnection, id: u64) -> Got {
    loop {
        while !has_message_within(connection, Duration::from_millis(2)) {
            kept.start_if_dead();
        }
        let (message, files) = connection.receive_with_descriptors().unwrap();
        if message.id() != id {
            assert!(message.id() < id && message.id() > 0, "{:?}", message.as_answer());
            continue;
        }
        let (_, answer) = message.as_answer().unwrap();
        let text = match answer {
            Answer::Chunk(chunk) => {
                assert_eq!(chunk.extents.iter().map(|e| e.count).sum::<u64>(), files.len() as u64);
                format!("{:#x}+{:#x}", chunk.start, chunk.size)
            }
            Answer::Refused { errno, .. } => format!("errno {errno}"),
            Answer::Text(text) => {
                let mut bytes = vec![0; text.bytes as usize];
                assert_eq!(pread(&files[0], &mut bytes, 0).unwrap(), bytes.len());
                String::from_utf8(bytes).unwrap()
            }
            Answer::Listed(chunks, _) => {
                let left = |left| if left { " left" } else { "" };
                let texts = chunks.iter().map(|chunk| {
                    format!("{:#x}+{:#x}{}", chunk.start, chunk.size, left(chunk.left_behind))
                });
                // Two that waited get their chunks at the same time, so either is listed first.
                let mut texts: Vec<_> = texts.collect();
                texts.sort();
                texts.join(" ")
            }
            other => format!("{other:?}"),
        };
        return Got { text, files: files.into_iter().collect() };
    }
}

fn ask(kept: &mut Kept, connection: &RawConnection, id: u64, request: &Request<'_>) -> Got {
    connection.send(id, request);
    answer(kept, connection, id)
}

fn waits(size: u64) -> Request<'static> {
    let from = RegionSelector::Device { device: "camera", kind: "" };
    let chunk = ChunkRequest::new(size).wait(Duration::from_secs(50));
    Request::Alloc { from, chunk, memory: true }
}

fn write(got: &Got, text: &[u8]) {
    assert_eq!(pwrite(&got.files[0], text, 0).unwrap(), text.len());
}

fn read(files: &[OwnedFd]) -> Vec<u8> {
    let mut text = [0; 5];
    pread(&files[0], &mut text, 0).unwrap();
    text.to_vec()
}

/// Asks until that many requests wait. Returns the next id.
fn until_waiters(kept: &mut Kept, reader: &RawConnection, mut id: u64, count: usize) -> u64 {
    let path = Request::Attribute { path: "regions/ram/waiters" };
    while ask(kept, reader, id, &path).text.lines().count() < count {
        id += 1;
    }
    id + 1
}

/// Everything that a server does for clients, and what each of them gets.
fn scenario(kept: &mut Kept) -> Vec<String> {
    let mut log = Vec::new();
    let mut note = |what: &str, got: &Got| log.push(format!("{what}: {}", got.text));
    let [first, file, reader, full, early, late] = [(); 6].map(|()| kept.connection());

    let chunk = ask(kept, &first, 1, &alloc("camera", MIB));
    note("a chunk", &chunk);
    write(&chunk, b"first");
    note("no second one", &ask(kept, &first, 2, &alloc("camera", MIB)));
    note("held", &ask(kept, &first, 3, &Request::Free));
    drop(chunk);
    note("freed", &ask(kept, &first, 4, &Request::Free));
    note("nothing to free", &ask(kept, &first, 5, &Request::Free));
    let chunk = ask(kept, &first, 6, &alloc("camera", 2 * MIB));
    note("another chunk", &chunk);
    assert_eq!(read(&chunk.files), [0; 5], "zeroed");
    write(&chunk, b"again");

    let from = RegionSelector::Device { device: "camera", kind: "" };
    let of_file = Request::AllocFile { file: 77, from, size: MIB, alignment: 0 };
    note("a file", &ask(kept, &file, 1, &of_file));
    let query = Request::ChunkOfFile { file: 77, first: 0 };
    let found = ask(kept, &reader, 1, &query);
    note("its chunk", &found);
    write(&found, b"files");

    note("the rest", &ask(kept, &full, 1, &alloc("camera", 13 * MIB)));
    early.send(1, &waits(4 * MIB));
    let mut id = until_waiters(kept, &reader, 2, 1);
    late.send(1, &waits(5 * MIB));
    id = until_waiters(kept, &reader, id, 2);
    assert!(!has_message_within(&early, Duration::from_millis(1)));
    // The chunk ends with its connection.
    drop(full);
    let chunk_of_early = answer(kept, &early, 1);
    note("first in turn", &chunk_of_early);
    write(&chunk_of_early, b"early");
    let chunk_of_late = answer(kept, &late, 1);
    note("second in turn", &chunk_of_late);
    write(&chunk_of_late, b"late.");

    // Its memory outlives the connection.
    drop(early);
    while !ask(kept, &reader, id, &Request::List { after: 0 }).text.contains(" left") {
        id += 1;
    }
    note("all", &ask(kept, &reader, id + 1, &Request::List { after: 0 }));
    assert_eq!(read(&chunk_of_early.files), b"early");
    assert_eq!(read(&chunk.files), b"again");
    let found = ask(kept, &reader, id + 2, &Request::ChunkOfFile { file: 77, first: 0 });
    assert_eq!(read(&found.files), b"files");
    let found = ask(kept, &first, 7, &Request::Chunk { first: 0 });
    assert_eq!(read(&found.files), b"again");
    note("still the same", &found);
    let found = ask(kept, &late, 2, &Request::Chunk { first: 0 });
    assert_eq!(read(&found.files), b"late.");
    log
}

/// After the scenario everything ends: all memory is free, and the keeper has nothing of a client.
fn end_of_scenario(kept: &mut Kept) {
    let probe = kept.connection();
    let whole = format!("{:#x}+{:#x}", common::BASE, 16 * MIB);
    let mut id = 1;
    while ask(kept, &probe, id, &alloc("camera", 16 * MIB)).text != whole {
        id += 1;
    }
    drop(probe);
    eventually("the last connection has ended", || {
        kept.start_if_dead();
        let reader = kept.connection();
        let from = RegionSelector::Device { device: "camera", kind: "" };
        ask(kept, &reader, 1, &Request::Info(from)).text.contains("free_bytes: 16777216")
    });
    kept.hand_over();
    let names = kept.names();
    let of_clients = names.iter().filter(|name| !name.starts_with("connection-"));
    assert_eq!(of_clients.collect::<Vec<_>>(), ["journal-1", "listener"]);
}

#[test]
fn a_server_that_dies_at_any_step_is_continued_and_each_request_is_carried_out_once() {
    let mut kept = Kept::started(Options::default());
    let expected = scenario(&mut kept);
    end_of_scenario(&mut kept);
    let steps = kept.steps();
    assert!(steps > 40, "{steps}");
    drop(kept);
    for dies_at in 1..=steps {
        let mut kept = Kept::new(Options { dies_at, ..Options::default() });
        kept.start();
        kept.start_if_dead();
        assert_eq!(scenario(&mut kept), expected, "the server died at step {dies_at}");
        end_of_scenario(&mut kept);
        // The request for all memory is repeated until it is free, and each refusal has its steps,
        // so some runs have fewer than the first one.
        assert!(kept.deaths == 1 || kept.steps() < dies_at, "step {dies_at}");
    }
}

/// The lines of an attribute.
fn lines(kept: &mut Kept, path: &str) -> Vec<String> {
    let connection = kept.connection();
    let text = ask(kept, &connection, 1, &Request::Attribute { path }).text;
    text.lines().map(String::from).collect()
}

/// Without the number before the last three words of a line, which is an age in seconds, and that
/// number.
fn without_age(line: &str) -> (String, u64) {
    let mut words: Vec<_> = line.split(' ').collect();
    let at = words.len() - 4;
    let age = words.remove(at);
    (words.join(" "), age.split('.').next().unwrap().parse().unwrap())
}

#[test]
fn owners_and_waiters_keep_their_names_their_order_and_their_ages() {
    let mut kept = Kept::started(Options { regions: "ram=4M".into(), ..Options::default() });
    let connections = [(); 4].map(|()| kept.connection());
    let [one, two, three, four] = &connections;
    let limited = Request::Alloc {
        from: RegionSelector::Device { device: "camera", kind: "frame" },
        chunk: ChunkRequest::new(MIB).aligned(2 * MIB).below(1 << 33).boundary(64 * MIB),
        memory: true,
    };
    let named = Request::Alloc {
        from: RegionSelector::Regions("ram"),
        chunk: ChunkRequest::new(2 * MIB),
        memory: false,
    };
    let first = ask(&mut kept, one, 1, &limited);
    ask(&mut kept, two, 1, &named);
    three.send(1, &waits(3 * MIB));
    eventually("one waits", || lines(&mut kept, "regions/ram/waiters").len() == 1);
    four.send(1, &waits(2 * MIB));
    eventually("both wait", || lines(&mut kept, "regions/ram/waiters").len() == 2);
    // Ages have seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let of = |lines: Vec<String>| lines.iter().map(|line| without_age(line)).unzip();
    let before: [(Vec<String>, Vec<u64>); 2] =
        ["owners", "waiters"].map(|name| of(lines(&mut kept, &format!("regions/ram/{name}"))));
    assert!(before[0].0[0].contains("camera") && before[0].1[0] >= 1, "{before:?}");
    for _ in 0..3 {
        kept.kill_and_start();
    }
    for ((texts, ages), name) in before.into_iter().zip(["owners", "waiters"]) {
        let (texts_now, ages_now): (Vec<_>, Vec<_>) =
            of(lines(&mut kept, &format!("regions/ram/{name}")));
        assert_eq!(texts_now, texts);
        assert!(ages_now.iter().zip(&ages).all(|(now, then)| now >= then), "{ages_now:?} {ages:?}");
    }
    drop(first);
}

#[test]
fn a_request_that_waits_ends_at_its_time_also_if_no_server_ran_then() {
    let mut kept = Kept::started(Options { regions: "ram=1M".into(), ..Options::default() });
    let [full, late] = [(); 2].map(|()| kept.connection());
    ask(&mut kept, &full, 1, &alloc("camera", MIB));
    let from = RegionSelector::Device { device: "camera", kind: "" };
    let wait = Duration::from_millis(300);
    let chunk = ChunkRequest::new(MIB).wait(wait);
    late.send(1, &Request::Alloc { from, chunk, memory: true });
    eventually("it waits", || lines(&mut kept, "regions/ram/waiters").len() == 1);
    kept.kill();
    std::thread::sleep(wait);
    kept.start();
    assert_eq!(answer(&mut kept, &late, 1).text, "errno 110");
    assert_eq!(ask(&mut kept, &late, 2, &Request::Free).text, "errno 77");
}

#[test]
fn an_answer_that_was_sent_and_read_before_the_death_changes_nothing_when_it_comes_again() {
    for answer_is_read in [true, false] {
        // Behind the change that records the chunk, before the answer is sent.
        let dies_at = steps_of_first_chunk();
        let mut kept = Kept::new(Options { dies_at, ..Options::default() });
        kept.start();
        let connection = kept.connection();
        connection.send(1, &alloc("camera", MIB));
        eventually("the server has died", || kept.has_ended());
        kept.wait();
        kept.options.dies_at = 0;
        // The rest of the step, as the server would have done it.
        let sent = kept.as_server(|keeper| {
            let taken = Keeper::take(keeper).unwrap();
            let of = |kind: &str| {
                taken.iter().find(|(name, _)| name.as_str().starts_with(kind)).unwrap().1.as_fd()
            };
            let answer = ChunkAnswer {
                start: common::BASE,
                size: MIB,
                granule: 4096,
                pieces: 1,
                first: 0,
                extents: [Extent { count: 1, offset: 0, len: MIB }].into_iter().collect(),
            };
            let message = Message::answer(1, &Answer::Chunk(answer));
            let path = format!("/proc/self/fd/{}", of("chunk-").as_raw_fd());
            let file = File::options().read(true).write(true).open(path).unwrap();
            wire::send(of("connection-"), &message, &[file.as_fd()]).unwrap();
            message
        });
        let mut got = None;
        if answer_is_read {
            got = Some(answer(&mut kept, &connection, 1));
        } else {
            eventually("a server finds the answer unread", || {
                kept.start();
                lines(&mut kept, "map");
                kept.hand_over();
                kept.as_server(|keeper| {
                    let taken = Keeper::take(keeper).unwrap();
                    let of_client = |(name, _): &&(Name, OwnedFd)| name.as_str() == "connection-1";
                    let (_, socket) = taken.iter().find(of_client).unwrap();
                    wire::peek(socket.as_fd()).is_err()
                })
            });
        }
        kept.start();
        assert_eq!(kept.error(), None);
        let got = got.unwrap_or_else(|| answer(&mut kept, &connection, 1));
        write(&got, b"bytes");
        if answer_is_read {
            eventually("the answer comes again", || connection.has_message());
        } else {
            // It is sent no second time.
            assert!(!connection.has_message());
        }
        let chunk = ask(&mut kept, &connection, 2, &Request::Chunk { first: 0 });
        assert_eq!(chunk.text, got.text);
        assert_eq!(read(&chunk.files), b"bytes");
        drop((chunk, got));
        assert_eq!(ask(&mut kept, &connection, 3, &Request::Free).text, "Freed");
        assert_eq!(sent.id(), 1);
    }
}

/// The step behind which the first chunk is recorded, as the last of its change.
fn steps_of_first_chunk() -> usize {
    let mut kept = Kept::started(Options::default());
    eventually("the first steps are counted", || kept.steps() > 0);
    let before = kept.steps();
    let connection = kept.connection();
    let chunk = ask(&mut kept, &connection, 1, &alloc("camera", MIB));
    eventually("the steps are counted", || kept.steps() >= before + 4);
    assert_eq!(kept.steps(), before + 4, "its file, and its records");
    drop(chunk);
    before + 4
}

#[test]
fn a_server_that_hands_over_tells_nobody_and_one_that_ends_leaves_nothing() {
    let mut kept = Kept::started(Options { regions: "ram=1M".into(), ..Options::default() });
    let [holder, waiter] = [(); 2].map(|()| kept.connection());
    let chunk = ask(&mut kept, &holder, 1, &alloc("camera", MIB));
    write(&chunk, b"bytes");
    waiter.send(1, &waits(MIB));
    eventually("it waits", || lines(&mut kept, "regions/ram/waiters").len() == 1);
    for _ in 0..2 {
        kept.hand_over();
        assert!(kept.path().exists());
        assert!(!holder.is_closed() && !waiter.is_closed() && !waiter.has_message());
        kept.start();
        assert_eq!(kept.error(), None);
    }
    assert_eq!(read(&ask(&mut kept, &holder, 2, &Request::Chunk { first: 0 }).files), b"bytes");
    kept.end();
    assert_eq!(answer(&mut kept, &waiter, 1).text, "errno 108");
    assert!(waiter.is_closed() && holder.is_closed());
    assert_eq!(kept.names(), Vec::<String>::new());
    assert!(!kept.path().exists());
    kept.start();
    assert_eq!(kept.error(), None);
    let connection = kept.connection();
    let other = ask(&mut kept, &connection, 1, &alloc("camera", MIB));
    assert_eq!((read(&other.files), read(&chunk.files)), (vec![0; 5], b"bytes".to_vec()));
}

#[test]
fn the_socket_has_the_permissions_of_the_server_that_runs_and_is_made_anew_if_it_is_gone() {
    let mut kept = Kept::started(Options::default());
    let first = kept.connection();
    let got = ask(&mut kept, &first, 1, &alloc("camera", MIB));
    write(&got, b"first");
    let found = |kept: &Kept| {
        let file = fs::metadata(kept.path()).unwrap();
        (file.mode() & 0o777, file.gid())
    };
    let own = found(&kept).1;
    kept.options.mode = 0o600;
    kept.kill_and_start();
    assert_eq!(found(&kept), (0o600, own));
    if geteuid().is_root() {
        kept.options.group = Some(own + 1);
        kept.kill_and_start();
        assert_eq!(found(&kept), (0o600, own + 1));
        kept.options.group = None;
        kept.kill_and_start();
        assert_eq!(found(&kept), (0o600, own));
    } else {
        println!("the group is not tested: only root can give files to other groups");
    }
    kept.hand_over();
    fs::remove_file(kept.path()).unwrap();
    kept.start();
    assert_eq!(kept.error(), None);
    let second = kept.connection();
    assert_eq!(ask(&mut kept, &second, 1, &alloc("camera", 16 * MIB)).text, "errno 12");
    assert_eq!(read(&ask(&mut kept, &first, 2, &Request::Chunk { first: 0 }).files), b"first");
    kept.end();
    assert!(!kept.path().exists());
}

#[test]
fn a_server_whose_keeper_does_not_accept_connections_is_continued_too() {
    let options = Options { keeper_accepts: false, ..Options::default() };
    let mut kept = Kept::started(options);
    let expected = scenario(&mut kept);
    end_of_scenario(&mut kept);
    drop(kept);
    // Where a connection isn't stored yet, its client connects anew: these steps are left out.
    let mut kept = Kept::started(Options { keeper_accepts: false, ..Options::default() });
    let connection = kept.connection();
    let got = ask(&mut kept, &connection, 1, &alloc("camera", MIB));
    write(&got, b"first");
    for id in [2, 4, 6] {
        kept.kill_and_start();
        let chunk = ask(&mut kept, &connection, id, &Request::Chunk { first: 0 });
        assert_eq!(read(&chunk.files), b"first");
        connection.send(id + 1, &Request::Chunk { first: 0 });
        assert_eq!(answer(&mut kept, &connection, id + 1).text, got.text);
    }
    drop((got, connection));
    assert_eq!(scenario(&mut kept), expected);
    end_of_scenario(&mut kept);
}

#[test]
fn without_an_allocator_chunks_are_freed_and_none_is_allocated() {
    let mut kept = Kept::started(Options::default());
    let [first, second] = [(); 2].map(|()| kept.connection());
    let chunk = ask(&mut kept, &first, 1, &alloc("camera", MIB));
    write(&chunk, b"first");
    kept.options.without_allocator = true;
    kept.kill_and_start();
    assert_eq!(ask(&mut kept, &second, 1, &alloc("camera", MIB)).text, "errno 12");
    let again = ask(&mut kept, &first, 2, &Request::Chunk { first: 0 });
    assert_eq!((&*again.text, read(&again.files)), (&*chunk.text, b"first".to_vec()));
    kept.options.without_allocator = false;
    kept.kill_and_start();
    let other = ask(&mut kept, &second, 2, &alloc("camera", MIB));
    assert_ne!(other.text, chunk.text);
    kept.options.without_allocator = true;
    kept.kill_and_start();
    drop((again, chunk));
    assert_eq!(ask(&mut kept, &first, 3, &Request::Free).text, "Freed");
}

#[test]
fn what_was_written_to_attributes_is_in_force_again_unless_the_host_has_replaced_it() {
    let regions = "ram=2M;video=2M".to_string();
    let mut kept = Kept::started(Options { regions, ..Options::default() });
    let connection = kept.connection();
    let chunk = ask(&mut kept, &connection, 1, &alloc("camera", MIB));
    kept.write("map", "camera=video;*=ram");
    kept.write("map", "camera=video");
    kept.write("regions/ram/alloc", "best-fit");
    for _ in 0..2 {
        kept.kill_and_start();
        assert_eq!(lines(&mut kept, "map"), ["camera=video"]);
        let alloc_text = lines(&mut kept, "regions/ram/alloc");
        assert_eq!(alloc_text, ["best-fit"], "the choice, attached");
    }
    let other = kept.connection();
    let in_video = ask(&mut kept, &other, 1, &alloc("camera", MIB));
    assert_ne!(in_video.text, chunk.text);
    kept.write("forget", "map");
    kept.kill_and_start();
    assert_eq!(lines(&mut kept, "map"), ["*=ram"]);
    assert_eq!(lines(&mut kept, "regions/ram/alloc"), ["best-fit"]);
}

#[test]
fn the_journal_grows_with_the_limits_whenever_the_server_dies_meanwhile() {
    let limits = "connections=4".to_string();
    let mut deaths = 0;
    for dies_after in 0..8 {
        let mut kept = Kept::started(Options { limits: limits.clone(), ..Options::default() });
        let connection = kept.connection();
        let chunk = ask(&mut kept, &connection, 1, &alloc("camera", MIB));
        write(&chunk, b"first");
        kept.kill_and_start();
        eventually("the steps of a start are counted", || kept.steps() > 0);
        let steps = kept.steps();
        kept.kill();
        let small = kept.journal_bytes();
        kept.options.dies_at = if dies_after == 0 { 0 } else { steps + dies_after };
        kept.start();
        // As a host has them from its configuration at a restart.
        kept.options.limits = "connections=300".to_string();
        kept.write("limits", "connections=300");
        deaths += kept.deaths;
        let again = ask(&mut kept, &connection, 2, &Request::Chunk { first: 0 });
        assert_eq!((&*again.text, read(&again.files)), (&*chunk.text, b"first".to_vec()));
        kept.kill();
        let journals = kept.names().into_iter().filter(|name| name.starts_with("journal-"));
        assert_eq!(journals.count(), 1);
        assert!(kept.journal_bytes() >= small + 3 * 296 * 640);
        kept.start();
        assert_eq!(kept.error(), None);
        drop((again, chunk));
        assert_eq!(ask(&mut kept, &connection, 3, &Request::Free).text, "Freed");
    }
    assert_eq!(
        deaths, 5,
        "the first words of the new journal, two steps to store it, and two to remove the old one"
    );
}
