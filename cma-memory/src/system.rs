//! Errors of system calls, with their remedies.

use cma_framework::MemoryError;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Turns the errno of `call` into an error.
pub(crate) fn system_error(call: &'static str) -> impl Fn(Errno) -> MemoryError {
    move |errno| MemoryError::System {
        call,
        source: errno.into(),
        remedy: remedy(call, errno).map(String::from),
    }
}

fn remedy(call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        (_, Errno::MFILE) => {
            "every chunk with memory takes a descriptor: raise the hard limit on open files (ulimit -Hn, LimitNOFILE=)"
        }
        (_, Errno::NFILE) => "the whole system is out of open files: raise /proc/sys/fs/file-max",
        ("mmap", Errno::NOMEM) => {
            "every chunk, and every huge page with several chunks, is a mapping of its own: raise /proc/sys/vm/max_map_count, and ulimit -v if it is set"
        }
        ("open", Errno::ACCESS) => {
            "only the user who reserved memory can share it: drop privileges before reserving, not after"
        }
        ("open", Errno::NOENT) => "mount /proc",
        ("io_uring_register", Errno::NOMEM) => {
            "pinned memory counts as locked memory: raise its limit to the regions' size (ulimit -l, LimitMEMLOCK=), or grant \
             CAP_IPC_LOCK"
        }
        ("io_uring_setup", Errno::PERM) => {
            "io_uring, which pins memory, is switched off: as root, echo 0 > /proc/sys/kernel/io_uring_disabled"
        }
        ("io_uring_setup", Errno::NOSYS) => {
            "io_uring, which pins memory, is missing in this kernel or container"
        }
        _ => return None,
    })
}

/// Calls `make`, which opens a descriptor. If the soft limit on open files stops it, raises that to
/// the hard limit and retries once.
pub(crate) fn with_raised_limit<T>(make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match make() {
        Err(Errno::MFILE) => {
            let limit = getrlimit(Resource::Nofile);
            if limit.current == limit.maximum {
                return Err(Errno::MFILE);
            }
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
            make()
        }
        made => made,
    }
}

/// The text of a file of the kernel.
pub(crate) fn read_text(path: &str) -> Result<String, Errno> {
    with_raised_limit(|| std::fs::read_to_string(path).map_err(|error| errno(&error)))
}

/// The errno of an error of a system call.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    // Text that is not UTF-8 has none.
    Errno::from_io_error(error).unwrap_or(Errno::ILSEQ)
}
