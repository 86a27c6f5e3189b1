//! The conformance suite on best fit, in process and through its plug-in library.

cma_testkit::conformance!(cma_best_fit::BestFit, BestFit);
cma_testkit::conformance_of_plugin!("cma_best_fit_plugin", BestFit);
