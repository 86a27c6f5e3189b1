//! Events, and their form in a slot.

use crate::SLOT_WORDS;

/// The bytes of a name that fit into one event.
pub const NAME_PART: usize = 32;

/// An event of a process.
///
/// Places are addresses in the process. A `by` is the key of the name that the requesting device
/// gets. A buffer's end is written before the memory is released, and its begin after the memory
/// was obtained, so in the order of slots no two buffers overlap. A `realloc` or `mremap` both
/// releases and obtains memory: it is [`Begin`](Event::Begin) before the call and, after it, an
/// event that refers to the slot of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The process starts: after `exec`, or at the first event after `fork`.
    Start {
        /// Its process id.
        pid: u32,
        /// The inode of the namespace of process ids that it is in.
        namespace: u64,
    },
    /// The process ends.
    End,
    /// A part of a name of up to 255 bytes.
    Name {
        /// The key of the whole name.
        key: u64,
        /// The number of the part, from 0.
        part: u8,
        /// The length of the whole name in bytes.
        length: u8,
        /// The bytes of this part, then zeros.
        text: [u8; NAME_PART],
    },
    /// The process got a block from its heap.
    Allocate {
        /// The address of the block.
        address: u64,
        /// The requested size in bytes.
        size: u64,
        /// The requested alignment in bytes, 1 for none.
        alignment: u64,
        /// The name of the device.
        by: u64,
        /// The slot of the [`Begin`](Event::Begin) of the block that this one replaces, plus 1; 0
        /// for none.
        replaces: u64,
    },
    /// The process frees a block of its heap.
    Free {
        /// The address of the block.
        address: u64,
    },
    /// The process is about to replace a block of its heap (length 0) or a mapped range.
    Begin {
        /// The address of the block or range.
        address: u64,
        /// The length of the range in bytes.
        length: u64,
    },
    /// A replacement ended without a new buffer.
    Settle {
        /// The slot of the [`Begin`](Event::Begin), plus 1.
        begun: u64,
        /// Whether the old buffer is still there, because the call failed.
        kept: bool,
    },
    /// The process mapped memory.
    Map {
        /// The address of the range.
        address: u64,
        /// The requested length in bytes.
        length: u64,
        /// The name of the device.
        by: u64,
        /// As in [`Allocate`](Event::Allocate).
        replaces: u64,
        /// The key of the memory file (`memfd_create`) that is mapped, 0 for anonymous memory.
        file: u64,
    },
    /// The process unmaps a range.
    Unmap {
        /// The address of the range.
        address: u64,
        /// The length of the range in bytes.
        length: u64,
    },
    /// The process gave a memory file this size.
    Resize {
        /// The key of the file.
        file: u64,
        /// The new size in bytes.
        size: u64,
        /// The name of the device.
        by: u64,
    },
    /// The process closes its descriptor of a memory file.
    Close {
        /// The key of the file.
        file: u64,
    },
}

/// Who wrote an event, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the process.
    pub process: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
}

/// The kinds, which are the low byte of a slot's first word. 0 is a slot that was reserved and not
/// written.
mod kind {
    pub(super) const START: u64 = 1;
    pub(super) const END: u64 = 2;
    pub(super) const NAME: u64 = 3;
    pub(super) const ALLOCATE: u64 = 4;
    pub(super) const FREE: u64 = 5;
    pub(super) const BEGIN: u64 = 6;
    pub(super) const SETTLE: u64 = 7;
    pub(super) const MAP: u64 = 8;
    pub(super) const UNMAP: u64 = 9;
    pub(super) const RESIZE: u64 = 10;
    pub(super) const CLOSE: u64 = 11;
}

impl Event {
    /// The words of a slot. The first one is written last: while it is 0, the slot is not written.
    pub fn encode(&self, stamp: Stamp) -> [u64; SLOT_WORDS] {
        let (kind, payload) = self.payload();
        let [a, b, c, d, e, f] = payload;
        [kind | u64::from(stamp.process) << 32, stamp.time_ns, a, b, c, d, e, f]
    }

    fn payload(&self) -> (u64, [u64; 6]) {
        match *self {
            Event::Start { pid, namespace } => {
                (kind::START, [u64::from(pid), namespace, 0, 0, 0, 0])
            }
            Event::End => (kind::END, [0; 6]),
            Event::Name { key, part, length, text } => {
                let (words, _) = text.as_chunks();
                let word = |n: usize| words.get(n).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                let which = u64::from(part) | u64::from(length) << 8;
                (kind::NAME, [key, which, word(0), word(1), word(2), word(3)])
            }
            Event::Allocate { address, size, alignment, by, replaces } => {
                (kind::ALLOCATE, [address, size, alignment, by, replaces, 0])
            }
            Event::Free { address } => (kind::FREE, [address, 0, 0, 0, 0, 0]),
            Event::Begin { address, length } => (kind::BEGIN, [address, length, 0, 0, 0, 0]),
            Event::Settle { begun, kept } => (kind::SETTLE, [begun, u64::from(kept), 0, 0, 0, 0]),
            Event::Map { address, length, by, replaces, file } => {
                (kind::MAP, [address, length, by, replaces, file, 0])
            }
            Event::Unmap { address, length } => (kind::UNMAP, [address, length, 0, 0, 0, 0]),
            Event::Resize { file, size, by } => (kind::RESIZE, [file, size, by, 0, 0, 0]),
            Event::Close { file } => (kind::CLOSE, [file, 0, 0, 0, 0, 0]),
        }
    }

    /// The event of a slot; `None` if it was not written, or by no writer of this version.
    pub fn decode(slot: &[u64; SLOT_WORDS]) -> Option<(Stamp, Event)> {
        let [first, time_ns, a, b, c, d, e, f] = *slot;
        let event = match first & 0xffff_ffff {
            kind::START => Event::Start { pid: u32::try_from(a).ok()?, namespace: b },
            kind::END => Event::End,
            kind::NAME => {
                let mut text = [0; NAME_PART];
                for (bytes, word) in text.as_chunks_mut().0.iter_mut().zip([c, d, e, f]) {
                    *bytes = word.to_ne_bytes();
                }
                let [part, length, ..] = b.to_le_bytes();
                Event::Name { key: a, part, length, text }
            }
            kind::ALLOCATE => {
                Event::Allocate { address: a, size: b, alignment: c, by: d, replaces: e }
            }
            kind::FREE => Event::Free { address: a },
            kind::BEGIN => Event::Begin { address: a, length: b },
            kind::SETTLE => Event::Settle { begun: a, kept: b != 0 },
            kind::MAP => Event::Map { address: a, length: b, by: c, replaces: d, file: e },
            kind::UNMAP => Event::Unmap { address: a, length: b },
            kind::RESIZE => Event::Resize { file: a, size: b, by: c },
            kind::CLOSE => Event::Close { file: a },
            _ => return None,
        };
        let process = u32::try_from(first >> 32).ok()?;
        Some((Stamp { process, time_ns }, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = Event> {
        let n = any::<u64>;
        prop_oneof![
            (any::<u32>(), n()).prop_map(|(pid, namespace)| Event::Start { pid, namespace }),
            Just(Event::End),
            (n(), any::<u8>(), any::<u8>(), any::<[u8; NAME_PART]>())
                .prop_map(|(key, part, length, text)| Event::Name { key, part, length, text }),
            (n(), n(), n(), n(), n()).prop_map(|(address, size, alignment, by, replaces)| {
                Event::Allocate { address, size, alignment, by, replaces }
            }),
            n().prop_map(|address| Event::Free { address }),
            (n(), n()).prop_map(|(address, length)| Event::Begin { address, length }),
            (n(), any::<bool>()).prop_map(|(begun, kept)| Event::Settle { begun, kept }),
            (n(), n(), n(), n(), n()).prop_map(|(address, length, by, replaces, file)| {
                Event::Map { address, length, by, replaces, file }
            }),
            (n(), n()).prop_map(|(address, length)| Event::Unmap { address, length }),
            (n(), n(), n()).prop_map(|(file, size, by)| Event::Resize { file, size, by }),
            n().prop_map(|file| Event::Close { file }),
        ]
    }

    proptest! {
        #[test]
        fn a_slot_has_its_event_exactly(event in event(), process: u32, time_ns: u64) {
            let stamp = Stamp { process, time_ns };
            prop_assert_eq!(Event::decode(&event.encode(stamp)), Some((stamp, event)));
        }

        #[test]
        fn any_words_are_an_event_or_none(slot: [u64; SLOT_WORDS]) {
            if let Some((stamp, event)) = Event::decode(&slot) {
                prop_assert_eq!(Event::decode(&event.encode(stamp)), Some((stamp, event)));
            }
        }
    }

    #[test]
    fn an_unwritten_slot_has_no_event() {
        assert_eq!(Event::decode(&[0; SLOT_WORDS]), None);
    }
}
