//! The conformance suite on the TLSF allocator, in process and through its plug-in library.

cma_testkit::conformance!(cma_tlsf::Tlsf, Any);
cma_testkit::conformance_of_plugin!("cma_tlsf_plugin", Any);

mod twenty_chunks {
    cma_testkit::conformance!(cma_tlsf::Tlsf, Any, "chunks=20");
}
