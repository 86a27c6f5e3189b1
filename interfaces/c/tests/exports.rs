//! What the library shows to a linker.

mod common;

use common::Library;
use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/cma.h");
    let header = fs::read_to_string(header).unwrap();
    let starts = header.lines().filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        let function = before.rsplit([' ', '*']).next()?;
        let is_declaration = !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef");
        (is_declaration && function.starts_with("cma_")).then(|| function.to_string())
    });
    starts.collect()
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let bytes = fs::read(Library::built()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let exported: BTreeSet<String> = file
        .dynamic_symbols()
        .filter(ObjectSymbol::is_definition)
        .map(|symbol| symbol.name().unwrap().to_string())
        .collect();
    assert_eq!(exported, declared());
    assert!(exported.len() > 30);
}

#[test]
fn programs_ask_the_linker_for_the_name_of_the_binary_interface() {
    let bytes = fs::read(Library::built()).unwrap();
    let name = b"libcma.so.1\0";
    assert!(bytes.windows(name.len()).any(|part| part == name), "no soname");
}
