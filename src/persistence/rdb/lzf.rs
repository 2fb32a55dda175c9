//! LZF, the compression of strings in RDB: runs of literal bytes, and references to earlier ones.
//!
//! A control byte below 32 says how many literal bytes follow, less one; any other holds a length in its top
//! three bits (7: more in the next byte) and, with the byte after, a distance.
//!
//! Why the compressor looks for matches just as it does: DUMP of a value should be the bytes that Redis gives,
//! so it hashes the same three bytes into a table of the same size, remembers the same positions and
//! gives up at the same fill. Redis leaves its table as the stack had it; here a position of an earlier
//! input is recognised by its number, so that nothing needs clearing (256 KiB for each string) and
//! the same input always gives the same output.
//!
//! Promise: [`decompress`] takes any bytes, never panics and writes exactly the length it was asked for.

use std::cell::RefCell;

/// Bits of an index of the table of positions.
const TABLE_BITS: u32 = 16;
/// Most literal bytes after one control byte.
const LITERALS_MAX: usize = 1 << 5;
/// Distances stay below this.
const DISTANCE_LIMIT: usize = 1 << 13;
/// Longest match.
const MATCH_BYTES_MAX: usize = (1 << 8) + (1 << 3);
/// Shortest match.
const MATCH_BYTES_MIN: usize = 3;
/// While more than this is left to compare, sixteen bytes are compared without asking again.
const UNCHECKED_COMPARISONS: usize = 16;
/// The length field of a reference that says "add the next byte".
const LONG_LENGTH: usize = 7;

/// Most bytes that one byte of a compressed string can stand for, rounded up: three make 264.
const EXPANSION_MAX: usize = MATCH_BYTES_MAX / 3;

/// Where three bytes were last seen.
struct Compressor {
    /// For the hash of three bytes, their position, counted from the first byte of the first input.
    table: Vec<u32>,
    /// The position of the next input's first byte.
    base: u32,
}

thread_local! {
    /// One for each core: the table is too large to make one for each string.
    static COMPRESSOR: RefCell<Compressor> = const { RefCell::new(Compressor { table: Vec::new(), base: 0 }) };
}

/// Appends `input` compressed to `out`, if that takes fewer than about `limit` bytes; otherwise `out` is as
/// before and the answer is false.
pub fn compress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let done = COMPRESSOR.with_borrow_mut(|compressor| compressor.run(input, limit, out));
    if !done {
        out.truncate(before);
    }
    done
}

impl Compressor {
    fn run(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        if input.len() < MATCH_BYTES_MIN || limit == 0 || u32::try_from(input.len()).is_err() {
            return false;
        }
        self.make_ready(input.len());
        let done = self.compress_ready(input, limit, out);
        self.base += input.len() as u32;
        done
    }

    fn compress_ready(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let mut output = Output { start: out.len(), run: out.len(), limit, out };
        output.begin_run();
        let mut at = 0;
        while at + 2 < input.len() {
            let Some(earlier) = self.earlier_match(input, at) else {
                if !output.literal(input[at]) {
                    return false;
                }
                at += 1;
                continue;
            };
            let length = match_length(&input[earlier..], &input[at..]);
            if !output.reference(at - earlier - 1, length) {
                return false;
            }
            at += length;
            if at + 2 >= input.len() {
                break;
            }
            // Of the bytes of a match only the last two positions are remembered.
            self.note(input, at - 2);
            self.note(input, at - 1);
        }
        output.finish(&input[at..])
    }

    /// Sees to a table in which every position is below that of the coming input's second byte.
    fn make_ready(&mut self, length: usize) {
        let length = length as u32; // the caller has checked
        if self.table.is_empty() || self.base.checked_add(length).is_none() {
            self.table = vec![0; 1 << TABLE_BITS];
            self.base = 0;
        }
    }

    /// The position before `at` that begins with the same three bytes, if the table knows one that a
    /// reference can reach. The first byte of the input is never one.
    fn earlier_match(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let known = self.note(input, at);
        let earlier = known.checked_sub(self.base)? as usize;
        let reached = 0 < earlier && earlier < at && at - earlier - 1 < DISTANCE_LIMIT;
        (reached && input[earlier..earlier + 3] == input[at..at + 3]).then_some(earlier)
    }

    /// Remembers that the three bytes at `at` are there, and answers where they were before.
    fn note(&mut self, input: &[u8], at: usize) -> u32 {
        let [first, second, third] = [input[at], input[at + 1], input[at + 2]].map(u32::from);
        let hash = (first << 8 | second).wrapping_sub((second << 8 | third).wrapping_mul(5));
        let place = &mut self.table[hash as usize & ((1 << TABLE_BITS) - 1)];
        std::mem::replace(place, self.base + at as u32)
    }
}

/// The compressed bytes, of which the last run of literals is still open.
struct Output<'o> {
    out: &'o mut Vec<u8>,
    /// Where in `out` they begin.
    start: usize,
    /// Where in `out` the control byte of the open run is.
    run: usize,
    /// Give up when the bytes would come close to so many.
    limit: usize,
}

impl Output<'_> {
    fn len(&self) -> usize {
        self.out.len() - self.start
    }

    fn begin_run(&mut self) {
        self.run = self.out.len();
        self.out.push(0);
    }

    fn end_run(&mut self) {
        match self.out.len() - self.run - 1 {
            0 => self.out.truncate(self.run),
            literals => self.out[self.run] = (literals - 1) as u8,
        }
    }

    fn literal(&mut self, byte: u8) -> bool {
        if self.len() >= self.limit {
            return false;
        }
        self.push_literal(byte);
        true
    }

    fn push_literal(&mut self, byte: u8) {
        self.out.push(byte);
        if self.out.len() - self.run - 1 == LITERALS_MAX {
            self.end_run();
            self.begin_run();
        }
    }

    /// `distance` is one less than the distance, as it is written.
    fn reference(&mut self, distance: usize, length: usize) -> bool {
        self.end_run();
        if self.len() + 4 >= self.limit {
            return false;
        }
        let (high, length) = ((distance >> 8) as u8, length - 2);
        if length < LONG_LENGTH {
            self.out.push(high | (length << 5) as u8);
        } else {
            self.out.extend([high | (LONG_LENGTH << 5) as u8, (length - LONG_LENGTH) as u8]);
        }
        self.out.push(distance as u8);
        self.begin_run();
        true
    }

    /// Writes what is left of the input, too short for a match.
    fn finish(mut self, rest: &[u8]) -> bool {
        if self.len() + 3 > self.limit {
            return false;
        }
        rest.iter().for_each(|byte| self.push_literal(*byte));
        self.end_run();
        true
    }
}

/// How far `later` goes on as `earlier` does: three bytes at least, which are known to be equal.
fn match_length(earlier: &[u8], later: &[u8]) -> usize {
    let most = (later.len() - 2).min(MATCH_BYTES_MAX);
    let mut length = 2;
    if most > UNCHECKED_COMPARISONS {
        for _ in 0..UNCHECKED_COMPARISONS {
            length += 1;
            if earlier[length] != later[length] {
                return length;
            }
        }
    }
    // At the end of the input this stops two bytes early: what Redis writes depends on it.
    loop {
        length += 1;
        if length >= most || earlier[length] != later[length] {
            return length;
        }
    }
}

/// What `compressed` stands for, if that is exactly `length` bytes.
pub fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    // A length that no such input can reach is refused before any memory is spent on it.
    if length > compressed.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::new();
    out.try_reserve_exact(length).ok()?;
    let mut rest = compressed;
    while let Some((&control, after)) = rest.split_first() {
        let control = usize::from(control);
        if control < LITERALS_MAX {
            let (literals, after) = after.split_at_checked(control + 1)?;
            out.extend_from_slice(literals);
            rest = after;
        } else {
            let (copied, after) = read_reference(control, after)?;
            copy_back(&mut out, copied, length)?;
            rest = after;
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// The distance and length of a reference, and the bytes after it.
fn read_reference(control: usize, rest: &[u8]) -> Option<((usize, usize), &[u8])> {
    let (extra, rest) = match control >> 5 {
        LONG_LENGTH => rest.split_first().map(|(extra, rest)| (usize::from(*extra), rest))?,
        _ => (0, rest),
    };
    let (low, rest) = rest.split_first()?;
    let distance = ((control & 0x1f) << 8 | usize::from(*low)) + 1;
    Some(((distance, (control >> 5) + extra + 2), rest))
}

/// Repeats bytes from `distance` back, byte by byte in meaning: a reference may reach into itself.
fn copy_back(out: &mut Vec<u8>, (distance, length): (usize, usize), limit: usize) -> Option<()> {
    let from = out.len().checked_sub(distance)?;
    if out.len() + length > limit {
        return None;
    }
    let mut left = length;
    while left > 0 {
        let piece = left.min(out.len() - from);
        out.extend_from_within(from..from + piece);
        left -= piece;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let done = compress(input, input.len().saturating_sub(4), &mut out);
        assert!(out.starts_with(b"before"));
        assert!(done || out.len() == 6, "what is given up leaves nothing behind");
        done.then(|| out.split_off(6))
    }

    /// The compressed parts of DUMP by Redis 7.0.15.
    #[test]
    fn bytes_are_those_of_redis() {
        for (input, expected) in [
            (b"a".repeat(100), &b"\x01aa\xe0W\x00\x01aa"[..]),
            (b"abcdefgh".repeat(40), b"\x08abcdefgha\xe0\xff\x07\xe1$\x07\x01gh"),
        ] {
            let got = compressed(&input).expect("it repeats itself");
            assert_eq!(got, expected, "{}", got.escape_ascii());
            assert_eq!(decompress(&got, input.len()), Some(input));
        }
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        let all: Vec<u8> = (0..=255).collect();
        for input in [&b""[..], b"a", b"ab", b"abc", &all] {
            assert_eq!(compressed(input), None, "{} bytes", input.len());
        }
    }

    #[test]
    fn bytes_that_are_no_compressed_string_are_refused() {
        for (bytes, length, why) in [
            (&b""[..], 1, "nothing"),
            (b"\x01aa", 3, "too short"),
            (b"\x01aa", 1, "too long"),
            (b"\x05aa", 6, "literals that are not there"),
            (b"\x00a\x20\x01", 4, "a reference to before the start"),
            (b"\x00a\xe0", 10, "a length that is not there"),
            (b"\x00a\x20", 10, "a distance that is not there"),
            (b"\x00a\xe0\xff\x00", 100, "a reference beyond the end"),
            (b"\x00a", usize::MAX, "a length beyond memory"),
        ] {
            assert_eq!(decompress(bytes, length), None, "{why}");
        }
    }

    #[test]
    fn positions_of_earlier_inputs_are_forgotten_also_when_the_numbers_run_out() {
        let mut compressor = Compressor { table: Vec::new(), base: 0 };
        let input = b"some text and some text and more text".repeat(3);
        let mut first = Vec::new();
        assert!(compressor.run(&input, input.len(), &mut first));
        for base in [compressor.base, u32::MAX - 200, u32::MAX - 20] {
            compressor.base = base;
            let mut again = Vec::new();
            assert!(compressor.run(&input, input.len(), &mut again));
            assert_eq!(again, first, "{base}");
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            pieces in prop::collection::vec((prop::collection::vec(0..4u8, 1..12), 1..30usize), 0..40),
        ) {
            let input: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
            if let Some(short) = compressed(&input) {
                prop_assert!(short.len() + 4 <= input.len());
                prop_assert_eq!(decompress(&short, input.len()), Some(input));
            }
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            length in 0..2000usize,
        ) {
            if let Some(out) = decompress(&bytes, length) {
                prop_assert_eq!(out.len(), length);
            }
        }
    }
}
