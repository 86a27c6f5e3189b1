//! Why a server can't continue what one before it left.

use cma_framework::PageRange;
use cma_framework::restore::RestoreError;
use cma_journal::{CreateError, FileError, OpenError};
use cma_keeper::KeeperError;
use std::fmt::Write;

/// Why a server can't continue what one before it left. Nothing has changed: the keeper has all of
/// it, and the next start finds the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The keeper doesn't do its part.
    #[error("the keeper: {0}")]
    Keeper(#[from] KeeperError),
    /// The journal can't be made or mapped.
    #[error("the journal: {0}")]
    File(#[from] FileError),
    /// The journal can't be made.
    #[error("the journal: {0}")]
    Create(#[from] CreateError),
    /// The journal can't be continued.
    #[error("the journal: {0}")]
    Open(#[from] OpenError),
    /// The journal is damaged, or its records contradict each other or what the keeper has.
    #[error(
        "what the server before this one recorded is damaged: {}; --discard damaged goes on with \
         the rest: a chunk whose record is lost is freed when no process holds its memory any more",
        list(.0)
    )]
    Damaged(
        /// What is damaged, at least one place.
        Vec<String>,
    ),
    /// A newer program has written the journal.
    #[error("{0}")]
    Newer(
        /// It names both versions.
        cma_journal::ReadError,
    ),
    /// The configuration doesn't have a region in which chunks are live.
    #[error(
        "region {region} was at {range} (live chunks: {chunks}), and the configuration has \
         {found}; start with the old configuration, or with --discard {region}, which frees these \
         chunks and disconnects their clients"
    )]
    NoRegion {
        /// Its name, or its range.
        region: String,
        /// Its place.
        range: PageRange,
        /// The number of live chunks.
        chunks: usize,
        /// What the configuration has in its place.
        found: String,
    },
    /// A chunk can't be brought back.
    #[error(
        "the chunk at {range} of region {region} can't be brought back: {source}; \
         --discard damaged goes on without it"
    )]
    NotRestored {
        /// The chunk.
        range: PageRange,
        /// Its region.
        region: String,
        /// Why.
        source: RestoreError,
    },
    /// The request that makes something outlive the server failed.
    #[error("{0}")]
    NotKept(
        /// What, and why.
        String,
    ),
}

/// The most faults that a message has.
const MAX_LISTED: usize = 8;

fn list(faults: &[String]) -> String {
    let mut text = faults.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = faults.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        // Writing to a text doesn't fail.
        let _ = write!(text, "; and {more} more");
    }
    text
}
