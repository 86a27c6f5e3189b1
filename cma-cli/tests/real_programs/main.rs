//! Chunks in programs that people use: QEMU, DPDK, GStreamer, libavcodec, Python; and the server as
//! a service of systemd.
//!
//! Each gets them as its user would: from a running `cma serve` through libcma, in C or in Python,
//! or from `cma exec`. `cargo xtask real-programs` installs what they need and runs them; a plain
//! `cargo test` ignores them. Each compares bytes on both sides. A test that lacks a program says
//! that it is skipped.

#[path = "../../../cma-memory/tests/machine/mod.rs"]
mod machine;

mod dpdk;
mod ffmpeg;
mod gstreamer;
mod installed;
mod program;
mod python;
mod qemu;
mod readme;
mod seen;
mod server;
mod systemd;
