#![no_main]

cma_libfuzzer::target!("service");
