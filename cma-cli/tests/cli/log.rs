//! Output that can't be written ends no server and changes no exit status: full disks, readers that
//! are gone or stuck, closed descriptors.

use crate::server::MountedServer;
use crate::{Run, cma, folder, written};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const OPTIONS: &[&str] = &["--cma", "b1=8M", "--map", "*=b1", "--log", "debug"];

/// A full file system of 16 KiB, which is unmounted before its folder is removed.
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
                    .expect("standard error is open");
                return None;
            }
        }
        let disk = FullDisk(folder);
        let mut filler = disk.file("filler");
        while filler.write(&[0; 512]).is_ok_and(|taken| taken > 0) {}
        Some(disk)
    }

    fn file(&self, name: &str) -> File {
        File::create(self.0.path().join(name)).expect("an empty file needs no space")
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
    MountedServer::start(&[]).is_some()
}

/// The write end of a pipe whose reader has exited.
fn pipe_without_reader() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().expect("true is there");
    let pipe = reader.stdin.take().expect("it is piped");
    reader.wait().expect("it ends");
    pipe.into()
}

/// Exercises `server`: attributes, chunks and shutdown, with more requests than it has threads.
fn serves_and_ends(server: MountedServer, socket: Option<&Path>) {
    assert_eq!(serves(server, socket), 0);
}

/// The same; returns the exit status.
fn serves(server: MountedServer, socket: Option<&Path>) -> i32 {
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
    assert!(socket.is_none_or(|socket| !socket.exists()), "the socket is left");
    code
}

#[test]
fn a_server_whose_log_is_on_a_full_disk_serves_attributes_and_chunks() {
    if !can_mount() {
        return;
    }
    let Some(disk) = FullDisk::mounted() else { return };
    let folder = folder_with_mount();
    let socket = folder.path().join("cma.sock");
    let named = socket.display().to_string();
    let options = [OPTIONS, &["--socket", &named]].concat();
    let server = MountedServer::start_with_stderr(folder, &options, disk.file("log").into());
    serves_and_ends(server.expect("it starts without its log"), Some(&socket));
}

#[test]
fn a_server_whose_log_has_no_reader_serves() {
    if !can_mount() {
        return;
    }
    let server =
        MountedServer::start_with_stderr(folder_with_mount(), OPTIONS, pipe_without_reader());
    serves_and_ends(server.expect("it starts without its log"), None);
}

#[test]
fn a_server_whose_log_has_a_stuck_reader_serves() {
    if !can_mount() {
        return;
    }
    let mut reader =
        Command::new("sleep").arg("600").stdin(Stdio::piped()).spawn().expect("sleep is there");
    let pipe = reader.stdin.take().expect("it is piped");
    let server = MountedServer::start_with_stderr(folder_with_mount(), OPTIONS, pipe.into())
        .expect("it starts");
    // More than the pipe's buffer holds.
    for n in 0..2000 {
        let map = format!("a-device-with-a-long-name-{n}=a-region-with-a-long-name-{n}\n");
        fs::write(server.path("map"), map).expect("the map is taken");
    }
    serves_and_ends(server, None);
    reader.kill().expect("it can be killed");
    reader.wait().expect("it ends");
}

/// A server started by a shell after the commands `prepare`, with standard error redirected.
fn started_by_shell(prepare: &str, redirection: &str) -> (TempDir, Child) {
    let folder = folder_with_mount();
    let script = format!(
        "{prepare} exec \"$0\" serve --mount \"$1\" --cma b1=8M --map '*=b1' {redirection}"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_cma")]).arg(folder.path().join("mount"));
    let child = shell.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    (folder, child.expect("sh is there"))
}

#[test]
fn a_server_with_a_closed_standard_error_serves() {
    if !can_mount() {
        return;
    }
    let (folder, child) = started_by_shell("", "2>&-");
    serves_and_ends(MountedServer::started(folder, child).expect("it starts"), None);
}

#[test]
fn a_server_whose_log_reached_the_limit_on_file_sizes_serves() {
    if !can_mount() {
        return;
    }
    let disk = folder();
    let log = written(&disk, "log", &"x".repeat(4096));
    // The unit is 512 or 1024 bytes, by shell.
    let (folder, child) = started_by_shell("ulimit -f 1;", &format!("2>>'{log}'"));
    // The limit applies to the copies from which plug-ins are loaded too, so the server has none.
    assert_eq!(serves(MountedServer::started(folder, child).expect("it starts"), None), 1);
}

#[test]
fn a_server_whose_standard_output_has_no_reader_serves() {
    if !can_mount() {
        return;
    }
    let folder = folder_with_mount();
    let mount = folder.path().join("mount");
    let mut command = cma(&["serve", "--mount", &mount.display().to_string()]);
    command.args(OPTIONS).stdout(pipe_without_reader()).stderr(Stdio::null());
    let server =
        MountedServer::without_output(folder, command.spawn().expect("the program starts"));
    server.wait_until("it is mounted", |server| server.path("map").exists());
    serves_and_ends(server, None);
}

#[test]
fn a_server_whose_standard_output_is_stuck_serves_and_ends_on_sigterm() {
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
    let server =
        MountedServer::without_output(folder, command.spawn().expect("the program starts"));
    server.wait_until("it is mounted", |server| server.path("map").exists());
    assert_eq!(server.get("map"), "*=b1\n");
    let (code, folder) = server.end("TERM");
    assert_eq!(code, 1);
    assert_eq!(fs::read_dir(folder.path().join("mount")).expect("it is a folder again").count(), 0);
    drop(reader);
}

#[test]
fn a_server_that_cannot_report_its_paths_ends_with_an_error_and_cleans_up() {
    if !can_mount() {
        return;
    }
    let Some(disk) = FullDisk::mounted() else { return };
    let folder = folder_with_mount();
    let (mount, socket) = (folder.path().join("mount"), folder.path().join("cma.sock"));
    let paths = [mount.display().to_string(), socket.display().to_string()];
    let mut command = cma(&["serve", "--mount", &paths[0], "--socket", &paths[1]]);
    command.args(OPTIONS).stdout(disk.file("out"));
    let Run { code, err, .. } = command.output().expect("the program starts").into();
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("standard output can't be written"), "{err}");
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(&mount).expect("it is a folder again").count(), 0);
    // Standard error full too: the exit status remains.
    command.stdout(disk.file("out")).stderr(disk.file("log"));
    assert_eq!(command.status().expect("the program starts").code(), Some(2));
    assert!(!socket.exists());
}

/// A full and a closed standard error.
fn unwritable_stderrs() -> [(&'static str, Stdio); 2] {
    let full = File::options().write(true).open("/dev/full").expect("the system has /dev/full");
    [("full", full.into()), ("gone", pipe_without_reader())]
}

#[test]
fn unwritable_messages_change_neither_output_nor_exit_status() {
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
        let expected: Run = cma(args).output().expect("the program starts").into();
        for (how, stderr) in unwritable_stderrs() {
            let run: Run = cma(args)
                .stderr(stderr)
                .stdout(Stdio::piped())
                .spawn()
                .and_then(Child::wait_with_output)
                .expect("the program starts")
                .into();
            assert_eq!((run.code, &run.out), (expected.code, &expected.out), "{args:?}: {how}");
        }
    }
}

#[test]
fn unwritable_output_is_an_error_of_every_command_except_for_a_closed_pipe() {
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
fn sighup_is_logged_and_ignored() {
    let Some(server) = MountedServer::start(&["--map", "*=b1"]) else { return };
    server.signal("HUP");
    server.wait_until("it is logged", |server| server.stderr().contains("SIGHUP ignored"));
    assert_eq!(server.get("map"), "*=b1\n");
    assert_eq!(server.end("TERM").0, 0);
}
