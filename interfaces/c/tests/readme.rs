//! The programs in C that README.md and the manual page show work as they are printed.

mod common;
mod server;

use common::{Library, run, skip};
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

/// The programs of the manual page, as troff prints them.
fn programs_of_the_manual() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/libcma.3");
    let page = fs::read_to_string(page).unwrap();
    let (_, examples) = page.split_once(".SH EXAMPLES\n").unwrap();
    let (examples, _) = examples.split_once(".SH ENVIRONMENT\n").unwrap();
    let programs = examples.split(".nf\n").skip(1);
    let text = |program: &str| program.split(".fi\n").next().unwrap().to_string();
    programs.map(|program| text(program).replace("\\-", "-").replace("\\e", "\\")).collect()
}

#[test]
fn the_programs_of_the_manual_page_compile_and_get_a_chunk() {
    let library = Library::new();
    let server = TestServer::start();
    let printed = programs_of_the_manual().into_iter().map_while(|program| {
        let source = library.folder().join("manual.c");
        fs::write(&source, program).unwrap();
        let program = library.compile("gcc", "-std=c11", &source)?;
        Some(run(library.command(&program).env("CMA_SOCKET", &server.socket)))
    });
    let printed: Vec<_> = printed.collect();
    assert!(printed.is_empty() || printed == ["", "3133440 bytes at 0x100000\n"], "{printed:?}");
}

#[test]
fn without_a_path_a_client_looks_for_the_socket_of_the_service() {
    let library = Library::new();
    let source = library.folder().join("client.c");
    let program = "#include <cma.h>\n#include <stdio.h>\nint main(void) {\n\
                   struct cma_client *client;\n\
                   if (cma_client_open(NULL, &client)) puts(cma_last_error());\n\
                   return 0;\n}\n";
    fs::write(&source, program).unwrap();
    let Some(program) = library.compile("gcc", "-std=c11", &source) else { return };
    let printed = run(library.command(&program).env_remove("CMA_SOCKET"));
    if Path::new("/run/cma/cma.sock").exists() {
        return skip("this machine runs the service");
    }
    assert!(printed.contains("no server at /run/cma/cma.sock"), "{printed}");
}
