//! The limits of a request, apart from its size and alignment.

use cma_framework::ChunkRequest;
use cma_framework::config::Bytes;
use std::fmt;
use std::time::Duration;

/// The limits of a request (specification section 6), without its size and alignment: a trace has
/// many requests and few different limits. As text they are written as in a request: ` below=4G
/// wait=2s`, each limit after a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits(ChunkRequest);

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits(ChunkRequest::new(Bytes(0)));

    /// The limits of `request`, with its time to wait rounded up to whole microseconds, which is
    /// what a trace records.
    pub fn of(request: &ChunkRequest) -> Self {
        let whole = |wait: Duration| {
            let micros = wait.as_nanos().div_ceil(1000);
            Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        };
        let mut limits = *request;
        (limits.size, limits.alignment) = (Bytes(0), Bytes(0));
        limits.wait = request.wait.map(whole);
        Limits(limits)
    }

    /// A request with these limits, for `size` bytes at a multiple of `alignment` bytes.
    pub fn request(self, size: u64, alignment: u64) -> ChunkRequest {
        let mut request = self.0;
        (request.size, request.alignment) = (Bytes(size), Bytes(alignment));
        request
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a request has its limits after the size, each after a space.
        let text = self.0.to_string();
        f.write_str(&text[text.find(' ').unwrap_or(text.len())..])
    }
}
