//! Every guarantee that a host relies on: for the algorithm, and for the library built from it.

cma_testkit::conformance!(my_allocator::Mine, FirstFit);
cma_testkit::conformance_of_plugin!("cma_mine_plugin", FirstFit);
