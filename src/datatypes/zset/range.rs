//! The two kinds of interval that sorted-set commands take, and their texts.

use crate::datatypes::number;

/// An interval of scores. Either end may be excluded; an empty interval is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The lower end.
    pub min: f64,
    /// The upper end.
    pub max: f64,
    /// Whether scores equal to `min` are out.
    pub min_excluded: bool,
    /// Whether scores equal to `max` are out.
    pub max_excluded: bool,
}

impl ScoreRange {
    /// Reads the two ends, `(` before an excluded one. `None` is Redis's "min or max is not a float".
    pub fn parse(min: &[u8], max: &[u8]) -> Option<Self> {
        let ((min, min_excluded), (max, max_excluded)) = (parse_score(min)?, parse_score(max)?);
        Some(Self { min, max, min_excluded, max_excluded })
    }

    /// Whether `score` is too low.
    pub fn is_below(&self, score: f64) -> bool {
        if self.min_excluded { score <= self.min } else { score < self.min }
    }

    /// Whether `score` is too high.
    pub fn is_above(&self, score: f64) -> bool {
        if self.max_excluded { score >= self.max } else { score > self.max }
    }
}

/// One end of an interval of scores. It is read as C reads a string: leading space is skipped, a
/// NUL ends it, an empty text is 0 and an overflow is an infinity (Redis 7.0 `t_zset.c`,
/// zslParseRange).
fn parse_score(text: &[u8]) -> Option<(f64, bool)> {
    let (text, excluded) = text.strip_prefix(b"(").map_or((text, false), |rest| (rest, true));
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    let parsed = number::strtod(text);
    let whole = parsed.length == text.len() && !parsed.value.is_nan();
    whole.then_some((parsed.value, excluded))
}

/// One end of a lexicographic interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// `-`: before every member.
    Lowest,
    /// `+`: after every member.
    Highest,
    /// `[` and a text.
    Included(&'a [u8]),
    /// `(` and a text.
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::Lowest),
            b"+" => Some(Self::Highest),
            // Redis looks one byte further than the sign for the end of the string, and finds it
            // as well in a NUL of the text itself.
            [b'-', 0, ..] => Some(Self::Lowest),
            [b'+', 0, ..] => Some(Self::Highest),
            [b'[', rest @ ..] => Some(Self::Included(rest)),
            [b'(', rest @ ..] => Some(Self::Excluded(rest)),
            _ => None,
        }
    }
}

/// A lexicographic interval. Either end may be any bound; an empty interval is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    /// The lower end.
    pub min: LexBound<'a>,
    /// The upper end.
    pub max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    /// Reads the two ends. `None` is Redis's "min or max not valid string range item".
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<Self> {
        Some(Self { min: LexBound::parse(min)?, max: LexBound::parse(max)? })
    }

    /// Whether `member` comes before the interval.
    pub fn is_below(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Included(bound) => member < bound,
            LexBound::Excluded(bound) => member <= bound,
        }
    }

    /// Whether `member` comes after the interval.
    pub fn is_above(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Included(bound) => member > bound,
            LexBound::Excluded(bound) => member >= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_bounds_are_read_as_c_strings() {
        for (text, expected) in [
            (&b"1.5"[..], Some((1.5, false))),
            (b"(1.5", Some((1.5, true))),
            (b"-inf", Some((f64::NEG_INFINITY, false))),
            (b"(+inf", Some((f64::INFINITY, true))),
            (b"", Some((0.0, false))),
            (b"(", Some((0.0, true))),
            (b" 1", Some((1.0, false))),
            (b"1\0x", Some((1.0, false))),
            (b"1e999", Some((f64::INFINITY, false))),
            (b"1 ", None),
            (b"nan", None),
            (b"[1", None),
            (b"((1", None),
            (b"one", None),
        ] {
            assert_eq!(parse_score(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lexicographic_bounds_need_their_prefix() {
        for (text, expected) in [
            (&b"-"[..], Some(LexBound::Lowest)),
            (b"+", Some(LexBound::Highest)),
            (b"[a", Some(LexBound::Included(b"a"))),
            (b"(a", Some(LexBound::Excluded(b"a"))),
            (b"[", Some(LexBound::Included(b""))),
            (b"", None),
            (b"a", None),
            (b"-a", None),
            (b"+inf", None),
        ] {
            assert_eq!(LexBound::parse(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_range_has_both_ends_in_or_out_as_asked() {
        let range = ScoreRange::parse(b"(1", b"3").unwrap();
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0].map(|score| (range.is_below(score), range.is_above(score))),
            [(true, false), (true, false), (false, false), (false, false), (false, true)]
        );
        let range = LexRange::parse(b"[b", b"(d").unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(|member| {
                (range.is_below(member.as_bytes()), range.is_above(member.as_bytes()))
            }),
            [(true, false), (false, false), (false, false), (false, true)]
        );
        let nothing = LexRange::parse(b"+", b"-").unwrap();
        assert!(nothing.is_below(b"a") && nothing.is_above(b"a"));
    }
}
