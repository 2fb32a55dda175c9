//! Words in quotes, as configuration files, inline requests and `redis-cli` share them.
//!
//! Promise: [`split_words`] of [`quoted`] gives the same bytes back.

/// Splits a line at blanks. `"…"` knows the escapes `\n \r \t \b \a \\ \" \xHH`; `'…'` knows only
/// `\'`. `None` when a quote stays open or something other than a blank follows a closing quote.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = skip_spaces(line);
    while !rest.is_empty() {
        let (word, after) = take_word(rest)?;
        words.push(word);
        rest = skip_spaces(after);
    }
    Some(words)
}

/// One word from the start of `text`, which begins with no blank.
fn take_word(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match text {
            [] => return Some((word, text)),
            [b' ' | b'\n' | b'\r' | b'\t' | 0, rest @ ..] => return Some((word, rest)),
            [b'"', rest @ ..] => text = after_quote(take_double_quoted(rest, &mut word)?)?,
            [b'\'', rest @ ..] => text = after_quote(take_single_quoted(rest, &mut word)?)?,
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

/// A closing quote must end its word.
fn after_quote(text: &[u8]) -> Option<&[u8]> {
    text.first().is_none_or(|byte| is_space(*byte)).then_some(text)
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| is_space(**byte)).count();
    &text[spaces..]
}

/// C's `isspace`, which unlike Rust's ASCII white space includes the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn take_double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match text {
            [] => return None,
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'x', high, low, rest @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_digit(*high) << 4 | hex_digit(*low));
                text = rest;
            }
            [b'\\', escaped, rest @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                text = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

fn take_single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match text {
            [] => return None,
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                text = rest;
            }
            [b'\'', rest @ ..] => return Some(rest),
            [byte, rest @ ..] => {
                word.push(*byte);
                text = rest;
            }
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// `bytes` in double quotes, with everything that is not printable ASCII escaped.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            b'\t' => text.extend(b"\\t"),
            7 => text.extend(b"\\a"),
            8 => text.extend(b"\\b"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        for (line, words) in [
            ("", Some(vec![])),
            ("  port  6379\t", Some(vec!["port", "6379"])),
            (r#"save """#, Some(vec!["save", ""])),
            (r#"a "b c" 'd e'"#, Some(vec!["a", "b c", "d e"])),
            (r#""\x41\n\"" '\''"#, Some(vec!["A\n\"", "'"])),
            (r#"a "open"#, None),
            (r#""a"b"#, None),
            ("'open", None),
            (r#"a"b c" d"#, Some(vec!["ab c", "d"])), // a quote may open in the middle of a word
            (r#""\q\xzz" 'it\'s \n'"#, Some(vec!["qxzz", r"it's \n"])),
            (r#""ends with \"#, None),
            ("a\x0bb", Some(vec!["a\x0bb"])), // a vertical tab only separates where a word begins
            ("\x0ba", Some(vec!["a"])),
        ] {
            let words = words.map(|w| w.into_iter().map(|w| w.as_bytes().to_vec()).collect());
            assert_eq!(split_words(line.as_bytes()), words, "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_splitting(words: Vec<Vec<u8>>) {
            let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&b' ');
            prop_assert_eq!(split_words(&line), Some(words));
        }

        #[test]
        fn any_line_is_split_or_refused_without_a_panic(line: Vec<u8>) {
            let _ = split_words(&line);
        }
    }
}
