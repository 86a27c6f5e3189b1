//! Chunks in programs that people use: QEMU, DPDK, GStreamer, libavcodec, Python.
//!
//! `cargo xtask real-programs` installs what they need and runs them; a plain `cargo test` ignores
//! them. Each compares bytes on both sides. A test that lacks a program says that it is skipped.

#[path = "../machine/mod.rs"]
mod machine;

mod chunk;
mod dpdk;
mod ffmpeg;
mod gstreamer;
mod program;
mod python;
mod qemu;
