//! What the program says on standard error. Saying something never fails and never panics, and no
//! thread of a server waits longer than [`PATIENCE`] for whoever reads it: a log on a full disk, a
//! closed pipe or a stuck terminal costs lines of the log and nothing else.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// As many bytes wait to be written. It takes a burst of some thousand lines.
const MOST_PENDING: usize = 1 << 20;

/// How long a thread waits for room, once: a slow reader gets every line, a stuck one stops nobody.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long the program waits at its end for lines that nobody takes.
const FAREWELL: Duration = Duration::from_secs(1);

/// The queue to standard error of a server; a command writes by itself.
static SERVER: OnceLock<Arc<Queue>> = OnceLock::new();

/// Writes `text` to standard error, or loses it.
pub(crate) fn say(text: &[u8]) {
    match SERVER.get() {
        Some(queue) => queue.push(text),
        // A command may wait for its reader. It has nobody else to serve.
        None => drop(io::stderr().write_all(text)),
    }
}

/// From now on a thread writes what is said, also what a panic has to say.
pub(crate) fn serve() -> io::Result<()> {
    let queue = Arc::new(Queue::default());
    let drained = queue.clone();
    // First, because without the thread nothing that is said would be written.
    thread::Builder::new().name("log".to_string()).spawn(move || drained.drain(io::stderr()))?;
    if SERVER.set(queue).is_ok() {
        panic::set_hook(Box::new(|panicked| say(described(panicked).as_bytes())));
    }
    Ok(())
}

/// Waits until what was said is written, but not for long.
pub(crate) fn finish() {
    if let Some(queue) = SERVER.get() {
        queue.settle(FAREWELL);
    }
}

/// Where `tracing-subscriber` writes each event, in one piece.
#[derive(Debug)]
pub(crate) struct Line;

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        say(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the standard library's own hook prints, with its backtrace if `RUST_BACKTRACE` asks for
/// one.
fn described(panicked: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let mut text = format!("thread '{}' {panicked}\n", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("{backtrace}\n"));
    }
    text
}

/// Text that waits to be written by a thread of its own.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Lines that found no room, or that could not be written, since the last that was.
    lost: u64,
    /// Somebody has waited for room in vain since something was written last.
    is_stuck: bool,
    is_writing: bool,
}

impl Queue {
    fn push(&self, text: &[u8]) {
        let is_full =
            |state: &mut State| state.pending.len() + text.len() > MOST_PENDING && !state.is_stuck;
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, is_full);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.pending.len() + text.len() > MOST_PENDING {
            state.is_stuck = true;
            state.lost += lines(text);
        } else {
            state.pending.extend_from_slice(text);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes to `out` what is pushed, for ever.
    fn drain(&self, mut out: impl Write) {
        loop {
            let waited = self.changed.wait_while(self.state(), |state| state.pending.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let text = std::mem::take(&mut state.pending);
            let lost = std::mem::take(&mut state.lost);
            (state.is_stuck, state.is_writing) = (false, true);
            drop(state);
            self.changed.notify_all();
            let lost = write(&mut out, lost, &text);
            let mut state = self.state();
            state.is_writing = false;
            state.lost += lost;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is left to write, `patience` at most.
    fn settle(&self, patience: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.pending.is_empty();
        drop(self.changed.wait_timeout_while(self.state(), patience, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that `lost` lines are missing, if any are, and writes `text`. Answers how many lines are
/// missing that `out` was not told of.
fn write(out: &mut impl Write, lost: u64, text: &[u8]) -> u64 {
    if lost > 0 {
        let said = format!("{lost} lines of this log could not be written\n");
        if out.write_all(said.as_bytes()).is_err() {
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

    /// Takes each text when it is told to, and answers it as it is told.
    struct Told {
        next: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for Told {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.next.recv().expect("the test tells")?;
            let _ = self.written.send(String::from_utf8_lossy(text).into_owned());
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (Arc<Queue>, Sender<io::Result<()>>, Receiver<String>) {
        let queue = Arc::new(Queue::default());
        let ((tell, next), (written, read)) = (channel(), channel());
        let drained = queue.clone();
        thread::spawn(move || drained.drain(Told { next, written }));
        (queue, tell, read)
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_stops_nobody() {
        let (queue, tell, read) = started();
        queue.push(b"first\n");
        let long = [vec![b'x'; MOST_PENDING / 4], vec![b'\n']].concat();
        for _ in 0..100 {
            queue.push(&long);
        }
        assert!(queue.state().pending.len() <= MOST_PENDING);
        let lost = queue.state().lost;
        assert!(lost > 0);
        while read.try_recv().is_err() {
            tell.send(Ok(())).expect("it writes");
        }
        queue.push(b"last\n");
        let said = format!("{lost} lines of this log could not be written");
        let mut rest = String::new();
        while !rest.ends_with("last\n") {
            tell.send(Ok(())).expect("it writes");
            rest.extend(read.try_iter());
        }
        assert!(rest.contains(&said), "{said}");
    }

    /// All lines of a piece of which the disk took a part were counted, and lines that the log was
    /// told of before were counted again.
    #[test]
    fn only_lines_that_the_disk_did_not_take_are_counted_and_only_once() {
        /// Takes as many bytes.
        struct Room(usize);

        impl Write for Room {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                let count = text.len().min(self.0);
                self.0 -= count;
                if count > 0 { Ok(count) } else { Err(io::ErrorKind::StorageFull.into()) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let said = "7 lines of this log could not be written\n".len();
        let text = b"one\ntwo\nthree\n";
        assert_eq!(write(&mut Room(usize::MAX), 7, text), 0);
        assert_eq!(write(&mut Room("one\ntw".len()), 0, text), 2);
        assert_eq!(write(&mut Room(said + "one\n".len()), 7, text), 2);
        assert_eq!(write(&mut Room(said), 7, text), 3);
        assert_eq!(write(&mut Room(said - 1), 7, text), 10);
    }

    #[test]
    fn lines_that_the_disk_refused_are_counted_when_it_takes_some_again() {
        let (queue, tell, read) = started();
        for _ in 0..3 {
            queue.push(b"one\n");
            tell.send(Err(io::ErrorKind::StorageFull.into())).expect("it writes");
            queue.settle(Duration::from_secs(60));
        }
        queue.push(b"two\n");
        let mut said = String::new();
        while !said.ends_with("two\n") {
            tell.send(Ok(())).expect("it writes");
            said.extend(read.try_iter());
        }
        assert_eq!(said, "3 lines of this log could not be written\ntwo\n");
    }
}
