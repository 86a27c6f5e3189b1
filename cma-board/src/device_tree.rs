//! Boards as device trees: read from a blob, written as source.
//!
//! The format of blobs and the meaning of nodes are those of the Devicetree Specification 0.4; the
//! properties of reserved memory are those of `reserved-memory.yaml` and `shared-dma-pool.yaml` in
//! the schemas of `dt-schema`, as Linux reads them (`drivers/of/of_reserved_mem.c`,
//! `kernel/dma/contiguous.c`).

mod blob;
mod names;
mod pages;
mod read;
mod tree;
mod write;

pub use blob::is_blob;
pub use read::read;
pub use write::write;
