//! Programs in C and C++ use the library in one process, and against a server.

mod common;
mod server;

use common::{Library, run, skip};
use server::TestServer;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The program, compiled once.
fn program() -> Option<Command> {
    static PROGRAM: OnceLock<(Library, Option<PathBuf>)> = OnceLock::new();
    let (library, program) = PROGRAM.get_or_init(|| {
        let library = Library::new();
        let program = library.compile("gcc", "-std=c11", &source("program.c"));
        (library, program)
    });
    program.as_ref().map(|program| library.command(program))
}

fn scenario(name: &str) {
    if let Some(mut program) = program() {
        run(program.arg(name));
    }
}

/// Runs a scenario with a server, after which all memory is free: each chunk was freed by a call.
fn scenario_with_a_server(name: &str) {
    let server = TestServer::start();
    let Some(mut program) = program() else { return };
    run(program.arg(name).arg(&server.socket));
    for region in server.cma.regions() {
        assert_eq!(region.free().unwrap(), region.range().pages(), "{region}");
    }
}

#[test]
fn a_chunk_of_a_host_is_allocated_mapped_shared_and_freed() {
    scenario("host-chunk");
}

#[test]
fn a_request_keeps_its_limits_and_a_refusal_has_the_reason_of_each_region() {
    scenario("host-limits");
}

#[test]
fn requests_that_name_one_device_again_and_again_are_served_as_the_first() {
    scenario("host-names");
}

#[test]
fn structures_of_older_and_newer_callers_are_served() {
    scenario("structures");
}

#[test]
fn null_foreign_and_freed_handles_are_refused_by_every_call() {
    scenario("bad-handles");
}

#[test]
fn a_host_is_configured_and_changed_and_loads_plug_ins() {
    let Some(mut program) = program() else { return };
    let plugin = std::env::current_exe().unwrap().with_file_name("libcma_best_fit_plugin.so");
    run(program.arg("configuration").arg(plugin));
}

#[test]
fn events_reach_a_callback_and_a_slow_one_delays_nobody() {
    scenario("events");
}

#[test]
fn a_pending_request_of_a_host_is_pollable() {
    scenario("host-pending");
}

#[test]
fn threads_share_a_host_a_device_and_a_chunk() {
    scenario("host-threads");
}

#[test]
fn a_chunk_of_a_server_is_allocated_mapped_shared_and_freed() {
    scenario_with_a_server("client-chunk");
}

#[test]
fn a_pending_request_of_a_server_is_pollable() {
    scenario_with_a_server("client-pending");
}

#[test]
fn threads_share_a_client() {
    scenario_with_a_server("client-threads");
}

#[test]
fn a_program_notices_that_its_server_has_ended() {
    let Some(mut program) = program() else { return };
    let mut server = TestServer::start();
    let mut child = program
        .arg("server-ends")
        .arg(&server.socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    server.stop();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_program_in_cpp_uses_the_header() {
    let library = Library::new();
    for compiler in ["g++", "clang++"] {
        if let Some(program) = library.compile(compiler, "-std=c++17", &source("program.cpp")) {
            run(&mut library.command(program));
        }
    }
}

#[test]
fn every_standard_since_c99_and_cpp11_compiles_the_header() {
    let library = Library::new();
    let c = ["-std=c99", "-std=c11", "-std=c17", "-std=gnu17"];
    let cpp = ["-std=c++11", "-std=c++17", "-std=c++20"];
    for (name, compilers, standards) in
        [("include.c", ["gcc", "clang"], &c[..]), ("include.cpp", ["g++", "clang++"], &cpp)]
    {
        let source = library.folder().join(name);
        let program = "#include <cma.h>\nint main(void) { return !cma_version(); }\n";
        std::fs::write(&source, program).unwrap();
        for compiler in compilers {
            // Without the compiler, one message is enough.
            standards.iter().all(|standard| library.compile(compiler, standard, &source).is_some());
        }
    }
}

/// Memory errors of the library at the border, by valgrind.
#[test]
fn no_scenario_uses_memory_wrongly() {
    let Some(program) = program() else { return };
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("no valgrind; the memory use of libcma was not examined");
    }
    // valgrind doesn't support rustix's own way to read the clock.
    let further: &[_] = if cfg!(feature = "valgrind") {
        &["host-limits", "host-names", "host-pending", "events", "client-chunk", "client-pending"]
    } else {
        &[]
    };
    let server = TestServer::start();
    for scenario in ["host-chunk", "structures", "bad-handles"].iter().chain(further) {
        let mut valgrind = Command::new("valgrind");
        valgrind.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        valgrind.args([
            "-q",
            "--error-exitcode=9",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ]);
        run(valgrind.arg(program.get_program()).arg(scenario).arg(&server.socket));
    }
}
