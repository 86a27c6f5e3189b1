//! Decompressing a file of several gzip members.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// The concatenated contents of gzip members. Unlike flate2's reader of several members, it
/// distinguishes other bytes after a member from a damaged member.
pub(super) struct GzipMembers<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

/// Bytes after a member that don't start another one.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are not compressed by gzip")]
pub(super) struct NotGzip;

impl<R: BufRead> GzipMembers<R> {
    pub(super) fn new(input: R) -> Self {
        GzipMembers { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { break };
            match input.fill_buf()?.first() {
                None => break,
                Some(0x1f) => self.member = Some(GzDecoder::new(input)),
                Some(_) => return Err(io::Error::other(NotGzip)),
            }
        }
        Ok(0)
    }
}
