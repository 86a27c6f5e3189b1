use super::*;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn file(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn message(path: &Path) -> String {
    find(path.as_os_str()).unwrap_err().to_string()
}

/// A dynamically linked program.
fn program() -> Vec<u8> {
    fs::read("/bin/sh").unwrap()
}

/// Prints that a part is skipped, past the test harness.
fn skip(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

#[test]
fn a_program_is_found_as_a_shell_finds_it() {
    let found = find(OsStr::new("sh")).unwrap();
    assert!(found.is_absolute() && found.ends_with("sh"), "{found:?}");
    assert_eq!(find(OsStr::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
    for missing in ["no-such-program", "/no/such/program", ""] {
        let error = find(OsStr::new(missing)).unwrap_err();
        assert_eq!(error.shell_status(), Some(127), "{missing}");
        assert!(error.to_string().contains("there is no such program"), "{error}");
    }
}

#[test]
fn what_can_not_be_executed_is_said_with_the_status_of_a_shell() {
    let folder = folder();
    let text = file(&folder, "text", "echo hello\n", 0o755);
    for (path, reason) in [
        (file(&folder, "plain", program(), 0o644), "ermission denied"),
        (folder.path().to_path_buf(), "it is a folder"),
        (PathBuf::from("/dev/null"), "it is not a file"),
        (text, "neither a program nor a script"),
        (file(&folder, "empty", "", 0o755), "neither a program nor a script"),
        (file(&folder, "cut", &program()[..100], 0o755), "ELF headers can't be read"),
    ] {
        let error = find(path.as_os_str()).unwrap_err();
        assert_eq!(error.shell_status(), Some(126), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_program_for_another_machine_is_refused() {
    let folder = folder();
    // The bytes for the word size and for the low half of the machine.
    for (byte, value) in [(4, 1), (18, 0xf3)] {
        let mut other = program();
        other[byte] = value;
        let path = file(&folder, "other", other, 0o755);
        assert!(message(&path).contains("not a 64-bit program for this processor"));
    }
}

#[test]
fn a_static_program_is_refused_with_a_remedy_also_as_the_interpreter_of_a_script() {
    let folder = folder();
    let source = file(&folder, "p.c", "int main(void) { return 0; }", 0o644);
    let path = folder.path().join("static");
    let compiled = Command::new("cc").args(["-static", "-o"]).args([&path, &source]).output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        skip("no static program can be compiled (cc -static)");
        return;
    }
    let error = find(path.as_os_str()).unwrap_err();
    assert!(error.to_string().contains("statically linked"), "{error}");
    assert!(error.remedy().unwrap().contains("without -static"));
    assert_eq!(error.shell_status(), None);
    let script = file(&folder, "script", format!("#! {} -x\n", path.display()), 0o755);
    assert!(message(&script).contains("its interpreter can't be recorded"));
    let named = format!("#!/usr/bin/env -S A=b {}\n", path.display());
    let script = file(&folder, "by-env", named, 0o755);
    assert!(message(&script).contains("statically linked"), "{}", message(&script));
}

#[test]
fn a_program_for_another_c_library_is_refused() {
    let folder = folder();
    let Some(at) = program().windows(8).position(|bytes| bytes == b"ld-linux") else {
        skip("/bin/sh names another loader");
        return;
    };
    let mut musl = program();
    musl[at..at + 8].copy_from_slice(b"ld-musl-");
    let path = file(&folder, "musl", musl, 0o755);
    assert!(message(&path).contains("its C library is not glibc"), "{}", message(&path));
}

#[test]
fn a_setuid_program_is_refused_unless_its_user_is_this_one() {
    let folder = folder();
    let own = file(&folder, "own", program(), 0o4755);
    find(own.as_os_str()).unwrap();
    if !rustix::process::geteuid().is_root() {
        skip("only root can make a setuid program of another user");
        return;
    }
    for (name, mode, refused) in
        [("user", 0o4755, true), ("group", 0o2755, true), ("locking", 0o2745, false)]
    {
        let path = file(&folder, name, program(), 0o755);
        chown(&path, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        match find(path.as_os_str()) {
            Ok(_) => assert!(!refused, "{name}"),
            Err(error) => assert!(refused && error.to_string().contains("set"), "{error}"),
        }
    }
}

#[test]
fn scripts_lead_to_their_interpreters() {
    let folder = folder();
    let shell = file(&folder, "a", "#!/bin/sh\nexit\n", 0o755);
    assert_eq!(find(shell.as_os_str()).unwrap(), shell);
    find(file(&folder, "b", format!("#! {}", shell.display()), 0o755).as_os_str()).unwrap();
    find(file(&folder, "c", "#!/usr/bin/env sh\n", 0o755).as_os_str()).unwrap();
    let missing = file(&folder, "d", "#!/no/such/shell\n", 0o755);
    let error = find(missing.as_os_str()).unwrap_err();
    assert!(error.to_string().contains("/no/such/shell: there is no such program"), "{error}");
    assert_eq!(error.shell_status(), Some(126));
    let looping = folder.path().join("e");
    let text = format!("#!{}\n", looping.display());
    file(&folder, "e", text, 0o755);
    assert!(message(&looping).contains("too many scripts"), "{}", message(&looping));
    assert!(message(&file(&folder, "f", "#!\n", 0o755)).contains("is empty"));
}
