//! The conformance suite on the buddy allocator, in process and through its plug-in library.

cma_testkit::conformance!(cma_buddy::Buddy, Any);
cma_testkit::conformance_of_plugin!("cma_buddy_plugin", Any);

mod blocks_of_two_pages_at_most {
    cma_testkit::conformance!(cma_buddy::Buddy, Any, "max-order=1");
}
