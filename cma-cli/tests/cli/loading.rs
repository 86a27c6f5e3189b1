//! The plug-ins of an installed program, and the trial in a child process.

use crate::{Run, copy_program, folder, run, value};
use std::fs;
use std::io::{Read, Write, stderr};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The plug-in library `name`, which cargo puts beside the tests that depend on it.
fn library(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    test.with_file_name(format!("lib{name}.so"))
}

/// Installs the program and two of its plug-ins under `root`, as the README says.
fn install(root: &Path) {
    let (bin, lib) = (root.join("bin"), root.join("lib/cma"));
    fs::create_dir_all(&bin).expect("a folder can be made");
    fs::create_dir_all(&lib).expect("a folder can be made");
    copy_program(&bin.join("cma"));
    for name in ["cma_buddy_plugin", "cma_best_fit_plugin"] {
        let library = library(name);
        let file = library.file_name().expect("it has a name");
        fs::copy(&library, lib.join(file)).expect("a plug-in can be copied");
    }
}

#[test]
fn an_installed_program_finds_its_plugins_however_it_is_called() {
    let folder = folder();
    let root = folder.path().join("opt/cma-1.0");
    install(&root);
    let usr = folder.path().join("usr/bin");
    fs::create_dir_all(&usr).expect("a folder can be made");
    symlink("../../opt/cma-1.0/bin/cma", usr.join("cma")).expect("a link can be made");
    symlink("cma", usr.join("other-name")).expect("a link can be made");
    symlink("opt/cma-1.0", folder.path().join("current")).expect("a link can be made");
    let lib = root.join("lib/cma").canonicalize().expect("it is there");
    for program in [
        root.join("bin/cma"),
        usr.join("cma"),
        usr.join("other-name"),
        folder.path().join("current/bin/cma"),
    ] {
        let called = program.display();
        let run: Run = Command::new(&program)
            .args(["--json", "plugins"])
            .env_clear()
            .current_dir("/")
            .output()
            .expect("the copy starts")
            .into();
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{called}");
        let names: Vec<_> = run.out.lines().map(|line| value(line, "name")).collect();
        assert_eq!(names, ["best-fit", "buddy"], "{called}");
        for line in run.out.lines() {
            let path = value(line, "path");
            let path =
                Path::new(path.as_str().expect("a path")).canonicalize().expect("it is there");
            assert_eq!(path.parent(), Some(lib.as_path()), "{called}");
        }
    }
}

#[test]
fn a_constructor_finds_the_same_environment_in_the_trial_and_in_the_program() {
    let folder = folder();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket can be made");
    let file = folder.path().join("libcma_constructor_plugin.so");
    fs::copy(library("cma_fixture_constructor"), &file).expect("a plug-in can be copied");
    let dir = folder.path().to_str().expect("it is text");
    let mut program = crate::cma(&["--plugin-dir", dir, "plugins"]);
    program
        .env("CMA_FIXTURE_CONSTRUCTOR", format!("inspect:{}", socket.display()))
        .env("OTHER", "value");
    let run: Run = program.output().expect("the program starts").into();
    assert_eq!(run.code, 0, "{}", run.err);
    let [tried, loaded] = [(); 2].map(|()| {
        let (mut connection, _) = listener.accept().expect("the constructor ran");
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time limit can be set");
        let mut found = String::new();
        connection.read_to_string(&mut found).expect("it sends its findings");
        found
    });
    // Name, command line and environment. The descriptors differ: a command inherits its caller's.
    let facts = |found: &str| found.lines().take(3).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(facts(&tried), facts(&loaded));
    assert!(
        tried.starts_with("cma\n") && tried.contains("plugins") && tried.contains("OTHER=value"),
        "{tried}"
    );
}

#[test]
fn a_plugin_that_is_a_link_to_itself_is_reported_as_such() {
    let folder = folder();
    let file = folder.path().join("libcma_loop_plugin.so");
    symlink(&file, &file).expect("a link can be made");
    let Run { code, err, .. } =
        run(&["--plugin-dir", &folder.path().display().to_string(), "plugins"]);
    assert_eq!(code, 1);
    assert!(err.contains("the links form a loop") && err.contains("or remove it"), "{err}");
    assert!(!err.contains("permission"), "{err}");
}

/// Runs `cma plugins` with the search folder `dir` in new namespaces, after `prepare`; `None` if
/// this machine forbids them.
fn plugins_in_namespaces(namespaces: &[&str], prepare: &str, dir: &str) -> Option<Run> {
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]).args(namespaces).args(["sh", "-c"]);
        unshare
    };
    if !unshare().arg(format!("{prepare} true")).status().is_ok_and(|status| status.success()) {
        let _ = writeln!(stderr(), "SKIPPED: unshare makes no namespaces here");
        return None;
    }
    let mut program = unshare();
    program.arg(format!("{prepare} exec \"$@\"")).arg("sh").arg(env!("CARGO_BIN_EXE_cma"));
    program.args(["--plugin-dir", dir, "plugins"]).env_remove("CMA_PLUGIN_PATH");
    Some(program.output().expect("unshare started before").into())
}

#[test]
fn without_the_proc_of_its_pid_namespace_no_plugin_is_loaded_and_the_message_says_why() {
    let folder = folder();
    fs::copy(library("cma_buddy_plugin"), folder.path().join("libcma_buddy_plugin.so"))
        .expect("a plug-in can be copied");
    let dir = folder.path().to_str().expect("it is text");
    let own = plugins_in_namespaces(&["--pid", "--fork", "--mount-proc"], "", dir);
    let other = plugins_in_namespaces(&["--pid", "--fork"], "", dir);
    let none = plugins_in_namespaces(&["--mount"], "mount -t tmpfs none /proc &&", dir);
    if let Some(own) = own {
        assert!(own.out.contains("buddy"), "{}{}", own.out, own.err);
    }
    for run in [other, none].into_iter().flatten() {
        let err = &run.err;
        assert!(!run.out.contains("buddy"), "{}", run.out);
        assert!(err.contains("can't be loaded without the /proc of this process"), "{err}");
        assert!(err.contains("mount /proc in this PID namespace"), "{err}");
    }
}
