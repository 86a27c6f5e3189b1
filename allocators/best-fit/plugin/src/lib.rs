//! The best-fit allocator as a plug-in library.

cma_api::export_allocator!(cma_best_fit::BestFit);
