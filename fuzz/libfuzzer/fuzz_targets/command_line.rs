#![no_main]

cma_libfuzzer::target!("command_line");
