//! `cma top` on a real terminal.

use super::device::SocketServer;
use super::server::MountedServer;
use super::{Run, TRACE, folder, run, written};
use cma_client::Client;
use cma_testkit_pty::{CommandBuilder, Signal, Terminal};

/// `cma top` with these arguments on a terminal of this size.
fn top_with(args: &[&str], size: (u16, u16), variables: &[(&str, &str)]) -> Terminal {
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_cma"));
    command.arg("top");
    command.args(args);
    command.env_clear();
    for (name, value) in [("LANG", "C.UTF-8")].iter().chain(variables) {
        command.env(name, value);
    }
    Terminal::start(command, size)
}

fn top(args: &[&str]) -> Terminal {
    top_with(args, (80, 24), &[])
}

#[test]
fn a_server_is_watched_over_its_socket() {
    let server = SocketServer::start(&[]);
    let socket = server.socket().display().to_string();
    let client = Client::connect(&socket).expect("it listens");
    let mut top = top(&["--connect", &socket]);
    top.wait_for("16M of 16M free  0 chunks");
    let chunk = client.alloc("camera", Some("frame"), 12 << 20, 0).expect("there is room");
    client.alloc("codec", None, 5 << 20, 0).expect_err("there is none");
    top.wait_for("4M of 16M free  1 chunks");
    for part in ["camera/frame", "12M 100%", "█", "·", "5M codec/common", "full: 4M of 16M free"]
    {
        top.wait_for(part);
    }
    assert!(top.has_colour());
    drop(chunk);
    top.wait_for("16M of 16M free  0 chunks");
    top.press("q");
    assert!(top.end().success());
    top.assert_restored();
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_server_that_ends_is_shown_as_gone_and_is_read_again_when_it_is_back() {
    let Some(server) = MountedServer::start(&["--cma", "b1=8M", "--map", "*=b1"]) else { return };
    let mount = server.path("").display().to_string();
    let mut top = top(&["--mount", &mount]);
    top.wait_for("8M of 8M free");
    let folder = server.kill();
    top.wait_for("GONE for");
    let server = MountedServer::start_on(folder, &["--cma", "b1=9M", "--map", "*=b1"])
        .expect("there is a mount where there was one");
    top.wait_for("9M of 9M free");
    assert!(!top.text().contains("GONE"));
    let (_, folder) = server.end("INT");
    top.wait_for("GONE for");
    top.press("q");
    assert!(top.end().success());
    drop(folder);
}

#[test]
fn a_trace_is_executed_in_slow_motion_paused_and_stepped() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    // A microsecond of the trace takes an hour: the first operation, at 0, and no other.
    let slow = ["--speed", "1e-9", "--allocator", "buddy", "--region", "16K", &trace];
    let mut top = top(&slow);
    top.wait_for("1 of 4 operations, speed 1.0e-9x");
    top.wait_for("8K of 16K free  1 chunks");
    top.press(" ");
    top.wait_for("PAUSED");
    for (operations, free) in [(2, "4K of 16K free  2 chunks"), (3, "12K of 16K free  1 chunks")] {
        top.press("n");
        top.wait_for(&format!("{operations} of 4 operations"));
        top.wait_for(free);
    }
    top.press("n");
    top.wait_for("4 of 4 operations");
    top.press(" ");
    top.wait_for("end of the trace");
    top.press("q");
    assert!(top.end().success());
}

#[test]
fn the_screen_follows_the_size_of_the_terminal() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    let mut top = top(&[&trace]);
    top.wait_for("of 4 operations");
    top.resize((60, 20));
    top.wait_for("60x20 is too small: enlarge the terminal to 80x24");
    top.resize((120, 40));
    top.wait_for("waiting for");
    top.wait_until("the keys are in the last line", |top| {
        top.text().lines().nth(39).is_some_and(|line| line.starts_with("q quit"))
    });
    top.press("q");
    assert!(top.end().success());
}

#[test]
fn no_color_turns_colours_off_and_another_character_set_draws_in_ascii() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    let variables = [("NO_COLOR", "1"), ("LANG", "C")];
    let args = ["--speed", "1e-9", "--region", "64K", trace.as_str()];
    let top = top_with(&args, (80, 24), &variables);
    top.wait_for("camera/frame");
    assert!(!top.has_colour() && top.text().is_ascii(), "{}", top.text());
    assert!(top.text().contains("##"), "{}", top.text());
}

#[test]
fn a_signal_ends_it_as_if_it_were_not_caught() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    for (signal, name) in [(Signal::INT, "INT"), (Signal::TERM, "TERM"), (Signal::HUP, "HUP")] {
        let mut top = top(&[&trace]);
        top.wait_for("of 4 operations");
        top.signal(signal);
        let status = top.end();
        assert!(!status.success(), "{name}: {status}");
        let by_signal = status.signal().unwrap_or_default().to_string();
        assert!(!by_signal.is_empty(), "{name}: {status}");
        top.assert_restored();
    }
}

#[test]
fn it_ends_when_its_terminal_is_gone_also_if_that_signal_is_ignored() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    for ignores in ["", "trap '' HUP; "] {
        let mut command = CommandBuilder::new("sh");
        let line = format!("{ignores}exec {} top {trace}", env!("CARGO_BIN_EXE_cma"));
        command.args(["-c", &line]);
        let mut top = Terminal::start(command, (80, 24));
        top.wait_for("of 4 operations");
        top.hang_up();
        assert!(!top.end().success() || !ignores.is_empty(), "{ignores}");
    }
}

#[test]
fn without_a_terminal_without_a_server_and_without_a_trace_it_says_so() {
    let folder = folder();
    let trace = written(&folder, "made.trace", TRACE);
    let Run { code, out, err } = run(&["top", &trace]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("not a terminal") && err.contains("`cma tree`"), "{err}");
    for (args, expected) in [
        (&["--connect", "/nowhere/cma.sock"][..], "`cma serve --socket PATH`"),
        (&["--mount", "/"], "no server has its attributes mounted there"),
        (&["nothing.trace"], "nothing.trace"),
        (&["--allocator", "nothing", &trace], "there is no allocator \"nothing\""),
        (&["--region", "4K", "--allocator", "buddy", "--speed", "0", &trace], "a speed is"),
        (&["--allocator", "buddy"], "required"),
    ] {
        let mut top = top(args);
        let status = top.end();
        top.wait_for(expected);
        assert_eq!(status.exit_code(), 2, "{args:?}");
        top.assert_restored();
    }
    let dumb = top_with(&[&trace], (80, 24), &[("TERM", "dumb")]);
    dumb.wait_for("not a terminal that can be drawn on");
}

#[test]
fn a_busy_server_with_fifty_regions_and_ten_thousand_chunks_is_drawn() {
    let regions: Vec<String> = (0..50).map(|n| format!("region-number-{n}=1M")).collect();
    let regions = regions.join(";") + ";big=64M";
    let options = ["--cma", &regions, "--map", "*=big", "--memory", "simulated"];
    let server = SocketServer::of(&options, &["--limits", "chunks=2000,user-connections=2000"]);
    let socket = server.socket().display().to_string();
    // Chunks are connections: as many as this process may have.
    let client = Client::connect(&socket).expect("it listens");
    let chunks: Vec<_> = (0..400)
        .map_while(|n| client.alloc(&format!("a-very-long-device-name-{n}"), None, 4096, 0).ok())
        .collect();
    for size in [(80, 24), (120, 40), (200, 60)] {
        let mut top = top_with(&["--connect", &socket], size, &[]);
        top.wait_for("region 1 of 51");
        top.press("\x1b[F");
        top.wait_for("region 51 of 51");
        top.wait_for("a-very-long-device-name");
        top.wait_for(&format!("{} chunks", chunks.len()));
        top.press("q");
        assert!(top.end().success());
    }
}
