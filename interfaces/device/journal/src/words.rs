//! The memory of a journal as words. Tests put a recorder of stores in the place of a mapping.

/// Words that a journal is read from and written to.
pub trait Words {
    /// The number of words.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word at `index`, which is below [`len`](Self::len).
    fn load(&self, index: usize) -> u32;

    /// Stores a word at `index`, which is below [`len`](Self::len). No store is made before one
    /// that precedes it in the program, as another process sees them.
    fn store(&mut self, index: usize, word: u32);
}

impl Words for Vec<u32> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn load(&self, index: usize) -> u32 {
        self[index]
    }

    fn store(&mut self, index: usize, word: u32) {
        self[index] = word;
    }
}

impl<W: Words + ?Sized> Words for Box<W> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn load(&self, index: usize) -> u32 {
        (**self).load(index)
    }

    fn store(&mut self, index: usize, word: u32) {
        (**self).store(index, word);
    }
}
