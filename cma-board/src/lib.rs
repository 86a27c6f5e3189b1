//! Boards in files.
//!
//! A [`Board`] describes a board's memory: its banks, its regions, the map, and the kind of memory
//! behind the addresses. It owns its texts, so it can be read from a file at run time; a
//! [`Platform`](cma_framework::config::Platform), the same as constants, converts into it.
//!
//! A reader returns a [`ReadBoard`]: the board, the [`Note`]s about what the form says and a board
//! can't, and where each part was described, so that a finding about the board is shown in the file
//! that the user wrote. A writer returns its text, and notes about what the form can't express.

#![forbid(unsafe_code)]

mod board;
mod command_line;
pub mod device_tree;
mod note;
mod options_form;
mod read_board;
mod toml_form;

pub use board::{Board, BoardAllocator, BoardRegion};
pub use command_line::{
    is_command_line, read_command_line, write_command_line, write_command_line_v4,
};
pub use note::{BoardError, Note, Origin};
pub use options_form::write_options;
pub use read_board::{ReadBoard, TracedText};
pub use toml_form::{read_toml, write_toml};
