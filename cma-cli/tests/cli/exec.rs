//! `cma exec`: what the program gets, how long its chunks live, and how the command ends.

use crate::device::SocketServer;
use crate::{Run, cma, folder, run};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, Plugin};
use cma_testkit_pty::{CommandBuilder, Terminal};
use piecewise::{PIECE, PiecewiseMemory};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[allow(dead_code, unreachable_pub, reason = "a module of the server's tests")]
#[path = "../../../interfaces/device/server/tests/common/piecewise.rs"]
mod piecewise;

/// The banks of its memory.
fn banks() -> Banks {
    Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up)
}

const SYSTEM: [&str; 4] = ["--cma", "b1=8M@0x40000000", "--map", "*=b1"];

/// `cma exec` with a system of its own, and the caller's PATH for the programs that it starts.
fn hosted(args: &[&str]) -> Command {
    let mut command = cma(&[&["exec"], &SYSTEM[..], args].concat());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn done(command: &mut Command) -> Run {
    command.output().expect("the program starts").into()
}

/// `cma exec` on a server.
fn served(server: &SocketServer, args: &[&str]) -> Command {
    let socket = server.socket().display().to_string();
    let mut command = cma(&[&["exec", "--socket", &socket], args].concat());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The same command, with no signal ignored: a test that runs behind `nohup` or in the background
/// of a shell passes on that SIGHUP or SIGINT are.
fn with_default_signals(command: &Command) -> Command {
    let mut env = Command::new("env");
    env.env_clear().stdin(Stdio::null());
    env.arg("--default-signal").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    env
}

/// An attribute of a server.
pub(crate) fn attribute(server: &SocketServer, path: &str) -> String {
    let socket = server.socket().display().to_string();
    let Run { code, out, err } = run(&["get", "--connect", &socket, path]);
    assert_eq!(code, 0, "{err}");
    out
}

/// Waits until `holds` returns true, a minute at most.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20));
    }
}

/// The next line that a process prints.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("it is piped");
    // Byte by byte, so that nothing behind the line is lost.
    BufReader::with_capacity(1, out).read_line(&mut line).expect("text");
    line.trim_end().to_string()
}

fn signal(process: &str, name: &str) {
    assert!(Command::new("kill").args(["-s", name, process]).status().expect("kill").success());
}

fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("standard error is open");
}

#[test]
fn arguments_and_environment_have_the_values_of_each_chunk() {
    let script = "echo $CMA_RAM_FD $CMA_RAM_PATH $CMA_RAM_START $CMA_RAM_SIZE $CMA_F_1_SIZE; \
                  echo {ram.fd} {ram.path} {ram.start} {ram.size} {f-1.size}; echo {{ram.fd} {}";
    let chunks = ["--chunk", "ram=vm/1M/1M", "--chunk", "f-1=@b1/5000 at=0x40400000"];
    let Run { code, out, err } = done(hosted(&chunks).args(["--", "sh", "-c", script]));
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], lines[1]);
    let fd = lines[0].split(' ').next().expect("a number");
    assert_eq!(lines[0], format!("{fd} /proc/self/fd/{fd} 0x40000000 1048576 8192"));
    assert_eq!(lines[2], "{ram.fd} {}");
}

#[test]
fn every_program_that_opens_the_path_or_has_the_descriptor_sees_the_same_bytes() {
    let script = "printf hello 1<>{ram.path}; head -c 5 {ram.path}; head -c 3 <&{ram.fd}; \
                  stat -L -c ' %s' {ram.path}";
    let Run { code, out, err } =
        done(hosted(&["--chunk", "ram=vm/64K", "--", "sh", "-c", script]).args(["sh"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "hellohel 65536\n", ""));
}

/// Maps the descriptor of its first argument, and prints the text there.
const READER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    char *text = argc < 3 ? MAP_FAILED
        : mmap(NULL, strtoul(argv[2], NULL, 0), PROT_READ, MAP_SHARED, atoi(argv[1]), 0);

    if (text == MAP_FAILED)
        return 1;
    puts(text);
    return 0;
}
"#;

#[test]
fn python_writes_a_chunk_of_a_server_and_a_c_program_reads_it() {
    let folder = folder();
    let source = crate::written(&folder, "reader.c", READER);
    let reader = folder.path().join("reader").display().to_string();
    match Command::new("cc").args(["-o", &reader, &source]).status() {
        Ok(status) => assert!(status.success()),
        Err(_) => return skipped("there is no C compiler (cc)"),
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("there is no python3");
    }
    let python = "import mmap, os, subprocess, sys\n\
                  fd, size = int(os.environ['CMA_RAM_FD']), int(os.environ['CMA_RAM_SIZE'])\n\
                  memory = mmap.mmap(fd, size)\n\
                  memory[:6] = b'frame\\0'\n\
                  sys.exit(subprocess.call(sys.argv[1:], pass_fds=[fd]))";
    let server = SocketServer::start(&[]);
    let args = ["--chunk", "ram=camera/frame/2M", "--", "python3", "-c", python];
    let mut command = served(&server, &args);
    let Run { code, out, err } = done(command.args([&reader, "{ram.fd}", "{ram.size}"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "frame\n", ""));
}

#[test]
fn a_program_inherits_the_descriptors_of_its_chunks_and_no_other_of_the_command() {
    // Read by another process, so that it sees no descriptor of its own.
    let script = r"find /proc/$$/fd -type l -printf '%f %l\n'; :";
    let open = |command: &mut Command| {
        let Run { code, out, err } = done(command.stdin(Stdio::null()));
        assert_eq!((code, err.as_str()), (0, ""));
        let lines = out.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(number, name)| (number.to_string(), name.to_string())).collect::<Vec<_>>()
    };
    // Those that this test has inherited itself.
    let before = open(Command::new("sh").args(["-c", script]));
    let new = |command: &mut Command| {
        let now = open(command);
        let is_new = |(number, _): &(String, String)| before.iter().all(|(old, _)| old != number);
        now.into_iter().filter(is_new).map(|(_, name)| name).collect::<Vec<_>>()
    };
    let args = ["--chunk", "a=vm/4K", "--chunk", "b=vm/4K", "--", "sh", "-c", script];
    let names = new(&mut hosted(&args));
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("/memfd:")), "{names:?}");

    let server = SocketServer::start(&[]);
    let args = ["--chunk", "a=camera/2M", "--chunk", "b=camera/2M", "--", "sh", "-c", script];
    let names = new(&mut served(&server, &args));
    // The connection of each, which keeps the chunk.
    let of = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
    assert_eq!((names.len(), of("/memfd:"), of("socket:")), (4, 2, 2), "{names:?}");
}

#[test]
fn with_a_server_the_command_becomes_the_program_and_its_chunk_ends_with_it() {
    let server = SocketServer::start(&[]);
    let args = ["--chunk", "ram=camera/2M/2M", "--", "sh", "-c", "echo $$; read line; exit 3"];
    let mut child = served(&server, &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    assert_eq!(line(&mut child), child.id().to_string());
    let owners = attribute(&server, "regions/r/owners");
    let process = format!(" {} ", child.id());
    assert!(owners.contains(" 2097152 - camera/") && owners.contains(&process), "{owners}");
    // The server lists the program's name, not that of the command.
    assert_eq!(owners.trim_end().rsplit(' ').next(), Some("sh"), "{owners}");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
    wait_until("the chunk is freed", || attribute(&server, "regions/r/owners").trim().is_empty());
}

#[test]
fn a_chunk_of_a_server_lives_as_long_as_a_child_that_has_it() {
    let server = SocketServer::start(&[]);
    let script = "sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!";
    let Run { code, out, .. } =
        done(&mut served(&server, &["--chunk", "ram=camera/2M", "--", "sh", "-c", script]));
    assert_eq!(code, 0);
    let owners = attribute(&server, "regions/r/owners");
    assert!(owners.contains("camera"), "{owners}");
    signal(out.trim(), "KILL");
    wait_until("the chunk is freed", || attribute(&server, "regions/r/owners").trim().is_empty());
}

#[test]
fn without_a_server_the_command_ends_when_no_process_has_a_chunk() {
    let script = "sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!; exit 7";
    let mut child = hosted(&["--chunk", "ram=vm/2M", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let holder = line(&mut child);
    let mut first = String::new();
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    errors.read_line(&mut first).expect("text");
    assert!(first.contains("another process still holds chunk \"ram\""), "{first}");
    assert!(child.try_wait().expect("it is a child").is_none());
    signal(&holder, "KILL");
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
}

#[test]
fn a_signal_ends_the_wait_for_a_process_that_has_a_chunk() {
    let script = "sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!";
    let mut child = hosted(&["--chunk", "ram=vm/2M", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let holder = line(&mut child);
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    errors.read_line(&mut String::new()).expect("text");
    signal(&child.id().to_string(), "TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    signal(&holder, "KILL");
}

#[test]
fn signals_are_passed_on_and_the_status_is_that_of_the_program() {
    let ignored = signals("self", "SigIgn");
    for (name, number) in [("TERM", 15), ("HUP", 1), ("INT", 2), ("USR1", 10)] {
        if ignored >> (number - 1) & 1 == 1 {
            // As nohup has it. A shell sets no trap for it then.
            skipped(&format!("SIG{name} is ignored"));
            continue;
        }
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let command = hosted(&["--chunk", "ram=vm/4K", "--", "sh", "-c", &script]);
        // In the foreground of a terminal it would take the signal for one that its program gets
        // from the terminal, too.
        let mut child = with_default_signals(&command)
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        assert_eq!(line(&mut child), "ready");
        signal(&child.id().to_string(), name);
        assert_eq!(line(&mut child), format!("got {name}"));
        assert_eq!(child.wait().expect("it ends").code(), Some(9), "{name}");
    }
    let end = |script| done(&mut hosted(&["--chunk", "ram=vm/4K", "--", "sh", "-c", script])).code;
    assert_eq!((end("exit 41"), end("kill -KILL $$"), end("kill -TERM $$")), (41, 137, 143));
}

/// The signals of a line of a process's status, such as `SigIgn`, as a mask.
fn signals(process: &str, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(":\t"));
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).expect("a running process")
}

const SIGINT: u64 = 1 << 1;

#[test]
fn ctrl_c_ends_a_command_and_its_program_at_whatever_moment_it_comes() {
    for round in 0..6 {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_cma"));
        command.args(["exec", "--cma", "b1=8M", "--map", "*=b1", "--chunk", "ram=vm/4K"]);
        command.args(["--", "sleep", "1000"]);
        let mut terminal = Terminal::start(command, (80, 24));
        // From here on the command has to know whether the program gets the signal, too.
        let (process, begun) = (terminal.id().to_string(), Instant::now());
        while signals(&process, "SigCgt") & SIGINT == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it catches no signal");
            std::thread::yield_now();
        }
        sleep(Duration::from_micros(50) * (round % 4));
        terminal.press("\x03");
        assert!(!terminal.end().success());
    }
}

#[test]
fn a_refused_chunk_is_status_125_with_the_reasons_of_each_region() {
    let args = ["--chunk", "a=@b1/6M", "--chunk", "ram=vm/6M", "--", "sh", "-c", "echo ran"];
    let Run { code, out, err } = done(&mut hosted(&args));
    assert_eq!((code, out.as_str()), (125, ""));
    for words in [
        "chunk \"ram\" was refused: ENOMEM: no region could serve it: b1: full: 2M of 8M free",
        "to make room (least): 6M in 1 chunk",
    ] {
        assert!(err.contains(words), "{err}");
    }
    let server = SocketServer::start(&[]);
    let args =
        ["--chunk", "a=camera/10M", "--chunk", "ram=codec/10M", "--", "sh", "-c", "echo ran"];
    let Run { code, out, err } = done(&mut served(&server, &args));
    assert_eq!((code, out.as_str()), (125, ""));
    for words in ["chunk \"ram\" was refused: ENOMEM", "r: full: 6M of 16M free", "to make room"] {
        assert!(err.contains(words), "{err}");
    }
    wait_until("the first is freed", || attribute(&server, "regions/r/owners").trim().is_empty());
    let Run { code, err, .. } = run(&["exec", "--socket", "/none", "--chunk", "a=b/1", "--", "sh"]);
    assert_eq!(code, 125);
    assert!(err.contains("no server at /none"), "{err}");
}

#[test]
fn a_program_that_is_missing_is_127_and_one_that_cannot_be_executed_126() {
    let server = SocketServer::start(&[]);
    for (program, status, words) in [
        ("./no-such-program", 127, "./no-such-program: there is no such program"),
        ("/etc/passwd", 126, "/etc/passwd: it can't be executed: Permission denied"),
    ] {
        for mut command in [
            hosted(&["--chunk", "ram=vm/4K", "--", program]),
            served(&server, &["--chunk", "ram=camera/4K", "--", program]),
        ] {
            let Run { code, err, .. } = done(&mut command);
            assert_eq!(code, status);
            assert!(err.contains(words), "{err}");
        }
    }
    wait_until("all is freed", || attribute(&server, "regions/r/owners").trim().is_empty());
}

#[test]
fn a_wrong_chunk_or_value_is_found_before_anything_is_allocated() {
    for (chunk, argument, words) in [
        ("ram=vm/64K colour=red", "", "expected a limit: above="),
        ("ram", "", "expected a chunk, as in ram=vm/64M/2M"),
        ("ram=vm/64K", "x={rom.fd}", "there are {ram.fd}, {ram.path}, {ram.start}, {ram.size}"),
        ("ram=vm/64K", "{ram.address}", "no chunk has the value {ram.address}"),
    ] {
        // There is no server: it would be the first thing to fail.
        let args = ["exec", "--socket", "/none", "--chunk", chunk, "--", "echo", argument];
        let Run { code, out, err } = run(&args);
        assert_eq!((code, out.as_str()), (125, ""), "{chunk}");
        assert!(err.contains(words) && !err.contains("/none"), "{err}");
    }
    let twice = ["--chunk", "a-1=vm/4K", "--chunk", "A_1=vm/4K", "--", "true"];
    let Run { code, err, .. } = done(&mut hosted(&twice));
    assert_eq!(code, 125);
    assert!(err.contains("two chunks have the variables CMA_A_1_..."), "{err}");
}

#[test]
fn memory_that_is_no_file_is_refused_with_the_reason_and_the_option_that_helps() {
    let args = ["--memory", "simulated", "--chunk", "ram=vm/4K", "--", "true"];
    let Run { code, err, .. } = done(&mut hosted(&args));
    assert_eq!(code, 125);
    for words in ["chunk \"ram\" can't be given to a program", "give --memory memfd"] {
        assert!(err.contains(words), "{err}");
    }
    let system = ["--cma", "r=8M", "--map", "*=r", "--memory", "simulated"];
    let server = SocketServer::of(&system, &[]);
    let Run { code, err, .. } = done(&mut served(&server, &["--chunk", "a=b/4K", "--", "true"]));
    assert_eq!(code, 125);
    for words in ["chunk \"a\" can't be given to a program", "server with --memory memfd"] {
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn a_chunk_in_several_files_is_refused_with_what_helps() {
    let framework = Cma::new();
    framework.command_line(Some("ram=1M"), Some("*=ram")).expect("a valid configuration");
    framework.early_regions_reserve(&mut PiecewiseMemory::new());
    framework.initialise();
    let best_fit = Plugin::built_in::<cma_best_fit::BestFit>();
    framework.allocator_register(best_fit).expect("the first of its name");
    let folder = folder();
    let socket = folder.path().join("cma.sock");
    let (limits, rules) = (Limits::parse("").expect("valid"), Rules::parse("*=*").expect("valid"));
    let server =
        Server::bind(&Address::new(&socket), framework, limits, rules).expect("a free path");
    let shutdown = Shutdown::new().expect("there are descriptors");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| server.run(&shutdown));
        let exec = |bytes| {
            let chunk = format!("ram=vm/{bytes}");
            let socket = socket.display().to_string();
            let mut command = cma(&["exec", "--socket", &socket, "--chunk", &chunk, "--", "true"]);
            done(command.env("PATH", std::env::var_os("PATH").unwrap_or_default()))
        };
        let (several, one) = (exec(3 * PIECE), exec(PIECE));
        shutdown.begin();
        server.join().expect("it doesn't panic").expect("it ends well");
        assert_eq!((several.code, one.code), (125, 0), "{}", one.err);
        for words in [
            "chunk \"ram\" consists of 3 files, and a program gets one descriptor",
            "ask again",
            "--memory memfd",
            "cma_chunk_map",
        ] {
            assert!(several.err.contains(words), "{}", several.err);
        }
    });
}

#[test]
fn a_chunk_waits_for_room_as_long_as_it_may() {
    let server = SocketServer::start(&[]);
    let mut first =
        served(&server, &["--chunk", "a=camera/10M", "--", "sh", "-c", "echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
    line(&mut first);
    let args = ["--wait", "10ms", "--chunk", "b=codec/10M", "--", "true"];
    let Run { code, err, .. } = done(&mut served(&server, &args));
    assert_eq!(code, 125);
    assert!(err.contains("ETIMEDOUT"), "{err}");
    let args = ["--wait", "50s", "--chunk", "b=codec/10M", "--", "echo", "served"];
    let second = served(&server, &args).stdout(Stdio::piped()).spawn().expect("the program starts");
    wait_until("it waits", || attribute(&server, "regions/r/waiters").contains("codec"));
    drop(first.stdin.take());
    first.wait().expect("it ends");
    let Run { code, out, .. } = second.wait_with_output().expect("it ends").into();
    assert_eq!((code, out.as_str()), (0, "served\n"));
}

#[test]
fn options_of_a_system_are_refused_together_with_a_server() {
    let args = ["exec", "--socket", "x", "--cma", "b=1M", "--chunk", "a=b/1", "--", "true"];
    let Run { code, err, .. } = run(&args);
    assert_eq!(code, 125);
    assert!(err.contains("`cma exec --socket` does not use --cma"), "{err}");
}

#[test]
fn an_error_in_the_command_line_is_status_125_and_for_other_commands_2() {
    for args in [
        &["exec", "--chunk", "a=b/1"][..],
        &["exec", "--", "true"],
        &["exec", "--chunk", "a=b/1", "--wait", "5x", "--", "true"],
        &["exec", "--chunk", "a=b/1", "--none", "--", "true"],
        &["--cma", "b=1M", "exec", "--chunk", "a=b/1", "--json", "--", "true"],
    ] {
        let Run { code, out, err } = run(args);
        assert_eq!((code, out.as_str()), (125, ""), "{args:?}: {err}");
    }
    assert_eq!(run(&["replay", "--none", "exec"]).code, 2);
}

#[test]
fn qemu_has_a_chunk_as_its_memory() {
    let qemu = "qemu-system-x86_64";
    if !["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|it| Path::new(it).join(qemu).exists()) {
        return skipped("there is no qemu-system-x86_64");
    }
    // The monitor reads the first words of the memory, into which nothing has been loaded.
    let script = format!(
        "printf 'chunk!!\\0' | dd of={{ram.path}} bs=1 seek=65536 conv=notrunc 2>/dev/null; \
         printf 'xp /2wx 0x10000\\nquit\\n' | {qemu} -S -M pc,memory-backend=ram,accel=tcg -m 64M \
         -object memory-backend-file,id=ram,size={{ram.size}},share=on,mem-path={{ram.path}} \
         -display none -nodefaults -monitor stdio"
    );
    let args = ["exec", "--cma", "b1=64M", "--map", "*=b1", "--chunk", "ram=vm/64M/2M", "--"];
    let mut command = cma(&args);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let Run { code, out, err } = done(command.args(["sh", "-c", &script]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("0x6e756863 0x0021216b"), "{out}");
}
