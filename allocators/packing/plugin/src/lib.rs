//! The packing allocator as a plug-in library.

cma_api::export_allocator!(cma_packing::Packing);
