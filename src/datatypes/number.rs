//! Numbers as text: what Redis accepts as an integer or a double, and how it prints them.
//!
//! Redis leans on C's `strtod` and `printf`, so its edges are theirs: `0x1p3`, `1.` and `+inf` are
//! numbers, `1e400` and `" 1"` are not, and 0.1 prints as 0.10000000000000001. The decimal case is
//! handed to the standard library (both round correctly, so the bits agree); the rest is here.
//!
//! Promise: no input panics, and every accepted text gives the double that glibc gives.

use std::io::Write;

use crate::slot::Slot;

/// Longest text of a 64-bit signed integer: a sign and 19 digits.
pub const I64_TEXT_BYTES_MAX: usize = 20;

/// A decimal text up to this many digits is exact in a double, so it needs no rounding.
const EXACT_DIGITS_MAX: usize = 15;

/// Doubles at and beyond this print with an exponent under `%.17g`; integers below print plainly.
const PLAIN_INTEGER_LIMIT: f64 = 1e17;

/// Significant digits of `%.17g`: enough to read the same double back.
const SIGNIFICANT_DIGITS: i32 = 17;

/// The integer that `text` spells in its one canonical form: no sign but `-`, no leading zero, no
/// space, within 64 bits. A value that fails here is kept as text, so "007" stays "007".
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < I64_TEXT_BYTES_MAX => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits stay below 10^19, which is below 2^64.
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// The double that the whole of `text` spells, or `None` where Redis answers "value is not a valid
/// float": surrounding space, trailing bytes, NaN, overflow, underflow to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if let Some(value) = parse_short_integer(text) {
        return Some(value);
    }
    if text.first().is_none_or(|&byte| is_space(byte)) {
        return None;
    }
    let parsed = strtod(text);
    let whole = parsed.length == text.len() && !parsed.out_of_range && !parsed.value.is_nan();
    whole.then_some(parsed.value)
}

/// What [`strtod`] found at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParsedDouble {
    /// The number; 0 when there is none.
    pub value: f64,
    /// Bytes that belong to it, leading space included; 0 when there is no number.
    pub length: usize,
    /// C's ERANGE: it is an infinity or a zero only because a double cannot hold it.
    pub out_of_range: bool,
}

/// The longest number at the start of `text`, as C's `strtod` reads it in the C locale. Most callers
/// want [`parse_f64`]; the bounds of score ranges are read with this laxer rule.
pub fn strtod(text: &[u8]) -> ParsedDouble {
    let Some((literal, length)) = scan_float(text) else {
        return ParsedDouble { value: 0.0, length: 0, out_of_range: false };
    };
    let (magnitude, out_of_range) = match literal.body {
        FloatBody::Infinity => (f64::INFINITY, false),
        FloatBody::NotANumber => (f64::NAN, false),
        FloatBody::Decimal { text, any_non_zero } => {
            let value = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(0.0);
            (value, value == f64::INFINITY || (value == 0.0 && any_non_zero))
        }
        FloatBody::Hex { mantissa, sticky, exponent } => {
            let value = DOUBLE.round(mantissa, sticky, exponent);
            let magnitude = value.map_or(f64::INFINITY, |(bits, scale)| ldexp(bits, scale));
            (magnitude, value.is_none() || (magnitude == 0.0 && mantissa != 0))
        }
    };
    let value = if literal.negative { -magnitude } else { magnitude };
    ParsedDouble { value, length, out_of_range }
}

/// Appends `value` as C's `%.17g` prints it, which is how Redis 7.0 replies with a double.
pub fn format_f64_17g(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(if value.is_sign_negative() { b"-nan" } else { b"nan" });
    } else if value.is_infinite() {
        out.extend_from_slice(if value < 0.0 { b"-inf" } else { b"inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.abs() < PLAIN_INTEGER_LIMIT && value.trunc() == value {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        format_general(value, out);
    }
}

/// The integer equal to `value`, if there is one within half of the 64-bit range. Redis stores and
/// prints such scores as integers (Redis 7.0 `util.c`, double2ll); -0 becomes 0.
pub fn f64_to_i64_exact(value: f64) -> Option<i64> {
    const HALF_RANGE: f64 = (i64::MAX / 2) as f64;
    if !(-HALF_RANGE..=HALF_RANGE).contains(&value) {
        return None;
    }
    let integer = value as i64;
    (integer as f64 == value).then_some(integer)
}

/// The common scores: an optional minus and few enough digits to be exact.
fn parse_short_integer(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > EXACT_DIGITS_MAX {
        return None;
    }
    let mut magnitude: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + i64::from(digit);
    }
    // The sign is applied to the double, for "-0" is a number of its own.
    let magnitude = magnitude as f64;
    Some(if negative { -magnitude } else { magnitude })
}

/// `%.17g` for what is neither an integer below 10^17 nor special.
fn format_general(value: f64, out: &mut Vec<u8>) {
    let mut scratch = [0_u8; 32];
    let mut unused: &mut [u8] = &mut scratch;
    // d.dddddddddddddddde±x, correctly rounded: 16 digits after the point, 25 bytes at most.
    let fits = write!(unused, "{value:.16e}").is_ok();
    assert!(fits, "17 digits, a sign, a point and an exponent fit in 32 bytes");
    let left = unused.len();
    let text = &scratch[..scratch.len() - left];
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let Some(at) = memchr::memchr(b'e', text) else { return };
    let exponent = std::str::from_utf8(&text[at + 1..]).ok().and_then(|t| t.parse().ok());
    let exponent: i32 = exponent.unwrap_or(0);

    let mut digits = [0_u8; SIGNIFICANT_DIGITS as usize];
    digits[0] = text[0];
    digits[1..].copy_from_slice(&text[2..at]);
    let significant = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..significant];

    if negative {
        out.push(b'-');
    }
    if (-4..0).contains(&exponent) {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else if (0..SIGNIFICANT_DIGITS).contains(&exponent) {
        let whole = exponent as usize + 1;
        out.extend_from_slice(&digits[..whole.min(significant)]);
        out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(significant)));
        if significant > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    } else {
        out.push(digits[0]);
        if significant > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }
}

/// A floating-point literal, split but not yet rounded to any format.
pub(super) struct FloatLiteral<'a> {
    pub(super) negative: bool,
    pub(super) body: FloatBody<'a>,
}

/// The magnitude of a literal.
pub(super) enum FloatBody<'a> {
    Infinity,
    NotANumber,
    /// Digits, at most one point, perhaps an exponent; at least one digit.
    Decimal {
        text: &'a [u8],
        any_non_zero: bool,
    },
    /// `mantissa * 2^exponent`; `sticky` when non-zero digits below the mantissa were dropped.
    Hex {
        mantissa: u128,
        sticky: bool,
        exponent: i64,
    },
}

/// Reads the literal at the start of `text` and tells its length, as `strtod` delimits it.
pub(super) fn scan_float(text: &[u8]) -> Option<(FloatLiteral<'_>, usize)> {
    let spaces = text.iter().take_while(|&&byte| is_space(byte)).count();
    let signed = &text[spaces..];
    let (negative, sign_length) = match signed.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let body = &signed[sign_length..];
    let (body, length) =
        scan_word(body).or_else(|| scan_hex(body)).or_else(|| scan_decimal(body))?;
    Some((FloatLiteral { negative, body }, spaces + sign_length + length))
}

fn scan_word(text: &[u8]) -> Option<(FloatBody<'_>, usize)> {
    let starts =
        |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    if starts(b"infinity") {
        return Some((FloatBody::Infinity, 8));
    }
    if starts(b"inf") {
        return Some((FloatBody::Infinity, 3));
    }
    if !starts(b"nan") {
        return None;
    }
    // "nan(char-sequence)": the parentheses belong to it only when they close.
    let payload = text[3..].strip_prefix(b"(").and_then(|rest| {
        let inside = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        (rest.get(inside) == Some(&b')')).then_some(inside + 2)
    });
    Some((FloatBody::NotANumber, 3 + payload.unwrap_or(0)))
}

fn scan_decimal(text: &[u8]) -> Option<(FloatBody<'_>, usize)> {
    let (mut digits, mut any_non_zero, mut point) = (0_usize, false, false);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                any_non_zero |= byte != b'0';
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if digits == 0 {
        return None;
    }
    let length = at + exponent_length(&text[at..], b'e');
    Some((FloatBody::Decimal { text: &text[..length], any_non_zero }, length))
}

fn scan_hex(text: &[u8]) -> Option<(FloatBody<'_>, usize)> {
    let digits_text = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X"))?;
    let (mut mantissa, mut sticky, mut exponent) = (0_u128, false, 0_i64);
    let (mut digits, mut point, mut at) = (0_usize, false, 0);
    while let Some(&byte) = digits_text.get(at) {
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = (byte as char).to_digit(16) {
            digits += 1;
            // The top nibble free means that one more digit fits.
            if mantissa >> 124 == 0 {
                mantissa = mantissa << 4 | u128::from(digit);
                exponent -= if point { 4 } else { 0 };
            } else {
                sticky |= digit != 0;
                exponent += if point { 0 } else { 4 };
            }
        } else {
            break;
        }
        at += 1;
    }
    if digits == 0 {
        return None; // "0x" alone is the number 0 followed by an x
    }
    let suffix = &digits_text[at..][..exponent_length(&digits_text[at..], b'p')];
    exponent = exponent.saturating_add(parse_exponent(suffix));
    Some((FloatBody::Hex { mantissa, sticky, exponent }, 2 + at + suffix.len()))
}

/// Length of the exponent (its letter, a sign, digits) at the start of `text`, 0 if there is none.
fn exponent_length(text: &[u8], letter: u8) -> usize {
    if !text.first().is_some_and(|byte| byte.eq_ignore_ascii_case(&letter)) {
        return 0;
    }
    let sign = usize::from(matches!(text.get(1), Some(b'+' | b'-')));
    let digits = text[1 + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { 0 } else { 1 + sign + digits }
}

/// The value of an exponent that [`exponent_length`] has delimited. Far beyond every format it stops
/// growing: what matters then is only that the result is out of range.
pub(super) fn parse_exponent(text: &[u8]) -> i64 {
    const EXPONENT_LIMIT: i64 = 1 << 40;
    let negative = text.get(1) == Some(&b'-');
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let magnitude =
        digits.fold(0_i64, |sum, byte| (sum * 10 + i64::from(byte - b'0')).min(EXPONENT_LIMIT));
    if negative { -magnitude } else { magnitude }
}

/// A binary floating-point format, as far as rounding needs to know it.
pub(super) struct BinaryFormat {
    /// Bits of the significand, the leading one included.
    pub(super) significand_bits: i64,
    /// Exponent of the lowest bit of the smallest subnormal.
    pub(super) lowest_bit: i64,
    /// Values of 2 to this power and more overflow.
    pub(super) overflow: i64,
}

const DOUBLE: BinaryFormat =
    BinaryFormat { significand_bits: 53, lowest_bit: -1074, overflow: 1024 };

impl BinaryFormat {
    /// Rounds `mantissa * 2^exponent` (a bit more, if `sticky`) to nearest, ties to even. Answers the
    /// significand and the exponent of its lowest bit, or `None` on overflow.
    pub(super) fn round(&self, mantissa: u128, sticky: bool, exponent: i64) -> Option<(u64, i64)> {
        if mantissa == 0 {
            return Some((0, 0));
        }
        let bits = 128 - i64::from(mantissa.leading_zeros());
        let lowest = (exponent + bits - self.significand_bits).max(self.lowest_bit);
        let drop = lowest - exponent;
        let significand = match drop {
            ..=0 if exponent + bits > self.overflow => return None,
            ..=0 => mantissa << -drop, // bits - drop <= significand_bits: nothing is lost
            1..=127 => {
                let kept = mantissa >> drop;
                let rest = mantissa & ((1 << drop) - 1);
                let half = 1_u128 << (drop - 1);
                let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
                kept + u128::from(up)
            }
            128 => u128::from(mantissa > 1 << 127 || (mantissa == 1 << 127 && sticky)),
            _ => 0,
        };
        // Rounding up may carry into one bit more: then the lowest bit is zero and goes.
        let carried = significand >> self.significand_bits != 0;
        let (significand, lowest) =
            if carried { (significand >> 1, lowest + 1) } else { (significand, lowest) };
        let significand = u64::try_from(significand).ok()?;
        let top = lowest + 64 - i64::from(significand.leading_zeros());
        (top <= self.overflow).then_some((significand, lowest))
    }
}

/// `significand * 2^exponent` for a pair that [`BinaryFormat::round`] made for a double: it is exact.
fn ldexp(significand: u64, exponent: i64) -> f64 {
    // Two steps, since the smallest subnormals are beyond one power of two; neither step rounds.
    let first = exponent.clamp(-1000, 1000);
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    let scaled = significand as f64 * power(first);
    if exponent == first { scaled } else { scaled * power(exponent - first) }
}

/// C's `isspace` in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A slot as an argument: its number, if there is one of it.
pub fn parse_slot(text: &[u8]) -> Option<Slot> {
    parse_i64(text).and_then(Slot::numbered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_i64_accepts_only_the_canonical_text() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("42", Some(42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            ("00", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
        }
    }

    /// Rows captured from Redis 7.0.15: ZADD with the text, then ZSCORE.
    #[test]
    fn parse_f64_then_format_gives_what_zadd_then_zscore_gives() {
        for (text, printed) in [
            ("nan", None),
            ("nan(12)", None),
            ("0x10", Some("16")),
            ("0x1p3", Some("8")),
            ("0x", None),
            ("0x.8", Some("0.5")),
            ("0x1p-1075", None),
            ("0x1.8p-1074", Some("9.8813129168249309e-324")),
            ("infinity", Some("inf")),
            ("INF", Some("inf")),
            ("+inf", Some("inf")),
            ("-infinity", Some("-inf")),
            ("infi", None),
            ("1e400", None),
            ("-1e400", None),
            ("1e-400", None),
            ("4e-324", Some("4.9406564584124654e-324")),
            ("2e-324", None),
            ("0e-999", Some("0")),
            (" 1", None),
            ("1 ", None),
            ("", None),
            (".", None),
            ("1.", Some("1")),
            (".5", Some("0.5")),
            ("1e", None),
            ("1e+", None),
            ("1e5", Some("100000")),
            ("1E5", Some("100000")),
            ("1_0", None),
            ("--1", None),
            ("+-1", None),
            ("1000000000000000.25", Some("1000000000000000.2")), // a tie: to even
            ("1e16", Some("10000000000000000")),
            ("1e17", Some("1e+17")),
            ("-1e17", Some("-1e+17")),
            ("123456789012345678", Some("1.2345678901234568e+17")),
            ("0.1", Some("0.10000000000000001")),
            ("0.0001", Some("0.0001")),
            ("1e-5", Some("1.0000000000000001e-05")),
            ("1e18", Some("1e+18")),
            ("9223372036854775807", Some("9.2233720368547758e+18")),
            ("3.0e15", Some("3000000000000000")),
        ] {
            let got = parse_f64(text.as_bytes()).map(|value| {
                let mut out = Vec::new();
                format_f64_17g(value, &mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(got.as_deref(), printed, "{text:?}");
        }
    }

    #[test]
    fn strtod_stops_where_the_number_ends() {
        for (text, value, length) in [
            (" 12abc", 12.0, 3),
            ("0xg", 0.0, 1),
            ("1e+x", 1.0, 1),
            ("1.2.3", 1.2, 3),
            ("infinit", f64::INFINITY, 3),
            ("0x1.8p1z", 3.0, 7),
            ("1\0garbage", 1.0, 1),
            ("x", 0.0, 0),
            ("-", 0.0, 0),
            ("0x1fffffffffffff8", 144115188075855864.0, 17),
            ("0x10000000000000000000000000000000000001", 2_f64.powi(148), 40),
        ] {
            let parsed = strtod(text.as_bytes());
            assert_eq!((parsed.value, parsed.length), (value, length), "{text:?}");
        }
        assert!(strtod(b"nan(_a1)").value.is_nan());
        assert_eq!(strtod(b"nan(_a1)").length, 8);
        assert_eq!(strtod(b"nan(").length, 3);
        assert!(strtod(b"0x1p99999999999999999999").out_of_range);
    }

    #[test]
    fn f64_to_i64_exact_stops_at_half_of_the_range() {
        for (value, expected) in [
            (-0.0, Some(0)),
            (0.5, None),
            (4611686018427387904.0, Some(1 << 62)),
            (5e18, None),
            (-4611686018427387904.0, Some(-(1 << 62))),
            (f64::INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(f64_to_i64_exact(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_finite_double_survives_printing_and_parsing(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let mut out = Vec::new();
            format_f64_17g(value, &mut out);
            prop_assert_eq!(parse_f64(&out).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn every_integer_survives_printing_and_parsing(value in any::<i64>()) {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..24)) {
            let parsed = strtod(&text);
            prop_assert!(parsed.length <= text.len());
            parse_i64(&text);
        }
    }
}
