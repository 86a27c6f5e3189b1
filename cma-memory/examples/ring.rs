//! A camera process and a display process with a ring of frames between them, in one chunk.
//!
//! ```sh
//! cargo run -p cma-memory --example ring                # 100 frames
//! cargo run -p cma-memory --example ring -- 100 40      # the display is killed at frame 40
//! ```
//!
//! The chunk begins with a page of words, the slots for frames follow. The camera alone writes
//! `HEAD`, the number of frames that it has written, after the frame. The display alone writes
//! `TAIL`, the number of frames that it has shown. So a slot belongs to one process at any time,
//! and the numbers say to which. Each process wakes the other by an eventfd, and looks at the
//! number again before it sleeps, so no wake-up is lost.
//!
//! Each end of a socket ends with its process, however that ends. A display that is killed leaves
//! `TAIL` at the frame that it had not shown: the camera starts another display, which goes on
//! there. A display whose camera is killed shows the frames that are in the ring, and ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what happens")]

use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, Plugin, SharedChunk};
use cma_memory::{Memfd, map_shared};
use cma_shared::{FilePart, MapError, SharedBytes, SharedWords};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, IoSlice, IoSliceMut, fcntl_dupfd_cloexec, read, write};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Signal, getpid, kill_process};
use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FRAME: usize = 640 * 480;
const SLOTS: u32 = 8;
/// The page of words before the frames.
const WORDS: usize = 4096;
const SIZE: usize = WORDS + SLOTS as usize * FRAME;

/// The number of frames that the camera has written. Wraps.
const HEAD: usize = 0;
/// The number of frames that the display has shown. Wraps.
const TAIL: usize = 1;
/// 1 when the camera writes no more.
const ENDED: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| match arguments.get(index) {
        Some(text) => text.parse().map_err(|error| format!("{text}: {error}")),
        None => Ok(default),
    };
    let result = match arguments.first().map(String::as_str) {
        Some("display") => number(1, u32::MAX).map_err(Into::into).and_then(display),
        _ => number(0, 100)
            .and_then(|frames| Ok((frames, number(1, u32::MAX)?)))
            .map_err(Into::into)
            .and_then(|(frames, killed_at)| camera(frames, killed_at)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes frames into a ring and has them displayed. The first display kills itself in frame
/// `killed_at`.
fn camera(frames: u32, killed_at: u32) -> Result<(), Box<dyn Error>> {
    let cma = Cma::new();
    cma.command_line(Some("video=16M"), Some("camera=video"))?;
    let banks = Banks::new(&[Bank::new(0x4000_0000, 64 << 20)], Growth::Up);
    cma.early_regions_reserve(&mut Memfd::new(banks));
    cma.initialise();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>())?;

    let chunk = cma.alloc("camera", None, SIZE as u64, 0)?.share()?;
    let mut ring = Ring::new(map_shared(&chunk)?, Event::new()?, Event::new()?);
    let mut display = Display::start(&chunk, &ring, killed_at)?;
    for number in 0..frames {
        while ring.pending()? == SLOTS {
            if ring.shown.wait(&display.socket)? == Woken::ByEnd {
                display = display.replaced(&chunk, &ring)?;
            }
        }
        ring.put(&picture(number));
    }
    ring.end();
    // The display may be killed after the last frame is written, too.
    while !display.child.wait()?.success() {
        display = display.replaced(&chunk, &ring)?;
    }
    drop(ring);
    // No process has the memory any more, so the chunk can be used again.
    let chunk = chunk.reclaim().map_err(|_| "a process still has the frames")?;
    drop(chunk);
    println!("{} bytes are free again", cma.info("camera", None)?.free_bytes);
    Ok(())
}

/// Shows the frames of a ring that comes over standard input, and kills itself in frame
/// `killed_at`.
fn display(killed_at: u32) -> Result<(), Box<dyn Error>> {
    let camera = fcntl_dupfd_cloexec(io::stdin(), 0)?;
    let mut ring = receive(&camera)?;
    let mut shown: Option<(u32, u32)> = None;
    let mut frame = vec![0; FRAME];
    let mut camera_runs = true;
    loop {
        while let Some(number) = ring.next(&mut frame)? {
            if number == killed_at {
                kill_process(getpid(), Signal::KILL)?;
            }
            if frame != picture(number) {
                return Err(format!("frame {number} is not the one that was written").into());
            }
            shown = Some((shown.map_or(number, |(first, _)| first), number));
            ring.release();
        }
        // Both the word and the end of the socket come after the last frame, so a look at the
        // ring follows.
        if !camera_runs || ring.words[ENDED].load(Acquire) == 1 {
            if ring.pending()? > 0 {
                continue;
            }
            break;
        }
        camera_runs = ring.written.wait(&camera)? != Woken::ByEnd;
    }
    match shown {
        Some((first, last)) => println!("displayed frames {first} to {last}"),
        None => println!("displayed no frame"),
    }
    if ring.words[ENDED].load(Acquire) == 0 {
        return Err("the camera ended without saying so".into());
    }
    Ok(())
}

/// The bytes of frame `number`.
fn picture(number: u32) -> Vec<u8> {
    (0..FRAME as u32).map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(97)) as u8).collect()
}

/// The ring, as either process sees it.
struct Ring {
    words: SharedWords,
    frames: SharedBytes,
    written: Event,
    shown: Event,
}

impl Ring {
    fn new(bytes: SharedBytes, written: Event, shown: Event) -> Ring {
        let (words, frames) = bytes.split_at(WORDS);
        Ring { words: words.into_words(), frames, written, shown }
    }

    /// The number of frames that are written and not shown. The other process wrote one of the
    /// numbers, so it may be any.
    fn pending(&self) -> Result<u32, String> {
        let (head, tail) = (self.words[HEAD].load(Acquire), self.words[TAIL].load(Acquire));
        match head.wrapping_sub(tail) {
            pending @ ..=SLOTS => Ok(pending),
            _ => Err(format!("the ring is not one: {head} frames written, {tail} shown")),
        }
    }

    fn slot(number: u32) -> usize {
        (number % SLOTS) as usize * FRAME
    }

    /// Writes the next frame into a slot that is free.
    fn put(&mut self, frame: &[u8]) {
        let head = self.words[HEAD].load(Relaxed);
        self.frames.write(Ring::slot(head), frame);
        self.words[HEAD].store(head.wrapping_add(1), Release);
        self.written.wake();
    }

    fn end(&mut self) {
        self.words[ENDED].store(1, Release);
        self.written.wake();
    }

    /// Copies the frame that is to be shown next, if there is one, and returns its number.
    fn next(&self, frame: &mut [u8]) -> Result<Option<u32>, String> {
        if self.pending()? == 0 {
            return Ok(None);
        }
        let tail = self.words[TAIL].load(Relaxed);
        self.frames.read(Ring::slot(tail), frame);
        Ok(Some(tail))
    }

    /// Gives the slot of that frame back to the camera.
    fn release(&mut self) {
        let tail = self.words[TAIL].load(Relaxed);
        self.words[TAIL].store(tail.wrapping_add(1), Release);
        self.shown.wake();
    }
}

#[derive(PartialEq, Eq)]
enum Woken {
    /// The other process woke this one.
    ByEvent,
    /// It ended.
    ByEnd,
}

/// Wakes the other process.
struct Event(OwnedFd);

impl Event {
    fn new() -> rustix::io::Result<Event> {
        Ok(Event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn wake(&self) {
        // It fails when 2^64 - 2 wake-ups are pending, which is enough.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Waits until it is woken, or the process at the other end of `socket` has ended.
    fn wait(&self, socket: &OwnedFd) -> rustix::io::Result<Woken> {
        let mut events =
            [PollFd::new(&self.0, PollFlags::IN), PollFd::new(socket, PollFlags::RDHUP)];
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        match read(&self.0, &mut [0; 8]) {
            Ok(_) => Ok(Woken::ByEvent),
            Err(Errno::AGAIN) if events[1].revents().is_empty() => Ok(Woken::ByEvent),
            Err(Errno::AGAIN) => Ok(Woken::ByEnd),
            Err(errno) => Err(errno),
        }
    }
}

/// The other process, as the camera sees it.
struct Display {
    child: Child,
    socket: OwnedFd,
}

impl Display {
    fn start(chunk: &SharedChunk, ring: &Ring, killed_at: u32) -> Result<Self, Box<dyn Error>> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (socket, other) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["display".to_string(), killed_at.to_string()])
            .stdin(Stdio::from(other))
            .spawn()?;
        let piece = chunk.pieces()?.next().ok_or("the chunk has no memory")??;
        let descriptors = [piece.as_fd(), ring.written.0.as_fd(), ring.shown.0.as_fd()];
        send(&socket, &descriptors)?;
        Ok(Display { child, socket })
    }

    /// Another display in the place of this one, if this one was killed.
    fn replaced(mut self, chunk: &SharedChunk, ring: &Ring) -> Result<Self, Box<dyn Error>> {
        let status = self.child.wait()?;
        if status.signal().is_none() {
            return Err(format!("the display ended: {status}").into());
        }
        println!("the display was killed; another one goes on");
        Display::start(chunk, ring, u32::MAX)
    }
}

fn send(socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    beside.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(socket, &[IoSlice::new(b"ring")], &mut beside, SendFlags::NOSIGNAL).map(|_| ())
}

/// The ring that the camera sends.
fn receive(camera: &OwnedFd) -> Result<Ring, Box<dyn Error>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let (mut text, flags) = ([0; 4], RecvFlags::CMSG_CLOEXEC);
    recvmsg(camera, &mut [IoSliceMut::new(&mut text)], &mut beside, flags)?;
    let files = beside.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(files) => Some(files.collect::<Vec<_>>()),
        _ => None,
    });
    let Ok([file, written, shown]) = <[OwnedFd; 3]>::try_from(files.unwrap_or_default()) else {
        return Err("the camera ended before it sent the ring".into());
    };
    let len = SIZE.next_multiple_of(4096) as u64;
    let part = FilePart { file, offset: 0, len };
    let bytes = SharedBytes::map(len, [Ok::<_, MapError>(part)])?;
    Ok(Ring::new(bytes, Event(written), Event(shown)))
}
