//! Programs: found, compiled, run within a time limit, ended with the test.

use crate::installed::{library_folder, pkg_config_path};
use crate::machine::skipped;
use crate::seen::Seen;
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// No program here takes longer, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The path of a program. `None`, and a message, when the machine has none of that name.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// The time that a program gets to end by SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_programs/programs").join(name)
}

/// A program of this folder, compiled with these libraries of pkg-config, of which `cma` is the
/// installed libcma. `None`, and a message, when the machine lacks one of them.
pub(crate) fn compiled(name: &str, libraries: &[&str]) -> Option<PathBuf> {
    installed("cc")?;
    let mut flags = String::new();
    if !libraries.is_empty() {
        installed("pkg-config")?;
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", pkg_config_path());
        let output = command.args(["--cflags", "--libs"]).args(libraries).output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
            skipped(why.trim());
            return None;
        }
        flags = String::from_utf8(output.stdout).unwrap();
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let options =
        ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-DALLOW_EXPERIMENTAL_API", "-o"];
    let status = Command::new("cc")
        .args(options)
        .arg(&program)
        .arg(source(&format!("{name}.c")))
        .args(flags.split_whitespace())
        .status();
    assert!(status.unwrap().success(), "{name}.c does not compile");
    Some(program)
}

/// A command that finds the installed libcma, and a server's socket.
pub(crate) fn client(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", library_folder()).env("CMA_SOCKET", socket);
    command
}

/// A program at work, which is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let name = command.get_program().to_string_lossy().into_owned();
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Running { child, name, input, output, errors: Some(errors) }
    }

    pub(crate) fn say(&mut self, line: &str) {
        // A program that has ended reports why by its status.
        let _ = writeln!(self.input.as_mut().unwrap(), "{line}");
    }

    /// Its next line; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.output.next().map(|line| line.unwrap())
    }

    /// The chunk of which it says `chunk FILE OFFSET BYTES`. It waits for a line then.
    pub(crate) fn chunk(&mut self) -> Seen {
        // Libraries print, too.
        let chunk = std::iter::from_fn(|| self.line())
            .find_map(|line| line.strip_prefix("chunk ").map(str::to_string));
        let Some(chunk) = chunk else {
            let ended = self.ended(LIMIT);
            panic!("{} has no chunk: {ended:?}", self.name);
        };
        let fields: Vec<&str> = chunk.split(' ').collect();
        let [file, offset, bytes] = fields[..] else { panic!("{chunk}") };
        Seen::of(file, offset.parse().unwrap(), bytes.parse().unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        // It may have ended already.
        let _ = kill_process(self.pid(), Signal::TERM);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its status and what it wrote to standard error, if it ends by itself within the time limit.
    pub(crate) fn ended(&mut self, limit: Duration) -> Option<(ExitStatus, String)> {
        self.input = None;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some((status, self.errors.take().unwrap().join().unwrap()));
            }
            if begun.elapsed() > limit {
                return None;
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Checks that it ended well.
    pub(crate) fn succeeded(mut self) {
        match self.ended(LIMIT) {
            Some((status, errors)) => {
                assert!(status.success(), "{}: {status}: {errors}", self.name);
            }
            None => panic!("{} does not end", self.name),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            // `cma exec` passes it on to its program.
            self.terminate();
            let begun = Instant::now();
            while begun.elapsed() < GRACE && !self.has_ended() {
                sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
