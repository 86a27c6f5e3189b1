//! A running server on the screen.

use crate::sampler::{Failed, Sample, Sampler, Source};
use crate::units;
use crate::{Closed, Error, screen};
use cma_running::Server;
use std::time::{Duration, Instant};

/// The paces between two reads of a server, the fastest first.
const INTERVALS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Shows `server` until the user quits or a signal arrives. A server that ends is shown as gone,
/// and read again when it is back.
///
/// # Errors
///
/// [`Error`]: the server can't be read at the start, or the terminal not at all.
pub fn server(server: Server) -> Result<Closed, Error> {
    screen::show(Sampler::start(move |reader| {
        reader.run(&mut ServerSource { server, started: Instant::now(), pace: 3 });
    })?)
}

struct ServerSource {
    server: Server,
    started: Instant,
    /// An index into [`INTERVALS`].
    pace: usize,
}

impl Source for ServerSource {
    fn title(&self) -> String {
        self.server.to_string()
    }

    fn interval(&self) -> Duration {
        INTERVALS[self.pace]
    }

    fn change_pace(&mut self, faster: bool) {
        self.pace = if faster {
            self.pace.saturating_sub(1)
        } else {
            (self.pace + 1).min(INTERVALS.len() - 1)
        };
    }

    fn read(&mut self, _: Duration) -> Result<Sample, Failed> {
        let state = self.server.state().map_err(|error| Failed { error })?;
        Ok(Sample {
            state,
            at: self.started.elapsed(),
            pace: format!("every {}", units::time(self.interval())),
            ended: false,
        })
    }

    fn step(&mut self) -> Result<Sample, Failed> {
        self.read(Duration::ZERO)
    }
}
