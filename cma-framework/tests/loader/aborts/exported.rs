//! A plug-in as its author writes it.

use cma_api::AllocatorInfo;
use cma_fixture_first_fit::{FirstFit, Named, cma_api};

struct Exported;

impl Named for Exported {
    const INFO: AllocatorInfo = AllocatorInfo { name: "exported", version: "1.0.0", description: "exported by the macro" };
}

cma_api::export_allocator!(FirstFit<Exported>);
