//! What the request parser accepts, refuses, and costs.

use super::*;
use proptest::prelude::*;

/// A command or an error, owned, so that results of different buffers can be compared.
type Parsed = Result<Vec<Vec<u8>>, ProtocolError>;

/// Feeds `stream` in pieces that end at `cuts`, as a connection would, to the first error.
fn parse_pieces(stream: &[u8], cuts: &[usize], limits: &Limits) -> Vec<Parsed> {
    parse_pieces_after(stream, cuts, limits, None)
}

/// The same, where commands that begin as the one before are cut by that; the first one by `opening`, if there is one.
fn parse_pieces_after(
    stream: &[u8],
    cuts: &[usize],
    limits: &Limits,
    mut opening: Option<Opening>,
) -> Vec<Parsed> {
    let mut parser = Parser::default();
    let mut parsed = Vec::new();
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    for end in ends {
        loop {
            let input = &stream[start..end.max(start)];
            let mut args = Vec::new();
            let alike = opening.and_then(|like| parser.next_like(&like, input, limits, &mut args));
            let step = match alike {
                Some(consumed) => Ok(Step::Command { consumed }),
                None => parser.next(input, limits, &mut args),
            };
            match step {
                Ok(Step::Command { consumed }) => {
                    opening = opening.map(|_| Opening::of(input, &args));
                    parsed.push(Ok(args.iter().map(|arg| arg.to_vec()).collect()));
                    start += consumed;
                }
                Ok(Step::Inline { consumed, args: owned }) => {
                    parsed.push(Ok(owned));
                    start += consumed;
                }
                Ok(Step::Nothing { consumed }) => start += consumed,
                Ok(Step::Incomplete { need }) => {
                    assert!(need > input.len(), "need {need} of {}", input.len());
                    assert!(args.is_empty(), "arguments of an incomplete command");
                    break;
                }
                Err(error) => {
                    parsed.push(Err(error));
                    return parsed;
                }
            }
            assert!(start <= end, "consumed more than given");
        }
    }
    parsed
}

fn parse_whole(stream: &[u8]) -> Vec<Parsed> {
    parse_pieces(stream, &[], &Limits::default())
}

fn command(words: &[&[u8]]) -> Parsed {
    Ok(words.iter().map(|word| word.to_vec()).collect())
}

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend(format!("${}\r\n", arg.len()).bytes());
        out.extend(arg);
        out.extend(b"\r\n");
    }
    out
}

#[test]
fn requests_are_cut_into_their_arguments() {
    let rows: &[(&[u8], &[Parsed])] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[command(&[b"PING"])]),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &[command(&[b"GET", b""])]),
        (b"PING\r\nPING\n", &[command(&[b"PING"]), command(&[b"PING"])]),
        (b"\r\n\n*0\r\n*-1\r\n*-7\r\nPING\r\n", &[command(&[b"PING"])]),
        (b"set k \"a\\x20b\"\r\n", &[command(&[b"set", b"k", b"a b"])]),
        // Redis looks at neither the byte after a CR nor the two after a bulk.
        (b"*1\rX$4\rYPINGZZ", &[command(&[b"PING"])]),
        (b"*1\r\n$12\r\nabcdefghijkl\r\n", &[command(&[b"abcdefghijkl"])]),
        (b"*1\r\n$4\r\nPI", &[]),
    ];
    for (stream, expected) in rows {
        assert_eq!(parse_whole(stream), *expected, "{}", stream.escape_ascii());
    }
}

#[test]
fn an_argument_of_any_length_survives() {
    for length in [0, 9, 10, 99, 100, 999, 1000, 70_000] {
        let args = vec![vec![b'x'; length]; 12];
        assert_eq!(parse_whole(&encode(&args)), [Ok(args)], "{length}");
    }
}

#[test]
fn protocol_errors_have_the_words_of_redis() {
    let long_line = |first: &str| format!("{first}{}", "1".repeat(70_000)).into_bytes();
    let rows: &[(&[u8], &[u8])] = &[
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*+1\r\n", b"invalid multibulk length"),
        (b"*-0\r\n", b"invalid multibulk length"),
        (b"*2147483648\r\n", b"invalid multibulk length"),
        (b"*99999999999999999999\r\n", b"invalid multibulk length"),
        (b"*1\r\n:3\r\n", b"expected '$', got ':'"),
        (b"*1\r\n\r\n", b"expected '$', got ' '"),
        (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$x\r\n", b"invalid bulk length"),
        (b"*1\r\n$03\r\n", b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
        (b"\"open\r\n", b"unbalanced quotes in request"),
        (&long_line("*"), b"too big mbulk count string"),
        (&long_line("*1\r\n$"), b"too big bulk count string"),
        (&long_line(""), b"too big inline request"),
    ];
    for (stream, words) in rows {
        let parsed = parse_whole(stream);
        let [Err(error)] = parsed.as_slice() else { panic!("{parsed:?}") };
        assert_eq!(*error.text(), [b"ERR Protocol error: ", *words].concat(), "{error}");
    }
}

#[test]
fn a_connection_that_has_yet_to_authenticate_gets_small_limits() {
    let limits = Limits { unauthenticated: true, ..Limits::default() };
    let small = encode(&vec![vec![b'x'; 16384]; 10]);
    assert_eq!(parse_pieces(&small, &[], &limits).len(), 1);
    for (stream, error) in [
        (&b"*11\r\n"[..], ProtocolError::UnauthenticatedMultibulkLength),
        (b"*1\r\n$16385\r\n", ProtocolError::UnauthenticatedBulkLength),
        (b"*2147483648\r\n", ProtocolError::InvalidMultibulkLength),
    ] {
        assert_eq!(parse_pieces(stream, &[], &limits), [Err(error)]);
        assert!(error.to_string().starts_with("ERR Protocol error: "));
    }
}

#[test]
fn a_limit_that_changes_while_a_command_arrives_spares_what_was_let_through() {
    let stream = encode(&[vec![b'a'; 50], b"b".to_vec()]);
    let mut parser = Parser::default();
    let mut args = Vec::new();
    let step = parser.next(&stream[..stream.len() - 1], &Limits::default(), &mut args);
    assert!(matches!(step, Ok(Step::Incomplete { .. })));
    let tight = Limits { bulk_bytes_max: 10, unauthenticated: true };
    let step = parser.next(&stream, &tight, &mut args);
    assert_eq!(step, Ok(Step::Command { consumed: stream.len() }));
    assert_eq!(args.len(), 2);
}

#[test]
fn need_names_the_end_of_the_bulk_that_arrives() {
    let mut parser = Parser::default();
    let mut args = Vec::new();
    let header = b"*2\r\n$3\r\nSET\r\n$536870912\r\n";
    for extra in [0, 1, 1000] {
        let mut input = header.to_vec();
        input.resize(header.len() + extra, b'x');
        let mut args = Vec::new();
        let step = parser.next(&input, &Limits::default(), &mut args);
        assert_eq!(step, Ok(Step::Incomplete { need: header.len() + 536_870_912 + 2 }));
    }
    // A huge count alone asks for no memory.
    let step = Parser::default().next(b"*2147483647\r\n", &Limits::default(), &mut args);
    assert_eq!(step, Ok(Step::Incomplete { need: 14 }));
}

#[test]
fn a_command_that_arrives_byte_by_byte_costs_linear_time() {
    // Without the memory of the parser these two are 10^10 steps.
    let many = encode(&vec![b"x".to_vec(); 30_000]);
    let long = [vec![b'*'; 1], vec![b'1'; INLINE_REQUEST_BYTES_MAX - 10]].concat();
    for stream in [many, long] {
        let mut parser = Parser::default();
        let mut args = Vec::new();
        for end in 1..stream.len() {
            let step = parser.next(&stream[..end], &Limits::default(), &mut args);
            assert!(matches!(step, Ok(Step::Incomplete { .. })), "{end}: {step:?}");
        }
    }
}

#[test]
fn the_longest_lines_are_the_same_however_they_are_split() {
    for (extra, fits) in [(0, true), (1, false)] {
        let mut stream = vec![b'a'; INLINE_REQUEST_BYTES_MAX + extra];
        stream.push(b'\n');
        let whole = parse_whole(&stream);
        let cut = parse_pieces(&stream, &[100, 65_535, 65_536, 65_537], &Limits::default());
        assert_eq!(whole, cut);
        assert_eq!(whole[0].is_ok(), fits, "{extra}");
    }
}

fn pipeline() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let arg = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 90..130),
        prop::collection::vec(Just(b'\r'), 990..1010),
    ];
    prop::collection::vec(prop::collection::vec(arg, 1..13), 0..8)
}

proptest! {
    #[test]
    fn any_split_of_a_pipeline_gives_the_same_commands(
        commands in pipeline(), cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        let expected: Vec<Parsed> = commands.into_iter().map(Ok).collect();
        prop_assert_eq!(parse_pieces(&stream, &cuts, &Limits::default()), expected);
    }

    #[test]
    fn any_split_of_nearly_valid_bytes_gives_the_same_result(
        words in prop::collection::vec(prop::sample::select(vec![
            "*1", "*2", "*0", "*-1", "\r\n", "$1", "$3", "$0", "$-1", "a", "abc", "\"", "'", "\0",
            "\n", "\r", "PING", " ", "12", "$16385", ":", "\\",
        ]), 0..30),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        unauthenticated: bool,
    ) {
        let stream = words.concat().into_bytes();
        let limits = Limits { unauthenticated, ..Limits::default() };
        let whole = parse_pieces(&stream, &[], &limits);
        prop_assert_eq!(&parse_pieces(&stream, &cuts, &limits), &whole);
        let every_byte: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(&parse_pieces(&stream, &every_byte, &limits), &whole);
        if !unauthenticated {
            let alike = Some(Opening::default());
            prop_assert_eq!(&parse_pieces_after(&stream, &cuts, &limits, alike), &whole);
        }
    }

    #[test]
    fn what_begins_as_the_command_before_is_cut_as_if_it_did_not(
        commands in prop::collection::vec((
            prop::sample::select(vec!["GET", "get", "SET", "PING", "ZPOPMIN", "a name of many bytes"]),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..3),
            prop::sample::select(vec![0_usize, 0, 1200]),
        ), 0..30),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let commands: Vec<Vec<Vec<u8>>> = commands.into_iter().map(|(name, mut args, more)| {
            args.iter_mut().for_each(|arg| arg.extend(vec![b'x'; more]));
            std::iter::once(name.as_bytes().to_vec()).chain(args).collect()
        }).collect();
        let stream: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        let expected: Vec<Parsed> = commands.into_iter().map(Ok).collect();
        let alike = Some(Opening::default());
        prop_assert_eq!(parse_pieces_after(&stream, &cuts, &Limits::default(), alike), expected);
    }

    #[test]
    fn random_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_whole(&stream);
        parse_whole(&[b"*3\r\n$", stream.as_slice()].concat());
    }
}
