#![no_main]

cma_libfuzzer::target!("device_tree");
