//! The conformance suite on packing, in process and through its plug-in library.

cma_testkit::conformance!(cma_packing::Packing, Exact);
cma_testkit::conformance_of_plugin!("cma_packing_plugin", Exact);

mod other_numbers {
    cma_testkit::conformance!(
        cma_packing::Packing,
        Exact,
        "steepness=1.5,share=50,steepest=20,own-grade=0"
    );
}

/// The numbers change while chunks are live, some to those of the profile, some back.
mod with_a_profile {
    cma_testkit::conformance!(
        cma_packing::Packing,
        Exact,
        concat!("profile=", env!("CARGO_MANIFEST_DIR"), "/tests/some.profile")
    );
}
