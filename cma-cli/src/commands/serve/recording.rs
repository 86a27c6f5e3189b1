//! `cma serve --record`: the requests of a server, as a trace.

use crate::host::Host;
use crate::notice::Notice;
use crate::outcome::{CommandError, Outcome};
use crate::service::Service;
use crate::show::{Out, plain};
use cma_trace::{Recorded, Recorder};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// The time that a slow disk has at the end. It is shorter than that of the whole shutdown.
const LONGEST: Duration = Duration::from_secs(2);

/// The recording of a server, if it was asked for.
pub(super) struct ServerRecording(Option<(PathBuf, Recorder)>);

impl ServerRecording {
    pub(super) fn start(host: &Host, service: &Service) -> Result<Self, CommandError> {
        let Some(path) = service.record.clone() else { return Ok(ServerRecording(None)) };
        let source = format!("cma serve, {}", host.board.title());
        let recorder =
            File::create(&path).and_then(|file| Recorder::start(&host.cma, file, &source));
        match recorder {
            Ok(recorder) => Ok(ServerRecording(Some((path, recorder)))),
            Err(source) => Err(CommandError::TraceOutput { path, source }),
        }
    }

    /// Prints its path.
    pub(super) fn print(&self, out: &mut Out) -> io::Result<()> {
        match &self.0 {
            Some((path, _)) => writeln!(out, "recording: {}", plain(&path.display().to_string())),
            None => Ok(()),
        }
    }

    /// Writes the rest. A recording without all of its events is reported.
    pub(super) fn finish(self) -> Outcome {
        let Some((path, recorder)) = self.0 else { return Outcome::Done };
        let problem = match recorder.finish(LONGEST) {
            Ok(Recorded { missed: 0, .. }) => return Outcome::Done,
            Ok(Recorded { missed, .. }) => format!("{missed} events were missed"),
            Err(error) => error.to_string(),
        };
        let path = plain(&path.display().to_string()).to_string();
        Notice::warning(&format!("the recording {path} is not complete: {problem}")).report();
        Outcome::Refused
    }
}
