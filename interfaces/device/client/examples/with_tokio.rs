//! Chunks in a program on tokio: awaited from a framework in the same process, and from a server.
//!
//! ```sh
//! cargo run -p cma-client --example with_tokio                       # a server of its own
//! cargo run -p cma-client --example with_tokio -- /run/cma.sock      # one that runs
//! ```
#![allow(clippy::print_stdout, reason = "an example that shows what happens")]

use cma_client::{Client, Outcome, RegionSelector, RemoteChunk};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::config::{Bank, Bytes, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{AllocError, Chunk, ChunkRequest, Cma, Plugin, Source};
use cma_memory::Memfd;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args_os().nth(1) {
        Some(path) => runtime.block_on(of_a_server(Path::new(&path))),
        None => {
            let cma = framework()?;
            runtime.block_on(of_this_process(&cma))?;
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("cma.sock");
            serving(&cma, &path, || runtime.block_on(of_a_server(&path)))
        }
    }
}

/// A framework with one region of 8 MiB of memory.
fn framework() -> Result<Cma, Box<dyn Error>> {
    let cma = Cma::new();
    cma.command_line(Some("video=8M"), Some("*=video"))?;
    let banks = Banks::new(&[Bank::new(0x4000_0000, 64 << 20)], Growth::Up);
    cma.early_regions_reserve(&mut Memfd::new(banks));
    cma.initialise();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>())?;
    Ok(cma)
}

/// Does `work` while a server for `cma` listens at `path`.
fn serving(
    cma: &Cma,
    path: &Path,
    work: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let server =
        Server::bind(&Address::new(path), cma.clone(), Limits::default(), Rules::parse("*=*")?)?;
    let shutdown = Shutdown::new()?;
    std::thread::scope(|threads| {
        let running = threads.spawn(|| server.run(&shutdown));
        let result = work();
        shutdown.begin();
        running.join().map_err(|_| "the server panicked")??;
        result
    })
}

/// Two tasks of one thread want most of the region: the second one waits until the first one has
/// dropped its chunk.
async fn of_this_process(cma: &Cma) -> Result<(), Box<dyn Error>> {
    let most = ChunkRequest::new(Bytes::mib(6));
    let device = Source::Device { name: "camera", kind: None };
    let first = cma.allocate_async(device, &most)?.await?;
    println!("the first task has {}", first.start());

    // A deadline is the executor's. The request makes a last try then, whose error says what is in
    // the way.
    match within(Duration::from_millis(50), cma, device, &most).await {
        Err(error) => println!("after 50 ms: {}", error.to_string().lines().next().unwrap_or("")),
        Ok(chunk) => return Err(format!("{} was free", chunk.start()).into()),
    }

    let (second, ()) = tokio::join!(within(10 * SECOND, cma, device, &most), async move {
        sleep(Duration::from_millis(20)).await;
        drop(first);
    });
    println!("the second task has {}", second?.start());
    Ok(())
}

/// A chunk within that time. The future takes no thread while it waits.
async fn within(
    time: Duration,
    cma: &Cma,
    source: Source<'_>,
    request: &ChunkRequest,
) -> Result<Chunk, AllocError> {
    let mut pending = cma.allocate_async(source, request)?;
    match timeout(time, &mut pending).await {
        Ok(chunk) => chunk,
        Err(_) => pending.time_out(),
    }
}

/// The same with a server: while one request waits, this thread does other work.
async fn of_a_server(path: &Path) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(path)?;
    let most = client.info("camera", None)?.free_bytes;
    let first = answer(&client, &cma_client::ChunkRequest::new(most)).await?;
    println!("the first client has {:#x}", first.start());

    let refused = answer(&client, &cma_client::ChunkRequest::new(most)).await;
    println!("without a wait: {}", refused.is_err_and(|error| !error.to_string().is_empty()));

    let began = Instant::now();
    let waiting = cma_client::ChunkRequest::new(most).wait(10 * SECOND);
    let (second, work) = tokio::join!(answer(&client, &waiting), async move {
        let mut work = 0;
        while work < 5 {
            sleep(Duration::from_millis(10)).await;
            work += 1;
        }
        drop(first);
        work
    });
    let mut frame = second?.map()?;
    frame[..4].copy_from_slice(b"NV12");
    println!("the second client has {:#x}", frame.start());
    println!("{work} pieces of other work were done meanwhile");
    if began.elapsed() > 5 * SECOND {
        return Err("the wait was not ended by the free".into());
    }
    Ok(())
}

/// The server's answer to a request. Dropping this future gives the request up.
async fn answer(
    client: &Client,
    request: &cma_client::ChunkRequest,
) -> Result<RemoteChunk, Box<dyn Error>> {
    let from = RegionSelector::Device { device: "camera", kind: "" };
    let mut pending = client.request(from, request)?;
    loop {
        // SAFETY: a `PendingChunk` owns its descriptor, and keeps it until `finish`.
        let connection = unsafe { AsyncFd::register_with_interest(pending, Interest::READABLE) }?;
        connection.readable().await?.retain_ready();
        match connection.into_inner().finish() {
            Outcome::Answered(chunk) => return Ok(chunk?),
            Outcome::NotYet(same) => pending = same,
        }
    }
}
