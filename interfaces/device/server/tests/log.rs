//! The log events of refusals, and of chunks in several files.

mod common;

use common::{MIB, PiecewiseMemory, TestServer, alloc, framework, with_memory};
use std::fmt::Write;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records the events at the level `INFO` and above.
struct LogCapture;

struct EventText(String);

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for LogCapture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = EventText(String::new());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn every_refusal_is_logged_with_its_client_and_at_a_limited_rate() {
    let _ = tracing::subscriber::set_global_default(LogCapture);
    let server = TestServer::with_config(
        with_memory(),
        "user-bytes=1M,user-connections=2",
        "secret=uid:4000000000;*=*",
    );
    let connection = server.connection();
    for device in ["secret", "camera", "camera"] {
        connection.send(1, &alloc(device, if device == "secret" { 4096 } else { 2 * MIB }));
        connection.refusal();
    }
    connection.send(1, &alloc("camera", 65 * MIB));
    connection.refusal();
    connection.send_bytes(b"nonsense");
    assert!(connection.is_closed_after_messages());
    let refused = || {
        let lines = LINES.lock().unwrap();
        lines.iter().filter(|line| line.contains("message=refused")).cloned().collect::<Vec<_>>()
    };
    let process = std::fs::read_to_string("/proc/self/comm").unwrap();
    let who = format!(
        "uid={} pid={} process={:?}",
        rustix::process::geteuid().as_raw(),
        std::process::id(),
        process.trim_end()
    );
    let lines = refused();
    assert!(lines.iter().all(|line| line.contains(&who)), "{lines:?} without {who}");
    for reason in
        ["have memory of secret", "2M more are too much", "too small", "a message has 512 bytes"]
    {
        assert!(lines.iter().any(|line| line.contains(reason)), "{lines:?} without {reason}");
    }
    let connection = server.connection();
    for _ in 0..200 {
        connection.send(1, &alloc("secret", 4096));
        connection.refusal();
    }
    assert_eq!(refused().len(), 10);
}

#[test]
fn a_chunk_in_several_files_is_logged_with_its_client_and_one_in_one_file_is_not() {
    let _ = tracing::subscriber::set_global_default(LogCapture);
    let server = TestServer::start(framework("ram=1M", "*=ram", &mut PiecewiseMemory::new()));
    let client = server.client();
    let pieces = client.alloc("camera", None, 3 << 16, 0).unwrap();
    let one = client.alloc("camera", None, 1 << 16, 0).unwrap();
    let in_files = |start: u64| {
        let lines = LINES.lock().unwrap();
        let start = format!("start={start:#x} ");
        lines.iter().filter(|line| line.contains(&start)).cloned().collect::<Vec<_>>()
    };
    let (pieces, one) = (in_files(pieces.start()), in_files(one.start()));
    assert!(pieces.len() == 1 && one.is_empty(), "{pieces:?} {one:?}");
    let who = format!("pid={} ", std::process::id());
    let why = "the chunk's memory is in several files";
    assert!(
        pieces[0].contains(&who) && pieces[0].contains("pieces=3 ") && pieces[0].contains(why),
        "{}",
        pieces[0]
    );
}
