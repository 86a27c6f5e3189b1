//! The client half of libcma and a server in a process of its own. The program in C is that of
//! libcma's tests, whose server is a thread.

use crate::device::SocketServer;
use crate::exec::attribute;
use crate::folder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The program, and the library by the names that the linkers look for. `None` without a compiler.
fn program() -> Option<TempDir> {
    let folder = folder();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interfaces/c");
    let library = std::env::current_exe().expect("it has a path").with_file_name("libcma.so");
    for name in ["libcma.so", "libcma.so.1"] {
        symlink(&library, folder.path().join(name)).expect("the folder is empty");
    }
    let compiled = Command::new("cc")
        .args(["-std=c11", "-pthread", "-o"])
        .arg(folder.path().join("program"))
        .arg(sources.join("tests/program.c"))
        .arg("-I")
        .arg(sources.join("include"))
        .arg("-L")
        .arg(folder.path())
        .arg("-lcma")
        .output();
    let Ok(output) = compiled else {
        writeln!(std::io::stderr(), "SKIPPED: there is no cc").expect("it is open");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(folder)
}

/// A scenario of the program against `server`.
fn scenario(program: &TempDir, name: &str, server: &SocketServer) -> Command {
    let mut command = Command::new(program.path().join("program"));
    command.arg(name).arg(server.socket()).env("LD_LIBRARY_PATH", program.path());
    command
}

fn server() -> SocketServer {
    let (regions, memory) = ("video=64M;bare=1M", "bare=simulated,memfd");
    SocketServer::of(&["--cma", regions, "--map", "camera=video", "--memory", memory], &[])
}

#[test]
fn a_program_in_c_uses_the_chunks_of_a_server_process_and_leaves_all_memory_free() {
    let Some(program) = program() else { return };
    let server = server();
    for name in ["client-chunk", "client-pending", "client-threads"] {
        let output = scenario(&program, name, &server).output().expect("it starts");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(attribute(&server, "regions/video/free").trim(), "67108864", "{name}");
    }
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_program_in_c_keeps_its_memory_when_the_server_process_is_killed() {
    let Some(program) = program() else { return };
    let server = server();
    let mut child = scenario(&program, "server-ends", &server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n");
    drop(server);
    child.stdin.take().expect("it is piped").write_all(b"\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
}
