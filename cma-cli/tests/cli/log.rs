//! What is printed and logged can't end anything: full disks, readers that are gone or stuck,
//! closed descriptors.

use crate::server::Server;
use crate::{Run, cma, folder, written};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const OPTIONS: &[&str] = &["--cma", "b1=8M", "--map", "*=b1", "--log", "debug"];

/// A file system of 16 KiB with nothing left in it. It goes before its folder.
struct FullDisk(TempDir);

impl FullDisk {
    fn mounted() -> Option<FullDisk> {
        let folder = folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => {}
            refused => {
                writeln!(io::stderr(), "skipped: no tmpfs can be mounted: {refused:?}")
                    .expect("it is read");
                return None;
            }
        }
        let disk = FullDisk(folder);
        let mut filler = disk.file("filler");
        while filler.write(&[0; 512]).is_ok_and(|taken| taken > 0) {}
        Some(disk)
    }

    fn file(&self, name: &str) -> File {
        File::create(self.0.path().join(name)).expect("an empty file needs no room")
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn folder_with_mount() -> TempDir {
    let folder = folder();
    fs::create_dir(folder.path().join("mount")).expect("a folder can be made");
    folder
}

fn can_mount() -> bool {
    Server::start(&[]).is_some()
}

/// The write end of a pipe whose reader has exited.
fn pipe_without_reader() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().expect("true is there");
    let pipe = reader.stdin.take().expect("it is piped");
    reader.wait().expect("it ends");
    pipe.into()
}

/// Has `server` do all that servers do, more often than it has threads, and end in order.
fn serves_and_ends(server: Server, socket: Option<&Path>) {
    assert_eq!(serves(server, socket), 0);
}

/// The same; the answer is the exit status.
fn serves(server: Server, socket: Option<&Path>) -> i32 {
    for n in 0..40 {
        let map = format!("camera{n}=b1;*=b1\n");
        fs::write(server.path("map"), &map).expect("the map is taken");
        assert_eq!(server.get("map"), map);
        assert_eq!(server.get("regions/b1/free"), "8388608\n");
        fs::write(server.path("map"), "camera=\n").expect_err("this is no map");
        if let Some(socket) = socket.filter(|_| n % 4 == 0) {
            let mut shell = cma(&["shell", "--connect", &socket.display().to_string()]);
            let mut shell = shell
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program starts");
            let mut input = shell.stdin.take().expect("it is piped");
            input.write_all(b"a camera 4096\na camera 9M\nf 1\n").expect("it reads");
            drop(input);
            let Run { code, out, .. } = shell.wait_with_output().expect("it ends").into();
            assert_eq!((code, out.lines().count()), (1, 1), "{out}");
        }
    }
    let (code, folder) = server.end("TERM");
    assert_eq!(fs::read_dir(folder.path().join("mount")).expect("it is a folder again").count(), 0);
    assert!(socket.is_none_or(|socket| !socket.exists()), "the socket is left behind");
    code
}

#[test]
fn a_log_on_a_full_disk_stops_neither_attributes_nor_chunks() {
    if !can_mount() {
        return;
    }
    let Some(disk) = FullDisk::mounted() else { return };
    let folder = folder_with_mount();
    let socket = folder.path().join("cma.sock");
    let named = socket.display().to_string();
    let options = [OPTIONS, &["--socket", &named]].concat();
    let server = Server::start_saying(folder, &options, disk.file("log").into());
    serves_and_ends(server.expect("it starts without its log"), Some(&socket));
}

#[test]
fn a_log_whose_reader_has_exited_stops_nothing() {
    if !can_mount() {
        return;
    }
    let server = Server::start_saying(folder_with_mount(), OPTIONS, pipe_without_reader());
    serves_and_ends(server.expect("it starts without its log"), None);
}

#[test]
fn a_log_whose_reader_is_stuck_stops_nothing() {
    if !can_mount() {
        return;
    }
    let mut reader =
        Command::new("sleep").arg("600").stdin(Stdio::piped()).spawn().expect("sleep is there");
    let pipe = reader.stdin.take().expect("it is piped");
    let server =
        Server::start_saying(folder_with_mount(), OPTIONS, pipe.into()).expect("it starts");
    // More than a pipe takes.
    for n in 0..2000 {
        let map = format!("a-device-with-a-long-name-{n}=a-region-with-a-long-name-{n}\n");
        fs::write(server.path("map"), map).expect("the map is taken");
    }
    serves_and_ends(server, None);
    reader.kill().expect("it can be killed");
    reader.wait().expect("it ends");
}

/// A server that the shell started after `prepared`, with its own standard error.
fn started_by_shell(prepared: &str, redirected: &str) -> (TempDir, Child) {
    let folder = folder_with_mount();
    let script = format!(
        "{prepared} exec \"$0\" serve --mount \"$1\" --cma b1=8M --map '*=b1' {redirected}"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_cma")]).arg(folder.path().join("mount"));
    let child = shell.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    (folder, child.expect("sh is there"))
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    if !can_mount() {
        return;
    }
    let (folder, child) = started_by_shell("", "2>&-");
    serves_and_ends(Server::started(folder, child).expect("it starts"), None);
}

#[test]
fn a_log_that_reached_the_limit_on_file_sizes_stops_nothing() {
    if !can_mount() {
        return;
    }
    let disk = folder();
    let log = written(&disk, "log", &"x".repeat(4096));
    // In units of 512 bytes or of 1024.
    let (folder, child) = started_by_shell("ulimit -f 1;", &format!("2>>'{log}'"));
    // The limit also holds for the copies from which plug-ins are loaded: it serves without any.
    assert_eq!(serves(Server::started(folder, child).expect("it starts"), None), 1);
}

#[test]
fn a_server_goes_on_although_nobody_reads_its_standard_output() {
    if !can_mount() {
        return;
    }
    let folder = folder_with_mount();
    let mount = folder.path().join("mount");
    let mut command = cma(&["serve", "--mount", &mount.display().to_string()]);
    command.args(OPTIONS).stdout(pipe_without_reader()).stderr(Stdio::null());
    let server = Server::silent(folder, command.spawn().expect("the program starts"));
    server.until("it is mounted", |server| server.path("map").exists());
    serves_and_ends(server, None);
}

#[test]
fn a_server_whose_standard_output_is_stuck_serves_and_can_be_told_to_end() {
    if !can_mount() {
        return;
    }
    let (mut out, reader) = UnixStream::pair().expect("sockets can be made");
    out.set_nonblocking(true).expect("it is a socket");
    while out.write(&[b'x'; 4096]).is_ok() {}
    while out.write(b"x").is_ok() {}
    out.set_nonblocking(false).expect("it is a socket");
    let folder = folder_with_mount();
    let mount = folder.path().join("mount").display().to_string();
    let mut command = cma(&["serve", "--mount", &mount]);
    command.args(OPTIONS).stdout(OwnedFd::from(out)).stderr(Stdio::null());
    let server = Server::silent(folder, command.spawn().expect("the program starts"));
    server.until("it is mounted", |server| server.path("map").exists());
    assert_eq!(server.get("map"), "*=b1\n");
    let (code, folder) = server.end("TERM");
    assert_eq!(code, 1);
    assert_eq!(fs::read_dir(folder.path().join("mount")).expect("it is a folder again").count(), 0);
    drop(reader);
}

#[test]
fn a_server_that_cannot_say_where_it_serves_ends_with_a_reason_and_leaves_nothing_behind() {
    if !can_mount() {
        return;
    }
    let Some(disk) = FullDisk::mounted() else { return };
    let folder = folder_with_mount();
    let (mount, socket) = (folder.path().join("mount"), folder.path().join("cma.sock"));
    let doors = [mount.display().to_string(), socket.display().to_string()];
    let mut command = cma(&["serve", "--mount", &doors[0], "--socket", &doors[1]]);
    command.args(OPTIONS).stdout(disk.file("out"));
    let Run { code, err, .. } = command.output().expect("the program starts").into();
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("standard output can't be written"), "{err}");
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(&mount).expect("it is a folder again").count(), 0);
    // Both at once: then nobody is told why.
    command.stdout(disk.file("out")).stderr(disk.file("log"));
    assert_eq!(command.status().expect("the program starts").code(), Some(2));
    assert!(!socket.exists());
}

/// Each way of not listening to standard error.
fn deaf() -> [(&'static str, Stdio); 2] {
    let full = File::options().write(true).open("/dev/full").expect("the system has /dev/full");
    [("full", full.into()), ("gone", pipe_without_reader())]
}

#[test]
fn a_command_ends_as_it_would_when_its_messages_cannot_be_written() {
    let empty = folder().path().display().to_string();
    for args in [
        &["regions", "--cma", "r=1E"][..],
        &["check", "--map", "=="],
        &["plugins", "--plugin-dir", &empty],
        &["replay", "/does/not/exist"],
        &["get", "map", "--mount", "/"],
        &["set", "map", "x", "--mount", "/"],
        &["tree", "--mount", "/"],
        &["serve"],
        &["serve", "--mount", "/does/not/exist"],
        &["shell", "--connect", "/does/not/exist"],
        &["--bogus"],
        &["demo", "--map", "=="],
    ] {
        let heard: Run = cma(args).output().expect("the program starts").into();
        for (how, stderr) in deaf() {
            let unheard: Run = cma(args)
                .stderr(stderr)
                .stdout(Stdio::piped())
                .spawn()
                .and_then(Child::wait_with_output)
                .expect("the program starts")
                .into();
            assert_eq!((unheard.code, &unheard.out), (heard.code, &heard.out), "{args:?}: {how}");
        }
    }
}

#[test]
fn results_that_cannot_be_written_are_an_error_of_every_command_and_a_closed_pipe_is_none() {
    let traces = folder();
    let trace = written(&traces, "t.trace", crate::TRACE);
    for args in [
        &["regions"][..],
        &["demo"],
        &["plugins"],
        &["replay", &trace],
        &["--map", "x=y", "check"],
        &["--help"],
        &["help", "serve"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("the system has /dev/full");
        let Run { code, err, .. } =
            cma(args).stdout(full).output().expect("the program starts").into();
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains("standard output can't be written"), "{args:?}: {err}");
        let closed = cma(args).stdout(pipe_without_reader()).output().expect("the program starts");
        let Run { code, err, .. } = closed.into();
        assert!(code == 0 && !err.contains("standard output"), "{args:?}: {code}: {err}");
    }
}

#[test]
fn a_hangup_is_logged_and_ends_nothing() {
    let Some(server) = Server::start(&["--map", "*=b1"]) else { return };
    server.signal("HUP");
    server.until("it is logged", |server| server.said().contains("SIGHUP ignored"));
    assert_eq!(server.get("map"), "*=b1\n");
    assert_eq!(server.end("TERM").0, 0);
}
