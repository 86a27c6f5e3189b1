//! C programs that use the published interface of the device run unchanged against a server.

#[path = "../../server/tests/common/mod.rs"]
mod common;

use common::{MIB, PiecewiseMemory, TestServer, eventually, framework, with_map};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock};

/// The program, compiled by the system's C compiler; `None` if there is none.
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
                // Written directly, because the test harness captures what tests print.
                let why = format!(
                    "SKIPPED: no C compiler (cc: {error}); no C program was tested with the device\n"
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

/// Read while a process is started. Until that executes its program, it has all descriptors of this
/// process, those of the servers too, and what they refer to is not free.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a process.
fn start(command: &mut Command) -> Child {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// Runs a process.
fn output(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    start(command).wait_with_output().unwrap()
}

fn assert_succeeds(name: &str, output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {} {errors}", output.status);
}

fn run(name: &str, socket: &Path) {
    if let Some(program) = program() {
        assert_succeeds(name, &output(&mut scenario(program, name, socket)));
    }
}

/// A server with the regions that the program expects.
fn server() -> TestServer {
    let map = "bare=bare;typed/fw=fw;typed=none;camera,video,0123456789abcdef=ram";
    TestServer::start(with_map("ram=64M;fw=8M@0x80000000", map))
}

/// Runs a scenario, after which all memory must be free.
fn run_scenario(name: &str) {
    let server = server();
    run(name, &server.path);
    server.wait_until_free("camera", 64 * MIB);
    server.wait_until_free("bare", 16 * MIB);
}

/// The same for a scenario in which memory must be free at once: no other process starts meanwhile.
fn run_scenario_alone(name: &str) {
    let Some(program) = program() else { return };
    let server = server();
    let alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let output = scenario(program, name, &server.path).output().unwrap();
    drop(alone);
    assert_succeeds(name, &output);
    server.wait_until_free("camera", 64 * MIB);
    server.wait_until_free("bare", 16 * MIB);
}

#[test]
fn every_way_to_open_the_device_works() {
    run_scenario_alone("opens");
}

#[test]
fn queries_before_opening_show_a_device() {
    run_scenario("queries");
}

/// Programs of the system.
#[test]
fn queries_by_the_systems_programs_show_a_device() {
    let server = server();
    let look = "set -e; test -e /dev/cma; test -c /dev/cma; test -r /dev/cma; test -w /dev/cma; if test -x /dev/cma; then exit 9; fi; \
                ls -l /dev/cma; exec 7<>/dev/cma; ! cat <&7";
    let mut shell = Command::new("sh");
    shell.args(["-c", look]).env("LD_PRELOAD", library()).env("CMA_SOCKET", &server.path);
    let output = output(&mut shell);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("crw-rw-rw-") && text.contains("10, 255"), "{text}");
}

#[test]
fn the_access_mode_of_a_file_is_enforced() {
    run_scenario("access_modes");
}

#[test]
fn reads_and_writes_are_refused_without_effect() {
    run_scenario("transfers");
}

#[test]
fn names_are_bytes_and_request_numbers_are_no_names() {
    let server = TestServer::start(with_map("ram=64M", "caf?=ram;x*=ram;c*=ram;z=ram"));
    run("names", &server.path);
    server.wait_until_free("z", 64 * MIB);
}

#[test]
fn both_layouts_are_served() {
    run_scenario("layouts");
}

#[test]
fn every_error_has_its_errno() {
    run_scenario_alone("errnos");
}

#[test]
fn the_chunk_and_parts_of_it_are_mapped_as_by_mmap() {
    run_scenario("mappings");
}

#[test]
fn all_duplicates_of_a_descriptor_refer_to_the_same_file() {
    run_scenario("references");
}

#[test]
fn the_last_reference_frees_the_chunk_and_no_earlier_one_does() {
    run_scenario_alone("last_reference");
}

#[test]
fn a_child_process_shares_its_parents_chunk() {
    run_scenario_alone("forks");
}

#[test]
fn processes_that_share_a_file_get_their_own_answers() {
    run_scenario("concurrent_processes");
}

#[test]
fn links_and_descriptors_for_the_path_lead_to_the_device() {
    run_scenario("links");
}

/// A lock on the file was once lost when any duplicate of the descriptor was closed.
#[test]
fn closing_duplicates_does_not_disturb_requests_in_progress() {
    run_scenario("duplicates");
}

#[test]
fn processes_that_are_stopped_or_killed_during_a_call_delay_no_other() {
    run_scenario("stopped");
}

#[test]
fn files_with_chunks_can_be_mapped_when_all_other_connections_are_taken() {
    let server = TestServer::with_config(with_map("ram=64M", "*=ram"), "user-connections=3", "*=*");
    run("connections_taken", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_chunk_survives_exec() {
    run_scenario("exec");
}

#[test]
fn threads_do_not_interfere() {
    run_scenario_alone("threads");
}

#[test]
fn a_child_process_is_independent_of_its_parents_threads() {
    run_scenario("fork_with_threads");
}

#[test]
fn signals_disturb_nothing() {
    run_scenario("signals");
}

#[test]
fn other_files_behave_as_without_the_library() {
    run_scenario("other_files");
}

#[test]
fn without_a_server_there_is_no_device() {
    let dir = tempfile::tempdir().unwrap();
    run("no_server", &dir.path().join("none"));
    // The socket of a killed server is not a server, and neither is a file or a listener of another
    // type.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    run("no_server", &file);
    let _stream = std::os::unix::net::UnixListener::bind(dir.path().join("stream")).unwrap();
    run("no_server", &dir.path().join("stream"));
}

#[test]
fn a_program_gets_the_errno_of_a_missing_permission() {
    let cma = with_map("ram=64M", "*=ram");
    let server = TestServer::with_config(cma, "bytes=1M", "video=*");
    run("refused", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

/// Runs a scenario that prints when it is ready, calls `then`, and lets the scenario continue.
fn run_with_pause(name: &str, socket: &Path, then: impl FnOnce()) {
    let Some(program) = program() else { return };
    let mut command = scenario(program, name, socket);
    let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    then();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_program_survives_the_end_of_its_server() {
    let server = server();
    let path = server.path.clone();
    run_with_pause("server_ends", &path, || server.stop().unwrap());
}

#[test]
fn a_chunk_is_lost_with_its_server_and_the_next_server_allocates_others() {
    let first = server();
    let folder = tempfile::tempdir().unwrap();
    // Both servers have the same path, a symbolic link that is changed.
    let path = folder.path().join("cma.sock");
    std::os::unix::fs::symlink(&first.path, &path).unwrap();
    let mut second = None;
    run_with_pause("restarted", &path, || {
        first.stop().unwrap();
        let server = second.insert(server());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&server.path, &path).unwrap();
    });
}

#[test]
fn memory_of_many_pieces_is_one_mapping() {
    let server = TestServer::start(framework("ram=64M", "*=ram", &mut PiecewiseMemory::new()));
    run("pieces", &server.path);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn the_chunks_of_a_killed_program_are_freed() {
    let Some(program) = program() else { return };
    let server = server();
    for _ in 0..30 {
        let mut child = start(&mut scenario(program, "threads", &server.path));
        eventually("it has allocated", || server.free_bytes("camera") < 64 * MIB);
        child.kill().unwrap();
        child.wait().unwrap();
        server.wait_until_free("camera", 64 * MIB);
    }
}
