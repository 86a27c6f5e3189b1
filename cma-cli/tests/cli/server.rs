//! Starts and ends servers for tests.

use crate::{Run, cma, folder};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running `cma serve --mount`. Dropping ends it, before its folder is removed.
pub(crate) struct MountedServer {
    pub(crate) child: Child,
    out: BufReader<Box<dyn Read>>,
    /// Contains the mount point, and the file that is its standard error.
    folder: Option<TempDir>,
}

impl MountedServer {
    /// `None` where nothing can be mounted.
    pub(crate) fn start(options: &[&str]) -> Option<MountedServer> {
        let folder = folder();
        fs::create_dir(folder.path().join("mount")).expect("a folder can be made");
        MountedServer::start_on(folder, options)
    }

    pub(crate) fn start_on(folder: TempDir, options: &[&str]) -> Option<MountedServer> {
        let stderr = File::create(folder.path().join("stderr")).expect("a file can be made");
        MountedServer::start_with_stderr(folder, options, stderr.into())
    }

    /// The same, with another standard error.
    pub(crate) fn start_with_stderr(
        folder: TempDir,
        options: &[&str],
        stderr: Stdio,
    ) -> Option<MountedServer> {
        let child = cma(&["serve", "--mount", &folder.path().join("mount").display().to_string()])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        MountedServer::started(folder, child)
    }

    /// A server that the test has started as `child`, on `mount` in `folder`.
    pub(crate) fn started(folder: TempDir, child: Child) -> Option<MountedServer> {
        let mut server = MountedServer::without_output(folder, child);
        if server.line("attributes: ").is_none() {
            server.child.wait().expect("it ends");
            let stderr = server.stderr();
            assert!(stderr.contains("/dev/fuse") || stderr.contains("fusermount3"), "{stderr}");
            writeln!(io::stderr(), "skipped: nothing can be mounted here: {stderr}")
                .expect("standard error is open");
            return None;
        }
        Some(server)
    }

    /// The same, of a server that may be unable to write its standard output.
    pub(crate) fn without_output(folder: TempDir, mut child: Child) -> MountedServer {
        let out: Box<dyn Read> = match child.stdout.take() {
            Some(out) => Box::new(out),
            None => Box::new(io::empty()),
        };
        MountedServer { child, out: BufReader::new(out), folder: Some(folder) }
    }

    /// Reads its output up to a line that starts with `start`.
    pub(crate) fn line(&mut self, start: &str) -> Option<String> {
        self.out.by_ref().lines().map_while(Result::ok).find(|line| line.starts_with(start))
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder().join("mount").join(inside)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it has one until it ends").path()
    }

    /// Its standard error up to now.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder().join("stderr")).unwrap_or_default()
    }

    /// Runs `cma` with `args`, for this server.
    pub(crate) fn cma(&self, args: &[&str]) -> Run {
        let mut command = cma(args);
        command.env("CMA_MOUNT", self.path("")).output().expect("the program starts").into()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("the attribute is there")
    }

    /// Waits until `holds` returns true, a minute at most.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&MountedServer) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.stderr());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Ends it by `signal`, and returns its exit status.
    pub(crate) fn end(mut self, signal: &str) -> (i32, TempDir) {
        self.signal(signal);
        let code = self.wait().code().expect("it ended by itself");
        (code, self.folder.take().expect("it has one"))
    }

    /// Waits for its end. A server that hangs is killed, so that the test fails and ends.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends")
    }

    /// Kills it by SIGKILL, which leaves the mount.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        self.folder.take().expect("it has one")
    }
}

impl Drop for MountedServer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            self.wait();
        }
    }
}
