//! Each command's help has an example, and each example works as it is written.
//!
//! The lines below `Example:` or `Examples:` are read from `cma --help` and from the help of each
//! command that it lists, and are typed into a shell in a folder of its own, with the program as
//! `cma`. Each must end with exit status 0.

use cma_testkit_pty::{CommandBuilder, Terminal};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

/// The files that examples name, with their content. Beside them there is what [`TRACE`] says.
const FILES: &[(&str, &str)] = &[
    (
        "board.toml",
        "banks = [\"1G@0x40000000\"]\nmap = [\"*=frames\"]\n\n\
         [[regions]]\nname = \"frames\"\nsize = \"64M\"\n",
    ),
    (
        "cma.toml",
        "board = \"board.toml\"\n[server]\nsocket = \"cma.sock\"\nrules = \"*,@*=user:root\"\n",
    ),
    (
        "camera.trace",
        "# cma-trace 1\n# source: one frame\n\
         # ops: 2  peak-live-bytes: 3145728  peak-live-chunks: 1\n\
         0 a 1 3145728 65536 camera/frame\n40 f 1\n",
    ),
];

/// A recording of this project, in the folder of traces, by the name in examples.
const TRACE: (&str, &str) = ("phone.trace.gz", "gstreamer-phone.trace.gz");

/// Files of a recording of a kernel, by the same names in examples.
const OF_A_KERNEL: [&str; 2] = ["trace.txt.gz", "dmesg.txt.gz"];

/// The commands that inspect or change a server. One runs for them, with its attributes mounted.
const OF_A_SERVER: [&str; 4] = ["get", "set", "top", "tree"];

/// The commands that continue a server. One with a keeper runs for them.
const OF_A_KEEPER: [&str; 1] = ["upgrade"];

/// The commands that run until they are interrupted. They are, as soon as they print a line.
const UNTIL_INTERRUPTED: [&str; 1] = ["serve"];

/// The commands that draw on a terminal until a key ends them. They get a terminal and that key.
const ON_A_TERMINAL: [(&str, &str); 1] = [("top", "q")];

/// The help of a command, or of the program.
fn help(command: Option<&str>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cma"))
        .args(command)
        .arg("--help")
        .env_clear()
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// The commands that the program's help lists, except `help`.
fn commands() -> Vec<String> {
    let help = help(None);
    let list = help.split_once("\nCommands:\n").expect("a list of commands").1;
    let lines = list.lines().take_while(|line| !line.is_empty());
    // A description that is broken into lines continues further to the right.
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|l| !l.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(String::from).collect()
}

/// The lines below `Example:` or `Examples:`.
fn examples(help: &str) -> Vec<&str> {
    let mut lines = help.lines();
    let mut found = Vec::new();
    while lines.any(|line| line == "Example:" || line == "Examples:") {
        let below = lines.by_ref().map_while(|line| line.strip_prefix("  "));
        found.extend(below.map(str::trim));
    }
    found
}

/// A folder with the files that examples name, and with `bin/cma`.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path();
    for folder in ["bin", "mount"] {
        fs::create_dir(path.join(folder)).expect("a folder");
    }
    symlink(env!("CARGO_BIN_EXE_cma"), path.join("bin/cma")).expect("a link");
    for (name, content) in FILES {
        fs::write(path.join(name), content).expect("a file");
    }
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cma-trace/traces");
    symlink(traces.join(TRACE.1), path.join(TRACE.0)).expect("a link");
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cma-trace/recordings/arm64-vivid");
    for name in OF_A_KERNEL {
        symlink(kernel.join(name), path.join(name)).expect("a link");
    }
    place
}

/// The script that runs `example`, a line of the help of `command`.
fn script(command: Option<&str>, example: &str) -> String {
    let mut script = "set -o pipefail\n".to_string();
    let is = |commands: &[&str]| command.is_some_and(|command| commands.contains(&command));
    // Writing to memory does not fail.
    if is(&OF_A_SERVER) {
        let server = "cma serve --cma 'b1=32M;b2=16M' --map '*=b1,b2' --mount mount";
        let _ = writeln!(script, "{}export CMA_MOUNT=mount", in_background(server));
        let _ = writeln!(script, "{example}\nstatus=$?\n{INTERRUPT}exit $status");
    } else if is(&OF_A_KEEPER) {
        let server = "cma serve --keep --cma 'b1=32M' --map '*=b1' --socket cma.sock";
        let _ = writeln!(script, "{}", in_background(server));
        let _ = writeln!(script, "{example}\nstatus=$?\n{INTERRUPT}exit $status");
    } else if is(&UNTIL_INTERRUPTED) {
        let _ = writeln!(script, "{}{INTERRUPT}exit $?", in_background(example));
    } else {
        let _ = writeln!(script, "{example}");
    }
    script
}

/// Starts a server, and waits until it prints a line or ends.
fn in_background(server: &str) -> String {
    format!(
        "{server} > printed &\nserver=$!\n\
         until [ -s printed ] || ! kill -0 $server; do sleep 0.02; done\n"
    )
}

/// Ends the server; the status is the server's.
const INTERRUPT: &str = "kill -TERM $server; wait $server\n";

#[test]
fn every_command_has_an_example_and_every_example_works() {
    let mounts = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    let commands = commands();
    assert!(commands.iter().any(|name| name == "check"), "{commands:?}");
    let pages = commands.iter().map(|name| Some(name.as_str())).chain([None]);
    for command in pages {
        let help = help(command);
        let examples = examples(&help);
        assert!(!examples.is_empty(), "the help of {command:?} has no example:\n{help}");
        if command.is_some_and(|command| OF_A_SERVER.contains(&command)) && !mounts {
            let skipped = format!("SKIPPED: the examples of {command:?} need root and /dev/fuse\n");
            let _ = std::io::stderr().write_all(skipped.as_bytes());
            continue;
        }
        for example in examples {
            let named = command.map_or("cma ".to_string(), |command| format!("cma {command} "));
            let is_named = format!("{example} ").contains(&named);
            assert!(is_named, "an example of {command:?} is about another command: {example}");
            works(command, example);
        }
    }
}

fn works(command: Option<&str>, example: &str) {
    let place = place();
    let path = format!("{}/bin:{}", place.path().display(), std::env::var("PATH").unwrap());
    let environment = HashMap::from([("PATH", path.as_str()), ("HOME", "/nonexistent")]);
    let on_terminal = ON_A_TERMINAL.iter().find(|(name, _)| Some(*name) == command);
    if let Some((_, key)) = on_terminal {
        return works_on_a_terminal(&script(command, example), key, place.path(), &path);
    }
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "bash", "-c", &script(command, example)])
        .current_dir(place.path())
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{example}\nends with {}:\n{out}{err}", output.status);
}

/// The same for a command that draws on a terminal until `key` ends it.
fn works_on_a_terminal(script: &str, key: &str, place: &Path, path: &str) {
    let mut command = CommandBuilder::new("bash");
    command.args(["-c", script]);
    command.cwd(place);
    command.env_clear();
    command.env("PATH", path);
    let mut terminal = Terminal::start(command, (80, 24));
    terminal.wait_until(script, Terminal::is_on_second_screen);
    terminal.press(key);
    let status = terminal.end();
    assert!(status.success(), "{script}\nends with {status}:\n{}", terminal.text());
}

#[test]
fn an_example_that_is_wrong_is_found() {
    let help = "Usage: cma\n\nExamples:\n  cma a\n  cma b --c\n\nMore.\n\nExample:\n  cma d\n";
    assert_eq!(examples(help), ["cma a", "cma b --c", "cma d"]);
    assert!(examples("Usage: cma\n").is_empty());
    let wrong = std::panic::catch_unwind(|| works(None, "cma --platform nowhere regions"));
    assert!(wrong.is_err());
}
