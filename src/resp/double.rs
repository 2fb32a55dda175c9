//! The text of a double as C's `%.17g` prints it, which is how Redis 7.0 sends and stores doubles.
//!
//! 17 significant digits name every double exactly, at the price of `0.1` becoming
//! `0.10000000000000001`. Clients and snapshots see these bytes, so they must be the same.

use std::io::Write;

/// Significant digits of a double's text.
const DIGITS: i32 = 17;

/// Appends `value` as `printf("%.17g")` would, infinities and not-a-numbers included.
pub fn append_double(out: &mut Vec<u8>, value: f64) {
    /// Below this, every whole number is a double, and has at most 16 digits.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    if !value.is_finite() {
        out.extend_from_slice(non_finite(value));
    } else if value.trunc() == value && value.abs() < WHOLE_MAX && !is_minus_zero(value) {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        append_general(out, value);
    }
}

fn non_finite(value: f64) -> &'static [u8] {
    match (value.is_nan(), value.is_sign_negative()) {
        (false, false) => b"inf",
        (false, true) => b"-inf",
        (true, false) => b"nan",
        (true, true) => b"-nan",
    }
}

fn is_minus_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// The rule of `%g`: the shorter of fixed and scientific notation, without trailing zeros.
fn append_general(out: &mut Vec<u8>, value: f64) {
    // Rust rounds `{:.16e}` exactly, so these are the same 17 digits that C prints.
    let mut scratch = [0_u8; 40];
    let mut rest = &mut scratch[..];
    let written = write!(rest, "{value:.16e}").is_ok();
    assert!(written, "a sign, 17 digits, a point and an exponent are below 40 bytes");
    let unused = rest.len();
    let text = &scratch[..scratch.len() - unused];

    let (sign, text) = match text {
        [b'-', text @ ..] => (&b"-"[..], text),
        text => (&b""[..], text),
    };
    let e = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(e);
    let exponent = exponent.get(1..).and_then(|text| std::str::from_utf8(text).ok());
    let exponent: i32 = exponent.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    let kept = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
    digits.truncate(kept);

    out.extend_from_slice(sign);
    if (-4..DIGITS).contains(&exponent) {
        append_fixed(out, &digits, exponent);
    } else {
        append_scientific(out, &digits, exponent);
    }
}

fn append_fixed(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let Ok(point) = usize::try_from(exponent + 1) else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend_from_slice(digits);
        return;
    };
    if point == 0 {
        out.extend_from_slice(b"0.");
        out.extend_from_slice(digits);
    } else if digits.len() <= point {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', point - digits.len()));
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

fn append_scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    out.extend_from_slice(&digits[..1]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    if exponent < 10 {
        out.push(b'0'); // at least two digits
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        append_double(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    /// The C library's own answer.
    #[allow(unsafe_code)] // the oracle is a C function
    fn printf(value: f64) -> String {
        let mut buffer = [0_u8; 400];
        // SAFETY: snprintf writes at most the given length, which is the buffer's, with a NUL;
        // the format takes exactly one double.
        let length = unsafe {
            libc::snprintf(buffer.as_mut_ptr().cast(), buffer.len(), c"%.17g".as_ptr(), value)
        };
        String::from_utf8_lossy(&buffer[..length as usize]).into_owned()
    }

    #[test]
    fn a_double_reads_as_c_prints_it() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.5, "-3.5"),
            (0.1, "0.10000000000000001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(text(value), expected);
            assert_eq!(printf(value), expected);
        }
    }

    proptest! {
        #[test]
        fn any_double_reads_as_c_prints_it(bits: u64, small in -1e6..1e6_f64) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(text(value), printf(value));
            prop_assert_eq!(text(small), printf(small));
            prop_assert_eq!(text(small / 1e9), printf(small / 1e9));
        }
    }
}
