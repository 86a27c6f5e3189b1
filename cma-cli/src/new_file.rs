//! Files that commands write: a file that is there is replaced when the new one is complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that is being written.
pub(crate) enum NewFile {
    /// A file beside the one that it will replace.
    Beside(NamedTempFile, PathBuf),
    /// A device or a pipe, which is written to.
    Device(File),
}

impl NewFile {
    /// Opens a file for `path`; nothing is at `path` before [`write`](Self::write).
    pub(crate) fn create(path: &Path) -> io::Result<NewFile> {
        // A link stays one.
        let path = &match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
            Err(error) => return Err(error),
        };
        if path.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if path.exists() && !path.is_file() {
            return OpenOptions::new().write(true).open(path).map(NewFile::Device);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        folder.metadata()?;
        let file = tempfile::Builder::new()
            .prefix(".cma-new-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            // The error names a file that the user knows nothing of.
            .map_err(|error| io::Error::from(error.kind()))?;
        Ok(NewFile::Beside(file, path.clone()))
    }

    /// Has `write` write the file, and puts it in its place.
    pub(crate) fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            NewFile::Device(file) => {
                let mut file = BufWriter::new(file);
                write(&mut file)?;
                file.flush()
            }
            NewFile::Beside(file, path) => {
                let mut file = BufWriter::new(file);
                write(&mut file)?;
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.persist(path).map(|_: File| ()).map_err(|error| error.error)
            }
        }
    }
}
