#![no_main]

cma_libfuzzer::target!("profile");
