//! The units of `service/` under systemd, installed as README.md says.

use crate::installed::root;
use crate::machine::skipped;
use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The commands of README.md.
fn commands_of_readme() -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let chapter = readme.split_once("\n### As a service of systemd\n").expect("the chapter").1;
    let block = chapter.split_once("```sh\n").expect("its commands").1;
    block.split_once("```").expect("their end").0.to_string()
}

/// What README.md installs, in a folder that looks like a built repository. The program and the
/// plug-ins are the ones that cargo built beside this test.
fn repository(folder: &Path) {
    let release = folder.join("target/release");
    fs::create_dir_all(release.join("deps")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_cma"), release.join("cma")).unwrap();
    let built = env::current_exe().unwrap().parent().unwrap().to_path_buf();
    for name in ["best_fit", "bitmap", "buddy", "packing", "tlsf"] {
        let name = format!("libcma_{name}_plugin.so");
        fs::copy(built.join(&name), release.join("deps").join(&name)).unwrap();
    }
    fs::create_dir(folder.join("service")).unwrap();
    for file in fs::read_dir(root().join("service")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join("service").join(file.file_name())).unwrap();
    }
}

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn systemd_starts_reloads_watches_and_stops_the_server_by_its_units() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    repository(&folder.path().join("repository"));
    let programs = root().join("cma-cli/tests/real_programs/programs");
    let session = fs::read_to_string(programs.join("session.sh")).unwrap();
    let session = format!("set -e\ncd /mnt/repository\n{}\n{session}", commands_of_readme());
    fs::write(folder.path().join("session.sh"), session).unwrap();
    let boot = Command::new("timeout")
        .args(["--kill-after=5", "200", "bash"])
        .arg(programs.join("boot_systemd.sh"))
        .arg(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&boot.stderr);
    if boot.status.code() == Some(77) {
        return skipped(errors.trim());
    }
    let printed = fs::read_to_string(folder.path().join("printed")).unwrap_or_default();
    assert!(printed.ends_with("== end\n"), "{}: {errors}\n{printed}", boot.status);
    let sections = printed.split("== ").filter_map(|section| section.split_once('\n'));
    let sections: HashMap<_, _> = sections.collect();
    let section = |name: &str| sections[name];

    // The client of README.md starts it.
    assert!(printed.contains("1: 0x300000@"), "{printed}");
    let expected = "active\n1 region, 5 allocators\nsrw-rw---- cma cma\nruns as cma\n";
    // CAP_IPC_LOCK, CAP_SYS_PTRACE and CAP_SYS_ADMIN.
    let capabilities = format!("CapBnd:\t{:016x}\n", 1 << 14 | 1 << 19 | 1 << 21);
    assert_eq!(section("started"), expected.to_string() + &capabilities);
    let stranger = section("stranger");
    assert!(stranger.contains("ermission denied"), "{stranger}");
    let verified = section("verify");
    assert!(verified.starts_with("→ Overall exposure level for cma.service"), "{verified}");
    assert_eq!(verified.lines().count(), 1, "{verified}");
    let reloaded = section("reload");
    assert!(reloaded.contains("no rule") && reloaded.contains("1: 0x1000@"), "{reloaded}");
    let wrong = section("wrong");
    assert!(wrong.contains("1: 0x1000@") && wrong.ends_with("active\n"), "{wrong}");
    let log = section("log");
    assert!(log.contains("duplicate key") && log.contains("cma.toml:"), "{log}");
    assert!(log.contains("stays in force"), "{log}");
    assert!(!log.contains("configuration read again"), "{log}");
    // A client keeps its chunk over the server's death, a restart, and a configuration without it.
    assert_eq!(section("killed"), "owners 1\n");
    assert_eq!(section("restarted"), "active\nowners 1\n");
    assert_eq!(section("changed"), "not restarted\nowners 1\n");
    assert_eq!(section("held"), "mine\nowners 0\n");
    let watchdog = section("watchdog");
    assert!(watchdog.starts_with("restarts 0\nrestarts 1\n"), "{watchdog}");
    assert!(watchdog.contains("1: 0x1000@"), "{watchdog}");
    let stopped = section("stopped");
    assert!(stopped.contains("success\ninactive\n"), "{stopped}");
    assert!(stopped.contains("1: 0x1000@") && stopped.ends_with("\nactive\n"), "{stopped}");
    // Without cma.socket it opens the socket itself, and removes it.
    let alone = section("alone");
    assert!(alone.starts_with("srw-rw---- cma cma\n  1: 0x1000@"), "{alone}");
    assert!(alone.contains("cma_region_live_chunks{region=\"general\"} "), "{alone}");
    assert!(alone.ends_with("\n0\n"), "{alone}");
}
