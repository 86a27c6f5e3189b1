//! A keeper with its server.

use crate::{KEEPER, LIMIT};
use cma_client::{AttributeText, Client};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A keeper with its server, in a folder.
pub(crate) struct Running {
    pub(crate) keeper: Child,
    pub(crate) socket: PathBuf,
    stderr: PathBuf,
}

/// What the keeper has: how many descriptors of each kind, and the bytes of memory behind them.
pub(crate) type Holdings = BTreeMap<String, (usize, u64)>;

/// Waits until that holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > LIMIT {
            return Err(format!("not within {LIMIT:?}: {what}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Running {
    pub(crate) fn start(folder: &Path, memory: &str, first: u64, second: u64) -> Self {
        let (socket, stderr) = (folder.join("cma.sock"), folder.join("stderr"));
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(KEEPER).arg("serve").arg("--socket").arg(&socket).args(["--log", "warn"]);
        command.args(["--memory", memory]);
        command.arg("--cma").arg(format!("b1={first};b2={second}:buddy"));
        command.args(["--map", "*=b1,b2"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&stderr).unwrap());
        Running { keeper: command.spawn().unwrap(), socket, stderr }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until that holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
        until(what, holds).map_err(|why| {
            let (free, holdings) = (self.free(), self.holdings());
            format!("{why}; free {free:?}, in the keeper {holdings:#?}")
        })
    }

    /// The free bytes of both regions; `None` before the first server serves.
    pub(crate) fn free(&self) -> Option<u64> {
        let free = |region: &str| -> Option<u64> {
            self.attribute(&format!("regions/{region}/free"))?.trim().parse().ok()
        };
        Some(free("b1")? + free("b2")?)
    }

    /// The text of an attribute of the server.
    pub(crate) fn attribute(&self, path: &str) -> Option<String> {
        match Client::connect(&self.socket).ok()?.attribute(path).ok()? {
            AttributeText::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::new();
        let folder = format!("/proc/{}/fd", self.keeper.id());
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()) {
            let Ok(target) = fs::read_link(&path) else { continue };
            // As `socket:[12345]`.
            let target = target.to_string_lossy().into_owned();
            let kind = target.split('[').next().unwrap_or_default();
            let is_memory = target.starts_with("/memfd:");
            let bytes = fs::metadata(path).map_or(0, |file| file.blocks() * 512);
            let (count, sum) = holdings.entry(kind.to_string()).or_default();
            *count += 1;
            *sum += if is_memory { bytes } else { 0 };
        }
        holdings
    }

    /// Has a chunk of `size` bytes, and frees it.
    pub(crate) fn use_once(&self, size: u64) -> Result<(), String> {
        let client = Client::connect(&self.socket).map_err(|error| error.to_string())?;
        let chunk = client.alloc("camera", None, size, 0).map_err(|error| error.to_string())?;
        chunk.free().map_err(|error| error.to_string())
    }

    /// Kills the server. Returns what the keeper has when the next one serves, nobody connects, and
    /// the connections so far have ended.
    pub(crate) fn holdings_after_death(&self) -> Result<Holdings, String> {
        self.kill_server()?;
        self.until("the next server serves", || self.free().is_some())?;
        let (mut found, mut times) = (self.holdings(), 0);
        while times < 20 {
            thread::sleep(Duration::from_millis(20));
            let again = self.holdings();
            times = if again == found { times + 1 } else { 0 };
            found = again;
        }
        Ok(found)
    }

    /// The process of the server that runs, if one does.
    pub(crate) fn server(&self) -> Option<Pid> {
        let id = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let server = children.split_whitespace().next()?;
        let status = fs::read_to_string(format!("/proc/{server}/status")).ok()?;
        let has_ended = status.contains("State:\tZ") || status.contains("State:\tX");
        Pid::from_raw(server.parse().ok()?).filter(|_| !has_ended)
    }

    /// Kills the server that runs, or the next one.
    pub(crate) fn kill_server(&self) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            if self.server().is_some_and(|server| kill_process(server, Signal::KILL).is_ok()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err("the keeper starts no server".to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.keeper), Signal::TERM);
        let _ = self.keeper.wait();
    }
}
