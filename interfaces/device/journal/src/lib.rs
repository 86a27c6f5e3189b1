//! What a device server must know again after its end: a journal in memory that outlives it.
//!
//! The journal is a sealed file in memory ([`create_file`]). The server [maps](Mapped) it, and a
//! keeper holds its descriptor. When the server ends, whatever the reason, the next one reads what
//! was live. `interfaces/device/server/RECOVERY.md` says who records what, and when.
//!
//! ```
//! use cma_journal::{Change, Configuration, Journal, Mapped, Record, Version, create_file};
//!
//! let file = create_file(64)?; // a keeper gets this descriptor
//! let mut journal = Journal::create(Mapped::new(&file)?, Version::CURRENT)?;
//! let map = Configuration { name: "map".into(), text: "*=frames".into() };
//! let mut change = Change::new();
//! change.put(Record::Configuration(map.clone()));
//! let ids = journal.commit(&change)?;
//!
//! // The server is killed. The next one gets the descriptor from the keeper.
//! drop(journal);
//! let (journal, records) = Journal::open(Mapped::new(&file)?)?;
//! assert_eq!(records, [(ids[0], Record::Configuration(map))]);
//! assert!(journal.free_slots() >= 63);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Terms
//!
//! - A *word* has 32 bits. It is the unit of all stores.
//! - A *slot* has a *head* and a *content*, and is free or in use. All have the same size.
//! - A *record* is one fact, such as a chunk. It has one *part* for each slot that it takes.
//! - A *change* adds and removes records. A record is changed by removing it and adding its
//!   successor, in one change.
//! - The *log* lists the heads that a change replaces. The *commit word* says whether it counts.
//!
//! # Layout
//!
//! All numbers are in the byte order of the machine, which the file never leaves.
//!
//! | words | |
//! | --- | --- |
//! | 0 | magic, stored last when a journal is created |
//! | 1 | checksum of the words 0, 2, 3 and 4 |
//! | 2 | version |
//! | 3 | number of slots |
//! | 4 | number of entries for which the log has room |
//! | 16 | commit word: idle or committed |
//! | 17 | number of entries in the log |
//! | 18 | checksum of the log: of word 17 and the entries |
//! | from 19 | entries of the log, 8 words each: the number of a slot, and its new head |
//! | then | slots, 160 words each: 7 of the head, and 153 of the content |
//!
//! | words of a head | |
//! | --- | --- |
//! | 0 | kind of the record: 1 region, 2 chunk, 4 request that waits, 5 request that was answered, 6 text of the configuration, 7 memory that is set aside; 0 for a free slot |
//! | 1, 2 | id of the record |
//! | 3 | number of this part in the lower half, number of parts in the upper one |
//! | 4 | length of the content in bytes |
//! | 5 | checksum of the content |
//! | 6 | checksum of the slot's number and the words 0 to 5 |
//!
//! Checksums are CRC-32 (ISO 3309). The words 0 to 4 of the file and the numbers of kinds have the
//! same meaning in all versions. A kind that a version lacks is damage for it, so a version that
//! adds one has a new number.
//!
//! # Order of stores
//!
//! Every store is a release store, so no store is made before one that precedes it in the program.
//! A process that is killed has made all its stores up to some moment and none after it, and the
//! memory is the kernel's, so the next process finds exactly these. A change stores
//!
//! 1. the contents of its new records, into free slots, whose content nobody reads;
//! 2. the log, which nobody reads while the commit word is idle;
//! 3. "committed" in the commit word;
//! 4. the new heads, in place;
//! 5. "idle" in the commit word.
//!
//! Before 3 the old state is read. From 3 on it is the new one: the reader takes the heads from the
//! log instead of the slots. [`Journal::open`] repeats 4 and 5, which changes nothing that was
//! done. A machine that loses power loses the memory too; that needs no order.
//!
//! # Invariants
//!
//! 1. Outside the slots that a committed log lists, every head has a right checksum, also that of a
//!    free slot. So damage is told apart from a store that was not made.
//! 2. The id of a live record is that of no other. Each of its parts is in one slot.
//! 3. A change that is refused has stored nothing.
//! 4. The file has its memory from its creation on: no store can fail.

#![forbid(unsafe_code)]

mod codec;
mod damage;
mod file;
mod journal;
mod layout;
mod read;
mod record;
mod words;

pub use damage::{Damage, Undecodable};
pub use file::{FileError, Mapped, create_file};
pub use journal::{Change, ChangeError, CreateError, Journal, OpenError};
pub use layout::{MAX_RECORD_BYTES, MAX_SLOTS, PART_BYTES, Version, words_for};
pub use read::{Contents, ReadError};
pub use record::{
    Answered, Chunk, Configuration, ConnectionNumber, Kind, Limits, Process, Record, RecordId,
    Region, SetAside, Span, Waiting,
};
pub use words::Words;
