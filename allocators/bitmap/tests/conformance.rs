//! The conformance suite on the bitmap allocator, in process and through its plug-in library.

cma_testkit::conformance!(cma_bitmap::Bitmap, FirstFit);
cma_testkit::conformance_of_plugin!("cma_bitmap_plugin", FirstFit);
