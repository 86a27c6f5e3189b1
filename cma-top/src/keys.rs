//! The events of the terminal: keys, and changes of its size.

use ratatui::crossterm::event::{self, Event};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IsTerminal, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The terminal that `crossterm` reads: standard input, or the terminal of the process.
#[derive(Debug)]
pub(crate) struct Keys(OwnedFd);

/// What is there.
#[derive(Debug)]
pub(crate) enum Arrival {
    Event(Event),
    Nothing,
    /// The terminal is gone.
    HungUp,
}

impl Keys {
    pub(crate) fn open() -> io::Result<Keys> {
        let input = stdin();
        let is_terminal = input.is_terminal();
        let terminal = match is_terminal {
            true => input.as_fd().try_clone_to_owned()?,
            false => File::open("/dev/tty")?.into(),
        };
        Ok(Keys(terminal))
    }

    /// The next event, waited for up to `longest`.
    pub(crate) fn next(&self, longest: Duration) -> io::Result<Arrival> {
        // Asked before `crossterm`, which reads a terminal that is gone again and again for ever.
        let mut input = [PollFd::new(&self.0, PollFlags::IN)];
        let longest = Timespec { tv_sec: 0, tv_nsec: longest.subsec_nanos().into() };
        match poll(&mut input, Some(&longest)) {
            // A signal came, such as that of another size.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if input[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Arrival::HungUp);
        }
        match event::poll(Duration::ZERO) {
            Ok(true) => event::read().map(Arrival::Event),
            Ok(false) => Ok(Arrival::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Arrival::Nothing),
            Err(error) => Err(error),
        }
    }
}
