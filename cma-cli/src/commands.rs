//! One module for each command. Each takes the options, writes to standard output and returns its
//! outcome.

pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod conform;
pub(crate) mod demo;
pub(crate) mod draw;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod plugins;
pub(crate) mod record;
pub(crate) mod regions;
pub(crate) mod replay;
mod running;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod shell;
pub(crate) mod size;
pub(crate) mod top;
pub(crate) mod tree;
pub(crate) mod upgrade;
pub(crate) mod why;
