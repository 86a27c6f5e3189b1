//! A program on a pseudo-terminal: what it draws, as a terminal would show it, what is typed, and
//! whether it leaves the terminal as it was.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use portable_pty::{Child, MasterPty, PtySize, SlavePty, native_pty_system};
pub use portable_pty::{CommandBuilder, ExitStatus};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest time that a test waits for something on the screen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs on a terminal of its own. Dropping kills it.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    // Keeps the terminal's settings after the program has ended.
    _slave: Box<dyn SlavePty + Send>,
    shown: Arc<Mutex<vt100::Parser>>,
    /// Has the thread that reads the output close its end of the terminal.
    hung_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal:\n{}", self.text())
    }
}

fn size((columns, rows): (u16, u16)) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Starts `command` on a terminal of this many columns and rows.
    pub fn start(command: CommandBuilder, columns_rows: (u16, u16)) -> Terminal {
        let pair = native_pty_system().openpty(size(columns_rows)).expect("there are terminals");
        let child = pair.slave.spawn_command(command).expect("the program starts");
        let (columns, rows) = columns_rows;
        let shown = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = pair.master.try_clone_reader().expect("the terminal is read");
        let (drawn, hung_up) = (shown.clone(), Arc::new(AtomicBool::new(false)));
        let closes = hung_up.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
                if closes.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let keys = pair.master.take_writer().expect("the terminal is written");
        let reader = Some(reader);
        Terminal { child, master: pair.master, keys, _slave: pair.slave, shown, hung_up, reader }
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The screen, a line for each row.
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// Whether a cell of the screen has a colour of its own.
    pub fn has_colour(&self) -> bool {
        let parser = self.parser();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        (0..rows).any(|row| {
            (0..columns).any(|column| {
                screen.cell(row, column).is_some_and(|cell| {
                    cell.fgcolor() != vt100::Color::Default
                        || cell.bgcolor() != vt100::Color::Default
                })
            })
        })
    }

    /// Whether the program draws on the terminal's second screen, which leaves the first as it was.
    pub fn is_on_second_screen(&self) -> bool {
        self.parser().screen().alternate_screen()
    }

    /// Whether the cursor is hidden.
    pub fn is_cursor_hidden(&self) -> bool {
        self.parser().screen().hide_cursor()
    }

    /// Whether the terminal edits lines and shows what is typed, as a shell expects it.
    pub fn is_cooked(&self) -> bool {
        let path: PathBuf = self.master.tty_name().expect("a terminal has a name");
        let settings = Command::new("stty").arg("-F").arg(path).arg("-a").output();
        let settings = settings.expect("there is stty").stdout;
        let settings = String::from_utf8_lossy(&settings).into_owned();
        let words: Vec<&str> = settings.split([' ', ';', '\n']).collect();
        ["icanon", "echo", "isig", "opost"].iter().all(|flag| words.contains(flag))
    }

    /// Asserts that the terminal is as it was before the program: for it and for who comes later.
    pub fn assert_restored(&self) {
        self.wait_until("the terminal is restored", |terminal| {
            !terminal.is_on_second_screen() && !terminal.is_cursor_hidden() && terminal.is_cooked()
        });
    }

    /// Waits until `holds`; `what` names it in the panic.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Terminal) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not seen: {what}; the screen is\n{}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `text` is on the screen.
    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, |terminal| terminal.text().contains(text));
    }

    /// Types `keys`.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Changes the size.
    pub fn resize(&mut self, columns_rows: (u16, u16)) {
        let (columns, rows) = columns_rows;
        self.parser().screen_mut().set_size(rows, columns);
        self.master.resize(size(columns_rows)).expect("the terminal changes its size");
    }

    /// The program's process number.
    pub fn id(&self) -> u32 {
        self.child.process_id().expect("the program runs")
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id() as i32);
        kill_process(id.expect("it is not 0"), signal).expect("it can be signalled");
    }

    /// Takes the terminal away from the program, as the end of a connection does. The program must
    /// draw when the size changes.
    pub fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::SeqCst);
        self.resize((79, 23));
        self.reader.take().and_then(|reader| reader.join().ok()).expect("it is not hung up yet");
        // Another terminal in place of the one that is closed.
        let pair = native_pty_system().openpty(size((80, 24))).expect("there are terminals");
        self.keys = pair.master.take_writer().expect("the terminal is written");
        self.master = pair.master;
        self._slave = pair.slave;
    }

    /// Waits until the program has ended.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the program is a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; the screen is\n{}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
