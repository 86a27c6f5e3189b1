//! Compiles each block of Rust in README.md and in the guide, as `cargo test` does with the
//! examples in documentation. The blocks are complete: a reader can copy one into a `main.rs`.
//!
//! `cma-cli/tests/documented.rs` runs the commands that they show.

/// README.md.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The chapter for embedders.
#[cfg(doctest)]
#[doc = include_str!("../guide/embedder.md")]
pub struct Embedder;

/// The chapter for operators.
#[cfg(doctest)]
#[doc = include_str!("../guide/operator.md")]
pub struct Operator;
