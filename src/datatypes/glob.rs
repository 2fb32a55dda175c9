//! Glob patterns as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACL rules read them.
//!
//! The rules, oddities included, are those of `stringmatchlen` (Redis 7.0 `util.c`): `*`, `?`,
//! `[abc]`, `[^abc]`, `[a-z]` and `\` before a literal byte; a `[` that is never closed ends with
//! the pattern; only the pattern `""` matches the empty string.
//!
//! Promise: time is at most pattern times string, and no stack is used. Only the last `*` ever
//! takes more of the string: if the part behind it matches nowhere, no earlier `*` can help.

/// Whether `pattern` matches the whole of `string`; `ignore_case` folds ASCII letters.
pub fn glob_match(pattern: &[u8], string: &[u8], ignore_case: bool) -> bool {
    let (mut pattern, mut string) = (pattern, string);
    // The pattern after the last `*`, and the string from where it was last tried.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let ([b'*', rest @ ..], [_, ..]) = (pattern, string) {
            pattern = skip_stars(rest);
            if pattern.is_empty() {
                return true;
            }
            retry = Some((pattern, string));
            continue;
        }
        match match_one(pattern, string, ignore_case) {
            One::Matched { pattern: rest, string: [] } if skip_stars(rest).is_empty() => {
                return true;
            }
            One::Matched { pattern: rest, string: rest_of_string } => {
                (pattern, string) = (rest, rest_of_string);
            }
            One::BothEmpty => return true,
            One::Mismatch => match retry {
                Some((after_star, [_, shorter @ ..])) if !shorter.is_empty() => {
                    (pattern, string) = (after_star, shorter);
                    retry = Some((after_star, shorter));
                }
                _ => return false,
            },
        }
    }
}

/// What one element of a pattern made of one byte of the string.
enum One<'p, 's> {
    Matched { pattern: &'p [u8], string: &'s [u8] },
    Mismatch,
    BothEmpty,
}

fn match_one<'p, 's>(pattern: &'p [u8], string: &'s [u8], ignore_case: bool) -> One<'p, 's> {
    let (byte, rest_of_string) = match (pattern, string) {
        ([], []) => return One::BothEmpty,
        ([], _) | (_, []) => return One::Mismatch,
        (_, [byte, rest @ ..]) => (*byte, rest),
    };
    let (matched, rest) = match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => match_class(class, byte, ignore_case),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            (same(*literal, byte, ignore_case), rest)
        }
        [] => (false, pattern),
    };
    if matched { One::Matched { pattern: rest, string: rest_of_string } } else { One::Mismatch }
}

/// Whether `byte` is in the class that `class` begins with, and the pattern behind the class.
fn match_class(class: &[u8], byte: u8, ignore_case: bool) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            // An escaped byte keeps its case even where letters are folded: so does Redis.
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (found != negated, rest),
            [] => return (found != negated, rest),
            [low, b'-', high, rest @ ..] => {
                found |= in_range(*low, *high, byte, ignore_case);
                rest
            }
            [literal, rest @ ..] => {
                found |= same(*literal, byte, ignore_case);
                rest
            }
        };
    }
}

/// Ranges compare as C's signed `char`, and put their ends in order before case is folded.
fn in_range(low: u8, high: u8, byte: u8, ignore_case: bool) -> bool {
    let (low, high) = if low as i8 > high as i8 { (high, low) } else { (low, high) };
    let [low, high, byte] = [low, high, byte].map(|b| fold(b, ignore_case) as i8);
    (low..=high).contains(&byte)
}

fn same(a: u8, b: u8, ignore_case: bool) -> bool {
    fold(a, ignore_case) == fold(b, ignore_case)
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case { byte.to_ascii_lowercase() } else { byte }
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    &pattern[stars..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, string, matches) in [
            ("", "", true),
            ("*", "", false),
            ("", "a", false),
            ("*", "abc", true),
            ("a*", "a", true),
            ("a***", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hbllo", true),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            (r"h\?llo", "h?llo", true),
            (r"h\?llo", "hello", false),
            (r"a\", r"a\", true),
            (r"[\]]", "]", true),
            (r"[\a-z]", "-", true), // the escape takes the range apart
            ("[]a]", "a]", false),  // a class may be empty, and matches nothing
            ("[abc", "b", true),    // never closed: it ends with the pattern
            ("[", "[", false),
            ("[^", "x", true),
            ("[a-", "-", true),
            ("a?*", "a", false),
            ("*?", "abc", true),
            ("?*?", "a", false),
        ] {
            assert_eq!(
                glob_match(pattern.as_bytes(), string.as_bytes(), false),
                matches,
                "{pattern} on {string}"
            );
        }
    }

    #[test]
    fn case_is_folded_where_asked() {
        for (pattern, string, matches) in [
            ("MaxMemory*", "maxmemory-policy", true),
            ("[A-C]x", "bX", true),
            ("[a]", "A", true),
            (r"\a", "A", true),
            (r"[\a]", "A", false),
            ("b", "a", false),
        ] {
            assert_eq!(
                glob_match(pattern.as_bytes(), string.as_bytes(), true),
                matches,
                "{pattern} on {string}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = "a*".repeat(60) + "b";
        assert!(!glob_match(pattern.as_bytes(), "a".repeat(5000).as_bytes(), false));
    }

    #[test]
    fn a_long_pattern_does_not_use_the_stack() {
        let pattern = "*a".repeat(1_000_000);
        assert!(glob_match(pattern.as_bytes(), "a".repeat(1_000_000).as_bytes(), false));
    }

    /// The definition, with full backtracking; exponential, for short patterns of literals only.
    fn model(pattern: &[u8], string: &[u8]) -> bool {
        match (pattern, string) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=string.len()).any(|taken| model(rest, &string[taken..])),
            ([b'?', rest @ ..], [_, shorter @ ..]) => model(rest, shorter),
            ([a, rest @ ..], [b, shorter @ ..]) if a == b => model(rest, shorter),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn one_retry_point_finds_what_full_backtracking_finds(
            pattern in "[ab*?]{0,8}", string in "[ab]{1,12}",
        ) {
            let expected = model(pattern.as_bytes(), string.as_bytes());
            prop_assert_eq!(glob_match(pattern.as_bytes(), string.as_bytes(), false), expected);
        }

        #[test]
        fn random_bytes_never_panic(
            pattern in prop::collection::vec(prop::sample::select(b"[]^-\\*?ab\xff".to_vec()), 0..12),
            string in prop::collection::vec(any::<u8>(), 0..12),
            ignore_case: bool,
        ) {
            glob_match(&pattern, &string, ignore_case);
        }
    }
}
