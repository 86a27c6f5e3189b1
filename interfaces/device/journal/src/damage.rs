//! What is wrong with a journal, and what is lost by it.

use crate::record::{Kind, RecordId};
use std::fmt;

/// A part of a journal that can't be read, with its place and what is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The commit word is neither idle nor committed.
    #[error(
        "the commit word (byte {byte}) is {found:#010x}, which is no state; the change that was \
         made last may be lost in part"
    )]
    CommitWord {
        /// Its place in the file.
        byte: usize,
        /// Its value.
        found: u32,
    },
    /// The log is committed, and damaged.
    #[error(
        "the log (from byte {byte} on) has a wrong checksum or impossible entries; the change that \
         was made last may be lost in part"
    )]
    Log {
        /// The place of the log in the file.
        byte: usize,
    },
    /// The head of a slot has a wrong checksum.
    #[error(
        "the head of slot {slot} (byte {byte}) is damaged; the record that the slot had a part of \
         is lost, if it had one"
    )]
    Head {
        /// The number of the slot.
        slot: u32,
        /// Its place in the file.
        byte: usize,
    },
    /// The head of a slot has a right checksum and makes no sense.
    #[error(
        "the head of slot {slot} (byte {byte}) describes no part of a record that this version has \
         (kind {kind}); a record is lost"
    )]
    Nonsense {
        /// The number of the slot.
        slot: u32,
        /// Its place in the file.
        byte: usize,
        /// The number of the kind in the head.
        kind: u32,
    },
    /// The content of a slot has a wrong checksum.
    #[error("the content of slot {slot} (byte {byte}) is damaged; record {id}, a {kind}, is lost")]
    Content {
        /// The number of the slot.
        slot: u32,
        /// The place of the content in the file.
        byte: usize,
        /// The kind of the record.
        kind: Kind,
        /// The record.
        id: RecordId,
    },
    /// Parts of a record are missing, or there are several of the same number.
    #[error(
        "record {id}, a {kind}, is lost: of its {parts} parts, {found} slots (the first is {slot}) \
         have a part, and not one of each number"
    )]
    Parts {
        /// The first slot of the record.
        slot: u32,
        /// The kind of the record.
        kind: Kind,
        /// The record.
        id: RecordId,
        /// The number of parts that it has.
        parts: u16,
        /// The number of slots that have one.
        found: usize,
    },
    /// The content of a record is intact and means nothing.
    #[error("record {id}, a {kind} (first slot {slot}), is lost: {why}")]
    Undecodable {
        /// The first slot of the record.
        slot: u32,
        /// The kind of the record.
        kind: Kind,
        /// The record.
        id: RecordId,
        /// Why.
        why: Undecodable,
    },
}

/// Why a content is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// It ends before its last value.
    Short,
    /// Bytes follow its last value.
    LeftOver,
    /// A value that is yes or no is neither.
    Flag,
    /// A text is not UTF-8.
    Text,
    /// A range is empty, or exceeds the address space.
    Span,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Undecodable::Short => "its content ends too early",
            Undecodable::LeftOver => "bytes follow its last value",
            Undecodable::Flag => "a flag in it is neither 0 nor 1",
            Undecodable::Text => "a text in it is not UTF-8",
            Undecodable::Span => "a range in it is empty, or exceeds the address space",
        })
    }
}
