//! Why a file can't be loaded as a plug-in: for each reason what was found, what was expected, and
//! what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file or folder that gave no plug-in: which, why, and the remedy.
///
/// Displayed as `path: reason; remedy` on one line. A program that prints help apart from the error
/// takes [`reason`](Self::reason) and [`remedy`](LoadFailure::remedy) separately.
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

    /// Why it was refused.
    pub fn reason(&self) -> &LoadFailure {
        &self.reason
    }
}

/// Why a file can't be loaded as a plug-in. Displayed as the reason alone, without path and remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadFailure {
    /// Nothing is there.
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
    /// The system doesn't let this process read it.
    #[error("it can't be read: {0}")]
    Unreadable(io::Error),
    /// It is a symbolic link that leads to itself, perhaps through others.
    #[error("it is a symbolic link that leads to no file, because the links go round in a circle")]
    LinkLoop,
    /// It has no content.
    #[error("it is empty")]
    Empty,
    /// It is no ELF file at all.
    #[error("it is no ELF library: it starts with \"{starts_with}\"")]
    NotElf {
        /// Its first bytes, escaped.
        starts_with: String,
    },
    /// It is built for another kind of machine.
    #[error("it is built for {theirs}; this process runs on {ours}")]
    Machine {
        /// What the file is built for.
        theirs: String,
        /// What this process is built for.
        ours: String,
    },
    /// It has more than a plug-in may have.
    #[error("it is larger than {} MiB, the most that is read of a plug-in", limit >> 20)]
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
    /// It ends before its contents do.
    #[error("it is cut off: its contents reach to byte {needs}, and it has {has}")]
    Truncated {
        /// The length in bytes that its headers ask for.
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
    /// Its header is written by another abi_stable, so that nothing behind it can be read.
    #[error("it is built with abi_stable {theirs}, and this program with {ours}")]
    AbiStable {
        /// Major and minor version found in the file, or `of unknown version`.
        theirs: String,
        /// Major and minor version of this program.
        ours: String,
    },
    /// It is a plug-in of something else.
    #[error("it is a plug-in for \"{theirs}\", not for \"{ours}\"")]
    Application {
        /// What its root module is called.
        theirs: String,
        /// What an allocator's is called.
        ours: &'static str,
    },
    /// It is built for another version of the allocator interface.
    #[error(
        "it is built for version {theirs} of the allocator interface (cma-api), and this program speaks {ours}"
    )]
    Interface {
        /// The version it is built for.
        theirs: String,
        /// The version this program speaks.
        ours: &'static str,
    },
    /// It claims the right version of the interface and lays its types out in another way.
    #[error("its types don't match version {version} of the allocator interface (cma-api), which it claims: {}", differences.join("; "))]
    Layout {
        /// The version that both claim.
        version: &'static str,
        /// The first few differences, one line each.
        differences: Vec<String>,
    },
    /// Its header leaves out what this program needs to check its types.
    #[error("it carries no description of its types, so that they can't be checked")]
    Unchecked,
    /// It answered with an error when it was started.
    #[error("it refuses to start: {0}")]
    Declined(String),
    /// It panicked when it was started. (The message went where the plug-in's panics go.)
    #[error("it panicked while it was started")]
    Panicked,
    /// What it says of itself is not fit for use.
    #[error("its {what} \"{found}\" {fault}")]
    BadInfo {
        /// `name`, `version` or `description`.
        what: &'static str,
        /// The text, escaped and shortened.
        found: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The dynamic linker refuses it.
    #[error("the dynamic linker refuses it: {0}")]
    Unlinkable(String),
    /// The system gives no place for the copy from which it would run.
    #[error("it can't be copied to executable memory: {0}")]
    NoCopy(io::Error),
    /// It ended the trial process with a signal.
    #[error("it crashed with {signal} in a trial load{}", Said(said))]
    Crashed {
        /// As `SIGSEGV`.
        signal: String,
        /// The last line of its standard error.
        said: String,
    },
    /// It ended the trial process.
    #[error("it ended the process with code {code} in a trial load{}", Said(said))]
    Ended {
        /// The exit code.
        code: i32,
        /// The last line of its standard error.
        said: String,
    },
    /// The trial process had to be stopped.
    #[error("it did not finish a trial load within {} ms{}", limit.as_millis(), Said(said))]
    Endless {
        /// How long it had.
        limit: Duration,
        /// The last line of its standard error.
        said: String,
    },
    /// A panic that a trial provoked in it, where it is to catch panics, ended the trial process.
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
    /// No trial could be made, so nothing is known of the file.
    #[error("no trial load could be made: {0}")]
    NoTrial(io::Error),
    /// A folder to search isn't there.
    #[error("{origin} names this folder, and it is not there")]
    FolderMissing {
        /// Who named it.
        origin: super::Origin,
    },
    /// A folder to search can't be listed.
    #[error("{origin} names this folder, and it can't be listed: {error}")]
    FolderUnreadable {
        /// Who named it.
        origin: super::Origin,
        /// What the system says.
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
            LoadFailure::BadInfo { .. } => "bad-info",
            LoadFailure::Unlinkable(_) => "unlinkable",
            LoadFailure::NoCopy(_) => "no-copy",
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

    /// What whoever wants to load the file can do about it.
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
            LoadFailure::Unreadable(_) => "let the system read it, or copy it again",
            LoadFailure::LinkLoop => "let the link lead to a plug-in library, or remove it",
            LoadFailure::TooLarge { .. } => {
                "name a plug-in library, or build it with less debug information"
            }
            LoadFailure::Empty | LoadFailure::Truncated { .. } | LoadFailure::Damaged(_) => {
                "build or copy it again"
            }
            LoadFailure::Machine { .. } => "build it for this machine",
            LoadFailure::NoHeader => "let it export an allocator with `cma_api::export_allocator!`",
            LoadFailure::AbiStable { .. }
            | LoadFailure::Interface { .. }
            | LoadFailure::Layout { .. } => {
                "build plug-in and program with the same version of cma-api"
            }
            LoadFailure::Application { .. } | LoadFailure::Unchecked => {
                "export the allocator with `cma_api::export_allocator!` and nothing else"
            }
            LoadFailure::Declined(_) => "do what it asks for, or leave it out",
            LoadFailure::BadInfo { .. } => "correct the `INFO` of its allocator",
            LoadFailure::Unlinkable(_) => "install what it needs, or build it again on this system",
            LoadFailure::NoCopy(error) => match error.kind() {
                io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => "free memory",
                _ if is_forbidden(error) => "allow executable memory files (vm.memfd_noexec)",
                _ => "give this process more open files and memory",
            },
            LoadFailure::AbortsOnPanic => "build it with `panic = \"unwind\"`",
            LoadFailure::Panicked
            | LoadFailure::Crashed { .. }
            | LoadFailure::Ended { .. }
            | LoadFailure::Endless { .. } => "leave it out, and report it to its author",
            LoadFailure::InTrial { remedy, .. } => remedy,
            LoadFailure::NoTrial(_) => "let this program start itself, or load without a trial",
            LoadFailure::FolderMissing { .. } => "create it, or name another",
            LoadFailure::FolderUnreadable { error, .. } if is_forbidden(error) => {
                "give this user permission to list it, or name another"
            }
            LoadFailure::FolderUnreadable { .. } => "name a folder that can be listed",
        }
    }
}

/// Whether it is a permission that lacks.
fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What a library wrote before it ended, if it wrote anything.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it said \"{}\"", self.0) }
    }
}
