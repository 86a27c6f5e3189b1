//! Reading and writing the fields of a message's body, in order.

use crate::malformed::Malformed;

/// Writes a message. The layouts are constants that fit into it.
pub(crate) struct Writer<'m> {
    free: &'m mut [u8],
}

impl<'m> Writer<'m> {
    pub(crate) fn new(body: &'m mut [u8]) -> Self {
        Writer { free: body }
    }

    fn put(&mut self, bytes: &[u8]) {
        let (place, free) = std::mem::take(&mut self.free).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.free = free;
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u64s<const N: usize>(&mut self, values: [u64; N]) {
        values.into_iter().for_each(|value| self.u64(value));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    /// The number of bytes that still fit.
    pub(crate) fn remaining(&self) -> usize {
        self.free.len()
    }
}

/// Reads a message of an untrusted sender.
pub(crate) struct Reader<'m> {
    left: &'m [u8],
}

impl<'m> Reader<'m> {
    pub(crate) fn new(body: &'m [u8]) -> Self {
        Reader { left: body }
    }

    fn take(&mut self, count: usize) -> Result<&'m [u8], Malformed> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(Malformed::Count)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, left) = self.left.split_first_chunk().ok_or(Malformed::Count)?;
        self.left = left;
        Ok(*taken)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_ne_bytes)
    }

    pub(crate) fn u64s<const N: usize>(&mut self) -> Result<[u64; N], Malformed> {
        let mut values = [0; N];
        for value in &mut values {
            *value = self.u64()?;
        }
        Ok(values)
    }

    /// A number that must be 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Flag),
        }
    }

    pub(crate) fn text(&mut self, length: u16) -> Result<&'m str, Malformed> {
        std::str::from_utf8(self.take(length.into())?).map_err(|_| Malformed::Text)
    }

    /// Checks that the rest is zero, so that a later version can give it a meaning.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.left.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Malformed::LeftOver) }
    }
}
