//! The environment of the tests: the machine's pool of huge pages, which they restore; a framework;
//! another process.
#![allow(dead_code, reason = "each test binary uses a part")]

use cma_framework::config::{Bank, Growth};
use cma_framework::loader::Plugin;
use cma_framework::reserve::{Banks, Reserver};
use cma_framework::{Cma, EarlyState, Region};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::pipe::{IoSliceRaw, SpliceFlags, pipe, vmsplice};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) const HUGE: u64 = 2 << 20;

pub(crate) fn banks() -> Banks {
    Banks::new(&[Bank::new(0x4000_0000, 1 << 40)], Growth::Up)
}

/// A framework with these regions, reserved and registered, open to every device, served by best
/// fit.
pub(crate) fn boot(regions: &str, reserver: &mut dyn Reserver) -> Cma {
    let cma = Cma::new();
    cma.command_line(Some(regions), None).unwrap();
    cma.early_regions_reserve(reserver);
    for early in cma.initialise() {
        assert!(matches!(early.state(), EarlyState::Registered(_)), "{:?}", early.state());
    }
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let names: Vec<_> = cma.regions().iter().map(ToString::to_string).collect();
    cma.command_line(None, Some(&format!("*={}", names.join(",")))).unwrap();
    cma
}

/// A framework with one region.
pub(crate) fn region(spec: &str, reserver: &mut dyn Reserver) -> (Cma, Region) {
    let cma = boot(spec, reserver);
    let region = cma.regions().remove(0);
    (cma, region)
}

/// Why a region was not reserved.
pub(crate) fn refusal(spec: &str, reserver: &mut dyn Reserver) -> String {
    let cma = Cma::new();
    cma.command_line(Some(spec), None).unwrap();
    match cma.early_regions_reserve(reserver)[0].state() {
        EarlyState::NotReserved(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The number of this process's descriptors whose file has `label` in its name.
pub(crate) fn open_files(label: &str) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let matches = |path: io::Result<std::path::PathBuf>| {
        path.is_ok_and(|p| p.to_string_lossy().contains(label))
    };
    links.filter(|entry| matches(fs::read_link(entry.path()))).count()
}

/// The number of this process's mappings whose file has `label` in its name.
pub(crate) fn mappings(label: &str) -> usize {
    fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter(|line| line.contains(label))
        .count()
}

/// The machine's settings, locked against other tests in any process. Restores them when dropped.
pub(crate) struct Machine {
    changed: Vec<(&'static str, String)>,
    /// The free huge pages that it began with.
    pages: u64,
    _lock: File,
}

pub(crate) const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
pub(crate) const POOL_1G: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages";
pub(crate) const LEASES: &str = "/proc/sys/fs/leases-enable";

impl Machine {
    pub(crate) fn lock() -> Machine {
        let path = std::env::temp_dir().join("cma-memory-tests.lock");
        let made = File::options().create(true).truncate(false).write(true).open(&path);
        // The file may belong to another user.
        let file = made.or_else(|_| File::open(path)).unwrap();
        file.lock().unwrap();
        Machine { changed: Vec::new(), pages: 0, _lock: file }
    }

    /// The machine with `pages` adjacent free huge pages. `None`, and a message on the terminal,
    /// when this test can't have them.
    pub(crate) fn with_huge_pages(pages: u64) -> Option<Machine> {
        Machine::of_huge_pages(pages).map_err(|why| skipped(&why)).ok()
    }

    /// The same. The error says why the machine can't have them.
    pub(crate) fn of_huge_pages(pages: u64) -> Result<Machine, String> {
        let mut machine = Machine::lock();
        machine.gather(pages)?;
        assert_eq!(free(POOL), pages);
        machine.pages = pages;
        Ok(machine)
    }

    fn gather(&mut self, pages: u64) -> Result<(), String> {
        let taken = total(POOL) - free(POOL);
        let refused = |error| format!("{POOL}: {error}; it takes root");
        self.set(POOL, &taken.to_string()).map_err(refused)?;
        // First try to split a contiguous gigabyte into huge pages, then to find a run in a growing
        // pool.
        if self.set(POOL_1G, "1").is_ok()
            && fs::write(POOL_1G.replace("nr_hugepages", "demote"), "1").is_ok()
        {
            self.set(POOL, &(taken + pages).to_string()).map_err(refused)?;
            if run_of(pages, &all_pages()).is_some() {
                return Ok(());
            }
        }
        let mut more = pages;
        while more <= 4096 {
            self.set(POOL, &(taken + more).to_string()).map_err(refused)?;
            let mut all = all_pages();
            if let Some(first) = run_of(pages, &all) {
                let run: Vec<_> = all.drain(first..first + pages as usize).collect();
                drop(all);
                self.set(POOL, &(taken + pages).to_string()).map_err(refused)?;
                drop(run);
                return Ok(());
            }
            more *= 2;
        }
        Err(format!("the machine has no {pages} adjacent huge pages"))
    }

    pub(crate) fn set(&mut self, file: &'static str, value: &str) -> io::Result<()> {
        let before = fs::read_to_string(file)?;
        fs::write(file, value)?;
        self.changed.push((file, before));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel unpins the pages of a process some time after its end. The next test would
        // take them for those of another user of the pool.
        let begun = Instant::now();
        while free(POOL) < self.pages && begun.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        for (file, before) in self.changed.iter().rev() {
            fs::write(file, before.trim()).unwrap();
        }
    }
}

/// Reports a skipped test on standard error itself, because the test harness captures prints.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_string();
    let mut terminal = io::stderr().lock();
    writeln!(terminal, "skipped: {name}: {why}").unwrap();
}

fn number(path: &str) -> u64 {
    fs::read_to_string(path).map(|text| text.trim().parse().unwrap()).unwrap_or(0)
}

/// The number of huge pages in the pool.
pub(crate) fn total(pool: &str) -> u64 {
    number(pool)
}

/// The number of free ones.
pub(crate) fn free(pool: &str) -> u64 {
    let beside = |name: &str| number(&pool.replace("nr_hugepages", name));
    beside("free_hugepages") - beside("resv_hugepages")
}

/// The frame behind an address of this process, read from pagemap independently of the library: 0
/// when hidden, `None` when nothing is mapped.
pub(crate) fn frame(address: usize) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")
        .unwrap()
        .read_exact_at(&mut entry, address as u64 / 4096 * 8)
        .unwrap();
    let entry = u64::from_le_bytes(entry);
    (entry >> 63 == 1).then_some(entry & ((1 << 55) - 1))
}

/// Takes every free huge page, with its frame, in ascending order.
pub(crate) fn all_pages() -> Vec<(u64, OwnedFd)> {
    let mut pages: Vec<(u64, OwnedFd)> = std::iter::from_fn(|| {
        let file =
            memfd_create("test", MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB | MemfdFlags::CLOEXEC)
                .unwrap();
        ftruncate(&file, HUGE).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, HUGE).ok()?;
        let frame = Window::onto(&file, HUGE).frame().unwrap();
        Some((frame, file))
    })
    .collect();
    pages.sort_by_key(|(frame, _)| *frame);
    pages
}

/// The index of the first of `pages` adjacent ones.
fn run_of(pages: u64, all: &[(u64, OwnedFd)]) -> Option<usize> {
    let span = (pages - 1) * (HUGE / 4096);
    let is_run = |run: &[(u64, OwnedFd)]| run[run.len() - 1].0 == run[0].0 + span;
    all.windows(pages as usize).position(is_run)
}

/// Runs the commands that an error message gives as its remedy.
pub(crate) fn follow(why: &str) {
    let commands = why.split("as root: ").nth(1).unwrap().split([';', '(']).next().unwrap();
    let status = Command::new("sh").args(["-c", commands]).status().unwrap();
    assert!(status.success(), "{commands}");
}

/// A file mapped independently of the library. It is accessed by volatile bytes, because other
/// processes may access it too.
pub(crate) struct Window {
    start: *mut u8,
    len: usize,
}

impl Window {
    pub(crate) fn onto(file: impl AsFd, len: u64) -> Window {
        let (len, read_write) = (len as usize, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: the kernel chooses unused addresses.
        let start = unsafe {
            mmap(ptr::null_mut(), len, read_write, MapFlags::SHARED | MapFlags::POPULATE, file, 0)
        };
        Window { start: start.unwrap().cast(), len }
    }

    pub(crate) fn read(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: within the mapping.
        let here = unsafe { self.start.add(at) };
        // SAFETY: mapped, and no reference into it is ever made.
        unsafe { here.read_volatile() }
    }

    pub(crate) fn write(&self, at: usize, byte: u8) {
        assert!(at < self.len);
        // SAFETY: within the mapping.
        let here = unsafe { self.start.add(at) };
        // SAFETY: mapped for writing, and no reference into it is ever made.
        unsafe { here.write_volatile(byte) };
    }

    /// A pipe that contains the first page, for which the kernel pins it.
    pub(crate) fn pinned(&self) -> OwnedFd {
        self.pinned_at(0)
    }

    /// A pipe that contains the page at byte `at`.
    pub(crate) fn pinned_at(&self, at: usize) -> OwnedFd {
        assert!(at + 4096 <= self.len);
        let (read, write) = pipe().unwrap();
        // SAFETY: within the mapping.
        let here = unsafe { self.start.add(at) };
        // SAFETY: within the mapping, and nothing writes to it as long as the slice exists.
        let bytes = unsafe { std::slice::from_raw_parts(here, 4096) };
        // SAFETY: without SPLICE_F_GIFT the pages stay this process's.
        let spliced =
            unsafe { vmsplice(write, &[IoSliceRaw::from_slice(bytes)], SpliceFlags::empty()) };
        assert_eq!(spliced, Ok(4096));
        read
    }

    pub(crate) fn frame(&self) -> Option<u64> {
        self.frame_at(0)
    }

    /// The frame behind byte `at`.
    pub(crate) fn frame_at(&self, at: usize) -> Option<u64> {
        assert!(at < self.len);
        frame(self.start.addr() + at)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: no reference into it was made.
        unsafe { munmap(self.start.cast(), self.len) }.unwrap();
    }
}

/// A test's other process: the test program itself, which runs the test of the same name in the
/// role that the environment gives it.
pub(crate) struct OtherProcess {
    child: Child,
    output: BufReader<PipeReader>,
}

const ROLE: &str = "CMA_MEMORY_TEST_ROLE";

/// The role of this process, if it is the other one. It is killed when the test ends.
pub(crate) fn role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    Some(role)
}

/// Sends a line from the other process to the test.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n> {line}").unwrap();
    out.flush().unwrap();
}

impl OtherProcess {
    pub(crate) fn command(test: &str, role: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        command
    }

    pub(crate) fn start(mut command: Command) -> OtherProcess {
        let (output, input) = io::pipe().unwrap();
        command.stdout(input.try_clone().unwrap()).stderr(input);
        let child = command.spawn().unwrap();
        OtherProcess { child, output: BufReader::new(output) }
    }

    /// Starts one with `piece` as its standard input.
    pub(crate) fn with(test: &str, role: &str, piece: OwnedFd) -> OtherProcess {
        let mut command = OtherProcess::command(test, role);
        command.stdin(Stdio::from(piece));
        OtherProcess::start(command)
    }

    /// The next line that it sends.
    pub(crate) fn next_line(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the other process ended without a message"
            );
            if let Some(message) = line.strip_prefix("> ") {
                return message.trim_end().to_string();
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn end(self) {}

    /// Waits for its end. If its test failed, so does this one, with what it printed.
    pub(crate) fn succeed(mut self) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the other process: {status}\n{rest}");
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
