//! `my-allocator` as a plug-in.

cma_api::export_allocator!(my_allocator::Mine);
