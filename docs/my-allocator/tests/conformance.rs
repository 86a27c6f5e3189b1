//! The conformance suite on the algorithm, in process and through its plug-in library.

cma_testkit::conformance!(my_allocator::Mine, FirstFit);
cma_testkit::conformance_of_plugin!("cma_mine_plugin", FirstFit);
