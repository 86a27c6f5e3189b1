//! What the system refused, with what to do about it.

use cma_framework::MemoryError;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The error of `call`, from what the system said.
pub(crate) fn refused(call: &'static str) -> impl Fn(Errno) -> MemoryError {
    move |errno| MemoryError::System {
        call,
        source: errno.into(),
        remedy: remedy(call, errno).map(String::from),
    }
}

fn remedy(call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        (_, Errno::MFILE) => {
            "every chunk in use and every huge page takes a descriptor: raise the hard limit on open files (ulimit -Hn, \
             LimitNOFILE=), or take larger huge pages"
        }
        (_, Errno::NFILE) => "the whole system is out of open files: raise /proc/sys/fs/file-max",
        ("mmap", Errno::NOMEM) => {
            "every huge page is a mapping of its own: raise /proc/sys/vm/max_map_count, and ulimit -v if that is set"
        }
        ("open", Errno::ACCESS) => {
            "memory is given away by the user who reserved it: drop privileges before, not after"
        }
        ("open", Errno::NOENT) => "/proc has to be mounted",
        ("io_uring_register", Errno::NOMEM) => {
            "what is pinned counts as locked memory: raise its limit to the regions' size (ulimit -l, LimitMEMLOCK=), or grant \
             CAP_IPC_LOCK"
        }
        ("io_uring_setup", Errno::PERM) => {
            "io_uring, which is what pins it, is switched off: as root, echo 0 > /proc/sys/kernel/io_uring_disabled"
        }
        ("io_uring_setup", Errno::NOSYS) => {
            "io_uring, which is what pins it, is not in this kernel or not in this container"
        }
        _ => return None,
    })
}

/// Calls what makes a descriptor; once more, with the soft limit on open files raised to the hard
/// one, if that was in its way.
pub(crate) fn with_room<T>(make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
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
