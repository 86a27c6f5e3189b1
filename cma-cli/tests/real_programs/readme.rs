//! The commands of README.md that compile its program in C and run it.

use crate::installed::{library_folder, pkg_config_path, root};
use crate::program::installed;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn the_commands_of_the_readme_give_its_program_a_chunk_of_a_server() {
    if installed("cc").is_none() || installed("pkg-config").is_none() {
        return;
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("\n```c\n").unwrap();
    let (program, rest) = rest.split_once("```\n").unwrap();
    let commands = rest.strip_prefix("\n```sh\n").unwrap().split("```\n").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("frame.c"), program).unwrap();
    let socket = folder.path().join("cma.sock").display().to_string();
    let commands = commands.replace("/tmp/cma.sock", &socket);
    // A reader's fingers are slower than the server.
    let ready =
        format!("& trap 'kill $!; wait' EXIT; until [ -S {socket} ]; do sleep 0.05; done\n");
    let commands = commands.replacen("&\n", &ready, 1);
    let folders = env::split_paths(&env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let cma = Path::new(env!("CARGO_BIN_EXE_cma")).parent().unwrap().to_path_buf();
    let output = Command::new("timeout")
        .args(["60", "sh", "-ec", &commands])
        .current_dir(folder.path())
        .env("PATH", env::join_paths([vec![cma], folders].concat()).unwrap())
        .env("PKG_CONFIG_PATH", pkg_config_path())
        .env("LD_LIBRARY_PATH", library_folder())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(out.lines().last(), Some("a frame of 3133440 bytes"), "{out}{errors}");
}
