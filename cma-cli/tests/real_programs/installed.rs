//! What a user installs: the program `cma`, and libcma with its header, for pkg-config.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// `cma`, without the variables of its user.
pub(crate) fn cma() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cma"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CMA_"))
    {
        command.env_remove(name);
    }
    command
}

/// The folder into which libcma is installed, as `cargo xtask install-c` does it. The library is
/// the one that cargo built beside this test.
static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libcma");
    let built = env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let install = Command::new("sh")
        .arg(root().join("interfaces/c/install.sh"))
        .arg("--prefix")
        .arg(&prefix)
        .env("CMA_BUILT", built)
        .output()
        .unwrap();
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    prefix
});

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where pkg-config finds it, beside the libraries of the machine.
pub(crate) fn pkg_config_path() -> OsString {
    let folder = PREFIX.join("lib/pkgconfig");
    let others = env::var_os("PKG_CONFIG_PATH").unwrap_or_default();
    let others = env::split_paths(&others).filter(|path| !path.as_os_str().is_empty());
    env::join_paths(std::iter::once(folder).chain(others)).unwrap()
}

/// The folder of the library, for `LD_LIBRARY_PATH`.
pub(crate) fn library_folder() -> PathBuf {
    PREFIX.join("lib")
}
