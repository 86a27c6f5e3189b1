//! The program in C that README.md shows works as it is printed.

mod common;
mod server;

use common::{Library, run};
use server::TestServer;
use std::fs;
use std::path::Path;

#[test]
fn the_program_of_the_readme_compiles_and_gets_a_chunk_of_a_server() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once("\n```c\n").unwrap();
    let (program, _) = rest.split_once("```\n").unwrap();
    assert!(program.lines().count() <= 15, "{} lines", program.lines().count());
    let library = Library::new();
    let source = library.folder().join("readme.c");
    fs::write(&source, program).unwrap();
    let Some(program) = library.compile("gcc", "-std=c11", &source) else { return };
    let server = TestServer::start();
    let printed = run(library.command(&program).env("CMA_SOCKET", &server.socket));
    assert_eq!(printed, "a frame of 3133440 bytes\n");
    let refused =
        library.command(&program).env("CMA_SOCKET", "/nowhere/cma.sock").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no server at /nowhere/cma.sock"));
}
