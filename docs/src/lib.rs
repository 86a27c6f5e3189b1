//! Compiles each block of Rust in README.md, as `cargo test` does with the examples in
//! documentation. The blocks are complete: a reader can copy one into a `main.rs`.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
