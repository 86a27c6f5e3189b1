//! The Python package is installed from the tree without a network, and works with the library.

mod common;
mod server;

use common::{Library, run, skip};
use server::TestServer;
use std::path::Path;
use std::process::Command;

#[test]
fn the_package_is_installed_by_pip_and_passes_its_tests() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    if python(&["-m", "pip", "--version"]).output().is_ok_and(|output| !output.status.success()) {
        return skip("no pip for python3; the Python package was not tested");
    }
    if let Err(error) = python(&["--version"]).output() {
        return skip(&format!("no python3 ({error}); the Python package was not tested"));
    }
    let library = Library::new();
    let installed = library.folder().join("python");
    let mut install = python(&["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]);
    let install = install.args(["--disable-pip-version-check", "--root-user-action=ignore"]);
    run(install.arg("--target").arg(&installed).arg(&package));
    let server = TestServer::start();
    let test = package.join("tests/test_cma.py");
    run(python(&[])
        .arg("-I")
        .arg("-c")
        .arg(
            "import sys, runpy; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; \
             runpy.run_path(sys.argv[0], run_name='__main__')",
        )
        .arg(&installed)
        .arg(&test)
        .env("CMA_LIBRARY", Library::built())
        .env("CMA_HEADER", Path::new(env!("CARGO_MANIFEST_DIR")).join("include/cma.h"))
        .env("CMA_SOCKET", &server.socket));
    for region in server.cma.regions() {
        assert_eq!(region.free().unwrap(), region.range().pages(), "{region}");
    }
}
