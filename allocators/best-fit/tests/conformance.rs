//! The conformance suite over best fit: the linked algorithm, and the plug-in library made of it.

cma_testkit::conformance!(cma_best_fit::BestFit, BestFit);
cma_testkit::conformance_of_plugin!("cma_best_fit_plugin", BestFit);
