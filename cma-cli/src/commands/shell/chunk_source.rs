//! The sources of the shell's chunks: the framework in this process, or a server.

use cma_client::{Client, RegionSelector, RemoteChunk};
use cma_framework::{AllocError, Chunk, ChunkRequest, Cma, DmaAddr, Source};
use cma_running::Server;

/// Serves the shell's requests. Errors are messages for the user.
pub(in crate::commands) trait ChunkSource {
    /// A live chunk.
    type Chunk;
    /// Why a request got none.
    type Refusal;

    /// Waits as long as the request says.
    fn allocate(
        &self,
        from: RegionSelector<'_>,
        request: &ChunkRequest,
    ) -> Result<Self::Chunk, Self::Refusal>;
    fn message(refusal: &Self::Refusal) -> String;
    /// What is in the way of a request that was refused, by the chunks that are live now.
    fn explain(&self, refusal: &Self::Refusal) -> Result<String, String>;
    fn free(&self, chunk: Self::Chunk) -> Result<(), String>;
    /// The size in bytes, and the start.
    fn place(&self, chunk: &Self::Chunk) -> (u64, DmaAddr);
    /// The region of the chunk, where it is known.
    fn region(&self, chunk: &Self::Chunk) -> Option<String>;
}

/// The regions as the framework takes them.
pub(in crate::commands) fn source_of(from: RegionSelector<'_>) -> Source<'_> {
    match from {
        RegionSelector::Device { device, kind } => {
            Source::Device { name: device, kind: Some(kind).filter(|kind| !kind.is_empty()) }
        }
        RegionSelector::Regions(list) => Source::Regions(list),
    }
}

/// The framework in this process.
impl ChunkSource for Cma {
    type Chunk = Chunk;
    type Refusal = AllocError;

    fn allocate(
        &self,
        from: RegionSelector<'_>,
        request: &ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        Cma::allocate(self, source_of(from), request)
    }

    fn message(error: &AllocError) -> String {
        format!("{:?}: {error}", error.errno())
    }

    fn explain(&self, error: &AllocError) -> Result<String, String> {
        Ok(error.explain(self).to_string())
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

/// A server.
impl ChunkSource for Client {
    type Chunk = RemoteChunk;
    type Refusal = cma_client::Error;

    fn allocate(
        &self,
        from: RegionSelector<'_>,
        request: &ChunkRequest,
    ) -> Result<RemoteChunk, cma_client::Error> {
        Client::allocate(self, from, &for_server(request))
    }

    fn message(error: &cma_client::Error) -> String {
        client_message(error)
    }

    /// The server explains what a region refused, to root and to its own user. Its newest refusal
    /// may be that of another client meanwhile.
    fn explain(&self, error: &cma_client::Error) -> Result<String, String> {
        let by_a_region = [12, 16, 98, 110].contains(&error.errno());
        if !by_a_region {
            return Ok(format!("no region was asked: {error}\n"));
        }
        let read = || Server::connect(self.path())?.read("why");
        let explained = read().map_err(|error| error.to_string())?;
        // Explanations are separated by empty lines, the newest first.
        let newest = explained.split("\n\n").next().unwrap_or_default().trim_end();
        Ok(format!("the last refusal of the server: {newest}\n"))
    }

    fn free(&self, chunk: RemoteChunk) -> Result<(), String> {
        chunk.free().map_err(|error| client_message(&error))
    }

    fn place(&self, chunk: &RemoteChunk) -> (u64, DmaAddr) {
        (chunk.size(), DmaAddr::new(chunk.start()))
    }

    /// The protocol has addresses, and no names of regions.
    fn region(&self, _: &RemoteChunk) -> Option<String> {
        None
    }
}

/// The request as a client sends it.
fn for_server(request: &ChunkRequest) -> cma_client::ChunkRequest {
    cma_client::ChunkRequest {
        size: request.size.0,
        alignment: request.alignment.0,
        above: request.above.map(DmaAddr::get),
        below: request.below.map(DmaAddr::get),
        boundary: request.boundary.map(|boundary| boundary.0),
        at: request.at.map(DmaAddr::get),
        wait: request.wait,
    }
}

fn client_message(error: &cma_client::Error) -> String {
    match errno_name(error.errno()) {
        Some(name) => format!("{name}: {error}"),
        None => error.to_string(),
    }
}

/// The errors of a server (specification sections 6 and 8, and its own limits).
fn errno_name(number: i32) -> Option<&'static str> {
    Some(match number {
        2 => "ENOENT",
        12 => "ENOMEM",
        13 => "EACCES",
        16 => "EBUSY",
        19 => "ENODEV",
        22 => "EINVAL",
        98 => "EADDRINUSE",
        108 => "ESHUTDOWN",
        110 => "ETIMEDOUT",
        122 => "EDQUOT",
        _ => return None,
    })
}
