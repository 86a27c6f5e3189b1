//! Standard error: messages and the log of a server. Writing never fails and never panics, and no
//! thread of a server waits longer than [`MAX_WAIT`] for a reader: a log on a full disk, a closed
//! pipe or a stuck terminal costs lines of the log and nothing else.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that are queued: a burst of some thousand lines.
const MAX_PENDING: usize = 1 << 20;

/// The longest wait of a thread for space in a full queue: a slow reader gets every line, and a
/// stuck one delays each thread once.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// The longest wait of the program at its end for queued lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A server's queue to standard error; a command writes directly.
static SERVER_QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// How urgent a line is, as [syslog numbers it](https://man7.org/linux/man-pages/man3/syslog.3.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Information = 6,
    Debug = 7,
}

/// Whether standard error is a stream of journald, which reads the priority of each line from its
/// start (sd-daemon(3)).
pub(crate) fn is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
        // The variable is inherited also where standard error is something else.
        fs::metadata("/proc/self/fd/2")
            .is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
    })
}

/// Writes `text` to standard error, or loses it. For journald each line begins with its priority.
pub(crate) fn write(priority: Priority, text: &[u8]) {
    if !is_journal() {
        return write_plain(text);
    }
    write_plain(&with_priority(priority, text));
}

/// `text` with `<4>` before each line that is not empty.
fn with_priority(priority: Priority, text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 16);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if !line.trim_ascii().is_empty() {
            lines.extend_from_slice(format!("<{}>", priority as u8).as_bytes());
            lines.extend_from_slice(line);
        }
    }
    lines
}

fn write_plain(text: &[u8]) {
    match SERVER_QUEUE.get() {
        Some(queue) => queue.push(text),
        // A command may wait for its reader: it serves no clients.
        None => drop(io::stderr().write_all(text)),
    }
}

/// Starts the thread that writes for a server from now on, panic messages included.
pub(crate) fn start_writer() -> io::Result<()> {
    let queue = Arc::new(Queue::default());
    let drained = queue.clone();
    // Before the queue is used: without the thread it would never be written.
    thread::Builder::new().name("log".to_string()).spawn(move || drained.drain(io::stderr()))?;
    if SERVER_QUEUE.set(queue).is_ok() {
        panic::set_hook(Box::new(|info| write(Priority::Error, panic_message(info).as_bytes())));
    }
    Ok(())
}

/// Waits until the queue is written, [`FLUSH_TIMEOUT`] at most.
pub(crate) fn flush() {
    if let Some(queue) = SERVER_QUEUE.get() {
        queue.wait_until_written(FLUSH_TIMEOUT);
    }
}

/// The writer for `tracing-subscriber`, which writes each event in one piece.
#[derive(Debug)]
pub(crate) struct EventWriter(Priority);

impl Write for EventWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        write(self.0, text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the writer of each event, by its level.
#[derive(Debug)]
pub(crate) struct EventWriters;

impl MakeWriter<'_> for EventWriters {
    type Writer = EventWriter;

    fn make_writer(&self) -> EventWriter {
        EventWriter(Priority::Information)
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> EventWriter {
        EventWriter(match *event.level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Information,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        })
    }
}

/// The text that the standard library's own hook prints, with a backtrace if `RUST_BACKTRACE`
/// requests one.
fn panic_message(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let mut text = format!("thread '{}' {info}\n", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("{backtrace}\n"));
    }
    text
}

/// Text that is written by a thread of its own.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Lines that found the queue full, or that could not be written, and are not reported yet.
    lost: u64,
    /// A thread waited for space in vain, and nothing was written since.
    is_stuck: bool,
    is_writing: bool,
}

impl Queue {
    fn push(&self, text: &[u8]) {
        let is_full =
            |state: &mut State| state.pending.len() + text.len() > MAX_PENDING && !state.is_stuck;
        let waited = self.changed.wait_timeout_while(self.state(), MAX_WAIT, is_full);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.pending.len() + text.len() > MAX_PENDING {
            state.is_stuck = true;
            state.lost += lines(text);
        } else {
            state.pending.extend_from_slice(text);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes the queue to `out`, forever.
    fn drain(&self, mut out: impl Write) {
        loop {
            let waited = self.changed.wait_while(self.state(), |state| state.pending.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let text = std::mem::take(&mut state.pending);
            let lost = std::mem::take(&mut state.lost);
            (state.is_stuck, state.is_writing) = (false, true);
            drop(state);
            self.changed.notify_all();
            let lost = write_counting(&mut out, lost, &text);
            let mut state = self.state();
            state.is_writing = false;
            state.lost += lost;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until the queue is empty and written, `timeout` at most.
    fn wait_until_written(&self, timeout: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.pending.is_empty();
        drop(self.changed.wait_timeout_while(self.state(), timeout, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes `text`, after a line that reports the `lost` lines before it, if any. Returns the lost
/// lines that are not reported in `out`.
fn write_counting(out: &mut impl Write, lost: u64, text: &[u8]) -> u64 {
    if lost > 0 {
        let report = format!("{lost} lines of this log could not be written\n");
        if out.write_all(report.as_bytes()).is_err() {
            return lost + lines(text);
        }
    }
    let mut left = text;
    while !left.is_empty() {
        match out.write(left) {
            Ok(0) => break,
            Ok(count) => left = &left[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines(left)
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A writer whose calls return when the test sends their result.
    struct ControlledWriter {
        results: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for ControlledWriter {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.results.recv().expect("the test sends results")?;
            let _ = self.written.send(String::from_utf8_lossy(text).into_owned());
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (Arc<Queue>, Sender<io::Result<()>>, Receiver<String>) {
        let queue = Arc::new(Queue::default());
        let ((result, results), (written, read)) = (channel(), channel());
        let drained = queue.clone();
        thread::spawn(move || drained.drain(ControlledWriter { results, written }));
        (queue, result, read)
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_blocks_no_thread() {
        let (queue, result, read) = started();
        queue.push(b"first\n");
        let long = [vec![b'x'; MAX_PENDING / 4], vec![b'\n']].concat();
        for _ in 0..100 {
            queue.push(&long);
        }
        assert!(queue.state().pending.len() <= MAX_PENDING);
        let lost = queue.state().lost;
        assert!(lost > 0);
        while read.try_recv().is_err() {
            result.send(Ok(())).expect("it writes");
        }
        queue.push(b"last\n");
        let report = format!("{lost} lines of this log could not be written");
        let mut rest = String::new();
        while !rest.ends_with("last\n") {
            result.send(Ok(())).expect("it writes");
            rest.extend(read.try_iter());
        }
        assert!(rest.contains(&report), "{report}");
    }

    /// A partial write loses only the lines after it, and reported losses are not counted again.
    #[test]
    fn lost_lines_are_counted_exactly_once() {
        /// A disk with space for that many bytes.
        struct Disk(usize);

        impl Write for Disk {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                let count = text.len().min(self.0);
                self.0 -= count;
                if count > 0 { Ok(count) } else { Err(io::ErrorKind::StorageFull.into()) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let report = "7 lines of this log could not be written\n".len();
        let text = b"one\ntwo\nthree\n";
        assert_eq!(write_counting(&mut Disk(usize::MAX), 7, text), 0);
        assert_eq!(write_counting(&mut Disk("one\ntw".len()), 0, text), 2);
        assert_eq!(write_counting(&mut Disk(report + "one\n".len()), 7, text), 2);
        assert_eq!(write_counting(&mut Disk(report), 7, text), 3);
        assert_eq!(write_counting(&mut Disk(report - 1), 7, text), 10);
    }

    #[test]
    fn lines_lost_to_a_full_disk_are_reported_when_writing_succeeds_again() {
        let (queue, result, read) = started();
        for _ in 0..3 {
            queue.push(b"one\n");
            result.send(Err(io::ErrorKind::StorageFull.into())).expect("it writes");
            queue.wait_until_written(Duration::from_secs(60));
        }
        queue.push(b"two\n");
        let mut log = String::new();
        while !log.ends_with("two\n") {
            result.send(Ok(())).expect("it writes");
            log.extend(read.try_iter());
        }
        assert_eq!(log, "3 lines of this log could not be written\ntwo\n");
    }
}
