//! Chunks in huge pages are used from C.

mod common;
#[path = "../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use common::{Library, run};
use machine::Machine;
use std::path::Path;

#[test]
fn a_chunk_in_huge_pages_is_mapped_whole_and_shared_piece_by_piece() {
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let library = Library::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program.c");
    if let Some(program) = library.compile("gcc", "-std=c11", &source) {
        run(library.command(program).arg("host-huge"));
    }
}
