//! A server in a process of its own that can be made to die at every step, and its keeper, which is
//! a thread of the test.
//!
//! A test file that uses this has a test [`serve_if_started`], which is the server.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use crate::common::{RawConnection, banks, eventually, framework, framework_without_allocator};
use cma_client::Client;
use cma_device_server::{
    Address, BindError, Discard, JournalWords, Lasting, Limits, RecordedRegion, Rules, Server,
    Shutdown as ServerShutdown,
};
use cma_framework::{Cma, keep_time};
use cma_journal::{FileError, Mapped, Words};
use cma_keeper::{
    Connections, Keeper, KeeperError, KeeperProcess, Name, Store, serve, socket_pair,
};
use cma_memory::{Port, Ports, RestoredRegion};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketAddrUnix};
use rustix::process::{Signal, getpid, kill_process};
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

const FOLDER: &str = "CMA_FOLDER_OF_TEST";
const DIES_AT: &str = "CMA_DIES_AT_OF_TEST";
const OPTIONS: &str = "CMA_OPTIONS_OF_TEST";

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The step at which it dies, counted from 1; 0 for never.
    pub dies_at: usize,
    /// Whether its keeper accepts connections.
    pub keeper_accepts: bool,
    pub regions: String,
    pub map: String,
    pub limits: String,
    /// What may be lost: the words of `--discard`.
    pub discard: String,
    /// No allocator is registered.
    pub without_allocator: bool,
    /// The most descriptors that the keeper takes; `None` for any number.
    pub most_puts: Option<usize>,
    /// The permissions of the socket.
    pub mode: u32,
    /// The group of the socket, unless it is that of a new file.
    pub group: Option<u32>,
    /// Whether the regions consist of huge pages.
    pub huge_pages: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dies_at: 0,
            keeper_accepts: true,
            regions: "ram=16M".into(),
            map: "*=ram".into(),
            limits: "connections=64".into(),
            discard: String::new(),
            without_allocator: false,
            most_puts: None,
            mode: 0o660,
            group: None,
            huge_pages: false,
        }
    }
}

impl Options {
    fn to_text(&self) -> String {
        let most_puts = self.most_puts.map_or(String::new(), |most| most.to_string());
        let group = self.group.map_or(String::new(), |group| group.to_string());
        [
            &self.regions,
            &self.map,
            &self.limits,
            &self.discard,
            &self.keeper_accepts.to_string(),
            &self.without_allocator.to_string(),
            &most_puts,
            &self.mode.to_string(),
            &group,
            &self.huge_pages.to_string(),
        ]
        .map(String::as_str)
        .join("\n")
    }

    fn from_text(text: &str) -> Self {
        let parts: Vec<_> = text.split('\n').map(String::from).collect();
        let [
            regions,
            map,
            limits,
            discard,
            keeper_accepts,
            without_allocator,
            most_puts,
            mode,
            group,
            huge_pages,
        ] = <[String; 10]>::try_from(parts).unwrap();
        Options {
            dies_at: 0,
            keeper_accepts: keeper_accepts == "true",
            without_allocator: without_allocator == "true",
            most_puts: most_puts.parse().ok(),
            mode: mode.parse().unwrap(),
            group: group.parse().ok(),
            huge_pages: huge_pages == "true",
            regions,
            map,
            limits,
            discard,
        }
    }
}

/// Counts the steps of this process, and ends it at one of them.
#[derive(Clone)]
struct Steps {
    made: Arc<AtomicUsize>,
    dies_at: usize,
}

impl Steps {
    fn step(&self) {
        if self.made.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at {
            kill_process(getpid(), Signal::KILL).unwrap();
            thread::sleep(Duration::from_secs(60));
        }
    }
}

/// The keeper's process. Before and after each change is a step.
struct StepKeeper {
    keeper: KeeperProcess,
    accepts: bool,
    /// How many descriptors it takes besides those that it has.
    puts_left: usize,
    steps: Steps,
}

impl Keeper for StepKeeper {
    fn put(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), KeeperError> {
        self.steps.step();
        let Some(left) = self.puts_left.checked_sub(1) else {
            return Err(KeeperError::Refused(Errno::MFILE));
        };
        self.keeper.put(name, descriptor)?;
        self.puts_left = left;
        self.steps.step();
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), KeeperError> {
        self.steps.step();
        self.keeper.remove(name)?;
        self.puts_left = self.puts_left.saturating_add(1);
        self.steps.step();
        Ok(())
    }

    fn pin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        self.steps.step();
        self.keeper.pin(name, offset, len)?;
        self.steps.step();
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError> {
        self.keeper.take()
    }

    fn accept_on(&mut self, listener: &Name) -> Result<Option<Connections>, KeeperError> {
        if self.accepts { Keeper::accept_on(&mut self.keeper, listener) } else { Ok(None) }
    }
}

/// The memory of a journal. Each store of its commit word is a step: behind "committed", and behind
/// "idle".
struct StepWords {
    words: Mapped,
    steps: Steps,
}

/// The place of the commit word, as the documentation of the journal has it.
const COMMIT_WORD: usize = 16;

impl Words for StepWords {
    fn len(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize) -> u32 {
        self.words.load(index)
    }

    fn store(&mut self, index: usize, word: u32) {
        self.words.store(index, word);
        if index == COMMIT_WORD {
            self.steps.step();
        }
    }
}

/// The server's process, if a test has started this one as such.
pub fn serve_if_started() {
    let Ok(folder) = env::var(FOLDER) else {
        println!("skipped: no test has started this process as a server");
        return;
    };
    let folder = PathBuf::from(folder);
    let options = Options::from_text(&env::var(OPTIONS).unwrap());
    let steps =
        Steps { made: Arc::default(), dies_at: env::var(DIES_AT).unwrap().parse().unwrap() };
    let _time = keep_time().unwrap();
    let keeper = StepKeeper {
        keeper: KeeperProcess::from_stdin().unwrap().unwrap(),
        accepts: options.keeper_accepts,
        puts_left: options.most_puts.unwrap_or(usize::MAX),
        steps: steps.clone(),
    };
    let of_words = steps.clone();
    let map = move |file: BorrowedFd<'_>| {
        let words = StepWords { words: Mapped::new(file)?, steps: of_words.clone() };
        Ok::<JournalWords, FileError>(Box::new(words))
    };
    let outcome = Lasting::take_with(keeper, map)
        .map_err(|error| BindError::Recover(Box::new(error)))
        .and_then(|lasting| bind(&folder, &options, lasting));
    let (cma, server) = match outcome {
        Ok(bound) => bound,
        Err(error) => {
            fs::write(folder.join("error"), error.to_string()).unwrap();
            std::process::exit(3);
        }
    };
    let shutdown = ServerShutdown::new().unwrap();
    thread::spawn({
        let (folder, shutdown) = (folder.clone(), shutdown.clone());
        let settings = server.settings();
        move || loop {
            if let Ok(text) = fs::read_to_string(folder.join("write")) {
                match text.split_once(' ').unwrap() {
                    ("forget", path) => settings.forget_written(path),
                    ("limits", text) => settings.set_limits(Limits::parse(text).unwrap()),
                    (path, text) => cma.attributes().write(path, text.as_bytes()).unwrap(),
                }
                fs::remove_file(folder.join("write")).unwrap();
            }
            fs::write(folder.join("steps"), steps.made.load(Ordering::SeqCst).to_string()).unwrap();
            if folder.join("end").exists() {
                return shutdown.begin();
            }
            if folder.join("hand-over").exists() {
                return shutdown.begin_hand_over();
            }
            thread::sleep(Duration::from_millis(2));
        }
    });
    fs::write(folder.join("ready"), "").unwrap();
    server.run(&shutdown).unwrap();
    std::process::exit(0);
}

fn bind(folder: &Path, options: &Options, lasting: Lasting) -> Result<(Cma, Server), BindError> {
    let make = if options.without_allocator { framework_without_allocator } else { framework };
    let port = if options.huge_pages { Port::Hugetlb } else { Port::Memfd };
    let mut cma = Cma::new();
    // The pages of a server that was killed, and that left none, come back milliseconds later.
    eventually("there are regions", || {
        let mut ports = Ports::new(banks(), port).with_restored(restored(&lasting, port)).unwrap();
        cma = make(&options.regions, &options.map, &mut ports);
        !options.huge_pages || !cma.regions().is_empty()
    });
    let words: Vec<_> = options.discard.split(' ').filter(|word| !word.is_empty()).collect();
    let discard = Discard {
        damaged: words.contains(&"damaged"),
        regions: words.into_iter().map(String::from).collect(),
    };
    let (limits, rules) =
        (Limits::parse(&options.limits).unwrap(), Rules::parse("*,@*=*").unwrap());
    env::set_current_dir(folder).unwrap();
    let address = Address::new("cma.sock").mode(options.mode);
    let address = options.group.map_or(address.clone(), |group| address.group(group));
    let server = Server::bind_lasting(&address, cma.clone(), limits, rules, lasting, &discard)?;
    assert_eq!(server.path(), folder.join("cma.sock"));
    Ok((cma, server))
}

/// The regions whose pages another server left.
fn restored(lasting: &Lasting, port: Port) -> Vec<RestoredRegion> {
    let recorded = lasting.regions().unwrap().into_iter();
    let restored = |RecordedRegion { name, range, files, .. }| {
        (!files.is_empty()).then_some(RestoredRegion { name, range, port, files })
    };
    recorded.filter_map(restored).collect()
}

/// Held while a test has servers: a process that is started has copies of all descriptors until it
/// executes its program, also of memory that a client of another test is about to free.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A keeper, and the server that it keeps things for. A test has one at a time.
pub struct Kept {
    _alone: MutexGuard<'static, ()>,
    pub folder: TempDir,
    pub options: Options,
    store: Option<Store>,
    running: Option<Running>,
    /// How many servers have died.
    pub deaths: usize,
}

struct Running {
    child: Child,
    /// Gives the store back when the server is gone.
    keeper: JoinHandle<Store>,
    /// The keeper's socket.
    socket: OwnedFd,
}

impl Kept {
    pub fn new(options: Options) -> Self {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        Kept { _alone, folder, options, store: Some(Store::default()), running: None, deaths: 0 }
    }

    pub fn started(options: Options) -> Self {
        let mut kept = Kept::new(options);
        kept.start();
        assert_eq!(kept.error(), None);
        kept
    }

    /// Starts a server, which is ready after this, has died, or has refused to start.
    pub fn start(&mut self) {
        for file in ["ready", "error", "end", "hand-over", "steps"] {
            let _ = fs::remove_file(self.folder.path().join(file));
        }
        let (theirs, ours) = socket_pair().unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture", "--include-ignored"])
            .env(FOLDER, self.folder.path())
            .env(OPTIONS, self.options.to_text())
            .env(DIES_AT, self.options.dies_at.to_string())
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let socket = ours.try_clone().unwrap();
        let mut store = self.store.take().unwrap();
        let keeper = thread::spawn(move || {
            serve(&ours, &mut store);
            store
        });
        self.running = Some(Running { child, keeper, socket });
        let ready = self.folder.path().join("ready");
        eventually("the server is ready", || {
            ready.exists() || self.running.as_mut().unwrap().child.try_wait().unwrap().is_some()
        });
    }

    /// Whether the server has ended.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| running.child.try_wait().unwrap().is_some())
    }

    /// Waits for the end of the server.
    pub fn wait(&mut self) -> ExitStatus {
        let Running { mut child, keeper, .. } = self.running.take().unwrap();
        let status = child.wait().unwrap();
        self.store = Some(keeper.join().unwrap());
        status
    }

    /// Starts another server if this one has died. It dies nowhere.
    pub fn start_if_dead(&mut self) {
        if !self.has_ended() {
            return;
        }
        let status = self.wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status} {:?}", self.error());
        self.deaths += 1;
        self.options.dies_at = 0;
        self.start();
    }

    pub fn kill(&mut self) {
        self.running.as_mut().unwrap().child.kill().unwrap();
        self.wait();
    }

    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start();
        assert_eq!(self.error(), None);
    }

    /// Has the server's host write to an attribute, `forget` what was written to it, or replace the
    /// `limits`. If the server dies meanwhile, its successor does it.
    pub fn write(&mut self, path: &str, text: &str) {
        let (whole, order) = (self.folder.path().join("write-"), self.folder.path().join("write"));
        fs::write(&whole, format!("{path} {text}")).unwrap();
        fs::rename(&whole, &order).unwrap();
        eventually("it is written", || {
            self.start_if_dead();
            !order.exists()
        });
    }

    /// Ends the keeper, as its death would, while the server goes on.
    pub fn end_keeper(&mut self) {
        rustix::net::shutdown(&self.running.as_ref().unwrap().socket, Shutdown::Both).unwrap();
    }

    /// Has the server end for good.
    pub fn end(&mut self) {
        fs::write(self.folder.path().join("end"), "").unwrap();
        assert!(self.wait().success());
    }

    /// Has the server leave everything to the next one. If it dies first, its successor does it.
    pub fn hand_over(&mut self) {
        fs::write(self.folder.path().join("hand-over"), "").unwrap();
        eventually("the server has ended", || self.has_ended());
        if !self.running.as_mut().unwrap().child.wait().unwrap().success() {
            self.start_if_dead();
            return self.hand_over();
        }
        self.wait();
    }

    /// Why the server refused to start.
    pub fn error(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("error")).ok()
    }

    /// The number of steps that this server has made.
    pub fn steps(&self) -> usize {
        let steps = fs::read_to_string(self.folder.path().join("steps"));
        steps.ok().and_then(|steps| steps.parse().ok()).unwrap_or(0)
    }

    /// What the keeper has. No server runs.
    pub fn names(&self) -> Vec<String> {
        self.store.as_ref().unwrap().names().map(String::from).collect()
    }

    /// The size of the newest journal. No server runs.
    pub fn journal_bytes(&mut self) -> u64 {
        let taken = self.as_server(|keeper| keeper.take().unwrap());
        let is_journal = |(name, _): &&(Name, OwnedFd)| name.as_str().starts_with("journal-");
        fstat(&taken.iter().rfind(is_journal).unwrap().1).unwrap().st_size as u64
    }

    /// Does something as a server would, without one.
    pub fn as_server<T>(&mut self, work: impl FnOnce(&mut KeeperProcess) -> T) -> T {
        let (theirs, ours) = socket_pair().unwrap();
        let store = self.store.as_mut().unwrap();
        thread::scope(|threads| {
            threads.spawn(|| serve(&ours, store));
            let mut keeper = KeeperProcess::new(theirs);
            work(&mut keeper)
        })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("cma.sock")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.path()).unwrap()
    }

    pub fn connection(&self) -> RawConnection {
        let address = SocketAddrUnix::new(self.path()).unwrap();
        RawConnection(cma_client::exchange::connect(&address).unwrap())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Whether a message arrives within that time.
pub fn has_message_within(connection: &RawConnection, longest: Duration) -> bool {
    let mut polled = [PollFd::new(&connection.0, PollFlags::IN)];
    let longest = longest.try_into().unwrap();
    poll(&mut polled, Some(&longest)).unwrap() > 0
}
