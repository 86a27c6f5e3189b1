//! Writing a trace. Written bytes read back as the same trace.

use crate::format::{MAGIC, SOURCE, VERSION};
use crate::trace::{Action, Operation, Trace};
use flate2::{Compression, write::GzEncoder};
use std::io::{self, BufWriter, Write};

impl Trace {
    /// Writes the trace as text. Ids count from 1 in the order of allocation.
    ///
    /// # Errors
    ///
    /// Those of `output`.
    pub fn write(&self, output: impl Write) -> io::Result<()> {
        let mut output = BufWriter::new(output);
        writeln!(output, "{MAGIC} {VERSION}\n{SOURCE} {}\n# {}", self.source, self.figures)?;
        let mut id = 0;
        for Operation { time_us, action } in &self.operations {
            match *action {
                Action::Allocate { size, alignment, requester, limits } => {
                    id += 1;
                    let requester = &self.requesters[usize::from(requester)];
                    let limits = self.limits[usize::from(limits)];
                    writeln!(output, "{time_us} a {id} {size} {alignment} {requester}{limits}")?;
                }
                Action::Free { chunk } => writeln!(output, "{time_us} f {}", chunk + 1)?,
            }
        }
        output.flush()
    }

    /// Writes the trace as text compressed by gzip.
    ///
    /// # Errors
    ///
    /// Those of `output`.
    pub fn write_compressed(&self, output: impl Write) -> io::Result<()> {
        let mut output = GzEncoder::new(output, Compression::best());
        self.write(&mut output)?;
        output.finish()?.flush()
    }
}
