//! The quoting rules of inline requests, which `redis-cli` and the configuration file share.
//!
//! An argument with quotes or escapes is not a slice of its line, so all of them are owned here;
//! inline requests are typed by hand, and nobody waits for these allocations.

/// Splits a line into its arguments, or `None` if a quote is left open or a closing quote is
/// followed by anything but a space (the rules of `sdssplitargs`, Redis 7.0 `sds.c`).
///
/// `"…"` knows `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and takes any other escaped byte as itself;
/// `'…'` knows only `\'`. A quote may also open in the middle of a word.
pub fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut rest = skip_spaces(line);
    while !rest.is_empty() {
        let mut argument = Vec::new();
        rest = skip_spaces(take_argument(rest, &mut argument)?);
        arguments.push(argument);
    }
    Some(arguments)
}

/// Moves the first argument of `rest` to `argument` and returns what follows it.
fn take_argument<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [b'"', quoted @ ..] => return take_double_quoted(quoted, argument),
            [b'\'', quoted @ ..] => return take_single_quoted(quoted, argument),
            [byte, after @ ..] => {
                argument.push(*byte);
                rest = after;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return ends_word(after),
            [b'\\', b'x', high, low, after @ ..] if is_hex(*high) && is_hex(*low) => {
                (hex_value(*high) << 4 | hex_value(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        argument.push(byte);
        rest = after;
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return ends_word(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        argument.push(byte);
        rest = after;
    }
}

/// What follows a closing quote, if that is the end of the line or a space.
fn ends_word(after: &[u8]) -> Option<&[u8]> {
    after.first().is_none_or(|byte| is_space(*byte)).then_some(after)
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

/// The value of a hex digit; callers have checked that it is one.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// C's `isspace`, which unlike Rust's ASCII white space includes the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn skip_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|byte| is_space(**byte)).count();
    &line[spaces..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_splits_by_the_quoting_rules_of_redis() {
        let rows: &[(&str, Option<&[&[u8]]>)] = &[
            ("", Some(&[])),
            ("  \t ", Some(&[])),
            ("set k v", Some(&[b"set", b"k", b"v"])),
            ("  set  k\tv  ", Some(&[b"set", b"k", b"v"])),
            (r#"set k "a b""#, Some(&[b"set", b"k", b"a b"])),
            (r#""\x41\xff\n\r\t\b\a\q\\""#, Some(&[b"A\xff\n\r\t\x08\x07q\\"])),
            (r#""\xzz""#, Some(&[b"xzz"])),
            (r"'it\'s \n'", Some(&[br"it's \n"])),
            (r#"a"b c"'"#, None),
            (r#"a"b c" d"#, Some(&[b"ab c", b"d"])),
            (r#""" ''"#, Some(&[b"", b""])),
            (r#""open"#, None),
            ("'open", None),
            (r#""ends with \"#, None),
            (r#""x"y"#, None),
            ("'x'y", None),
            ("a\x0bb", Some(&[b"a\x0bb"])), // a vertical tab only separates where a word begins
            ("\x0ba", Some(&[b"a"])),
        ];
        for (line, expected) in rows {
            let expected =
                expected.map(|words| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>());
            assert_eq!(split_arguments(line.as_bytes()), expected, "{line:?}");
        }
    }
}
