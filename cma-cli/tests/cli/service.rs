//! A server that a service manager runs: its file, SIGHUP, the reports to the manager, the socket
//! that the manager opens, lines for journald, and the figures.

use crate::{Run, cma, folder, run, underlined, written};
use cma_client::Client;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BOARD: &str = "banks = [\"1G@0x40000000\"]\n\
    [[regions]]\nname = \"a\"\nsize = \"1M\"\n\
    [[regions]]\nname = \"b\"\nsize = \"1M\"\n";

/// A running `cma serve`, whose standard error is the file `stderr` in its folder. Dropping kills
/// it.
struct Service {
    child: Child,
    folder: TempDir,
    /// What it printed until it was ready.
    printed: Vec<String>,
}

impl Service {
    /// Starts a server and waits until it has printed where it serves chunks.
    fn start(folder: TempDir, command: &mut Command) -> Service {
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let command = command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut printed = Vec::new();
        for line in out.lines().map_while(Result::ok) {
            let last = line.starts_with("watched") || line.starts_with("metrics: ");
            let last = last || line.starts_with("chunks: ") && !wants_metrics(folder.path());
            printed.push(line);
            if last {
                break;
            }
        }
        let service = Service { child, folder, printed };
        assert!(!service.printed.is_empty(), "{}", service.stderr());
        service
    }

    /// Starts a server with this configuration file.
    fn configured(config: &str) -> Service {
        let folder = folder();
        fs::write(folder.path().join("cma.toml"), config).unwrap();
        Service::start(folder, &mut cma(&["serve", "--config", "cma.toml"]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(self.path("cma.sock")).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Replaces the file and has it read again. Waits until the log says `expected`.
    fn reload(&self, config: &str, expected: &str) {
        fs::write(self.path("cma.toml"), config).unwrap();
        self.signal("HUP");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.stderr().contains(expected) {
            assert!(Instant::now() < deadline, "{expected}: {}", self.stderr());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wants_metrics(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cma.toml")).is_ok_and(|text| text.contains("metrics"))
}

/// A configuration with this map and these lines for `[server]`.
fn config(map: &str, server: &str) -> String {
    format!("map = \"{map}\"\n{BOARD}[server]\nsocket = \"cma.sock\"\n{server}\n")
}

#[test]
fn a_server_serves_as_its_file_says() {
    let text = config("camera=a", "rules = [\"camera=user:root\", \"video=gid:4242\"]");
    let service = Service::configured(&(text + "socket-mode = \"600\"\n"));
    assert_eq!(fs::metadata(service.path("cma.sock")).unwrap().mode() & 0o777, 0o600);
    let client = service.client();
    if rustix::process::getuid().is_root() {
        client.alloc("camera", None, 4096, 0).unwrap().free().unwrap();
    }
    let error = client.alloc("audio", None, 4096, 0).unwrap_err().to_string();
    assert!(error.contains("memory of audio"), "{error}");
}

#[test]
fn mistakes_in_a_file_are_underlined_by_check_and_by_serve() {
    let folder = folder();
    for (server, message, at) in [
        (
            "rules = [\"camera=uid:0\", \"video=user:no-such-user\"]",
            "no such user",
            "user:no-such-user",
        ),
        ("limits = \"chunks=0\"", "a limit is at least 1", "0"),
        ("socket-mode = \"999\"", "three octal digits", "999"),
        ("metrics = \"0.0.0.0:80\"", "no loopback address", "0.0.0.0:80"),
        ("log = \"loud\"", "\"loud\" is not a level", "loud"),
        ("sockets = 1", "has no key \"sockets\"", "sockets"),
    ] {
        let file = written(&folder, "cma.toml", &config("*=a", server));
        for command in ["check", "serve"] {
            let Run { code, out, err } = run(&[command, "--config", &file]);
            let said = out + &err;
            assert!(code == 2 && said.contains(message), "{command} {server}: {code}: {said}");
            assert!(said.contains("cma.toml:"), "the place is named: {said}");
            assert_eq!(underlined(&said), at, "{said}");
        }
    }
    let file = written(&folder, "cma.toml", &config("*=a|c", ""));
    let Run { code, out, .. } = run(&["check", "--config", &file]);
    assert!(code > 0 && out.contains("cma.toml:1"), "{code}: {out}");
    let file = written(&folder, "cma.toml", "board = \"no-board\"\n[server]\nsocket = \"x\"");
    let Run { code, out, .. } = run(&["check", "--config", &file]);
    assert!(code == 2 && underlined(&out) == "no-board", "{code}: {out}");
}

#[test]
fn a_file_and_the_options_that_say_the_same_exclude_each_other() {
    let folder = folder();
    let file = written(&folder, "cma.toml", &config("*=a", ""));
    for option in [["--map", "*=b"], ["--socket", "x"], ["--mount", "x"], ["--metrics", "[::1]:1"]]
    {
        let Run { code, err, .. } = run(&["serve", "--config", &file, option[0], option[1]]);
        let expected = format!("--config and {} contradict each other", option[0]);
        assert!(code == 2 && err.contains(&expected), "{code}: {err}");
    }
    let Run { code, err, .. } = run(&["serve", "--config", "/nowhere/cma.toml"]);
    assert!(code == 2 && err.contains("/nowhere/cma.toml: No such file"), "{code}: {err}");
}

#[test]
fn sighup_changes_what_can_change_and_reports_the_rest() {
    let service = Service::configured(&config("*=a", ""));
    let client = service.client();
    let first = client.alloc("camera", None, 1 << 20, 0).unwrap();
    assert!(client.alloc("camera", None, 4096, 0).is_err());
    service.reload(&config("*=b", "limits = \"user-chunks=2\""), "changed=map, limits");
    let second = client.alloc("camera", None, 4096, 0).unwrap();
    let error = client.alloc("camera", None, 4096, 0).unwrap_err().to_string();
    assert!(error.contains("all 2 chunks of one user"), "{error}");
    let wider = config("*=b", "rules = \"video=*\"").replace("size = \"1M\"", "size = \"2M\"");
    service.reload(&wider, "regions changed, which takes a restart");
    let error = client.alloc("camera", None, 4096, 0).unwrap_err().to_string();
    assert!(error.contains("memory of camera"), "{error}");
    service.reload(&config("*=a", "rules = 1"), "the configuration of before stays in force");
    assert!(service.stderr().contains("expected a string"), "{}", service.stderr());
    let error = client.alloc("camera", None, 4096, 0).unwrap_err().to_string();
    assert!(error.contains("memory of camera"), "{error}");
    client.alloc("video", None, 4096, 0).unwrap().free().unwrap();
    first.free().unwrap();
    second.free().unwrap();
}

#[test]
fn a_file_that_no_server_could_start_with_changes_nothing() {
    let service = Service::configured(&config("camera=a", ""));
    let client = service.client();
    let impossible = config("audio=a;video=b", "").replacen("size = \"1M\"", "size = \"2G\"", 1);
    service.reload(&impossible, "the configuration of before stays in force");
    assert_eq!(underlined(&service.stderr()), "2G", "{}", service.stderr());
    client.alloc("camera", None, 4096, 0).unwrap().free().unwrap();
    assert!(client.alloc("audio", None, 4096, 0).is_err());
    // A warning is reported, and the file holds.
    service.reload(&config("audio=a|c", ""), "changed=map");
    assert!(service.stderr().contains("no region \"c\""), "{}", service.stderr());
    client.alloc("audio", None, 4096, 0).unwrap().free().unwrap();
}

#[test]
fn an_allocator_that_a_region_could_not_get_is_tried_again() {
    let service = Service::configured(&config("*=a", ""));
    let client = service.client();
    let other = service.client();
    let chunks = [&client, &other].map(|client| client.alloc("camera", None, 4096, 0).unwrap());
    let small = "name = \"a\"\nallocator = \"tlsf(chunks=1)\"";
    let small = config("*=a", "").replace("name = \"a\"", small);
    service.reload(&small, "region a keeps its allocator");
    assert!(!service.stderr().contains("changed=allocators"), "{}", service.stderr());
    chunks.into_iter().for_each(|chunk| chunk.free().unwrap());
    service.reload(&small, "changed=allocators");
    service.reload(&small, "changed=nothing");
}

#[test]
fn the_service_manager_is_told_the_state() {
    let folder = folder();
    fs::write(folder.path().join("cma.toml"), config("*=a", "")).unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // Of each message: its first line, and the whole text.
    let next = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("the server reports its state");
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let next_but_watchdog = || {
        let mut messages = std::iter::repeat_with(&next);
        messages.find(|message| !message.starts_with("WATCHDOG=1")).unwrap()
    };
    let mut command = cma(&["serve", "--config", "cma.toml"]);
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "400000");
    let mut service = Service::start(folder, &mut command);
    let ready = next();
    assert!(ready.starts_with("READY=1\n") && ready.contains("STATUS=2 regions"), "{ready}");
    assert_eq!(next(), "WATCHDOG=1\n");
    service.signal("HUP");
    let reloading = next_but_watchdog();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(next_but_watchdog().starts_with("READY=1\n"));
    service.signal("TERM");
    assert_eq!(next_but_watchdog(), "STOPPING=1\n");
    assert!(service.child.wait().unwrap().success());
}

/// Starts `args` as a service manager does that has opened `socket` for it.
fn activated(socket: OwnedFd, args: &[&str]) -> Command {
    let program = cma(&[]);
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(program.get_program()).args(args).stdin(socket);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn a_server_serves_on_the_socket_of_its_service_manager() {
    let folder = folder();
    let path = folder.path().join("cma.sock");
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&socket, 8).unwrap();
    // A client that connects before the server starts is served.
    let client = Client::connect(&path).unwrap();
    let text = format!("map = \"*=a\"\n{BOARD}[server]\nsocket = \"{}\"\n", path.display());
    fs::write(folder.path().join("cma.toml"), text).unwrap();
    let mut command = activated(socket, &["serve", "--config", "cma.toml"]);
    let mut service = Service::start(folder, &mut command);
    client.alloc("camera", None, 4096, 0).unwrap().free().unwrap();
    service.signal("TERM");
    assert!(service.child.wait().unwrap().success(), "{}", service.stderr());
    assert!(path.exists(), "the file is the service manager's");
}

#[test]
fn lines_for_journald_begin_with_their_priority() {
    let folder = folder();
    fs::write(folder.path().join("cma.toml"), config("*=a", "rules = \"\"")).unwrap();
    let file = File::create(folder.path().join("stderr")).unwrap().metadata().unwrap();
    let mut command = cma(&["serve", "--config", "cma.toml"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
    let service = Service::start(folder, &mut command);
    assert!(service.client().alloc("camera", None, 4096, 0).is_err());
    service.reload(&config("*=a", ""), "configuration read again");
    let stderr = service.stderr();
    assert!(stderr.lines().all(|line| line.starts_with('<')), "{stderr}");
    let line = |text: &str| stderr.lines().find(|line| line.contains(text)).unwrap_or_default();
    assert!(line("every request is denied").starts_with("<4>"), "{stderr}");
    let information = line("configuration read again");
    assert!(information.starts_with("<6>") && !information.contains("INFO"), "{stderr}");
}

#[test]
fn a_server_that_admits_everybody_warns_and_the_default_does_not() {
    let open = Service::configured(&config("*=a", "socket-mode = \"666\""));
    assert!(open.stderr().contains("every user can connect"), "{}", open.stderr());
    for server in ["", "socket-mode = \"666\"\nrules = \"*,@*=uid:0\""] {
        let service = Service::configured(&config("*=a", server));
        assert!(!service.stderr().contains("every user can connect"), "{}", service.stderr());
    }
    let service = Service::configured(&config("*=a", ""));
    assert_eq!(fs::metadata(service.path("cma.sock")).unwrap().mode() & 0o777, 0o660);
}

#[test]
fn the_example_of_a_configuration_is_clean() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../service/cma.toml");
    let Run { code, out, err } = run(&["check", "--config", &example.display().to_string()]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "regions and map are clean\n", ""));
}

#[test]
fn a_server_serves_its_figures() {
    let service = Service::configured(&config("*=a", "metrics = \"127.0.0.1:0\""));
    let _chunk = service.client().alloc("camera", None, 8192, 0).unwrap();
    let url = service.printed.iter().find_map(|line| line.strip_prefix("metrics: http://"));
    let address = url.and_then(|url| url.strip_suffix("/metrics")).expect("it prints the URL");
    let scrape = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: cma\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !scrape().contains("cma_device_bytes{device=\"camera\"} 8192\n") {
        assert!(Instant::now() < deadline, "{}", scrape());
        thread::sleep(Duration::from_millis(20));
    }
    let text = scrape();
    assert!(text.contains("\ncma_server_restarts_total 0\n"), "{text}");
    let build = concat!("\ncma_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n");
    assert!(text.contains(build), "{text}");
}
