//! `include/cma.h` is what cbindgen makes of the sources.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_made_of_the_present_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let bindings =
        cbindgen::Builder::new().with_config(config).with_src(folder.join("src/lib.rs")).generate();
    let mut made = Vec::new();
    bindings.unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let header = folder.join("include/cma.h");
    if env::var_os("CMA_WRITE_HEADER").is_some() {
        fs::write(&header, &made).unwrap();
    }
    let present = fs::read_to_string(&header).unwrap_or_default();
    assert!(present == made, "include/cma.h is stale: run `cargo xtask header`");
}
