//! The reasons why a file can't be loaded as a plug-in. Each states what was found, what was
//! expected, and a remedy.

use super::origin::Origin;
use cma_api::c_v1::TableFault;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that can't be loaded, or a folder that can't be searched.
///
/// Displayed as `path: reason; remedy` on one line. A program that prints help apart from the error
/// uses [`reason`](Self::reason) and [`remedy`](LoadFailure::remedy) separately.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}; {}", path.display(), reason.remedy())]
pub struct LoadError {
    path: PathBuf,
    #[source]
    reason: LoadFailure,
}

impl LoadError {
    pub(super) fn new(path: &Path, reason: LoadFailure) -> Self {
        LoadError { path: path.to_path_buf(), reason }
    }

    /// The file or folder, as the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn into_reason(self) -> LoadFailure {
        self.reason
    }

    /// The reason for the refusal.
    pub fn reason(&self) -> &LoadFailure {
        &self.reason
    }
}

/// Why a file can't be loaded as a plug-in. Displayed as the reason alone, without path and remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadFailure {
    /// There is no file at the path.
    #[error("there is no such file")]
    Missing,
    /// It is a folder.
    #[error("it is a folder")]
    Folder,
    /// It is a FIFO, a socket or a device.
    #[error("it is a {what}, not a regular file")]
    NotRegular {
        /// `FIFO`, `socket` ...
        what: &'static str,
    },
    /// This process can't read it.
    #[error("it can't be read: {0}")]
    Unreadable(io::Error),
    /// It is a symbolic link that leads to itself, directly or through others.
    #[error("it is a symbolic link that leads to no file, because the links form a loop")]
    LinkLoop,
    /// It has no content.
    #[error("it is empty")]
    Empty,
    /// It is not an ELF file.
    #[error("it is no ELF library: it starts with \"{starts_with}\"")]
    NotElf {
        /// Its first bytes, escaped.
        starts_with: String,
    },
    /// It is built for another kind of machine.
    #[error("it is built for {theirs}; this process runs on {ours}")]
    Machine {
        /// The machine that the file is built for.
        theirs: String,
        /// The machine that this process is built for.
        ours: String,
    },
    /// It is larger than a plug-in may be.
    #[error("it is larger than {} MiB, the limit for a plug-in", limit >> 20)]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It is an ELF file that can't be loaded into a running process.
    #[error("it is {what}, not a shared library")]
    NotALibrary {
        /// `an executable`, `an object file` ...
        what: &'static str,
    },
    /// It is shorter than its headers say.
    #[error("it is cut off: its headers describe {needs} bytes, but it has {has}")]
    Truncated {
        /// The length in bytes according to its headers.
        needs: u64,
        /// Its length in bytes.
        has: u64,
    },
    /// Its headers contradict themselves.
    #[error("its ELF structure is damaged: {0}")]
    Damaged(&'static str),
    /// It is an ordinary library.
    #[error("it is a library, but exports no plug-in header")]
    NoHeader,
    /// Its header is of another version of abi_stable, so the rest of it can't be read.
    #[error("it is built with abi_stable {theirs}, but this program with {ours}")]
    AbiStable {
        /// Major and minor version found in the file, or `of unknown version`.
        theirs: String,
        /// Major and minor version of this program.
        ours: String,
    },
    /// It is a plug-in for another application.
    #[error("it is a plug-in for \"{theirs}\", not for \"{ours}\"")]
    Application {
        /// The name of its root module.
        theirs: String,
        /// The name of an allocator's root module.
        ours: &'static str,
    },
    /// It is built for another version of the allocator interface.
    #[error(
        "it is built for version {theirs} of the allocator interface (cma-api), but this program supports {ours}"
    )]
    Interface {
        /// The version it is built for.
        theirs: String,
        /// The version that this program supports.
        ours: &'static str,
    },
    /// It claims the right version of the interface, but its types have other layouts.
    #[error("its types don't match version {version} of the allocator interface (cma-api), which it claims: {}", differences.join("; "))]
    Layout {
        /// The version that it claims, which is this program's.
        version: &'static str,
        /// The first few differences, one line each.
        differences: Vec<String>,
    },
    /// Its header has no type layouts to check.
    #[error("it has no description of its types, so they can't be checked")]
    Unchecked,
    /// Its start function returned an error.
    #[error("it refuses to start: {0}")]
    Declined(String),
    /// Its start function panicked. (The plug-in's panic hook has printed the message.)
    #[error("it panicked while it was started")]
    Panicked,
    /// It is a plug-in in C, and its table can't be used.
    #[error(transparent)]
    CTable(#[from] TableFault),
    /// Its name, version or description is invalid.
    #[error("its {what} \"{found}\" {fault}")]
    BadInfo {
        /// `name`, `version` or `description`.
        what: &'static str,
        /// The text, escaped and shortened.
        found: String,
        /// The rule that the text violates.
        fault: &'static str,
    },
    /// The dynamic linker refuses it.
    #[error("the dynamic linker refuses it: {0}")]
    Unlinkable(String),
    /// The copy from which it would run can't be made.
    #[error("it can't be copied to executable memory: {0}")]
    NoCopy(io::Error),
    /// The dynamic linker opens the copy, and a trial finds its processes, in `/proc`.
    #[error("it can't be loaded without the /proc of this process: {0}")]
    NoProc(io::Error),
    /// It ended the trial process with a signal.
    #[error("it crashed with {signal} in a trial load{}", LastOutput(last_output))]
    Crashed {
        /// As `SIGSEGV`.
        signal: String,
        /// The last line of its standard error, or nothing.
        last_output: String,
    },
    /// It ended the trial process.
    #[error("it ended the process with code {code} in a trial load{}", LastOutput(last_output))]
    Ended {
        /// The exit code.
        code: i32,
        /// The last line of its standard error, or nothing.
        last_output: String,
    },
    /// The trial process exceeded its time limit and was killed.
    #[error("it did not finish a trial load within {} ms{}", limit.as_millis(), LastOutput(last_output))]
    Endless {
        /// The time limit.
        limit: Duration,
        /// The last line of its standard error, or nothing.
        last_output: String,
    },
    /// A trial provoked a panic that the plug-in has to catch, and the panic ended the trial
    /// process.
    #[error("a panic in it ends the process instead of being caught, as with `panic = \"abort\"`")]
    AbortsOnPanic,
    /// The trial process refused it for one of the reasons above.
    #[error("{reason}")]
    InTrial {
        /// The [`kind`](LoadFailure::kind) of the reason.
        kind: String,
        /// The reason, as it is displayed.
        reason: String,
        /// Its [`remedy`](LoadFailure::remedy).
        remedy: String,
    },
    /// The trial itself failed, so nothing is known about the file.
    #[error("a trial load could not be made: {0}")]
    NoTrial(io::Error),
    /// A folder to search doesn't exist.
    #[error("{origin} names this folder, but it doesn't exist")]
    FolderMissing {
        /// The source that names it.
        origin: Origin,
    },
    /// A folder to search can't be listed.
    #[error("{origin} names this folder, but it can't be listed: {error}")]
    FolderUnreadable {
        /// The source that names it.
        origin: Origin,
        /// The error of the system.
        error: io::Error,
    },
}

impl LoadFailure {
    /// One word for the reason, for programs: it stays the same when the wording changes.
    pub fn kind(&self) -> &str {
        match self {
            LoadFailure::Missing => "missing",
            LoadFailure::Folder => "folder",
            LoadFailure::NotRegular { .. } => "not-regular",
            LoadFailure::Unreadable(_) => "unreadable",
            LoadFailure::LinkLoop => "link-loop",
            LoadFailure::Empty => "empty",
            LoadFailure::NotElf { .. } => "not-elf",
            LoadFailure::Machine { .. } => "machine",
            LoadFailure::TooLarge { .. } => "too-large",
            LoadFailure::NotALibrary { .. } => "not-a-library",
            LoadFailure::Truncated { .. } => "truncated",
            LoadFailure::Damaged(_) => "damaged",
            LoadFailure::NoHeader => "no-header",
            LoadFailure::AbiStable { .. } => "abi-stable",
            LoadFailure::Application { .. } => "application",
            LoadFailure::Interface { .. } => "interface",
            LoadFailure::Layout { .. } => "layout",
            LoadFailure::Unchecked => "unchecked",
            LoadFailure::Declined(_) => "declined",
            LoadFailure::Panicked => "panicked",
            LoadFailure::CTable(TableFault::Version { .. }) => "interface",
            LoadFailure::CTable(TableFault::Size { .. }) => "layout",
            LoadFailure::CTable(TableFault::NoText { .. } | TableFault::NotUtf8 { .. }) => {
                "bad-info"
            }
            LoadFailure::CTable(_) => "no-function",
            LoadFailure::BadInfo { .. } => "bad-info",
            LoadFailure::Unlinkable(_) => "unlinkable",
            LoadFailure::NoCopy(_) => "no-copy",
            LoadFailure::NoProc(_) => "no-proc",
            LoadFailure::Crashed { .. } => "crashed",
            LoadFailure::Ended { .. } => "ended",
            LoadFailure::Endless { .. } => "endless",
            LoadFailure::AbortsOnPanic => "aborts-on-panic",
            LoadFailure::InTrial { kind, .. } => kind,
            LoadFailure::NoTrial(_) => "no-trial",
            LoadFailure::FolderMissing { .. } => "folder-missing",
            LoadFailure::FolderUnreadable { .. } => "folder-unreadable",
        }
    }

    /// The step that makes the file loadable.
    pub fn remedy(&self) -> &str {
        match self {
            LoadFailure::Missing => "check the spelling, or build the plug-in first",
            LoadFailure::Folder => "name a library in it, or search the folder",
            LoadFailure::NotRegular { .. }
            | LoadFailure::NotElf { .. }
            | LoadFailure::NotALibrary { .. } => "name a plug-in library (libcma_<name>_plugin.so)",
            LoadFailure::Unreadable(error) if is_forbidden(error) => {
                "give this user permission to read it"
            }
            LoadFailure::Unreadable(_) => "check its file system, or copy it again",
            LoadFailure::LinkLoop => "link to a plug-in library, or remove it",
            LoadFailure::TooLarge { .. } => {
                "name a plug-in library, or build it with less debug information"
            }
            LoadFailure::Empty | LoadFailure::Truncated { .. } | LoadFailure::Damaged(_) => {
                "build or copy it again"
            }
            LoadFailure::Machine { .. } => "build it for this machine",
            LoadFailure::NoHeader => {
                "export an allocator with `cma_api::export_allocator!`, or the constant \
                 `cma_allocator_v1` from C"
            }
            LoadFailure::CTable(TableFault::Version { .. } | TableFault::Size { .. }) => {
                "build it with the cma_allocator.h of this program's version"
            }
            LoadFailure::CTable(TableFault::NoFunction { .. }) => {
                "set the function; only adopt, largest_request and check may be null"
            }
            LoadFailure::CTable(_) => "correct the text in its table",
            LoadFailure::AbiStable { .. }
            | LoadFailure::Interface { .. }
            | LoadFailure::Layout { .. } => {
                "build plug-in and program with the same version of cma-api"
            }
            LoadFailure::Application { .. } | LoadFailure::Unchecked => {
                "export the allocator with `cma_api::export_allocator!` and nothing else"
            }
            LoadFailure::Declined(_) => "meet its requirement, or leave it out",
            LoadFailure::BadInfo { .. } => {
                "correct it in the `INFO` of its allocator, or in its table if it is in C"
            }
            LoadFailure::Unlinkable(_) => "install what it needs, or build it again on this system",
            LoadFailure::NoCopy(error) => match error.kind() {
                io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => "free memory",
                _ if is_forbidden(error) => "allow executable memory files (vm.memfd_noexec)",
                _ => "raise the limits of open files and memory of this process",
            },
            LoadFailure::NoProc(_) => {
                "mount /proc in this PID namespace, as `unshare --mount-proc` does"
            }
            LoadFailure::AbortsOnPanic => "build it with `panic = \"unwind\"`",
            LoadFailure::Panicked
            | LoadFailure::Crashed { .. }
            | LoadFailure::Ended { .. }
            | LoadFailure::Endless { .. } => "leave it out, and report it to its author",
            LoadFailure::InTrial { remedy, .. } => remedy,
            LoadFailure::NoTrial(_) => {
                "name a program for the trial that can be started, or load without a trial"
            }
            LoadFailure::FolderMissing { .. } => "create it, or name another",
            LoadFailure::FolderUnreadable { error, .. } if is_forbidden(error) => {
                "give this user permission to list it, or name another"
            }
            LoadFailure::FolderUnreadable { .. } => "name a folder that can be listed",
        }
    }
}

/// Whether a permission is missing.
fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The last line of a library's standard error, if there is one.
struct LastOutput<'a>(&'a str);

impl fmt::Display for LastOutput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last output is \"{}\"", self.0) }
    }
}
