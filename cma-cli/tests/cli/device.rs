//! `cma serve --socket`, and `cma shell --connect` as its client.

use super::{Run, cma, folder, run};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// A running `cma serve --socket`. Dropping kills it.
pub(crate) struct SocketServer {
    process: Child,
    folder: TempDir,
}

impl SocketServer {
    pub(crate) fn start(options: &[&str]) -> SocketServer {
        SocketServer::of(&["--cma", "r=16M", "--map", "camera,codec=r"], options)
    }

    /// A server of the system that `system` describes.
    pub(crate) fn of(system: &[&str], options: &[&str]) -> SocketServer {
        let folder = folder();
        let socket = folder.path().join("cma.sock").display().to_string();
        let mut process = cma(system)
            .args(["serve", "--socket", &socket])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(process.stdout.take().expect("it is piped"));
        let last = out.lines().map_while(Result::ok).find(|line| line.starts_with("chunks: "));
        assert_eq!(last.as_deref(), Some(format!("chunks: {socket}").as_str()));
        SocketServer { process, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("cma.sock")
    }

    /// Runs a shell that is connected to it, with this input.
    fn shell(&self, input: &str) -> Run {
        let mut shell = ConnectedShell::start(&self.socket());
        shell.input.write_all(input.as_bytes()).expect("the shell reads");
        drop(shell.input);
        let mut out = String::new();
        std::io::Read::read_to_string(&mut shell.output, &mut out).expect("text");
        let output = shell.process.wait_with_output().expect("it ends");
        Run { out, ..Run::from(output) }
    }

    /// Ends it by SIGTERM, and returns its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("there is kill");
        let code = self.process.wait().expect("it ends").code();
        assert!(!self.socket().exists(), "the socket was left behind");
        code
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running `cma shell --connect`.
struct ConnectedShell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl ConnectedShell {
    fn start(socket: &Path) -> ConnectedShell {
        let mut process = cma(&["shell", "--connect", &socket.display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        ConnectedShell { process, input, output }
    }

    /// Sends a command, and returns the next line of output.
    fn command(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("the shell reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line
    }
}

#[test]
fn a_shell_lists_only_its_own_chunks_of_a_server() {
    let server = SocketServer::start(&[]);
    let mut other = ConnectedShell::start(&server.socket());
    assert_eq!(other.command("a camera 4M"), "  1: 0x400000@0x30000000\n");
    let Run { code, out, err } = server.shell("a codec/frame 3M/1M\nA r 100\nl\nf 1\nl\n");
    let (first, second) = ("  1: 0x300000@0x30400000\n", "  2: 0x1000@0x30700000\n");
    assert_eq!((code, err.as_str()), (0, ""));
    let listed = |chunk: &str, who| chunk.replace('\n', &format!("  {who}\n"));
    let (one, two) = (listed(first, "codec/frame"), listed(second, "from r"));
    assert_eq!(out, format!("{first}{second}{one}{two}{two}"));
    // The chunks of the ended shell are free, and those of the other are not.
    let Run { out, .. } = server.shell("a codec 12M\n");
    assert_eq!(out, "  1: 0xc00000@0x30400000\n");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn the_shell_reports_the_servers_refusals_with_errno_and_reason() {
    let server =
        SocketServer::start(&["--limits", "chunks=2", "--rules", "codec=uid:4294967294;*,@*=*"]);
    let Run { code, out, err } = server
        .shell("a camera 20M\na nobody 1\na codec 1\na camera 1\na camera 1\na camera 1\nf 7\n");
    assert_eq!((code, out.lines().count()), (1, 2));
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("line 1: ENOMEM: no region could serve it: r: too small"),
        "{err}"
    );
    assert!(
        lines[1].starts_with("line 2: ENOENT: no rule of the map matches nobody/common"),
        "{err}"
    );
    assert!(lines[2].starts_with("line 3: EACCES: "), "{err}");
    assert!(lines[3].starts_with("line 6: EDQUOT: "), "{err}");
    assert_eq!((lines[4], lines.len()), ("line 7: there is no chunk 7", 5));
    assert_eq!(server.end(), Some(0));
}

#[test]
fn the_chunks_of_a_killed_shell_are_freed() {
    let server = SocketServer::start(&[]);
    let mut shell = ConnectedShell::start(&server.socket());
    assert_eq!(shell.command("a camera 16M"), "  1: 0x1000000@0x30000000\n");
    shell.process.kill().expect("it runs");
    shell.process.wait().expect("it ends");
    let Run { out, err, .. } = server.shell("a camera 16M\n");
    assert_eq!((out.as_str(), err.as_str()), ("  1: 0x1000000@0x30000000\n", ""));
}

#[test]
fn a_connected_shell_waits_for_room_that_another_one_frees() {
    let server = SocketServer::start(&[]);
    let mut holder = ConnectedShell::start(&server.socket());
    assert_eq!(holder.command("a codec 16M"), "  1: 0x1000000@0x30000000\n");
    let Run { code, out, err } = server.shell("a camera 1M wait=20ms\n");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("line 1: ETIMEDOUT: no region could serve it within "), "{err}");
    assert!(err.ends_with("ms: r: full: 0 of 16M free\n"), "{err}");
    let Run { code, err, .. } = server.shell("a camera 4K at=0x30001000 wait=0s\n");
    assert!(code == 1 && err.contains("codec/common"), "{err}");
    let mut waiting = ConnectedShell::start(&server.socket());
    writeln!(waiting.input, "a camera 1M/64K below=4G wait=30s").expect("the shell reads");
    holder.input.write_all(b"f\n").expect("the shell reads");
    let mut line = String::new();
    waiting.output.read_line(&mut line).expect("text");
    assert!(line.starts_with("  1: 0x100000@0x30"), "{line}");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_missing_server_and_wrong_options_are_reported_with_a_remedy() {
    let folder = folder();
    let nowhere = folder.path().join("none").display().to_string();
    let Run { code, err, .. } = super::run(&["shell", "--connect", &nowhere]);
    assert_eq!(code, 2);
    assert!(err.contains("no server at") && err.contains("cma serve --socket"), "{err}");
    for (options, expected) in [
        (
            ["--rules", "camera=root"],
            "expected user:NAME, group:NAME, uid:NUMBER, gid:NUMBER or * for everyone",
        ),
        (["--limits", "chunk=2"], "there is no such limit"),
        (["--socket-mode", "999"], "three octal digits"),
    ] {
        let Run { code, err, .. } =
            super::run(&[&["serve", "--socket", &nowhere][..], &options].concat());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(expected), "{err}");
    }
    let missing = folder.path().join("none/cma.sock").display().to_string();
    let Run { code, err, .. } = super::run(&["serve", "--socket", &missing]);
    assert_eq!(code, 2);
    assert!(err.contains("mkdir -p"), "{err}");
    let server = SocketServer::start(&[]);
    let taken = server.socket().display().to_string();
    let Run { code, err, .. } = super::run(&["serve", "--socket", &taken]);
    assert_eq!(code, 2);
    assert!(err.contains("a server is listening at"), "{err}");
}

#[test]
fn a_refused_request_is_counted_once() {
    let mount = folder();
    let attributes = mount.path().display().to_string();
    if !Path::new("/dev/fuse").exists()
        || fs::metadata("/proc/self").map_or(true, |me| me.uid() != 0)
    {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "skipped: attributes are mounted here by root with /dev/fuse")
            .expect("standard error is open");
        return;
    }
    let server = SocketServer::start(&["--mount", &attributes]);
    server.shell("a camera 20M\n");
    let read =
        |name: &str| fs::read_to_string(mount.path().join("regions/r").join(name)).expect("text");
    assert_eq!(read("alloc_pages_fail"), "5120\n");
    assert_eq!(read("failures").lines().count(), 1);
    assert_eq!(server.end(), Some(0));
}

#[test]
fn the_attributes_of_a_server_are_read_over_its_socket_and_not_written() {
    let server = SocketServer::start(&[]);
    let socket = server.socket().display().to_string();
    let Run { code, out, .. } = run(&["get", "--connect", &socket, "map"]);
    assert_eq!((code, out.as_str()), (0, "camera,codec=r\n"));
    let Run { code, out, .. } = run(&["tree", "--connect", &socket, "regions/r"]);
    assert!(code == 0 && out.starts_with("regions/r\n├─ alloc "), "{out}");
    for (command, expected) in [
        (&["get", "nothing"][..], "nothing: there is no such attribute"),
        (&["get", "regions/r"], "`cma tree regions/r`"),
        (&["set", "map", "*=r"], "unexpected argument '--connect'"),
    ] {
        let Run { code, err, .. } = run(&[command, &["--connect", &socket]].concat());
        assert!(code == 2 && err.contains(expected), "{command:?}: {err}");
    }
    let Run { code, err, .. } = run(&["get", "map", "--connect", "/nowhere/cma.sock"]);
    assert!(code == 2 && err.contains("`cma serve --socket PATH`"), "{err}");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_recording_of_a_server_is_a_trace_of_what_its_clients_did() {
    let place = folder();
    let file = place.path().join("server.trace");
    let server = SocketServer::start(&["--record", &file.display().to_string()]);
    server.shell("a camera/frame 3M/1M\nA r 100 below=0x70000000\na codec 32M\nf 1\n");
    assert_eq!(server.end(), Some(0));
    let text = fs::read_to_string(&file).expect("it is a text");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let fields = |line: &str| line.split_once(' ').expect("a time").1.to_string();
    let operations: Vec<_> = lines.into_iter().map(fields).collect();
    let named = "a 2 100 1 cma from=r below=1792M";
    let freed = ["f 1".to_string(), "f 2".to_string()];
    let asked = ["a 1 3145728 1048576 camera/frame", named, "r 3 33554432 1 codec"];
    assert_eq!(operations[..3], asked);
    assert_eq!(operations[3..], freed);
    let Run { code, err, .. } = super::run(&["replay", &file.display().to_string()]);
    assert_eq!((code, err.as_str()), (1, ""), "one request was refused");
}

#[test]
fn the_regions_of_a_server_are_drawn_with_the_chunks_that_live_now() {
    let server = SocketServer::start(&[]);
    let mut shell = ConnectedShell::start(&server.socket());
    assert_eq!(shell.command("a camera/frame 4M"), "  1: 0x400000@0x30000000\n");
    let socket = server.socket().display().to_string();
    let picture = server.folder.path().join("now.svg").display().to_string();
    let Run { code, out, err } = run(&["draw", "--connect", &socket, "-o", &picture]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "r, best-fit at 0x30000000: 1 chunk in 16 MiB\n");
    let drawn = fs::read_to_string(&picture).expect("the picture is there");
    assert!(drawn.contains(">camera 4 MiB<") && drawn.contains(">free 12 MiB"), "{drawn}");
    assert!(drawn.contains("camera/frame, for "), "{drawn}");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_server_explains_its_last_refusals_to_its_user() {
    let server = SocketServer::start(&["--limits", "user-bytes=16M"]);
    // What a limit refuses reaches no region.
    let Run { out, .. } = server.shell("a camera 12M\na codec 8M\nwhy\na codec 4M/8M\nwhy\n");
    let (limit, region) = out.split_once("the last refusal").expect("a refusal");
    assert!(limit.contains("\nno region was asked: "), "{out}");
    for said in [
        " of the server: 4M/8M for codec/common, refused ",
        "r: alignment: no hole has room aligned to 8M; the largest is 4M\n",
        "to make room (least): 12M in 1 chunk; a new best-fit then places it at 0x",
    ] {
        assert!(region.contains(said), "{said}: {out}");
    }
    let socket = server.socket().display().to_string();
    // The chunk has left with the shell.
    let Run { code, out, err } = run(&["why", "--connect", &socket]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("4M/8M for codec/common") && out.contains("r: alignment: "), "{out}");
    let Run { code, out, .. } = run(&["why", "--json", "--connect", &socket]);
    let newest: serde_json::Value =
        serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((code, &newest["request"]), (0, &serde_json::Value::from("4M/8M")));
    assert_eq!(server.end(), Some(0));
}
