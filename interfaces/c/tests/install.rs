//! What `cargo xtask install-c` installs is what programs are compiled and linked with.

mod common;

use common::{Library, run, skip};
use std::path::Path;
use std::process::Command;

#[test]
fn an_installed_library_is_found_by_pkg_config_and_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = tempfile::tempdir().unwrap();
    let script = root.join("interfaces/c/install.sh");
    let built = Library::built();
    let install = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(&script).args(arguments).arg("--destdir").arg(place.path());
        command.env("CMA_BUILT", built.parent().unwrap());
        command
    };
    run(&mut install(&["--prefix", "/opt/cma"]));
    // Again, over the first.
    run(&mut install(&["--prefix", "/opt/cma"]));
    assert!(!install(&["--prefix", "opt"]).output().unwrap().status.success());
    assert!(!install(&["--prefxi", "/opt"]).output().unwrap().status.success());

    let installed = place.path().join("opt/cma");
    for file in [
        "include/cma.h",
        "include/cma_allocator.h",
        "share/man/man3/libcma.3",
        "share/man/man3/cma.3",
    ] {
        assert!(installed.join(file).is_file(), "{file}");
    }
    let target = std::fs::read_link(installed.join("lib/libcma.so.1")).unwrap();
    assert_eq!(target.to_str(), Some(concat!("libcma.so.", env!("CARGO_PKG_VERSION"))));

    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "cma"])
        .env("PKG_CONFIG_PATH", installed.join("lib/pkgconfig"))
        .env("PKG_CONFIG_SYSROOT_DIR", place.path())
        .output();
    let Ok(flags) = flags else {
        return skip("no pkg-config; the installed cma.pc was not used");
    };
    assert!(flags.status.success(), "{}", String::from_utf8_lossy(&flags.stderr));
    let flags = String::from_utf8(flags.stdout).unwrap();
    let source = place.path().join("version.c");
    let text = "#include <cma.h>\n#include <stdio.h>\nint main(void) { puts(cma_version()); }\n";
    std::fs::write(&source, text).unwrap();
    let program = place.path().join("version");
    let mut compile = Command::new("cc");
    compile.arg("-o").arg(&program).arg(&source).args(flags.split_whitespace());
    if compile.arg("-pthread").output().is_err() {
        return skip("no C compiler (cc); no program was linked with the installed library");
    }
    let printed = run(Command::new(&program).env("LD_LIBRARY_PATH", installed.join("lib")));
    assert_eq!(printed.trim(), env!("CARGO_PKG_VERSION"));
}
