//! The terminal: taken for the screen, and restored however the screen ends.

use crate::Error;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, IsTerminal, Stdout, stdout};
use std::panic;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

/// The most panics of other threads that are kept.
const MOST_PANICS: usize = 8;

/// The screen of this process.
static SCREEN: Mutex<Shown> = Mutex::new(Shown { by: None, panics: Vec::new() });

#[derive(Debug)]
struct Shown {
    /// The thread that draws, while the terminal is taken.
    by: Option<ThreadId>,
    panics: Vec<String>,
}

/// The terminal while the screen is shown. Dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal.
    pub(crate) fn enter() -> Result<Screen, Error> {
        let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        if is_dumb || !stdout().is_terminal() {
            return Err(Error::NoTerminal);
        }
        report_panics();
        take()?;
        Ok(Screen(Terminal::new(CrosstermBackend::new(stdout()))?))
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }

    /// Restores the terminal for the time of `work`.
    pub(crate) fn without(&mut self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        restore();
        work()?;
        take()?;
        // A new one, which knows nothing of what the screen showed before.
        self.0 = Terminal::new(CrosstermBackend::new(stdout()))?;
        execute!(stdout(), Clear(ClearType::All))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// The panics of other threads since the last call.
pub(crate) fn take_panics() -> Vec<String> {
    std::mem::take(&mut lock().panics)
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    lock().by = Some(thread::current().id());
    execute!(stdout(), EnterAlternateScreen, Hide).inspect_err(|_| restore())
}

/// Restores the terminal if it is taken. What fails can't be reported anywhere.
fn restore() {
    if lock().by.take().is_some() {
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// From now on, a panic of the thread that draws restores the terminal before it is reported, and
/// one of another thread is kept while the terminal is taken.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let mut screen = lock();
            match screen.by {
                Some(thread) if thread != thread::current().id() => {
                    if screen.panics.len() < MOST_PANICS {
                        screen.panics.push(info.to_string());
                    }
                }
                _ => {
                    drop(screen);
                    restore();
                    previous(info);
                }
            }
        }));
    });
}

fn lock() -> MutexGuard<'static, Shown> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}
