//! The scanner against a plain model: reply trees are written out, cut anywhere, and found again.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Reply {
    Line(char, String),
    Bulk(char, Vec<u8>),
    Null(&'static str),
    Aggregate(char, Vec<Reply>),
    Attributed(Vec<(Reply, Reply)>, Box<Reply>),
}

impl Reply {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Line(kind, text) => out.extend(format!("{kind}{text}\r\n").bytes()),
            Self::Null(text) => out.extend(text.bytes()),
            Self::Bulk(kind, payload) => {
                out.extend(format!("{kind}{}\r\n", payload.len()).bytes());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Self::Aggregate(kind, members) => {
                let count = if *kind == '%' { members.len() / 2 } else { members.len() };
                out.extend(format!("{kind}{count}\r\n").bytes());
                let whole = if *kind == '%' { count * 2 } else { count };
                members[..whole].iter().for_each(|member| member.write(out));
            }
            Self::Attributed(pairs, reply) => {
                out.extend(format!("|{}\r\n", pairs.len()).bytes());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
                reply.write(out);
            }
        }
    }

    /// What the scanner should say of this reply at top level; a push answers nothing.
    fn kind(&self) -> Option<ReplyKind> {
        match self {
            Self::Line('-', _) | Self::Bulk('!', _) => Some(ReplyKind::Error),
            Self::Line(..) | Self::Bulk(..) => Some(ReplyKind::Value),
            Self::Null(_) => Some(ReplyKind::Null),
            Self::Aggregate('>', _) => None,
            Self::Aggregate(..) => Some(ReplyKind::Value),
            Self::Attributed(_, reply) => reply.kind(),
        }
    }
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let line = (prop::sample::select(vec!['+', '-', ':', ',', '#', '(']), "[ -~]{0,12}");
    let bulk =
        (prop::sample::select(vec!['$', '=', '!']), prop::collection::vec(any::<u8>(), 0..40));
    let leaf = prop_oneof![
        line.prop_map(|(kind, text)| Reply::Line(kind, text)),
        bulk.prop_map(|(kind, payload)| Reply::Bulk(kind, payload)),
        prop::sample::select(vec!["$-1\r\n", "*-1\r\n", "_\r\n"]).prop_map(Reply::Null),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let members = prop::collection::vec(inner.clone(), 0..6);
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..3);
        prop_oneof![
            (prop::sample::select(vec!['*', '~', '%', '>']), members)
                .prop_map(|(kind, members)| Reply::Aggregate(kind, members)),
            (pairs, inner).prop_map(|(pairs, reply)| Reply::Attributed(pairs, Box::new(reply))),
        ]
    })
}

fn scan_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Vec<ReplyKind>, ProtocolError> {
    let (mut scanner, mut kinds) = (ReplyScanner::new(), Vec::new());
    let mut rest = bytes;
    for &cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        scanner.scan(piece, |kind| kinds.push(kind))?;
        rest = after;
    }
    scanner.scan(rest, |kind| kinds.push(kind))?;
    Ok(kinds)
}

proptest! {
    #[test]
    fn replies_are_found_however_the_bytes_are_cut(
        replies in prop::collection::vec(any_reply(), 0..8),
        cuts in prop::collection::vec(0usize..9, 0..300),
    ) {
        let mut bytes = Vec::new();
        replies.iter().for_each(|reply| reply.write(&mut bytes));
        let expected: Vec<_> = replies.iter().filter_map(Reply::kind).collect();
        prop_assert_eq!(scan_in_pieces(&bytes, &cuts), Ok(expected));
    }

    #[test]
    fn no_bytes_make_the_scanner_panic(
        bytes in prop::collection::vec(prop::sample::select(b"*$+-!|%>_:~=0129?\r\nx".to_vec()), 0..80),
        cuts in prop::collection::vec(0usize..5, 0..40),
    ) {
        let whole = scan_in_pieces(&bytes, &[]);
        prop_assert_eq!(scan_in_pieces(&bytes, &cuts).is_ok(), whole.is_ok());
    }
}

#[test]
fn a_reply_is_found_only_with_its_last_byte() {
    for reply in ["+OK\r\n", "$3\r\nabc\r\n", "$0\r\n\r\n", "*0\r\n", "*2\r\n:1\r\n*1\r\n$-1\r\n"] {
        let (mut scanner, mut found) = (ReplyScanner::new(), 0);
        let (head, last) = reply.as_bytes().split_at(reply.len() - 1);
        scanner.scan(head, |_| found += 1).unwrap();
        assert_eq!(found, 0, "{reply:?} without its last byte");
        scanner.scan(last, |_| found += 1).unwrap();
        assert_eq!(found, 1, "{reply:?}");
    }
}

/// A null as the last member once made the whole array count as null.
#[test]
fn only_a_reply_that_is_null_itself_counts_as_null() {
    use ReplyKind::*;
    for (bytes, kind) in [
        ("$-1\r\n", Null),
        ("*-1\r\n", Null),
        ("_\r\n", Null),
        ("*2\r\n$1\r\nx\r\n$-1\r\n", Value),
        ("*1\r\n_\r\n", Value),
        ("|1\r\n+k\r\n_\r\n$-1\r\n", Null),
        ("|1\r\n+k\r\n_\r\n$0\r\n\r\n", Value),
    ] {
        assert_eq!(scan_in_pieces(bytes.as_bytes(), &[]), Ok(vec![kind]), "{bytes:?}");
    }
}

#[test]
fn bytes_that_are_not_resp_are_refused() {
    use ProtocolError::*;
    for (bytes, error) in [
        ("HTTP/1.1 400\r\n", UnknownType(b'H')),
        ("$-2\r\n", InvalidLength),
        ("$\r\n", InvalidLength),
        ("$--1\r\n", InvalidLength),
        ("$1x\r\n", InvalidLength),
        ("$?\r\n", InvalidLength),
        ("$12345678901234567890\r\n", InvalidLength),
        ("$3\r\nabcd\r\n", MissingTerminator),
        ("$3\r\nabc\rx", MissingTerminator),
        ("$3\rx", InvalidLength),
        ("%9999999999999999999\r\n%9999999999999999999\r\n", InvalidLength),
    ] {
        let found = scan_in_pieces(bytes.as_bytes(), &[]);
        assert_eq!(found, Err(error), "{bytes:?}");
    }
}

#[test]
fn the_first_error_text_is_kept_and_bounded() {
    let long = "x".repeat(10 * ERROR_TEXT_BYTES_MAX);
    for (bytes, text) in [
        ("+OK\r\n-ERR one\r\n-ERR two\r\n".to_owned(), "ERR one"),
        ("!9\r\nSYNTAX it\r\n-ERR two\r\n".to_owned(), "SYNTAX it"),
        (format!("-{long}\r\n"), &long[..ERROR_TEXT_BYTES_MAX]),
    ] {
        let mut scanner = ReplyScanner::new();
        for byte in bytes.bytes() {
            scanner.scan(&[byte], |_| ()).unwrap();
        }
        assert_eq!(scanner.first_error().as_deref(), Some(text));
    }
    assert_eq!(ReplyScanner::new().first_error(), None);
}

#[test]
fn commands_are_arrays_of_bulk_strings() {
    let mut out = Vec::new();
    encode_command(&mut out, &[b"SET", b"k", b""]);
    assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
}
