//! The conformance suite on packing, in process and through its plug-in library.

cma_testkit::conformance!(cma_packing::Packing, Exact);
cma_testkit::conformance_of_plugin!("cma_packing_plugin", Exact);
