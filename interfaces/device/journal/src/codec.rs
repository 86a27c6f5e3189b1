//! Records as bytes.
//!
//! Numbers have the byte order of the machine. An optional value is a byte, 0 or 1, and then the
//! value. Texts and messages have their length before them, in 32 bits.

use crate::damage::Undecodable;
use crate::layout::Version;
use crate::record::{
    Answered, Chunk, Configuration, ConnectionNumber, Kind, Limits, Process, Record, Region,
    SetAside, Span, Waiting,
};

/// The content of a record in that version. It may exceed the limits of a journal.
pub(crate) fn encode(record: &Record, version: Version) -> Vec<u8> {
    let mut to = Writer(Vec::new());
    match record {
        Record::Region(region) => {
            to.option(region.name.as_deref(), Writer::text);
            to.span(region.range);
            to.option(region.allocator.as_deref(), Writer::text);
            to.text(&region.params);
            to.option(region.memory.as_deref(), Writer::text);
        }
        Record::Chunk(chunk) => {
            to.span(chunk.range);
            to.limits(&chunk.request);
            to.option(chunk.device.as_ref(), |to, (device, kind)| {
                to.text(device);
                to.text(kind);
            });
            to.process(&chunk.process);
            to.u64(chunk.since);
            to.option(chunk.connection, |to, number| to.u64(number.0));
            to.option(chunk.file, |to, file| to.raw(&file.to_ne_bytes()));
        }
        Record::Waiting(waiting) => {
            to.u64(waiting.connection.0);
            to.u64(waiting.id);
            to.u64(waiting.order);
            to.u64(waiting.deadline);
        }
        Record::Answered(answered) => {
            to.u64(answered.connection.0);
            to.u64(answered.id);
            to.bytes(&answered.answer);
        }
        Record::Configuration(configuration) => {
            to.text(&configuration.name);
            to.text(&configuration.text);
        }
        Record::SetAside(aside) => {
            to.span(aside.range);
            match version {
                Version::V1 => {}
                Version::V2 => to.flag(aside.lost),
            }
        }
    }
    to.0
}

/// The record of that kind and version with that content.
///
/// # Errors
///
/// [`encode`] makes no such content.
pub(crate) fn decode(kind: Kind, version: Version, content: &[u8]) -> Result<Record, Undecodable> {
    let mut from = Reader(content);
    let record = match kind {
        Kind::Region => Record::Region(Region {
            name: from.option(Reader::text)?,
            range: from.span()?,
            allocator: from.option(Reader::text)?,
            params: from.text()?,
            memory: from.option(Reader::text)?,
        }),
        Kind::Chunk => Record::Chunk(Chunk {
            range: from.span()?,
            request: from.limits()?,
            device: from.option(|from| Ok((from.text()?, from.text()?)))?,
            process: from.process()?,
            since: from.u64()?,
            connection: from.option(Reader::connection)?,
            file: from.option(|from| from.array().map(u128::from_ne_bytes))?,
        }),
        Kind::Waiting => Record::Waiting(Waiting {
            connection: from.connection()?,
            id: from.u64()?,
            order: from.u64()?,
            deadline: from.u64()?,
        }),
        Kind::Answered => Record::Answered(Answered {
            connection: from.connection()?,
            id: from.u64()?,
            answer: from.bytes()?.to_vec(),
        }),
        Kind::Configuration => {
            Record::Configuration(Configuration { name: from.text()?, text: from.text()? })
        }
        Kind::SetAside => {
            let range = from.span()?;
            let lost = match version {
                Version::V1 => false,
                Version::V2 => from.flag()?,
            };
            Record::SetAside(SetAside { range, lost })
        }
    };
    if from.0.is_empty() { Ok(record) } else { Err(Undecodable::LeftOver) }
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn flag(&mut self, value: bool) {
        self.raw(&[u8::from(value)]);
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_ne_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // Whoever encodes a longer one refuses the record for its length.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.raw(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn span(&mut self, span: Span) {
        self.u64(span.start());
        self.u64(span.size());
    }

    fn limits(&mut self, limits: &Limits) {
        self.u64(limits.size);
        self.u64(limits.alignment);
        for limit in [limits.above, limits.below, limits.boundary, limits.at] {
            self.option(limit, Self::u64);
        }
    }

    fn process(&mut self, process: &Process) {
        self.u32(process.uid);
        self.u32(process.pid);
        self.text(&process.name);
    }
}

struct Reader<'c>(&'c [u8]);

impl<'c> Reader<'c> {
    fn take(&mut self, count: usize) -> Result<&'c [u8], Undecodable> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(Undecodable::Short)?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (taken, left) = self.0.split_first_chunk().ok_or(Undecodable::Short)?;
        self.0 = left;
        Ok(*taken)
    }

    fn flag(&mut self) -> Result<bool, Undecodable> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Undecodable::Flag),
        }
    }

    fn u32(&mut self) -> Result<u32, Undecodable> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Undecodable> {
        self.array().map(u64::from_ne_bytes)
    }

    fn bytes(&mut self) -> Result<&'c [u8], Undecodable> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<String, Undecodable> {
        let text = str::from_utf8(self.bytes()?).map_err(|_| Undecodable::Text)?;
        Ok(text.to_owned())
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Undecodable>,
    ) -> Result<Option<T>, Undecodable> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn span(&mut self) -> Result<Span, Undecodable> {
        Span::new(self.u64()?, self.u64()?).ok_or(Undecodable::Span)
    }

    fn connection(&mut self) -> Result<ConnectionNumber, Undecodable> {
        self.u64().map(ConnectionNumber)
    }

    fn limits(&mut self) -> Result<Limits, Undecodable> {
        Ok(Limits {
            size: self.u64()?,
            alignment: self.u64()?,
            above: self.option(Self::u64)?,
            below: self.option(Self::u64)?,
            boundary: self.option(Self::u64)?,
            at: self.option(Self::u64)?,
        })
    }

    fn process(&mut self) -> Result<Process, Undecodable> {
        Ok(Process { uid: self.u32()?, pid: self.u32()?, name: self.text()? })
    }
}
