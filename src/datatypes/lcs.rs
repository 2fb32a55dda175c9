//! The longest common subsequence of two strings, for LCS.
//!
//! The classic table of prefix lengths; its traceback decides which of several longest answers is
//! given and how the matching ranges are cut, and clients see both, so it steps as Redis 7.0 does
//! (`t_string.c`, lcsCommand): on a tie it shortens the second string.

use std::mem::size_of;
use std::ops::RangeInclusive;

/// A run of bytes that both strings have in common, by their places in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it is in the first string.
    pub a: RangeInclusive<usize>,
    /// Where it is in the second string.
    pub b: RangeInclusive<usize>,
}

/// The lengths of the longest common subsequences of all pairs of prefixes.
pub struct Table<'s> {
    a: &'s [u8],
    b: &'s [u8],
    lengths: Vec<u32>,
}

impl<'s> Table<'s> {
    /// Bytes that the table of strings this long takes, or `None` if that is beyond counting.
    pub fn bytes(a_length: usize, b_length: usize) -> Option<usize> {
        let cells = a_length.checked_add(1)?.checked_mul(b_length.checked_add(1)?)?;
        cells.checked_mul(size_of::<u32>())
    }

    /// Compares the strings. The caller has looked at [`Table::bytes`].
    pub fn new(a: &'s [u8], b: &'s [u8]) -> Self {
        let width = b.len() + 1;
        let mut lengths = vec![0_u32; (a.len() + 1) * width];
        for (row, byte) in a.iter().enumerate() {
            let (above, below) = lengths[row * width..].split_at_mut(width);
            fill_row(&mut below[..width], above, *byte, b);
        }
        Self { a, b, lengths }
    }

    /// The length of the longest common subsequence.
    pub fn length(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The subsequence itself.
    pub fn subsequence(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(self.length());
        self.walk(|i, _| bytes.push(self.a[i]));
        bytes.reverse();
        bytes
    }

    /// The runs that it is made of, last one first, as Redis lists them.
    pub fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        self.walk(|i, j| match matches.last_mut() {
            Some(last) if *last.a.start() == i + 1 && *last.b.start() == j + 1 => {
                last.a = i..=*last.a.end();
                last.b = j..=*last.b.end();
            }
            _ => matches.push(Match { a: i..=i, b: j..=j }),
        });
        matches
    }

    /// Calls `on_common` with the places of each byte of the subsequence, last byte first.
    fn walk(&self, mut on_common: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                on_common(i, j);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * (self.b.len() + 1) + j]
    }
}

/// The length alone, which needs only two rows of the table.
pub fn length(a: &[u8], b: &[u8]) -> usize {
    let mut above = vec![0_u32; b.len() + 1];
    let mut row = above.clone();
    for byte in a {
        fill_row(&mut row, &above, *byte, b);
        std::mem::swap(&mut row, &mut above);
    }
    above[b.len()] as usize
}

/// One row of the table: the prefix of the first string that ends with `byte`, and all of `b`'s.
fn fill_row(row: &mut [u32], above: &[u32], byte: u8, b: &[u8]) {
    let mut left = 0;
    for ((cell, pair), other) in row[1..].iter_mut().zip(above.windows(2)).zip(b) {
        left = if byte == *other { pair[0] + 1 } else { left.max(pair[1]) };
        *cell = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_manual_has_its_two_matches() {
        let table = Table::new(b"ohmytext", b"mynewtext");
        assert_eq!(table.subsequence(), b"mytext");
        assert_eq!(table.length(), 6);
        let expected = [Match { a: 4..=7, b: 5..=8 }, Match { a: 2..=3, b: 0..=1 }];
        assert_eq!(table.matches(), expected);
    }

    #[test]
    fn nothing_in_common_is_empty() {
        for (a, b) in [("", ""), ("a", ""), ("", "b"), ("abc", "xyz")] {
            let table = Table::new(a.as_bytes(), b.as_bytes());
            assert_eq!((table.length(), table.subsequence(), table.matches()), (0, vec![], vec![]));
        }
    }

    fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
        let mut rest = whole.iter();
        part.iter().all(|byte| rest.any(|other| other == byte))
    }

    proptest! {
        #[test]
        fn the_subsequence_is_common_and_all_answers_agree(a in "[abc]{0,30}", b in "[abc]{0,30}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let table = Table::new(a, b);
            let common = table.subsequence();
            prop_assert!(is_subsequence(&common, a) && is_subsequence(&common, b));
            prop_assert_eq!(common.len(), table.length());
            prop_assert_eq!(length(a, b), table.length());
            prop_assert_eq!(length(b, a), table.length());
            let mut joined = Vec::new();
            for run in table.matches().into_iter().rev() {
                prop_assert_eq!(&a[run.a.clone()], &b[run.b]);
                joined.extend_from_slice(&a[run.a]);
            }
            prop_assert_eq!(joined, common);
        }
    }
}
