//! The program `cma-keeper`, with real servers that die, end, are upgraded and are asked to reload.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cma_keeper::{HANDED_OVER, Keeper, KeeperError, KeeperProcess, Name, UpgradeError, upgrade};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR2};
use std::cell::RefCell;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write, stderr, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, abort, exit};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// What the server does.
const TASK: &str = "CMA_KEEPER_TEST_TASK";

/// A program of that name serves, whatever its task is.
const BETTER: &str = "better";

/// Says something to the test, on a line of standard output, which the test harness uses too.
fn tell(text: &str) {
    let _ = writeln!(std::io::stdout(), "\ntell: {text}");
}

/// The server: each run stores one descriptor more, and finds those of all runs before.
#[test]
#[ignore = "the server of the other tests, which start it"]
fn server() {
    let Ok(mut task) = env::var(TASK) else {
        println!("skipped: no test has started this process as a server");
        return;
    };
    if env::current_exe().unwrap().ends_with(BETTER) {
        task = "serves".to_string();
    }
    if task == "starts slowly" {
        tell("starts");
        let go = env::current_exe().unwrap().with_file_name("go");
        while !go.exists() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGUSR2]).unwrap();
    let mut keeper = KeeperProcess::from_stdin().unwrap().unwrap();
    let runs = keeper.take().unwrap().len();
    if task == "fails" && runs > 0 {
        keeper.failed("it is only a test").unwrap();
        exit(3);
    }
    let name = |number| Name::new(format!("run-{number}")).unwrap();
    keeper.put(&name(runs), File::open("/dev/null").unwrap()).unwrap();
    if task == "is never ready" && runs > 0 {
        tell("hangs");
        // Else the keeper waits for its end when the test ends both.
        signals.forever().find(|signal| *signal == SIGTERM);
        exit(0);
    }
    if task != "dies" || runs == 3 {
        keeper.ready().unwrap();
    }
    tell(&format!("{runs} runs before {}", std::process::id()));
    match task.as_str() {
        "dies" if runs == 3 => exit(0),
        "dies" => {
            // A child that has the server's socket and lives as long as the keeper doesn't hide
            // its death.
            let socket = stdin().as_fd().try_clone_to_owned().unwrap();
            let script = format!("while kill -0 {}; do sleep 0.1; done", parent_id());
            let mut child = Command::new("sh");
            child.args(["-c", &script]).stdin(socket);
            child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            abort();
        }
        _ => {}
    }
    for signal in signals.forever() {
        tell(&format!("signal {signal}"));
        match signal {
            SIGTERM => exit(0),
            SIGUSR2 if task == "does not leave" => {}
            SIGUSR2 => exit(HANDED_OVER.into()),
            _ => {
                let stored = keeper.put(&name(runs + 100), File::open("/dev/null").unwrap());
                tell(&format!("{}", stored == Err(KeeperError::Ended)));
            }
        }
    }
}

/// A keeper with a server, and what both say.
struct Running {
    keeper: Child,
    folder: tempfile::TempDir,
    said: Receiver<String>,
    heard: RefCell<Vec<String>>,
}

/// The server as a file of its own in that folder.
fn copy(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    // No other process has it open for writing when it is started: a thread that forks meanwhile
    // would keep a descriptor.
    let copied = Command::new("cp").arg(env::current_exe().unwrap()).arg(&path).status();
    assert!(copied.unwrap().success());
    path
}

const ARGUMENTS: [&str; 4] = ["--exact", "server", "--ignored", "--nocapture"];

impl Running {
    /// A keeper of a server with that task.
    fn start(task: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let server = copy(folder.path(), "server");
        let mut command = keeper();
        command.args(options).arg("--control").arg(folder.path().join("control"));
        command.arg(server).args(ARGUMENTS).env(TASK, task);
        let (say, said) = channel();
        let mut keeper = command.stdout(Stdio::piped()).spawn().unwrap();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(keeper.stdout.take().unwrap()), Box::new(keeper.stderr.take().unwrap())];
        for stream in streams {
            let say = say.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = writeln!(stderr(), "{line}");
                    let line = line.strip_prefix("tell: ").unwrap_or(&line);
                    let _ = say.send(line.to_string());
                }
            });
        }
        Running { keeper, folder, said, heard: RefCell::default() }
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Waits for a line that contains this, and returns it. Other lines are for later calls: those
    /// of keeper and server come in no order.
    fn hears(&self, part: &str) -> String {
        let mut heard = self.heard.borrow_mut();
        loop {
            if let Some(found) = heard.iter().position(|line| line.contains(part)) {
                return heard.remove(found);
            }
            match self.said.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => heard.push(line),
                Err(error) => panic!("no \"{part}\" ({error}) in {heard:#?}"),
            }
        }
    }

    /// Waits until a server with that many predecessors serves. Returns its process.
    fn serves(&self, runs: usize) -> Pid {
        let line = self.hears(&format!("{runs} runs before "));
        Pid::from_raw(line.rsplit_once(' ').unwrap().1.parse().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.keeper), signal).unwrap();
    }

    /// Ends both, and checks that they end in order.
    fn end(mut self) {
        self.signal(Signal::TERM);
        self.hears(&format!("signal {SIGTERM}"));
        assert!(self.keeper.wait().unwrap().success());
        assert!(!self.control().exists(), "it leaves no socket behind");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If a test has failed, the keeper ends with its server.
        let _ = kill_process(Pid::from_child(&self.keeper), Signal::TERM);
        let _ = self.keeper.wait();
    }
}

fn keeper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cma-keeper"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_server_that_dies_is_started_again_with_its_descriptors() {
    let mut running = Running::start("dies", &[]);
    for runs in 0..3 {
        running.serves(runs);
        running.hears("the server died (signal: 6 (SIGABRT)");
    }
    running.serves(3);
    assert!(running.keeper.wait().unwrap().success(), "it ended on purpose");
}

#[test]
fn a_server_that_is_killed_is_started_again() {
    let running = Running::start("serves", &[]);
    for runs in 0..3 {
        kill_process(running.serves(runs), Signal::KILL).unwrap();
        running.hears("the server died (signal: 9 (SIGKILL))");
    }
    running.serves(3);
    running.end();
}

#[test]
fn signals_are_passed_on_to_the_server() {
    let running = Running::start("serves", &[]);
    running.serves(0);
    running.signal(Signal::HUP);
    running.hears(&format!("signal {SIGHUP}"));
    running.hears("false");
    running.end();
}

/// `SIGHUP` ends a process that doesn't handle it yet.
#[test]
fn a_server_that_still_starts_gets_the_order_to_reload_when_it_is_ready() {
    let running = Running::start("starts slowly", &[]);
    running.hears("starts");
    running.signal(Signal::HUP);
    // The keeper has read the signal when it answers: it reads signals first.
    let error = upgrade(&running.control(), Some(Path::new("/none")), &[]).unwrap_err();
    assert!(error.to_string().contains("/none can't be started"), "{error}");
    File::create(running.folder.path().join("go")).unwrap();
    running.hears(&format!("signal {SIGHUP}"));
    running.hears("false");
    running.end();
}

#[test]
fn a_server_lives_on_after_its_keeper_and_is_told() {
    let mut running = Running::start("serves", &[]);
    let server = running.serves(0);
    running.keeper.kill().unwrap();
    running.keeper.wait().unwrap();
    kill_process(server, Signal::HUP).unwrap();
    running.hears("true");
    let error = upgrade(&running.control(), None, &[]).unwrap_err();
    assert!(matches!(error, UpgradeError::NoKeeper { .. }), "{error}");
    kill_process(server, Signal::TERM).unwrap();
    running.hears(&format!("signal {SIGTERM}"));
}

#[test]
fn after_the_end_of_both_a_new_keeper_starts_anew_at_the_same_socket() {
    let mut running = Running::start("serves", &[]);
    let server = running.serves(0);
    running.keeper.kill().unwrap();
    kill_process(server, Signal::KILL).unwrap();
    running.keeper.wait().unwrap();
    let mut second = keeper();
    second.arg("--control").arg(running.control()).args(["sh", "-c", "exit 0"]);
    let output = second.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn two_keepers_have_no_socket_in_common() {
    let running = Running::start("serves", &[]);
    running.serves(0);
    let output = keeper().arg("--control").arg(running.control()).arg("true").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("control: a keeper listens there already"), "{text}");
    running.end();
}

#[test]
fn a_server_that_always_dies_is_given_up_until_a_signal_comes() {
    let mut running = Running::start("fails", &["--starts", "2"]);
    kill_process(running.serves(0), Signal::KILL).unwrap();
    for _ in 0..2 {
        running.hears("the server died (exit status: 3) too often in a row");
        running.hears("1 descriptors are held; SIGHUP starts the server again");
        assert!(running.keeper.try_wait().unwrap().is_none(), "it holds what it has");
        running.signal(Signal::HUP);
    }
    running.hears("too often");
    running.signal(Signal::TERM);
    assert!(running.keeper.wait().unwrap().success());
}

#[test]
fn an_upgrade_starts_the_file_that_is_now_at_the_path_of_the_server() {
    let running = Running::start("serves", &[]);
    let old = running.serves(0);
    let program = |server: Pid| {
        let exe = format!("/proc/{}/exe", server.as_raw_nonzero());
        (
            fs::read_link(&exe).unwrap(),
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(exe).unwrap()),
        )
    };
    let of_old = program(old);
    let path = running.folder.path().join("server");
    fs::rename(copy(running.folder.path(), "new"), &path).unwrap();
    let text = upgrade(&running.control(), None, &[]).unwrap();
    assert_eq!(text, format!("{} has taken over", path.display()));
    let new = running.serves(1);
    let of_new = program(new);
    assert_eq!((&of_new.0, of_old.0), (&path, path.clone()));
    assert_ne!(of_new.1, of_old.1);
    // Its first start has further arguments, and only that.
    let arguments = ["--test-threads".into(), "2".into()];
    upgrade(&running.control(), None, &arguments).unwrap();
    let arguments = |server: Pid| {
        fs::read_to_string(format!("/proc/{}/cmdline", server.as_raw_nonzero())).unwrap()
    };
    let third = running.serves(2);
    assert!(arguments(third).ends_with("--nocapture\0--test-threads\x002\0"));
    // A signal upgrades, too.
    running.signal(Signal::USR2);
    let fourth = running.serves(3);
    assert_eq!(program(fourth), of_new);
    assert!(arguments(fourth).ends_with("--nocapture\0"));
    running.end();
}

#[test]
fn a_program_that_does_not_become_ready_leaves_the_old_one_in_service() {
    let running = Running::start("serves", &[]);
    running.serves(0);
    let path = running.folder.path().join("server");
    let broken = running.folder.path().join("broken");
    fs::copy("/bin/false", &broken).unwrap();
    // Also where the file of the old program is gone.
    fs::rename(&broken, &path).unwrap();
    for runs in 1..3 {
        let error = upgrade(&running.control(), None, &[]).unwrap_err().to_string();
        let expected = "did not become ready (exit status: 1); the old program is started again";
        assert!(error.contains(expected), "{error}");
        running.serves(runs);
    }
    let error = upgrade(&running.control(), Some(Path::new("/none")), &[]).unwrap_err().to_string();
    assert!(error.contains("/none can't be started: No such file"), "{error}");
    let error = upgrade(&running.control(), Some(Path::new("/tmp")), &[]).unwrap_err().to_string();
    assert!(error.contains("/tmp can't be started: it is not a file"), "{error}");
    running.signal(Signal::HUP);
    running.hears("false");
    running.end();
}

#[test]
fn the_reason_of_a_server_that_can_not_start_is_told_to_who_asked() {
    let running = Running::start("fails", &[]);
    running.serves(0);
    let error = upgrade(&running.control(), None, &[]).unwrap_err().to_string();
    assert!(error.contains("did not become ready (it is only a test)"), "{error}");
    // The old program fails in this test, too.
    running.hears("the server died (exit status: 3); it is started again in 0 ms");
    running.signal(Signal::TERM);
}

#[test]
fn an_upgrade_helps_a_server_that_was_given_up() {
    let running = Running::start("fails", &["--starts", "0"]);
    kill_process(running.serves(0), Signal::KILL).unwrap();
    running.hears("1 descriptors are held; SIGHUP starts the server again");
    let error = upgrade(&running.control(), None, &[]).unwrap_err().to_string();
    assert!(error.contains("it is only a test"), "{error}");
    running.hears("1 descriptors are held");
    let better = copy(running.folder.path(), BETTER);
    upgrade(&running.control(), Some(&better), &[]).unwrap();
    running.serves(1);
    running.end();
}

#[test]
fn a_new_server_that_hangs_is_killed_and_the_old_program_started_again() {
    let running = Running::start("is never ready", &["--ready", "0.1"]);
    running.serves(0);
    let error = upgrade(&running.control(), None, &[]).unwrap_err().to_string();
    let expected = "did not become ready (it was killed after 100ms); the old program is started";
    assert!(error.contains(expected), "{error}");
    // The old program hangs in this test, too, and it may do so: it is no upgrade.
    running.hears("hangs");
}

#[test]
fn an_old_server_that_does_not_leave_is_killed() {
    let running = Running::start("does not leave", &["--hand-over", "0.1"]);
    running.serves(0);
    upgrade(&running.control(), None, &[]).unwrap();
    running.hears("the old server died (it was killed after 100ms); the new one recovers");
    running.serves(1);
    running.end();
}

/// The second user is `nobody`, whom the mode of the socket stops first.
#[test]
fn only_the_keepers_user_and_root_ask_for_an_upgrade() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can ask as another user");
        return;
    }
    let running = Running::start("serves", &[]);
    running.serves(0);
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    // Folders of temporary files are for their user alone, and so may be those above.
    let public = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(public.path(), mode(0o755)).unwrap();
    let program = copy(public.path(), "asks");
    let control = public.path().join("control");
    fs::hard_link(running.control(), &control)
        .or_else(|_| std::os::unix::fs::symlink(running.control(), &control))
        .unwrap();
    let ask = || {
        let mut asks = Command::new(&program);
        asks.args(["--exact", "asks", "--ignored", "--nocapture"]).env(TASK, &control);
        std::os::unix::process::CommandExt::uid(&mut asks, 65534);
        let output = asks.current_dir("/").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let of_socket = fs::metadata(running.control()).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&of_socket) & 0o777, 0o600);
    assert!(ask().contains("asks: ") && ask().contains("Permission denied"));
    fs::set_permissions(running.control(), mode(0o666)).unwrap();
    let answer = ask();
    assert!(answer.contains("only root and the user of the keeper may ask"), "{answer}");
    running.end();
}

#[test]
#[ignore = "the other user of a test, which starts it"]
fn asks() {
    match env::var(TASK) {
        Ok(control) => {
            tell(&format!(
                "asks: {:?}",
                upgrade(Path::new(&control), None, &[]).map_err(|e| e.to_string())
            ));
        }
        Err(_) => println!("skipped: no test has started this process"),
    }
}

#[test]
fn a_program_that_does_not_exist_is_reported() {
    let output = keeper().arg("/nonexistent/server").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8_lossy(&output.stderr);
    assert!(found.contains("/nonexistent/server can't be started: No such file"), "{found}");
}

#[test]
fn a_first_server_that_can_not_start_ends_the_keeper_with_its_status() {
    let output = keeper().args(["sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let found = String::from_utf8_lossy(&output.stderr);
    assert!(found.contains("the server did not start (exit status: 3)"), "{found}");
}

#[test]
fn a_wrong_command_line_starts_nothing() {
    for arguments in [&[][..], &["--starts"], &["--starts", "3"], &["--starts", "many", "true"]] {
        let output = keeper().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let found = String::from_utf8_lossy(&output.stderr);
        assert!(found.contains("usage: cma-keeper"), "{arguments:?}");
    }
}
