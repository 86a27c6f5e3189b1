//! Whether a program can be recorded: found out before it is started, because a program that does
//! not load the library runs as usual and records nothing.

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache};
use rustix::fs::Access;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The reason why a program can't be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// No such file.
    #[error("{}: there is no such program", name.display())]
    NotFound {
        /// The program, as it was named.
        name: PathBuf,
    },
    /// The file can't be executed.
    #[error("{}: it can't be executed: {reason}", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The interpreter that a script names can't be used.
    #[error("{}: it is a script, and its interpreter can't be recorded: {reason}", script.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// About the interpreter.
        reason: Box<ProgramError>,
    },
    /// The program is statically linked.
    #[error("{}: it is statically linked, so no library can be preloaded into it", path.display())]
    Static {
        /// The program.
        path: PathBuf,
    },
    /// The program runs with more privileges than its user.
    #[error("{}: it runs with {privileges}, so the system preloads no library into it", path.display())]
    Privileged {
        /// The program.
        path: PathBuf,
        /// Which ones.
        privileges: &'static str,
    },
    /// The program is for another processor or word size.
    #[error("{}: it is not a 64-bit program for this processor", path.display())]
    OtherMachine {
        /// The program.
        path: PathBuf,
    },
    /// The program uses another C library.
    #[error("{}: its C library is not glibc: it is loaded by {interpreter}", path.display())]
    OtherCLibrary {
        /// The program.
        path: PathBuf,
        /// The loader that it names.
        interpreter: String,
    },
}

impl ProgramError {
    /// The status with which a shell ends when it can't start a program, for errors of that kind:
    /// 127 for a program that isn't found, 126 for one that can't be executed.
    pub fn shell_status(&self) -> Option<u8> {
        match self {
            ProgramError::NotFound { .. } => Some(127),
            ProgramError::NotExecutable { .. } => Some(126),
            ProgramError::Interpreter { reason, .. } => reason.shell_status().map(|_| 126),
            _ => None,
        }
    }

    /// What to do about it, if there is something.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            ProgramError::NotFound { .. } => "name its path, or add its folder to PATH",
            ProgramError::Interpreter { reason, .. } => return reason.remedy(),
            ProgramError::Static { .. } => {
                "link it dynamically with the C library: without -static, or for Rust, for a -gnu \
                target"
            }
            ProgramError::Privileged { .. } => {
                "record a copy without the privileges, or record as the user that it runs as"
            }
            ProgramError::OtherMachine { .. } => "record a build for this processor",
            ProgramError::OtherCLibrary { .. } => "record a build for glibc",
            ProgramError::NotExecutable { .. } => return None,
        })
    }
}

/// The byte of an ELF file that tells its word size, and its value for 64 bits.
const ELF_CLASS: usize = 4;
const ELF_CLASS_64: u8 = 2;

/// The depth up to which the kernel follows interpreters that are scripts themselves.
const SCRIPTS: usize = 5;

/// The file of the program that `name` names, as the shell would find it. The program, or the
/// interpreter that runs it, is one that can be recorded.
///
/// # Errors
///
/// [`ProgramError`].
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, ProgramError> {
    let path = search(name)?;
    check(&path, SCRIPTS)?;
    Ok(path)
}

/// Searches for `name` in the folders of `PATH`, unless it is a path.
fn search(name: &OsStr) -> Result<PathBuf, ProgramError> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let not_found = || ProgramError::NotFound { name: PathBuf::from(name) };
    if name.is_empty() {
        return Err(not_found());
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let found: Vec<PathBuf> = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file())
        .collect();
    let first = found.iter().find(|path| is_executable(path).is_ok()).or(found.first());
    first.cloned().ok_or_else(not_found)
}

fn is_executable(path: &Path) -> io::Result<()> {
    rustix::fs::access(path, Access::EXEC_OK).map_err(io::Error::from)
}

/// Checks the program at `path`, and if it is a script its interpreter.
fn check(path: &Path, scripts: usize) -> Result<(), ProgramError> {
    let not_executable = |reason: &str| ProgramError::NotExecutable {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    };
    let about = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => ProgramError::NotFound { name: path.to_path_buf() },
        _ => not_executable(&error.to_string()),
    };
    let metadata = path.metadata().map_err(|error| about(&error))?;
    if metadata.is_dir() {
        return Err(not_executable("it is a folder"));
    } else if !metadata.is_file() {
        return Err(not_executable("it is not a file"));
    }
    is_executable(path).map_err(|error| about(&error))?;
    // A program that may be executed and not read is not checked.
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let mut start = Vec::new();
    let read = file.by_ref().take(256).read_to_end(&mut start).and_then(|_| file.rewind());
    read.map_err(|error| about(&error))?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let interpreter = |reason| ProgramError::Interpreter {
            script: path.to_path_buf(),
            reason: Box::new(reason),
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return check_interpreter(line, scripts).map_err(interpreter);
    }
    if !start.starts_with(b"\x7fELF") {
        return Err(not_executable("it is neither a program nor a script that begins with #!"));
    }
    if start.get(ELF_CLASS) != Some(&ELF_CLASS_64) {
        return Err(ProgramError::OtherMachine { path: path.to_path_buf() });
    }
    check_program(path, file)?;
    match privileges(path, &metadata) {
        Some(privileges) => Err(ProgramError::Privileged { path: path.to_path_buf(), privileges }),
        None => Ok(()),
    }
}

/// Checks the interpreter that the first line of a script names, after `#!`. With `env`, which
/// searches for a program, that program is checked, too.
fn check_interpreter(line: &[u8], scripts: usize) -> Result<(), ProgramError> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(word.to_vec()));
    let Some(interpreter) = words.next().map(path) else {
        let reason = "the line after #! is empty".to_string();
        return Err(ProgramError::NotExecutable { path: PathBuf::from("#!"), reason });
    };
    if scripts == 0 {
        let reason = "too many scripts are interpreters of scripts".to_string();
        return Err(ProgramError::NotExecutable { path: interpreter, reason });
    }
    check(&interpreter, scripts - 1)?;
    if interpreter.file_name() == Some(OsStr::new("env")) {
        // Options, and variables that are set, come before the program.
        let program = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
        if let Some(program) = program {
            check(&search(OsStr::from_bytes(program))?, scripts - 1)?;
        }
    }
    Ok(())
}

/// Checks the headers of a 64-bit ELF file.
fn check_program(path: &Path, file: File) -> Result<(), ProgramError> {
    let broken = |error: object::read::Error| ProgramError::NotExecutable {
        path: path.to_path_buf(),
        reason: format!("its ELF headers can't be read: {error}"),
    };
    let data = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    if endian != Endianness::default() || header.e_machine(endian) != OWN_MACHINE {
        return Err(ProgramError::OtherMachine { path: path.to_path_buf() });
    }
    let segments = header.program_headers(endian, data).map_err(broken)?;
    let interpreter = segments
        .iter()
        .find_map(|segment| segment.interpreter(endian, data).transpose())
        .transpose()
        .map_err(broken)?;
    let Some(interpreter) = interpreter else {
        return Err(ProgramError::Static { path: path.to_path_buf() });
    };
    let interpreter = String::from_utf8_lossy(interpreter).into_owned();
    if interpreter.contains("ld-musl") {
        return Err(ProgramError::OtherCLibrary { path: path.to_path_buf(), interpreter });
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: object::elf::Machine = object::elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: object::elf::Machine = object::elf::EM_AARCH64;

/// The privileges that the program runs with and its user does not have.
fn privileges(path: &Path, metadata: &std::fs::Metadata) -> Option<&'static str> {
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2010;
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    if metadata.mode() & SETUID != 0 && metadata.uid() != user.as_raw() {
        Some("the rights of its owner (setuid)")
    } else if metadata.mode() & SETGID == SETGID && metadata.gid() != group.as_raw() {
        Some("the rights of its group (setgid)")
    } else if !user.is_root()
        && rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 64][..]).is_ok()
    {
        Some("capabilities of its file")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
