//! How long a client waits for its answer when the server is killed: `cargo xtask restart` prints
//! it for servers with few and with many live chunks.
//!
//! A round kills the server of a keeper. Its time is that from the kill to the answer to a request
//! on a connection that the killed server had.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_client::{AttributeReader, AttributeText, Client, RemoteChunk};
use cma_keeper::{Backoff, Program, Store, Supervision};
use machine::{HUGE, Machine};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, setrlimit,
};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: restart [--memory memfd|hugetlb] [--chunks N] [--rounds N]; without \
    --memory or --chunks: 10, 7,000 and 10,000 chunks of ordinary memory, 10 and 400 huge pages";

const USUAL: [(&str, u64); 5] =
    [("memfd", 10), ("memfd", 7000), ("memfd", 10_000), ("hugetlb", 10), ("hugetlb", 400)];

/// What makes this program the keeper: it starts the server again at once, however often it dies.
const KEEPER: &str = "--keeper";

/// The longest wait for what must happen.
const LIMIT: Duration = Duration::from_secs(120);

/// The connections of one server besides those of its chunks.
const FURTHER_CONNECTIONS: u64 = 64;

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == KEEPER).is_some() {
        return keep(arguments.collect());
    }
    let Some(plan) = Plan::from(arguments.filter_map(|argument| argument.into_string().ok()))
    else {
        say(USAGE);
        return ExitCode::from(2);
    };
    say(&format!("{}, {} processors, {} rounds", processor(), processors(), plan.rounds));
    say("from kill -9 to the answer, in milliseconds:");
    say("| memory | live chunks | median | shortest | longest |");
    say("| --- | --- | --- | --- | --- |");
    for (memory, chunks) in &plan.cases {
        match times(memory, *chunks, plan.rounds) {
            Ok(mut times) => {
                times.sort_unstable();
                let [median, shortest, longest] =
                    [times[times.len() / 2], times[0], times[times.len() - 1]]
                        .map(|time| time.as_secs_f64() * 1000.0);
                say(&format!(
                    "| {memory} | {chunks} | {median:.1} | {shortest:.1} | {longest:.1} |"
                ));
            }
            Err(why) => say(&format!("SKIPPED: {memory} with {chunks} chunks: {why}")),
        }
    }
    ExitCode::SUCCESS
}

/// Keeps the program with these arguments.
fn keep(arguments: Vec<OsString>) -> ExitCode {
    let program = Program::open(env!("CARGO_BIN_EXE_cma")).unwrap();
    let backoff = Backoff::new(u32::MAX).at_most(Duration::ZERO);
    let supervision = Supervision::new(program).arguments(arguments).backoff(backoff);
    let say = |report: &_| drop(writeln!(stderr(), "keeper: {report}"));
    supervision.run(&mut Store::of_process(), say).unwrap().exit_code()
}

struct Plan {
    /// Kinds of memory, each with a number of chunks.
    cases: Vec<(String, u64)>,
    rounds: usize,
}

impl Plan {
    fn from(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (mut memory, mut chunks, mut rounds) = (None, None, 11);
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "--memory" => memory = Some(arguments.next()?),
                "--chunks" => chunks = Some(arguments.next()?.parse().ok()?),
                "--rounds" => rounds = arguments.next()?.parse().ok().filter(|count| *count > 0)?,
                // What `cargo bench` passes on.
                "--bench" => {}
                _ => return None,
            }
        }
        let cases = match (memory, chunks) {
            (None, None) => USUAL.map(|(memory, chunks)| (memory.to_string(), chunks)).to_vec(),
            (memory, chunks) => vec![(memory.unwrap_or("memfd".into()), chunks.unwrap_or(10))],
        };
        Some(Plan { cases, rounds })
    }
}

/// The times of that many kills of a server with `chunks` chunks. The error says why there are
/// none.
fn times(memory: &str, chunks: u64, rounds: usize) -> Result<Vec<Duration>, String> {
    let size = if memory == "hugetlb" { HUGE } else { 4096 };
    let connections = chunks + FURTHER_CONNECTIONS;
    let machine = (memory == "hugetlb").then(|| Machine::of_huge_pages(chunks));
    let _machine = machine.transpose()?;
    // Each chunk takes a descriptor for its connection and one for its memory.
    raise_limit(2 * connections + 1024)?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let running = Running::start(folder.path(), memory, chunks * size, connections);
    let client = running.client()?;
    let chunks = (0..chunks).map(|_| client.alloc("camera", None, size, 0));
    let chunks: Vec<RemoteChunk> =
        chunks.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let reader = client.attributes().map_err(|error| error.to_string())?;
    free(&reader)?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let server = running.server()?;
        let end = pidfd_open(server, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        let begin = Instant::now();
        kill_process(server, Signal::KILL).map_err(|error| error.to_string())?;
        // So that the answer is not that of the server which is killed.
        poll(&mut [PollFd::new(&end, PollFlags::IN)], None).map_err(|error| error.to_string())?;
        let free = free(&reader)?;
        times.push(begin.elapsed());
        if free != 0 {
            return Err(format!("{free} bytes are free after the restart"));
        }
    }
    drop(chunks);
    Ok(times)
}

/// The free bytes of the server's region.
fn free(reader: &AttributeReader) -> Result<u64, String> {
    match reader.read("regions/bench/free").map_err(|error| error.to_string())? {
        AttributeText::Text(text) => text.trim().parse().map_err(|_| text),
        AttributeText::Folder(text) => Err(text),
    }
}

/// Lets this process, and those that it starts, have that many descriptors.
fn raise_limit(descriptors: u64) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= descriptors) {
        return Ok(());
    }
    let maximum = maximum.map(|maximum| maximum.max(descriptors));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum });
    raised.map_err(|error| {
        format!("the limit of {descriptors} descriptors (RLIMIT_NOFILE): {error}; it takes root")
    })
}

/// A keeper with its server.
struct Running {
    keeper: Child,
    socket: std::path::PathBuf,
}

impl Running {
    fn start(folder: &Path, memory: &str, size: u64, connections: u64) -> Self {
        let socket = folder.join("cma.sock");
        // A quarter of all connections is for other users.
        let all = connections.div_ceil(3) * 4;
        let limits = format!(
            "chunks={connections},user-chunks={connections},user-connections={connections},\
             connections={all}"
        );
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(KEEPER).arg("serve").arg("--socket").arg(&socket).args(["--log", "error"]);
        command.args(["--memory", memory, "--map", "*=bench", "--limits", &limits]);
        command.arg("--cma").arg(format!("bench={size}")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(fs::File::create(folder.join("stderr")).unwrap());
        Running { keeper: command.spawn().unwrap(), socket }
    }

    /// A client, when the first server serves.
    fn client(&self) -> Result<Client, String> {
        let begin = Instant::now();
        loop {
            match Client::connect(&self.socket) {
                Ok(client) => return Ok(client),
                Err(error) if begin.elapsed() > LIMIT => return Err(error.to_string()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The process of the server.
    fn server(&self) -> Result<Pid, String> {
        let id = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let server = children.ok().and_then(|children| children.trim().parse().ok());
        server.and_then(Pid::from_raw).ok_or_else(|| "the keeper has no server".to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.keeper), Signal::TERM);
        let _ = self.keeper.wait();
    }
}

/// The name of the processor.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.map(|line| line.trim_start_matches([' ', '\t', ':']).to_string());
    name.unwrap_or_else(|| env::consts::ARCH.to_string())
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}
