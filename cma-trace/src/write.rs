//! Writing a trace. Written bytes read back as the same trace.

use crate::format::{MAGIC, SOURCE, VERSION};
use crate::trace::{Action, Operation, Trace};
use flate2::{Compression, write::GzEncoder};
use std::io::{self, BufWriter, Write};

impl Trace {
    /// Writes the trace as text. Ids count from 1 in the order of the requests.
    ///
    /// # Errors
    ///
    /// Those of `output`.
    pub fn write(&self, output: impl Write) -> io::Result<()> {
        let mut output = BufWriter::new(output);
        writeln!(output, "{MAGIC} {VERSION}\n{SOURCE} {}\n# {}", self.source, self.figures)?;
        let mut id = 0_u32;
        let mut ids = Vec::new();
        for Operation { time_us, action } in &self.operations {
            let (letter, size, alignment, requester, limits) = match *action {
                Action::Allocate { size, alignment, requester, limits } => {
                    ids.push(id + 1);
                    ('a', size, alignment, requester, limits)
                }
                Action::Refused { size, alignment, requester, limits } => {
                    ('r', size, alignment, requester, limits)
                }
                Action::Free { chunk } => {
                    writeln!(output, "{time_us} f {}", ids[chunk as usize])?;
                    continue;
                }
            };
            id += 1;
            let requester = &self.requesters[usize::from(requester)];
            let limits = self.limits[usize::from(limits)];
            writeln!(output, "{time_us} {letter} {id} {size} {alignment} {requester}{limits}")?;
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
