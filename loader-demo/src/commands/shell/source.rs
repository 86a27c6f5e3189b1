//! Where the shell's chunks come from.

use super::line::Amount;
use cma_framework::{AllocError, Chunk, Cma, DmaAddr};

/// Who serves the shell. Errors are for the user to read.
pub(super) trait Source {
    /// A live chunk in its hands.
    type Chunk;

    fn alloc(&self, device: &str, kind: Option<&str>, amount: &Amount) -> Result<Self::Chunk, String>;
    fn alloc_from(&self, regions: &str, amount: &Amount) -> Result<Self::Chunk, String>;
    fn free(&self, chunk: Self::Chunk) -> Result<(), String>;
    /// Its size in bytes, and its start.
    fn place(&self, chunk: &Self::Chunk) -> (u64, DmaAddr);
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
}

fn told(error: &AllocError) -> String {
    format!("{:?}: {error}", error.errno())
}
