//! The arguments and the help of `cma record`.

use super::values;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
A buffer is a block of the heap (malloc and its kind), an anonymous mapping or a memory file (memfd) \
of at least that size. Each process has its own buffers, which are freed when it ends; the recording \
ends with the program, whose exit status is that of cma record. A program that is statically linked \
or setuid can't be recorded. The file is compressed if its name ends with .gz.

A kernel records its contiguous memory allocator with trace-cmd record -e cma, perf record -e \
'cma:*', or echo 1 > /sys/kernel/tracing/events/cma/enable. An area becomes a region that requests \
name, a thread becomes a device; refused requests stay refused. A chunk that was allocated before \
and is released is placed at the start. Lost events and contradictions are reported.

Examples:
  cma record -o sort.trace.gz -- sort /etc/passwd
  cma record --ftrace trace.txt.gz --free-list dmesg.txt.gz -o kernel.trace.gz
  cma record --free-list dmesg.txt.gz -o state.trace";

#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// The trace to write; a file that is there is replaced when the recording is complete
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Record buffers of this size and more. Smaller ones than a page of 4K share pages, so they
    /// say little about contiguous memory, and recording them makes the program slower
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = values::buffer_size)]
    pub(crate) at_least: u64,

    /// What the trace's devices are
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = DeviceName::Library)]
    pub(crate) device: DeviceName,

    /// Read what a kernel recorded of its contiguous memory allocator: the text of its file trace,
    /// of trace-cmd report or of perf script, also compressed by gzip; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["program", "at_least", "device"])]
    pub(crate) ftrace: Option<PathBuf>,

    /// The kernel's log of free pages, "number of available pages: 4@572+...", as text or as the
    /// file of dmesg: all other pages are chunks that live from the start. Without --ftrace the
    /// trace has these alone
    #[arg(
        long,
        value_name = "TEXT|FILE",
        allow_hyphen_values = true,
        conflicts_with_all = ["program", "at_least", "device"]
    )]
    pub(crate) free_list: Option<String>,

    /// Where the kernel's area starts, if the log does not say it
    #[arg(
        long,
        value_name = "ADDRESS",
        value_parser = values::address,
        requires = "free_list",
        conflicts_with = "program"
    )]
    pub(crate) area_start: Option<u64>,

    /// The size of the kernel's pages
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4K",
        value_parser = values::page_size,
        conflicts_with = "program"
    )]
    pub(crate) page_size: u64,

    /// The program and its arguments
    #[arg(
        last = true,
        required_unless_present_any = ["ftrace", "free_list"],
        value_name = "PROGRAM"
    )]
    pub(crate) program: Vec<OsString>,
}

/// What the devices of a recording are named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// The library that requests, as libavcodec, or the program itself. C++'s new, GLib and
    /// libavutil request for their callers
    Library,
    /// The thread that requests, by its name
    Thread,
}
