//! The words of a command, one after the other in one buffer that is used again.

/// Words of a list that is made without allocating.
const WORDS_FEW: usize = 16;

/// Longer buffers are not kept for other words.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;
/// More places are not kept.
const KEPT_WORDS_MAX: usize = 1024;

/// See the module.
#[derive(Default, Clone)]
pub struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    /// These words.
    pub fn of(words: &[&[u8]]) -> Self {
        let mut own = Self::default();
        own.set(words.iter().copied());
        own
    }

    /// From now on these words.
    pub fn set<'w>(&mut self, words: impl Iterator<Item = &'w [u8]>) {
        self.clear();
        words.for_each(|word| self.push(word));
    }

    /// No words any more.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Gives back memory that only a long command needs.
    pub fn trim(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX || self.ends.capacity() > KEPT_WORDS_MAX {
            *self = Self::default();
        }
    }

    /// One word more.
    pub fn push(&mut self, word: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(word));
    }

    /// One word more, which `append` appends.
    pub fn push_with(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The words in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let word = &self.bytes[start..*end];
            start = *end;
            word
        })
    }

    /// Lends them as a list.
    pub fn with_list<T>(&self, read: impl FnOnce(&[&[u8]]) -> T) -> T {
        if self.len() > WORDS_FEW {
            return read(&self.iter().collect::<Vec<_>>());
        }
        let mut few: [&[u8]; WORDS_FEW] = [&[]; WORDS_FEW];
        few.iter_mut().zip(self.iter()).for_each(|(place, word)| *place = word);
        read(&few[..self.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went_in_however_many() {
        let mut words = Words::of(&[b"former"]);
        for count in [0, 1, WORDS_FEW, WORDS_FEW + 1, 1000] {
            let texts: Vec<Vec<u8>> = (0..count).map(|at| vec![b'x'; at % 7]).collect();
            words.set(texts.iter().map(Vec::as_slice));
            assert_eq!(words.iter().collect::<Vec<_>>(), texts, "{count}");
            words.with_list(|list| assert_eq!(list, texts, "{count}"));
            assert_eq!((words.len(), words.is_empty()), (count, count == 0));
        }
    }
}
