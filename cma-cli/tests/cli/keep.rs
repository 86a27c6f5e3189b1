//! A server with a keeper: its death, its upgrade, its end, as operators and clients see them.

use crate::serve::copy_plugin;
use crate::{Run, cma, folder, run};
use cma_client::{Client, MappedChunk, RemoteChunk};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running `cma serve --keep`. Dropping ends it.
struct Kept {
    keeper: Child,
    out: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Kept {
    /// A server with a region of 1 MiB.
    fn start() -> Kept {
        Kept::serving(folder(), &["--cma", "b1=1M", "--map", "*=b1"])
    }

    fn serving(folder: TempDir, options: &[&str]) -> Kept {
        let mut command = cma(&["serve", "--keep", "--socket", "cma.sock"]);
        command.args(options);
        Kept::running(folder, &mut command)
    }

    /// A server with the configuration file `cma.toml`, whose text is `text`.
    fn configured(text: &str) -> Kept {
        let folder = folder();
        fs::write(folder.path().join("cma.toml"), text).unwrap();
        Kept::running(folder, &mut cma(&["serve", "--keep", "--config", "cma.toml"]))
    }

    /// Starts the command in the folder, and waits until a server serves.
    fn running(folder: TempDir, command: &mut Command) -> Kept {
        let (keeper, out) = started(&folder, command);
        let mut kept = Kept { keeper, out, folder };
        kept.wait_until_ready();
        kept
    }

    /// Waits until a server has printed where it serves, since the last call.
    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        while !line.starts_with("chunks: ") {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "{}", self.stderr());
        }
    }

    /// Kills the server, and waits until the next one serves.
    fn kill_server(&mut self) {
        signal("KILL", &self.server());
        self.wait_until_ready();
    }

    /// Waits until that holds.
    fn until(&self, what: &str, holds: impl Fn(&Kept) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.stderr());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self) -> Client {
        Client::connect(self.path("cma.sock")).unwrap()
    }

    /// The process of the server.
    fn server(&self) -> String {
        let id = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.trim().to_string()
    }

    fn cma(&self, args: &[&str]) -> Run {
        cma(args).current_dir(self.folder.path()).output().unwrap().into()
    }

    fn attribute(&self, name: &str) -> String {
        let run = self.cma(&["get", "--connect", "cma.sock", &format!("regions/b1/{name}")]);
        assert_eq!(run.code, 0, "{}", run.err);
        run.out.trim().to_string()
    }

    /// A chunk of 64 KiB with its own bytes.
    fn chunk(&self, byte: u8) -> MappedChunk {
        let mut chunk = self.client().alloc("camera", None, 64 << 10, 0).unwrap().map().unwrap();
        chunk.fill(byte);
        chunk
    }

    /// Waits until all memory is free.
    fn wait_until_free(&self) {
        let all = (1 << 20).to_string();
        self.until("all memory is free", |kept| kept.attribute("free") == all);
    }
}

/// Starts the command in a folder, which gets a file `stderr`.
fn started(folder: &TempDir, command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let stderr = File::create(folder.path().join("stderr")).unwrap();
    command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

impl Drop for Kept {
    fn drop(&mut self) {
        signal("TERM", &self.keeper.id().to_string());
        let _ = self.keeper.wait();
    }
}

fn signal(name: &str, process: &str) {
    let _ = Command::new("kill").args(["-s", name, process]).stderr(Stdio::null()).status();
}

/// Asserts that a client has what it had, and that chunk and place can be used and freed.
fn goes_on(kept: &Kept, mut chunk: MappedChunk, byte: u8) {
    assert!(chunk.iter().all(|found| *found == byte), "its bytes are its own");
    let other = kept.chunk(byte + 1);
    assert_ne!(other.start(), chunk.start());
    chunk.fill(byte + 2);
    assert!(other.iter().all(|found| *found == byte + 1));
    assert_eq!(kept.attribute("owners").lines().count(), 2);
    chunk.free().unwrap();
    other.free().unwrap();
    kept.wait_until_free();
}

#[test]
fn a_client_of_a_killed_server_goes_on() {
    let mut kept = Kept::start();
    let chunk = kept.chunk(1);
    let owners = kept.attribute("owners");
    kept.kill_server();
    let [before, after] = [&owners, &kept.attribute("owners")]
        .map(|text| text.split(' ').take(4).map(String::from).collect::<Vec<_>>());
    assert_eq!(before, after);
    goes_on(&kept, chunk, 1);
    let stderr = kept.stderr();
    assert!(stderr.contains("keeper: the server died (signal: 9 (SIGKILL))"), "{stderr}");
}

#[test]
fn an_upgrade_continues_the_clients_or_the_old_program_does() {
    let mut kept = Kept::start();
    let chunk = kept.chunk(1);
    let old = kept.server();
    let upgraded = kept.cma(&["upgrade", "--socket", "cma.sock"]);
    assert_eq!((upgraded.code, upgraded.err.as_str()), (0, ""));
    assert!(upgraded.out.ends_with("/cma has taken over\n"), "{}", upgraded.out);
    kept.wait_until_ready();
    assert_ne!(kept.server(), old);
    let failed = kept.cma(&["upgrade", "--socket", "cma.sock", "--program", "/bin/false"]);
    let reason = "/bin/false did not become ready (exit status: 1); the old program is started \
        again";
    assert!(failed.code == 2 && failed.err.contains(reason), "{}", failed.err);
    kept.wait_until_ready();
    goes_on(&kept, chunk, 1);
    let missing = kept.cma(&["upgrade", "--socket", "cma.sock", "--program", "none"]);
    assert!(missing.err.contains("/none can't be started: No such file"), "{}", missing.err);
    kept.chunk(9).free().unwrap();
}

#[test]
fn the_end_of_the_keeper_is_that_of_the_server_and_leaves_no_file() {
    let mut kept = Kept::start();
    assert!(kept.path("cma.sock.keeper").exists());
    signal("TERM", &kept.keeper.id().to_string());
    assert!(kept.keeper.wait().unwrap().success());
    assert!(!kept.path("cma.sock").exists() && !kept.path("cma.sock.keeper").exists());
    let upgrade = kept.cma(&["upgrade", "--socket", "cma.sock"]);
    assert_eq!(upgrade.code, 2);
    assert!(upgrade.err.contains("cma serve --keep"), "{}", upgrade.err);
}

#[test]
fn a_server_that_can_not_start_ends_its_keeper_and_says_why() {
    let run = run(&["serve", "--keep", "--socket", "/none/cma.sock", "--cma", "b1=1M"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("/none/cma.sock.keeper: No such file"), "{}", run.err);
    let run = crate::run(&["serve", "--keep", "--mount", "m", "--cma", "b1=1M"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("without a socket there is nothing to keep"), "{}", run.err);
    let folder = folder();
    let mut taken = cma(&["serve", "--keep", "--socket", "s", "--cma", "b1=1M@0x1"]);
    let run: Run = taken.current_dir(folder.path()).output().unwrap().into();
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("keeper: the server did not start"), "{}", run.err);
    assert!(!run.err.contains("is held"), "nothing was left: {}", run.err);
}

#[test]
fn a_server_that_is_stopped_for_a_while_answers_when_it_goes_on() {
    let kept = Kept::start();
    let (chunk, server) = (kept.chunk(1), kept.server());
    signal("STOP", &server);
    thread::scope(|threads| {
        let kept = &kept;
        let others: Vec<_> = (2..10).map(|byte| threads.spawn(move || kept.chunk(byte))).collect();
        let freed = threads.spawn(|| chunk.free());
        // Long enough for each of them to ask.
        thread::sleep(Duration::from_secs(1));
        assert!(!freed.is_finished() && !others.iter().any(ScopedJoinHandle::is_finished));
        signal("CONT", &server);
        freed.join().unwrap().unwrap();
        let others: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
        for (chunk, byte) in others.iter().zip(2..) {
            assert!(chunk.iter().all(|found| *found == byte));
        }
        others.into_iter().for_each(|chunk| chunk.free().unwrap());
    });
    kept.wait_until_free();
    assert_eq!(kept.server(), server);
    assert!(!kept.stderr().contains("keeper:"), "{}", kept.stderr());
}

#[test]
fn after_the_death_of_keeper_and_server_a_new_start_is_clean_and_names_who_holds_memory() {
    // Other tests hold memory of regions of other names.
    let options = ["--cma", "lost=1M", "--map", "*=lost"];
    let mut kept = Kept::serving(folder(), &options);
    let chunk = kept.chunk(1);
    let (keeper, server) = (kept.keeper.id().to_string(), kept.server());
    // Stopped, because a keeper that lives starts the next server at once.
    signal("STOP", &keeper);
    signal("KILL", &server);
    signal("KILL", &keeper);
    kept.keeper.wait().unwrap();
    let mut command = cma(&["serve", "--keep", "--socket", "cma.sock"]);
    (kept.keeper, kept.out) = started(&kept.folder, command.args(options));
    kept.wait_until_ready();
    let (stderr, own) = (kept.stderr(), format!("pid={}", std::process::id()));
    assert!(stderr.contains("this process holds memory") && stderr.contains(&own), "{stderr}");
    let free = kept.cma(&["get", "--connect", "cma.sock", "regions/lost/free"]);
    assert_eq!(free.out.trim(), (1 << 20).to_string(), "{}", free.err);
    // What was lost is nobody else's.
    let whole = kept.client().alloc("camera", None, 1 << 20, 0).unwrap().map().unwrap();
    assert!(whole.iter().all(|byte| *byte == 0) && chunk.iter().all(|byte| *byte == 1));
    assert!(chunk.free().is_err(), "its server is gone");
    whole.free().unwrap();
}

#[test]
fn a_plugin_that_can_not_be_read_any_more_is_replaced_and_its_chunks_go_on() {
    let folder = folder();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    copy_plugin("revision_one", &plugins, "libcma_revised_plugin.so");
    let options = ["--plugin-dir", "plugins", "--cma", "b1=1M:revised", "--map", "*=b1"];
    let mut kept = Kept::serving(folder, &options);
    assert_eq!(kept.attribute("alloc"), "revised");
    let chunk = kept.chunk(1);
    // Renamed to it, because the server has the file mapped.
    fs::write(plugins.join("damaged"), "no library").unwrap();
    fs::rename(plugins.join("damaged"), plugins.join("libcma_revised_plugin.so")).unwrap();
    kept.kill_server();
    let stderr = kept.stderr();
    assert!(stderr.contains("libcma_revised_plugin.so: it is no ELF library"), "{stderr}");
    assert!(stderr.contains("another allocator stands in"), "{stderr}");
    assert_ne!(kept.attribute("alloc"), "revised");
    goes_on(&kept, chunk, 1);
}

/// A configuration with one region of 1 MiB, of that name and for every device.
fn configuration(region: &str) -> String {
    format!(
        "map = \"*={region}\"\nbanks = [\"1G@0x40000000\"]\n\
         [[regions]]\nname = \"{region}\"\nsize = \"1M\"\n[server]\nsocket = \"cma.sock\"\n"
    )
}

#[test]
fn a_region_with_chunks_that_the_new_configuration_lacks_waits_for_a_choice() {
    let mut kept = Kept::configured(&configuration("old"));
    let chunk = kept.chunk(1);
    fs::write(kept.path("cma.toml"), configuration("new")).unwrap();
    signal("KILL", &kept.server());
    kept.until("the choice is told", |kept| {
        let stderr = kept.stderr();
        stderr.contains("region old") && stderr.contains("`cma upgrade --discard")
    });
    let held = "what the server before this one left is held for the next one";
    assert!(kept.stderr().contains(held), "{}", kept.stderr());
    let other = kept.cma(&["upgrade", "--socket", "cma.sock", "--discard", "none"]);
    assert!(other.code == 2 && other.err.contains("region old"), "{}", other.err);
    assert!(chunk.iter().all(|byte| *byte == 1));
    let chosen = kept.cma(&["upgrade", "--socket", "cma.sock", "--discard", "old"]);
    assert_eq!(chosen.code, 0, "{}", chosen.err);
    kept.wait_until_ready();
    assert!(chunk.free().is_err(), "its region is gone");
    kept.chunk(2).free().unwrap();

    // Without chunks the next configuration holds.
    fs::write(kept.path("cma.toml"), configuration("next")).unwrap();
    kept.kill_server();
    let free = kept.cma(&["get", "--connect", "cma.sock", "regions/next/free"]);
    assert_eq!(free.out.trim(), (1 << 20).to_string(), "{}", free.err);
    kept.chunk(3).free().unwrap();
}

#[test]
fn clients_are_refused_before_the_keeper_has_no_descriptor_left_for_the_next_server() {
    let mut command = Command::new("sh");
    command.env_clear().stdin(Stdio::null()).args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_cma")).args(["serve", "--keep", "--socket", "cma.sock"]);
    command.args(["--cma", "b1=1M", "--map", "*=b1", "--limits", "connections=200"]);
    let mut kept = Kept::running(folder(), &mut command);
    assert!(kept.stderr().contains("fewer connections than the limits allow"), "{}", kept.stderr());
    let client = kept.client();
    let mut chunks: Vec<RemoteChunk> = Vec::new();
    let refused = loop {
        match client.alloc("camera", None, 4096, 0) {
            Ok(chunk) => chunks.push(chunk),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.errno(), Errno::DQUOT.raw_os_error(), "{refused}");
    // What each of the next servers needs is left.
    kept.kill_server();
    assert_eq!(chunks.pop().map(RemoteChunk::free).transpose().unwrap(), Some(()));
    assert_eq!(kept.attribute("owners").lines().count(), chunks.len());
    for chunk in chunks {
        chunk.free().unwrap();
    }
    kept.wait_until_free();
    kept.chunk(1).free().unwrap();
}
