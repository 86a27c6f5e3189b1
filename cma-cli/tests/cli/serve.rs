//! `cma serve --mount`, and other processes that inspect and change the server. On a system where
//! nothing can be mounted, each test reports that it is skipped.

use crate::server::MountedServer;
use crate::{Run, cma, folder, run};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies the fixture plug-in `name` into `folder`.
pub(crate) fn copy_plugin(name: &str, folder: &Path, file: &str) {
    let tests = std::env::current_exe().expect("this is a file");
    let library = tests.with_file_name(format!("{DLL_PREFIX}cma_fixture_{name}{DLL_SUFFIX}"));
    fs::copy(library, folder.join(file)).expect("the fixture is built");
}

#[test]
fn a_running_server_is_inspected_and_changed_by_other_processes() {
    let Some(server) = MountedServer::start(&["--cma", "b1=8M;b2=4M:later", "--map", "cam=b1"])
    else {
        return;
    };
    let Run { code, out, .. } = server.cma(&["get", "map"]);
    assert_eq!((code, out.as_str()), (0, "cam=b1\n"));
    assert_eq!(server.cma(&["set", "map", "cam=b2;*=b1"]).code, 0);
    assert_eq!(server.cma(&["get", "/map"]).out, "cam=b2;*=b1\n");
    assert_eq!(server.cma(&["set", "regions/b2/alloc", "buddy"]).code, 0);
    assert_eq!(server.cma(&["get", "regions/b2/alloc"]).out, "buddy\n");
    assert_eq!(server.cma(&["set", "map", ""]).code, 0);
    assert_eq!(server.cma(&["get", "map"]).out, "");
    let full = server.path("regions/b1/size").display().to_string();
    assert_eq!(server.cma(&["get", &full]).out, "8388608\n");
    let (code, folder) = server.end("TERM");
    assert_eq!(code, 0);
    assert_eq!(fs::read_dir(folder.path().join("mount")).expect("it is a folder again").count(), 0);
}

#[test]
fn the_tree_is_drawn_with_values_and_links() {
    let Some(server) = MountedServer::start(&["--cma", "b1=8M@0x40000000", "--map", "*=b1"]) else {
        return;
    };
    let Run { code, out, err } = server.cma(&["tree"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for line in ["├─ map         *=b1", "└─ regions", "   ├─ 0x40000000", "   └─ b1 -> 0x40000000"]
    {
        assert!(out.lines().any(|drawn| drawn == line), "{line}: {out}");
    }
    assert!(
        out.lines().any(|line| line.starts_with("   │  ├─ size ") && line.ends_with("  8388608")),
        "{out}"
    );
    let below = server.cma(&["tree", "regions/b1"]).out;
    assert!(below.starts_with("regions/b1\n├─ alloc "), "{below}");
    assert_eq!(server.cma(&["tree", "map"]).out, "map  *=b1\n");
}

#[test]
fn a_refused_write_is_reported_with_reason_and_place() {
    let Some(server) = MountedServer::start(&["--cma", "b1=8M", "--map", "*=b1"]) else { return };
    for (path, value, expected) in [
        (
            "map",
            "cam=b1;mic",
            "map: EINVAL: expected '=' and a list of regions, as in camera=b1,b2 at column 11",
        ),
        (
            "regions/b1/alloc",
            "buddy(colour=red)",
            "regions/b1/alloc: EINVAL: allocator \"buddy\" can't serve this region",
        ),
        (
            "regions/b1/alloc",
            "-x y",
            "regions/b1/alloc: EINVAL: this can't be the name of an allocator: it has a character that is white space",
        ),
    ] {
        let Run { code, out, err } = server.cma(&["set", path, value]);
        assert_eq!((code, out.as_str()), (1, ""), "{value}");
        assert!(err.contains(expected), "{err}");
    }
    assert_eq!(server.get("map"), "*=b1\n");
    for (command, expected) in [
        (&["set", "regions/b1/free", "1"][..], "EACCES"),
        (&["set", "regions", "1"], "\"regions\" is a folder"),
        (&["get", "regions/b1"], "`cma tree regions/b1`"),
        (&["get", "nothing"], "nothing: there is no such attribute"),
        (&["get", "map/x"], "map/x: there is no such attribute"),
        (&["get", "../stderr"], "there is no such attribute"),
        (&["tree", "regions/b9"], "regions/b9: there is no such attribute"),
        (&["--json", "get", "map"], "does not use --json"),
    ] {
        let Run { code, out, err } = server.cma(command);
        assert!(code > 0 && out.is_empty() && err.contains(expected), "{command:?}: {code}: {err}");
    }
}

#[test]
fn the_mount_of_a_killed_server_is_reported_and_the_next_server_removes_it() {
    let Some(server) = MountedServer::start(&[]) else { return };
    let mount = server.path("");
    let folder = server.kill();
    let Run { code, err, .. } = run(&["tree", "--mount", &mount.display().to_string()]);
    assert!(
        code == 2
            && err.contains("the server of this mount has ended without unmounting it")
            && err.contains("start it again"),
        "{code}: {err}"
    );
    let server = MountedServer::start_on(folder, &["--map", "*=b1"])
        .expect("there is a mount where there was one");
    assert_eq!(server.get("map"), "*=b1\n");
    let (code, folder) = server.end("INT");
    assert_eq!(code, 0);
    let Run { code, err, .. } = run(&["get", "map", "--mount", &mount.display().to_string()]);
    assert!(
        code == 2 && err.contains("no server has its attributes mounted there"),
        "{code}: {err}"
    );
    drop(folder);
}

#[test]
fn a_second_server_on_one_folder_is_refused() {
    let Some(server) = MountedServer::start(&["--map", "*=b1"]) else { return };
    let mount = server.path("").display().to_string();
    let Run { code, err, .. } = run(&["serve", "--mount", &mount]);
    assert!(
        code == 2 && err.contains("another server shows its attributes there"),
        "{code}: {err}"
    );
    assert_eq!(server.get("map"), "*=b1\n");
}

#[test]
fn a_server_without_a_usable_front_end_does_not_start() {
    let folder = folder();
    let full = folder.path().display().to_string();
    fs::write(folder.path().join("file"), "").expect("a file can be written");
    for (options, expected) in [
        (&["serve"][..], "--mount"),
        (&["serve", "--mount", "/does/not/exist"], "mkdir -p '/does/not/exist'"),
        (&["serve", "--mount", &full], "it is not empty"),
        (&["serve", "--mount", &full, "--log", "a=b=c"], "--log"),
        (&["serve", "--mount", &full, "--log", "infoo"], "\"infoo\" is not a level of the log"),
        (&["--cma", "r=1E", "serve", "--mount", &full], "nothing to serve"),
        (&["--json", "serve", "--mount", &full], "does not use --json"),
    ] {
        let Run { code, err, .. } = run(options);
        assert!(code == 2 && err.contains(expected), "{options:?}: {code}: {err}");
    }
}

/// Unmounts the attributes of `server`, which is not involved.
fn unmount(server: &MountedServer, options: &[&str]) {
    let ended = Command::new("umount").args(options).arg(server.path("")).status();
    assert!(ended.is_ok_and(|ended| ended.success()), "the user that mounts may unmount");
}

#[test]
fn a_server_whose_only_mount_is_unmounted_reports_it_and_ends() {
    for options in [&[][..], &["-l"]] {
        let Some(mut server) = MountedServer::start(&[]) else { return };
        // An open file keeps a detached mount alive, but not in its folder.
        let open =
            options.first().map(|_| fs::File::open(server.path("map")).expect("it is there"));
        unmount(&server, options);
        let folder = server.folder().join("mount").display().to_string();
        server.wait_until("it ends", |server| server.stderr().contains("so the server ends"));
        drop(open);
        assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
        let stderr = server.stderr();
        assert!(stderr.contains(&format!("the mount at {folder} is gone")), "{stderr}");
        assert!(stderr.contains("no front end is left"), "{stderr}");
    }
}

#[test]
fn a_server_whose_mount_is_unmounted_reports_it_and_still_serves_chunks() {
    let outer = folder();
    let socket = outer.path().join("cma.sock").display().to_string();
    let Some(server) = MountedServer::start(&["--socket", &socket]) else { return };
    unmount(&server, &["-l"]);
    server.wait_until("it is reported", |server| server.stderr().contains("is gone"));
    let stderr = server.stderr();
    assert!(stderr.contains(&format!("{socket} still serves chunks")), "{stderr}");
    assert_eq!(run(&["shell", "--connect", &socket]).code, 0);
    assert_eq!(server.stderr().matches("is gone").count(), 1);
    assert_eq!(server.end("TERM").0, 0);
    assert!(!Path::new(&socket).exists());
}

#[test]
fn missing_permissions_and_read_only_attributes_are_reported() {
    let Some(server) = MountedServer::start(&["--map", "*=b1"]) else { return };
    let err = server.cma(&["set", "regions/b1/size", "1"]).err;
    assert!(err.contains("EACCES: it is read-only"), "{err}");
    let as_nobody = |args: &[&str]| {
        let mut command = cma(args);
        command.env("CMA_MOUNT", server.path("")).uid(65534).output().map(Run::from)
    };
    let open_to = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(server.folder(), permissions).expect("it is this user's");
    };
    open_to(0o755);
    match as_nobody(&["get", "map"]) {
        Ok(Run { code, out, .. }) => assert_eq!((code, out.as_str()), (0, "*=b1\n")),
        Err(error) => {
            writeln!(std::io::stderr(), "skipped: no program can be run as another user: {error}")
                .expect("standard error is open");
            return;
        }
    }
    let Run { code, err, .. } = as_nobody(&["set", "map", "*=b2"]).expect("the program starts");
    assert!(
        code == 1 && err.contains("EACCES: this user may not write it; its owner is user 0"),
        "{err}"
    );
    open_to(0o700);
    for command in [&["get", "map"][..], &["set", "map", "*=b2"], &["tree"]] {
        let Run { code, err, .. } = as_nobody(command).expect("the program starts");
        assert!(
            code == 2 && err.contains("EACCES: this user may not look into it"),
            "{code}: {err}"
        );
    }
}

#[test]
fn plugins_that_arrive_are_loaded_and_newer_builds_take_over() {
    let plugins = folder();
    let named = plugins.path().display().to_string();
    let options = ["--plugin-dir", &named, "--cma", "r=8M:revised", "--map", "*=r"];
    let Some(server) = MountedServer::start(&options) else { return };
    assert_eq!(server.get("regions/r/alloc"), "[revised]\n");

    copy_plugin("revision_one", plugins.path(), "libcma_revised_plugin.so");
    server.wait_until("the first build serves", |server| {
        server.get("regions/r/alloc") == "revised\n"
    });
    copy_plugin("revision_two", plugins.path(), "libcma_revised_plugin.so");
    server.wait_until("the second build is there", |server| {
        server.stderr().contains("revised 2.0.0, in place of 1.0.0")
    });
    assert_eq!(server.get("regions/r/alloc"), "revised\n");
    assert_eq!(server.get("allocators").matches("revised").count(), 1);

    let before = server.get("allocators");
    copy_plugin("panics", plugins.path(), "libcma_panics_plugin.so");
    fs::write(plugins.path().join("libcma_text_plugin.so"), "text").expect("a file can be written");
    server.wait_until("both are refused", |server| {
        let stderr = server.stderr();
        stderr.contains("it panicked while it was started")
            && stderr.contains("it is no ELF library")
    });
    assert_eq!(server.get("allocators"), before);
    assert_eq!(server.end("TERM").0, 0);
}

#[test]
fn a_plugin_folder_may_be_missing_be_removed_and_come_back() {
    let outer = folder();
    let plugins = outer.path().join("plugins");
    let named = plugins.display().to_string();
    let Some(server) = MountedServer::start(&["--plugin-dir", &named, "--cma", "r=8M:revised"])
    else {
        return;
    };
    assert!(server.stderr().contains("it doesn't exist"), "{}", server.stderr());
    for build in ["revision_one", "revision_two"] {
        fs::create_dir(&plugins).expect("a folder can be made");
        copy_plugin(build, &plugins, "libcma_revised_plugin.so");
        server.wait_until("it is loaded", |server| {
            server.stderr().contains(if build == "revision_one" {
                "revised 1.0.0"
            } else {
                "revised 2.0.0"
            })
        });
        fs::remove_dir_all(&plugins).expect("it can be removed");
        server.wait_until("the removal is reported", |server| {
            server.stderr().matches("this folder is gone").count()
                == if build == "revision_one" { 1 } else { 2 }
        });
    }
    assert_eq!(server.get("regions/r/alloc"), "revised\n");
}

#[test]
fn a_region_stuck_in_its_allocator_blocks_neither_the_mount_nor_the_shutdown() {
    let outer = folder();
    let (plugins, stall) = (outer.path().join("plugins"), outer.path().join("stall"));
    fs::create_dir(&plugins).expect("a folder can be made");
    copy_plugin("stalling", &plugins, "libcma_stalling_plugin.so");
    let stalls = UnixListener::bind(&stall).expect("a socket can be made");
    let socket = outer.path().join("cma.sock").display().to_string();
    let (plugins, regions) = (
        plugins.display().to_string(),
        format!("a=8M:stalling({});b=8M:best-fit", stall.display()),
    );
    let options =
        ["--plugin-dir", &plugins, "--socket", &socket, "--cma", &regions, "--map", "slow=a;*=b"];
    let Some(server) = MountedServer::start(&options) else { return };
    let mut shell = cma(&["shell", "--connect", &socket]);
    let mut shell =
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    let mut input = shell.stdin.take().expect("it is piped");
    input.write_all(b"a slow 4096\n").expect("it reads");
    let (stalled, _) = stalls.accept().expect("the allocator is called");

    let stuck = server.path("regions/a/maxchunk").display().to_string();
    let mut cat = Command::new("cat");
    cat.arg(&stuck).stdout(Stdio::null()).stderr(Stdio::null());
    let mut readers: Vec<_> = (0..20).map(|_| cat.spawn().expect("cat is there")).collect();
    for n in 0..40 {
        let map = format!("slow=a;camera{n}=b\n");
        fs::write(server.path("map"), &map).expect("the map is taken");
        assert_eq!(server.get("map"), map);
        assert_eq!(server.get("regions/b/maxchunk"), "2048\n");
    }
    for reader in &mut readers {
        reader.kill().expect("it can be killed");
        reader.wait().expect("it ends although the region doesn't answer");
    }
    assert_eq!(server.get("regions/b/alloc"), "best-fit\n");
    let (code, folder) = server.end("TERM");
    assert!(code <= 1, "it ended by itself");
    assert_eq!(fs::read_dir(folder.path().join("mount")).expect("it is a folder again").count(), 0);
    assert!(!Path::new(&socket).exists());
    drop((stalled, input));
    shell.wait().expect("it ends");
}
