//! Where a reply ends that comes in pieces: for who passes replies on without looking into them.
//!
//! [`parse_reply`](super::parse_reply) makes values and begins anew when more bytes have come, so a long reply would be
//! read again and again. Here each byte is looked at once, those of strings not at all, and nothing is allocated. An
//! aggregate only says how many values follow: what is in what makes no difference to where all of it ends.
//!
//! Promise: for whatever [`parse_reply`](super::parse_reply) takes, the end is the same; no input panics.

use super::parse_reply::{ReplyError, parse_integer};

/// How far the search in a buffer has come that begins with a reply.
#[derive(Debug)]
pub struct ReplyEnd {
    /// Where the next line begins; behind what is there if that is in the middle of a string.
    position: usize,
    /// Up to here there is no end of that line.
    searched: usize,
    /// Values that have not begun.
    values_left: usize,
    /// A string ends at `position`.
    after_string: bool,
}

impl Default for ReplyEnd {
    fn default() -> Self {
        Self { position: 0, searched: 0, values_left: 1, after_string: false }
    }
}

impl ReplyEnd {
    /// The length of the reply that `buffer` begins with, or `None` if more has to come: then it is to be asked again
    /// with the same bytes and what has come behind them. After an answer it is ready for another reply.
    pub fn find(&mut self, buffer: &[u8]) -> Result<Option<usize>, ReplyError> {
        while self.position <= buffer.len() {
            if self.after_string && !buffer[..self.position].ends_with(b"\r\n") {
                return Err(ReplyError::MissingCrlf);
            }
            self.after_string = false;
            if self.values_left == 0 {
                return Ok(Some(std::mem::take(self).position));
            }
            let from = self.position.max(self.searched);
            let Some(found) = memchr::memchr(b'\n', &buffer[from..]) else {
                self.searched = buffer.len();
                return Ok(None);
            };
            let line = &buffer[self.position..from + found];
            let line = line.strip_suffix(b"\r").ok_or(ReplyError::MissingCrlf)?;
            self.position = from + found + 1;
            self.take_line(line)?;
        }
        Ok(None)
    }

    /// A value begins with this line.
    fn take_line(&mut self, line: &[u8]) -> Result<(), ReplyError> {
        let Some((sigil, rest)) = line.split_first() else {
            return Err(ReplyError::UnknownType(b'\r'));
        };
        let (itself, values_each) = match sigil {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => (1, 0),
            b'$' | b'=' => {
                if let Some(bytes) = length(rest)? {
                    let end =
                        bytes.checked_add(2).and_then(|bytes| bytes.checked_add(self.position));
                    self.position = end.ok_or(ReplyError::BadScalar)?;
                    self.after_string = true;
                }
                (1, 0)
            }
            b'*' | b'~' | b'>' => (1, 1),
            b'%' => (1, 2),
            // Attributes come before the reply that they belong to, and are none.
            b'|' => (0, 2),
            other => return Err(ReplyError::UnknownType(*other)),
        };
        let elements = if values_each == 0 { 0 } else { length(rest)?.unwrap_or(0) };
        let values = elements.checked_mul(values_each);
        let values = values.and_then(|values| values.checked_add(self.values_left - itself));
        self.values_left = values.ok_or(ReplyError::BadScalar)?;
        Ok(())
    }
}

/// A length, or `None` for -1.
fn length(text: &[u8]) -> Result<Option<usize>, ReplyError> {
    match parse_integer(text)? {
        -1 => Ok(None),
        length => Ok(Some(usize::try_from(length).map_err(|_| ReplyError::BadScalar)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_reply::parse_reply;
    use super::*;
    use proptest::prelude::*;

    /// Feeds `stream` in pieces that end at `cuts`: the lengths of the replies, and how it ended.
    fn lengths(stream: &[u8], cuts: &[usize]) -> (Vec<usize>, Option<ReplyError>) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let (mut search, mut found, mut start) = (ReplyEnd::default(), Vec::new(), 0);
        for end in ends {
            while start < end {
                match search.find(&stream[start..end]) {
                    Ok(Some(length)) => {
                        found.push(length);
                        start += length;
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn a_reply_ends_where_all_that_it_announced_is_there() {
        for (input, expected) in [
            ("+OK\r\n+OK\r\n", vec![5, 5]),
            ("-ERR x\r\n:1\r\n_\r\n#t\r\n,1.5\r\n(12\r\n", vec![8, 4, 3, 4, 6, 5]),
            ("$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n%0\r\n", vec![6, 5, 5, 4, 4]),
            ("$4\r\n\r\n\r\n\r\n+OK\r\n", vec![10, 5]),
            ("=5\r\ntxt:a\r\n", vec![11]),
            ("*2\r\n%1\r\n+a\r\n~1\r\n:1\r\n$-1\r\n", vec![25]),
            ("|1\r\n+a\r\n:1\r\n*1\r\n+b\r\n+c\r\n", vec![20, 4]),
            ("*2\r\n:1\r\n", vec![]),
            ("$9223372036854775807\r\nx", vec![]),
        ] {
            for cuts in [vec![], (0..input.len()).collect::<Vec<_>>()] {
                assert_eq!(lengths(input.as_bytes(), &cuts), (expected.clone(), None), "{input:?}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for (input, error) in [
            ("?\r\n", ReplyError::UnknownType(b'?')),
            ("\r\n", ReplyError::UnknownType(b'\r')),
            ("+OK\n", ReplyError::MissingCrlf),
            ("$1\r\nabc", ReplyError::MissingCrlf),
            ("$-2\r\n", ReplyError::BadScalar),
            ("*x\r\n", ReplyError::BadScalar),
            ("%9223372036854775807\r\n%9223372036854775807\r\n", ReplyError::BadScalar),
        ] {
            assert_eq!(lengths(input.as_bytes(), &[]).1, Some(error), "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_the_end_is_that_of_the_parser(
            words in prop::collection::vec(prop::sample::select(vec![
                "*1\r\n", "*3\r\n", "*-1\r\n", "%2\r\n", "|1\r\n", "~3\r\n", ">1\r\n", "$1\r\na\r\n", "$-1\r\n",
                "=5\r\ntxt:a\r\n", "+OK\r\n", "-ERR x\r\n", ":1\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(1\r\n", "\r\n", "$7\r\n", "x",
            ]), 0..30),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let input = words.concat().into_bytes();
            let (found, error) = lengths(&input, &[]);
            prop_assert_eq!(lengths(&input, &cuts), (found.clone(), error));
            let mut start = 0;
            for length in found {
                // What is told from here on may be wrong inside, and then the parser says so.
                match parse_reply(&input[start..]) {
                    Ok(Some((_, parsed))) => prop_assert_eq!(parsed, length),
                    Ok(None) => prop_assert!(false, "the parser waits for more"),
                    Err(_) => break,
                }
                start += length;
            }
            if error.is_none() {
                let parsed = parse_reply(&input[start..]);
                prop_assert!(!matches!(parsed, Ok(Some(_))), "there is another reply: {:?}", parsed);
            }
        }

        #[test]
        fn random_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            let (found, _) = lengths(&noise, &[3, 17]);
            prop_assert!(found.iter().sum::<usize>() <= noise.len());
        }
    }
}
