//! Programs in C that know the published interface of the device, run unchanged against a server.

#[path = "../../server/tests/common/mod.rs"]
mod common;

use common::{MIB, PiecewiseMemory, TestServer, eventually, framework, with_map};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The program, made by the system's C compiler; `None` where there is none.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{}", std::process::id()));
        let made = Command::new("cc")
            .args(["-O2", "-Wall", "-Wno-nonnull", "-pthread", "-o"])
            .args([&program, &source])
            .status();
        match made {
            Err(error) => {
                // Past the test harness, which keeps what it prints to itself.
                let why = format!(
                    "SKIPPED: no C compiler (cc: {error}); programs in C were not tried against the device\n"
                );
                std::io::stderr().write_all(why.as_bytes()).unwrap();
                None
            }
            Ok(status) => {
                assert!(status.success(), "cc: {status}");
                Some(program)
            }
        }
    });
    made.as_deref()
}

/// The library, beside the test.
fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libcma_dev_preload.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn scenario(program: &Path, name: &str, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(name).env("LD_PRELOAD", library()).env("CMA_SOCKET", socket);
    command
}

fn runs(name: &str, socket: &Path) {
    if let Some(program) = program() {
        let output = scenario(program, name, socket).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {} {errors}", output.status);
    }
}

/// A server with the regions that the program knows of.
fn server() -> TestServer {
    let map = "bare=bare;typed/fw=fw;typed=none;camera,video,0123456789abcdef=ram";
    TestServer::start(with_map("ram=64M;fw=8M@0x80000000", map))
}

/// Runs a scenario; behind it, everything is free.
fn is_so(name: &str) {
    let server = server();
    runs(name, &server.path);
    server.wait_until_free("camera", 64 * MIB);
    server.wait_until_free("bare", 16 * MIB);
}

#[test]
fn every_way_to_open_it_is_one() {
    is_so("opens");
}

#[test]
fn who_looks_before_opening_sees_a_device() {
    is_so("looks");
}

/// Programs that nobody wrote for a test.
#[test]
fn who_looks_with_the_systems_programs_sees_a_device() {
    let server = server();
    let look = "set -e; test -e /dev/cma; test -c /dev/cma; test -r /dev/cma; test -w /dev/cma; if test -x /dev/cma; then exit 9; fi; \
                ls -l /dev/cma; exec 7<>/dev/cma; ! cat <&7";
    let mut shell = Command::new("sh");
    shell.args(["-c", look]).env("LD_PRELOAD", library()).env("CMA_SOCKET", &server.path);
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("crw-rw-rw-") && said.contains("10, 255"), "{said}");
}

#[test]
fn a_file_is_for_what_it_was_opened_for() {
    is_so("accesses");
}

#[test]
fn who_reads_or_writes_is_refused_and_loses_nothing() {
    is_so("transfers");
}

#[test]
fn names_are_bytes_and_numbers_are_no_names() {
    let server = TestServer::start(with_map("ram=64M", "caf?=ram;x*=ram;c*=ram;z=ram"));
    runs("names", &server.path);
    server.wait_until_free("z", 64 * MIB);
}

#[test]
fn both_layouts_are_served() {
    is_so("layouts");
}

#[test]
fn every_mistake_has_its_errno() {
    is_so("errnos");
}

#[test]
fn the_chunk_and_parts_of_it_are_mapped_as_mmap_says() {
    is_so("mappings");
}

#[test]
fn every_copy_of_a_descriptor_is_the_same_file() {
    is_so("references");
}

#[test]
fn the_last_reference_frees_and_not_before() {
    is_so("last_reference");
}

#[test]
fn a_chunk_is_a_childs_too() {
    is_so("forks");
}

#[test]
fn processes_that_share_a_file_get_their_own_answers() {
    is_so("crowds");
}

#[test]
fn links_and_descriptors_for_the_path_lead_to_the_device() {
    is_so("ways");
}

/// The lock that askers took was lost when any copy of the descriptor was closed.
#[test]
fn copies_that_are_closed_take_nothing_from_those_who_ask() {
    is_so("duplicates");
}

#[test]
fn processes_that_are_stopped_or_killed_while_they_ask_keep_nobody_waiting() {
    is_so("stopped");
}

#[test]
fn files_with_chunks_can_be_mapped_when_all_other_connections_are_taken() {
    let server = TestServer::with_config(with_map("ram=64M", "*=ram"), "user-connections=3", "*=*");
    runs("crowded", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_program_that_becomes_another_keeps_its_chunk() {
    is_so("executes");
}

#[test]
fn threads_do_not_see_one_another() {
    is_so("threads");
}

#[test]
fn a_child_has_no_part_in_what_the_parents_threads_are_doing() {
    is_so("forks_of_threads");
}

#[test]
fn signals_disturb_nothing() {
    is_so("signals");
}

#[test]
fn everything_else_is_as_without_it() {
    is_so("others");
}

#[test]
fn without_a_server_there_is_no_device() {
    let dir = tempfile::tempdir().unwrap();
    runs("no_server", &dir.path().join("none"));
    // What a server left that was killed is none, nor is anything else.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    runs("no_server", &file);
    let _stream = std::os::unix::net::UnixListener::bind(dir.path().join("stream")).unwrap();
    runs("no_server", &dir.path().join("stream"));
}

#[test]
fn a_program_is_told_when_it_may_not() {
    let cma = with_map("ram=64M", "*=ram");
    let server = TestServer::with_config(cma, "bytes=1M", "video=*");
    runs("refused", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

/// Runs a scenario that says when it is ready, does `then`, and tells it.
fn runs_through(name: &str, socket: &Path, then: impl FnOnce()) {
    let Some(program) = program() else { return };
    let mut child: Child = scenario(program, name, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    then();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_program_outlives_its_server() {
    let server = server();
    let path = server.path.clone();
    runs_through("bereft", &path, || server.stop().unwrap());
}

#[test]
fn a_chunk_is_lost_with_its_server_and_the_next_server_gives_others() {
    let first = server();
    let folder = tempfile::tempdir().unwrap();
    // The two servers have one path, by way of a link that changes its target.
    let path = folder.path().join("cma.sock");
    std::os::unix::fs::symlink(&first.path, &path).unwrap();
    let mut second = None;
    runs_through("restarted", &path, || {
        first.stop().unwrap();
        let server = second.insert(server());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&server.path, &path).unwrap();
    });
}

#[test]
fn memory_of_many_pieces_is_one_mapping() {
    let server = TestServer::start(framework("ram=64M", "*=ram", &mut PiecewiseMemory::new()));
    runs("pieces", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_program_that_is_killed_gives_everything_back() {
    let Some(program) = program() else { return };
    let server = server();
    for _ in 0..30 {
        let mut child = scenario(program, "threads", &server.path).spawn().unwrap();
        eventually("it has something", || server.free_bytes("camera") < 64 * MIB);
        child.kill().unwrap();
        child.wait().unwrap();
        server.wait_until_free("camera", 64 * MIB);
    }
}
