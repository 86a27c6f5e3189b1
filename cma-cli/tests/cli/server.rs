//! A running server, which is started and ended by tests.

use crate::{Run, cma, folder};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server. Its mount goes before its folder.
pub(crate) struct Server {
    pub(crate) child: Child,
    out: BufReader<Box<dyn Read>>,
    /// Where it is mounted, and beside it what it says on standard error.
    folder: Option<TempDir>,
}

impl Server {
    /// Nothing where nothing can be mounted.
    pub(crate) fn start(options: &[&str]) -> Option<Server> {
        let folder = folder();
        fs::create_dir(folder.path().join("mount")).expect("a folder can be made");
        Server::start_on(folder, options)
    }

    pub(crate) fn start_on(folder: TempDir, options: &[&str]) -> Option<Server> {
        let said = File::create(folder.path().join("said")).expect("a file can be made");
        Server::start_saying(folder, options, said.into())
    }

    /// The same, with another standard error.
    pub(crate) fn start_saying(folder: TempDir, options: &[&str], stderr: Stdio) -> Option<Server> {
        let child = cma(&["serve", "--mount", &folder.path().join("mount").display().to_string()])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        Server::started(folder, child)
    }

    /// A server that was started in a way of its own, on `mount` in `folder`.
    pub(crate) fn started(folder: TempDir, child: Child) -> Option<Server> {
        let mut server = Server::silent(folder, child);
        if server.line("attributes: ").is_none() {
            server.child.wait().expect("it ends");
            let said = server.said();
            assert!(said.contains("/dev/fuse") || said.contains("fusermount3"), "{said}");
            let mut unkept = io::stderr();
            writeln!(unkept, "skipped: nothing can be mounted here: {said}")
                .expect("somebody listens");
            return None;
        }
        Some(server)
    }

    /// The same, of one that may not be able to say that it serves.
    pub(crate) fn silent(folder: TempDir, mut child: Child) -> Server {
        let out: Box<dyn Read> = match child.stdout.take() {
            Some(out) => Box::new(out),
            None => Box::new(io::empty()),
        };
        Server { child, out: BufReader::new(out), folder: Some(folder) }
    }

    /// Its next line that starts with `start`, if one comes.
    pub(crate) fn line(&mut self, start: &str) -> Option<String> {
        self.out.by_ref().lines().map_while(Result::ok).find(|line| line.starts_with(start))
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder().join("mount").join(inside)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it has one until it ends").path()
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder().join("said")).unwrap_or_default()
    }

    /// Runs `cma` with `command`, for this server.
    pub(crate) fn ask(&self, command: &[&str]) -> Run {
        let mut asked = cma(command);
        asked.env("CMA_MOUNT", self.path("")).output().expect("the program starts").into()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("the attribute is there")
    }

    /// Waits until `holds`, which it is to do soon.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < patience, "{what}: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Tells it to end, and takes its exit status.
    pub(crate) fn end(mut self, signal: &str) -> (i32, TempDir) {
        self.signal(signal);
        let code = self.ended().code().expect("it ended by itself");
        (code, self.folder.take().expect("it has one"))
    }

    /// Waits for its end. A server that hangs is killed, so that the test fails and ends.
    fn ended(&mut self) -> ExitStatus {
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends")
    }

    /// Kills it. The mount stays.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        self.folder.take().expect("it has one")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            self.ended();
        }
    }
}
