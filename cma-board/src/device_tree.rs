//! Boards as device trees: read from a blob, written as source.
//!
//! Nodes mean what they mean to Linux. The sources are the Devicetree Specification 0.4, the
//! schemas `reserved-memory.yaml` and `shared-dma-pool.yaml` of `dt-schema`, and Linux's
//! `drivers/of/of_reserved_mem.c` and `kernel/dma/contiguous.c`. A node is *enabled* unless its
//! `status`, or that of a node above it, is another than `okay`; the others are left out.
//!
//! # Banks
//!
//! The ranges of the nodes whose `device_type` is `memory`: their `linux,usable-memory`, or else
//! their `reg`. These are withheld from them:
//!
//! - the ranges of the blob's own list, `/memreserve/`;
//! - the ranges of children of `/reserved-memory` that are no regions (see below): firmware and
//!   drivers use them without asking.
//!
//! A fixed region outside that memory is a bank of its own. Parts of pages are left out. Where the
//! tree leaves the memory to the boot loader, there are no banks, and what is withheld is taken
//! from those that the user states ([`ReadBoard::replace_banks`](crate::ReadBoard::replace_banks)).
//!
//! # Regions
//!
//! A child of `/reserved-memory` is a region if its `compatible` is `shared-dma-pool` or
//! `restricted-dma-pool`, if a device's `memory-region` refers to it, or if it has a `size` without
//! `reg`, so that memory for it is found at boot.
//!
//! | property | region |
//! | --- | --- |
//! | `size`, `alignment` | its size and alignment; an alignment of 0 is none |
//! | `alloc-ranges` | its window: the first range. Linux also tries the others; a note names them |
//! | `reg` | its fixed start and size; each of several ranges is a region. `size`, `alignment` and `alloc-ranges` mean nothing beside it |
//! | `no-map` | [`no_map`](crate::BoardRegion::no_map) |
//! | `reusable` | nothing: no region's memory is used for other things meanwhile |
//! | `linux,cma-default` | the last rule of the map, `*=region`, if the region is a `shared-dma-pool` that is `reusable` and not `no-map`; the last such node counts |
//!
//! A region is called as its node, without the address if the name is unique without it. Characters
//! that no name of a region may have, `,` and `@`, become `-`: `linux-cma`, `vring-83000000`. Names
//! that would be equal get `.2`, `.3` and so on in the order of the tree. A note lists the changes.
//!
//! # Map
//!
//! An enabled node with a `memory-region` is a device. Its names are that of its node with the
//! address, and its aliases; `,` becomes `-`. Nodes that have the same name are called by their
//! path, with `:` between the nodes: `soc:gpu`. Its rules:
//!
//! - for each name of `memory-region-names`, which is a type: the regions at that place, in order;
//! - for every other type: the regions without a name. Without `memory-region-names` that is all.
//!
//! # Written
//!
//! [`write()`] writes what [`read()`] understands: every region as a `shared-dma-pool` that is
//! `reusable` or `no-map`, every device of the map as a node below the root. Its notes name what it
//! can't write: patterns, groups, allocators, kinds of memory, names that no node can have.

mod blob;
mod names;
mod read;
mod tree;
mod write;

pub use blob::is_blob;
pub use read::read;
pub use write::write;
