//! Where the shell's chunks come from.

use super::line::Amount;
use cma_client::{Client, RemoteChunk};
use cma_framework::{AllocError, Chunk, Cma, DmaAddr};

/// Who serves the shell. Errors are for the user to read.
pub(super) trait Source {
    /// A live chunk in its hands.
    type Chunk;

    fn alloc(
        &self,
        device: &str,
        kind: Option<&str>,
        amount: &Amount,
    ) -> Result<Self::Chunk, String>;
    fn alloc_from(&self, regions: &str, amount: &Amount) -> Result<Self::Chunk, String>;
    fn free(&self, chunk: Self::Chunk) -> Result<(), String>;
    /// Its size in bytes, and its start.
    fn place(&self, chunk: &Self::Chunk) -> (u64, DmaAddr);
    /// The region that it lies in, where that is known.
    fn region(&self, chunk: &Self::Chunk) -> Option<String>;
}

/// The framework in this process.
impl Source for Cma {
    type Chunk = Chunk;

    fn alloc(&self, device: &str, kind: Option<&str>, amount: &Amount) -> Result<Chunk, String> {
        Cma::alloc(self, device, kind, amount.size, amount.alignment).map_err(|error| told(&error))
    }

    fn alloc_from(&self, regions: &str, amount: &Amount) -> Result<Chunk, String> {
        Cma::alloc_from(self, regions, amount.size, amount.alignment).map_err(|error| told(&error))
    }

    fn free(&self, chunk: Chunk) -> Result<(), String> {
        drop(chunk);
        Ok(())
    }

    fn place(&self, chunk: &Chunk) -> (u64, DmaAddr) {
        (chunk.size(), chunk.start())
    }

    fn region(&self, chunk: &Chunk) -> Option<String> {
        Some(chunk.region().to_string())
    }
}

fn told(error: &AllocError) -> String {
    format!("{:?}: {error}", error.errno())
}

/// A server.
impl Source for Client {
    type Chunk = RemoteChunk;

    fn alloc(
        &self,
        device: &str,
        kind: Option<&str>,
        amount: &Amount,
    ) -> Result<RemoteChunk, String> {
        Client::alloc(self, device, kind, amount.size, amount.alignment)
            .map_err(|error| told_by(&error))
    }

    fn alloc_from(&self, regions: &str, amount: &Amount) -> Result<RemoteChunk, String> {
        Client::alloc_from(self, regions, amount.size, amount.alignment)
            .map_err(|error| told_by(&error))
    }

    fn free(&self, chunk: RemoteChunk) -> Result<(), String> {
        chunk.free().map_err(|error| told_by(&error))
    }

    fn place(&self, chunk: &RemoteChunk) -> (u64, DmaAddr) {
        (chunk.size(), DmaAddr::new(chunk.start()))
    }

    /// A server tells addresses and no names of regions.
    fn region(&self, _: &RemoteChunk) -> Option<String> {
        None
    }
}

fn told_by(error: &cma_client::Error) -> String {
    match errno_name(error.errno()) {
        Some(name) => format!("{name}: {error}"),
        None => error.to_string(),
    }
}

/// What a server answers with (specification sections 6 and 8, and its own limits).
fn errno_name(number: i32) -> Option<&'static str> {
    Some(match number {
        2 => "ENOENT",
        12 => "ENOMEM",
        13 => "EACCES",
        16 => "EBUSY",
        19 => "ENODEV",
        22 => "EINVAL",
        98 => "EADDRINUSE",
        122 => "EDQUOT",
        _ => return None,
    })
}
