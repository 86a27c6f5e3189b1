//! Boards in files.
//!
//! A [`Board`] describes a board's memory: its banks, its regions, the map, and the kind of memory
//! behind the addresses. It owns its texts, so it can be read from a file at run time; a
//! [`Platform`](cma_framework::config::Platform), the same as constants, converts into it.
//!
//! A [service file](service_file) is a board and the settings of its server.
//!
//! A reader returns a [`ReadBoard`]: the board, the [`Note`]s about what the form says and a board
//! can't, and where each part was described, so that a finding about the board is shown in the file
//! that the user wrote. A writer returns its text, and notes about what the form can't express.

#![forbid(unsafe_code)]

mod board;
pub mod command_line;
pub mod device_tree;
mod note;
pub mod options;
mod pages;
mod read_board;
pub mod service_file;
pub mod toml_file;

pub use board::{Board, BoardAllocator, BoardRegion};
pub use note::{BoardError, Note, Origin};
pub use read_board::{ReadBoard, TracedText};
