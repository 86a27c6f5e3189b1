//! A server with a keeper: its death, its upgrade, its end, as operators and clients see them.

use crate::{Run, cma, folder, run};
use cma_client::{Client, MappedChunk};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// A running `cma serve --keep` with a region of 1 MiB. Dropping ends it.
struct Kept {
    keeper: Child,
    out: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Kept {
    fn start() -> Kept {
        let folder = folder();
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let mut command = cma(&["serve", "--keep", "--socket", "cma.sock"]);
        command.args(["--cma", "b1=1M", "--map", "*=b1"]).current_dir(folder.path());
        let mut keeper = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let out = BufReader::new(keeper.stdout.take().unwrap());
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
        for _ in 0..600 {
            if self.attribute("free") == (1 << 20).to_string() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{} of {} bytes are free", self.attribute("free"), 1 << 20);
    }
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
    signal("KILL", &kept.server());
    kept.wait_until_ready();
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
}
