//! A server that gives chunks to other processes, and the shell that asks it for some.

use super::{Run, cma, folder};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// `cma serve --socket` at work. Killed if the test forgets it.
struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Server {
        let folder = folder();
        let socket = folder.path().join("cma.sock").display().to_string();
        let mut command =
            cma(&["--cma", "r=16M", "--map", "camera,codec=r", "serve", "--socket", &socket]);
        let mut process = command
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(process.stdout.take().expect("it is piped"));
        let last = out.lines().map_while(Result::ok).find(|line| line.starts_with("chunks: "));
        assert_eq!(last.as_deref(), Some(format!("chunks: {socket}").as_str()));
        Server { process, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("cma.sock")
    }

    /// A shell against it, with this input.
    fn shell(&self, input: &str) -> Run {
        let mut shell = Shell::start(&self.socket());
        shell.input.write_all(input.as_bytes()).expect("the shell reads");
        drop(shell.input);
        let mut out = String::new();
        std::io::Read::read_to_string(&mut shell.output, &mut out).expect("text");
        let output = shell.process.wait_with_output().expect("it ends");
        Run { out, ..Run::from(output) }
    }

    /// Ends it as an init system does; the answer is its exit status.
    fn end(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("there is kill");
        let code = self.process.wait().expect("it ends").code();
        assert!(!self.socket().exists(), "the socket was left behind");
        code
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A shell that stays.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(socket: &Path) -> Shell {
        let mut process = cma(&["shell", "--connect", &socket.display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Shell { process, input, output }
    }

    /// The line that a command is answered with.
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("the shell reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line
    }
}

#[test]
fn a_shell_has_chunks_of_a_server_and_lists_its_own_alone() {
    let server = Server::start(&[]);
    let mut other = Shell::start(&server.socket());
    assert_eq!(other.ask("a camera 4M"), "  1: 0x400000@0x30000000\n");
    let Run { code, out, err } = server.shell("a codec/frame 3M/1M\nA r 100\nl\nf 1\nl\n");
    let (first, second) = ("  1: 0x300000@0x30400000\n", "  2: 0x1000@0x30700000\n");
    assert_eq!((code, err.as_str()), (0, ""));
    let listed = |chunk: &str, who| chunk.replace('\n', &format!("  {who}\n"));
    let (one, two) = (listed(first, "codec/frame"), listed(second, "from r"));
    assert_eq!(out, format!("{first}{second}{one}{two}{two}"));
    // What that shell left is free again, and what the other has is not.
    let Run { out, .. } = server.shell("a codec 12M\n");
    assert_eq!(out, "  1: 0xc00000@0x30400000\n");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn what_the_server_refuses_is_told_with_its_reason() {
    let server = Server::start(&["--limits", "chunks=2", "--rules", "codec=uid:4294967294;*,@*=*"]);
    let Run { code, out, err } = server
        .shell("a camera 20M\na nobody 1\na codec 1\na camera 1\na camera 1\na camera 1\nf 7\n");
    assert_eq!((code, out.lines().count()), (1, 2));
    let said: Vec<&str> = err.lines().collect();
    assert!(said[0].starts_with("line 1: ENOMEM: no region could serve it: r: too small"), "{err}");
    assert!(
        said[1].starts_with("line 2: ENOENT: no rule of the map matches nobody/common"),
        "{err}"
    );
    assert!(said[2].starts_with("line 3: EACCES: "), "{err}");
    assert!(said[3].starts_with("line 6: EDQUOT: "), "{err}");
    assert_eq!((said[4], said.len()), ("line 7: there is no chunk 7", 5));
    assert_eq!(server.end(), Some(0));
}

#[test]
fn what_a_killed_shell_had_is_free_again() {
    let server = Server::start(&[]);
    let mut shell = Shell::start(&server.socket());
    assert_eq!(shell.ask("a camera 16M"), "  1: 0x1000000@0x30000000\n");
    shell.process.kill().expect("it runs");
    shell.process.wait().expect("it ends");
    let Run { out, err, .. } = server.shell("a camera 16M\n");
    assert_eq!((out.as_str(), err.as_str()), ("  1: 0x1000000@0x30000000\n", ""));
}

#[test]
fn a_shell_without_a_server_and_a_server_with_wrong_options_say_what_to_do() {
    let folder = folder();
    let nowhere = folder.path().join("none").display().to_string();
    let Run { code, err, .. } = super::run(&["shell", "--connect", &nowhere]);
    assert_eq!(code, 2);
    assert!(err.contains("no server at") && err.contains("cma serve --socket"), "{err}");
    for (options, said) in [
        (["--rules", "camera=root"], "expected uid:NUMBER, gid:NUMBER or * for everyone"),
        (["--limits", "chunk=2"], "there is no such limit"),
        (["--socket-mode", "999"], "three octal digits"),
    ] {
        let Run { code, err, .. } =
            super::run(&[&["serve", "--socket", &nowhere][..], &options].concat());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(said), "{err}");
    }
    let missing = folder.path().join("none/cma.sock").display().to_string();
    let Run { code, err, .. } = super::run(&["serve", "--socket", &missing]);
    assert_eq!(code, 2);
    assert!(err.contains("mkdir -p"), "{err}");
    let server = Server::start(&[]);
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
        let mut unkept = std::io::stderr();
        writeln!(unkept, "skipped: attributes are mounted here by root with /dev/fuse")
            .expect("somebody listens");
        return;
    }
    let server = Server::start(&["--mount", &attributes]);
    server.shell("a camera 20M\n");
    let read =
        |name: &str| fs::read_to_string(mount.path().join("regions/r").join(name)).expect("text");
    assert_eq!(read("alloc_pages_fail"), "5120\n");
    assert_eq!(read("failures").lines().count(), 1);
    assert_eq!(server.end(), Some(0));
}
