//! The 80-bit `long double` of x86, as far as INCRBYFLOAT and HINCRBYFLOAT show it.
//!
//! Redis adds with a 64-bit significand and prints with `%.17Lf`, trimmed: 10.5 + 0.1 is 10.6, which
//! no double arithmetic yields, and exact decimals would differ too (1e17 + 0.1 is
//! 100000000000000000.1015625). So this is a small soft float with parse, add and print, each
//! rounded to nearest even as the processor and glibc round. The usual numbers stay within 128-bit
//! integers; only exponents beyond 27 digits take the slow way through big integers.
//!
//! Promise: for every accepted input the bytes are those of Redis 7.0 on x86-64.

use super::number::{self, BinaryFormat, FloatBody};

/// Longest text that Redis reads as a long double (Redis 7.0 `util.h`, MAX_LONG_DOUBLE_CHARS).
const TEXT_BYTES_MAX: usize = 5 * 1024;

/// x87 extended precision: 64 explicit bits of significand, 15 bits of exponent.
const EXTENDED: BinaryFormat =
    BinaryFormat { significand_bits: 64, lowest_bit: -16445, overflow: 16384 };

/// Digits that `%.17Lf` prints after the point.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 10_u128.pow(FRACTION_DIGITS as u32);

/// Largest power of five in 64 bits; powers of ten up to it go through 128-bit integers.
const FIVES_MAX: u32 = 27;

/// Decimal digits that fit in one limb, and the power of ten that goes with them.
const CHUNK_DIGITS: usize = 19;
const DIGITS_CHUNK: u64 = 10_u64.pow(CHUNK_DIGITS as u32);

/// Decimal exponents beyond this, either way, are out of range whatever the digits are.
const DECIMAL_EXPONENT_LIMIT: i64 = 5000 + TEXT_BYTES_MAX as i64;

/// A number with a 64-bit significand, or an infinity. NaN cannot be written: both ways to get one
/// (parsing, adding infinities) answer `None`, as all its users would reject it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    Infinite,
    /// `significand * 2^exponent`.
    Finite {
        significand: u64,
        exponent: i64,
    },
}

impl LongDouble {
    /// The number that the whole of `text` spells, or `None` where Redis answers "value is not a
    /// valid float".
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_MAX || text.first().is_none_or(|&byte| number::is_space(byte)) {
            return None;
        }
        let (literal, length) = number::scan_float(text)?;
        if length != text.len() {
            return None;
        }
        let (rounded, non_zero) = match literal.body {
            FloatBody::NotANumber => return None,
            FloatBody::Infinity => {
                return Some(Self { negative: literal.negative, magnitude: Magnitude::Infinite });
            }
            FloatBody::Hex { mantissa, sticky, exponent } => {
                (EXTENDED.round(mantissa, sticky, exponent), mantissa != 0)
            }
            FloatBody::Decimal { text, any_non_zero } => (round_decimal(text), any_non_zero),
        };
        let (significand, exponent) = rounded?;
        if significand == 0 && non_zero {
            return None; // underflow
        }
        let magnitude = Magnitude::Finite { significand, exponent };
        Some(Self { negative: literal.negative, magnitude })
    }

    /// Whether this is one of the infinities, which parse but may not be added.
    pub fn is_infinite(self) -> bool {
        self.finite().is_none()
    }

    /// The sum, or `None` if it is an infinity or not a number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (Some(mut high), Some(mut low)) = (self.finite(), other.finite()) else { return None };
        if high.0 == 0 || low.0 == 0 {
            return Some(if low.0 == 0 { self } else { other });
        }
        let (mut high_negative, mut low_negative) = (self.negative, other.negative);
        if high.1 + bit_length(high.0) < low.1 + bit_length(low.0) {
            std::mem::swap(&mut high, &mut low);
            std::mem::swap(&mut high_negative, &mut low_negative);
        }
        // The higher one moves up until 62 bits stand free below it. Of the lower one, what falls
        // below those is remembered in its last bit: too far down to be a tie, enough to break one.
        let shift = i64::from((high.0 as u128).leading_zeros()) - 2;
        let high_bits = u128::from(high.0) << shift;
        let base = high.1 - shift;
        let low_bits = align(low.0, low.1 - base);
        let sum_negative;
        let sum = if high_negative == low_negative {
            sum_negative = high_negative;
            high_bits + low_bits
        } else if high_bits >= low_bits {
            // Equal opposites give +0, as rounding to nearest has it.
            sum_negative = high_negative && high_bits != low_bits;
            high_bits - low_bits
        } else {
            sum_negative = low_negative;
            low_bits - high_bits
        };
        let (significand, exponent) = EXTENDED.round(sum, false, base)?;
        let magnitude = Magnitude::Finite { significand, exponent };
        Some(Self { negative: sum_negative, magnitude })
    }

    /// Appends the text that Redis stores and replies: `%.17Lf` without trailing zeros or point,
    /// and "0" for a negative zero.
    pub fn format(self, out: &mut Vec<u8>) {
        let Some((significand, exponent)) = self.finite() else {
            out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            return;
        };
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        if exponent >= 0 {
            BigUint::from(u128::from(significand)).shifted_left(exponent as u32).format(out);
        } else {
            format_fraction(significand, -exponent, out);
        }
        if out[start..] == *b"-0" {
            out.remove(start);
        }
    }

    fn finite(self) -> Option<(u64, i64)> {
        match self.magnitude {
            Magnitude::Infinite => None,
            Magnitude::Finite { significand, exponent } => Some((significand, exponent)),
        }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        let magnitude = Magnitude::Finite { significand: value.unsigned_abs(), exponent: 0 };
        Self { negative: value < 0, magnitude }
    }
}

impl From<f64> for LongDouble {
    /// Exact, except that a NaN becomes an infinity: no stored double is one.
    fn from(value: f64) -> Self {
        let bits = value.abs().to_bits();
        let (biased, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
        let magnitude = match biased {
            0x7ff => Magnitude::Infinite,
            0 => Magnitude::Finite { significand: fraction, exponent: -1074 },
            _ => Magnitude::Finite { significand: fraction | 1 << 52, exponent: biased - 1075 },
        };
        Self { negative: value.is_sign_negative(), magnitude }
    }
}

/// Bits of `value` up to its highest one.
fn bit_length(value: u64) -> i64 {
    64 - i64::from(value.leading_zeros())
}

/// `value * 2^shift`, with any bits lost below remembered in the last one.
fn align(value: u64, shift: i64) -> u128 {
    let value = u128::from(value);
    match shift {
        0.. => value << shift.min(127),
        -63..=-1 => {
            let lost = value & ((1 << -shift) - 1) != 0;
            value >> -shift | u128::from(lost)
        }
        _ => u128::from(value != 0),
    }
}

/// `significand / 2^halvings` with 17 rounded decimals, trailing zeros trimmed.
fn format_fraction(significand: u64, halvings: i64, out: &mut Vec<u8>) {
    // Below 2^64 * 10^17 < 2^121: more than 122 halvings leave less than half of the last digit.
    let scaled = u128::from(significand) * FRACTION_SCALE;
    let scaled = if halvings > 122 {
        0
    } else {
        let rest = scaled & ((1 << halvings) - 1);
        let half = 1_u128 << (halvings - 1);
        let kept = scaled >> halvings;
        kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
    };
    // The whole part is below 2^63, the fraction below 10^17: both fit in 64 bits.
    let (whole, fraction) = ((scaled / FRACTION_SCALE) as u64, (scaled % FRACTION_SCALE) as u64);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(whole).as_bytes());
    if fraction == 0 {
        return;
    }
    let fraction = digits.format(fraction).as_bytes();
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', FRACTION_DIGITS - fraction.len()));
    let significant = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&fraction[..significant]);
}

/// Rounds decimal text that [`number::scan_float`] has delimited.
fn round_decimal(text: &[u8]) -> Option<(u64, i64)> {
    let (mantissa_text, exponent_text) =
        text.split_at(memchr::memchr2(b'e', b'E', text).unwrap_or(text.len()));
    let point = memchr::memchr(b'.', mantissa_text);
    let fraction_digits = point.map_or(0, |at| mantissa_text.len() - at - 1);
    let exponent = number::parse_exponent(exponent_text) - fraction_digits as i64;
    let digits = mantissa_text.iter().filter(|&&byte| byte != b'.').map(|byte| byte & 15);

    if let Some(small) = digits
        .clone()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit)))
    {
        if small == 0 {
            return Some((0, 0));
        }
        if exponent.unsigned_abs() <= u64::from(FIVES_MAX) {
            return round_small(small, exponent);
        }
    }
    if exponent > DECIMAL_EXPONENT_LIMIT {
        return None;
    }
    if exponent < -DECIMAL_EXPONENT_LIMIT {
        return Some((0, 0)); // at most 5120 digits: far below the smallest subnormal
    }
    round_big(BigUint::from_digits(digits), exponent)
}

/// `digits * 10^exponent` where all fits in 128 bits: ten is two times five, and twos are free.
fn round_small(digits: u64, exponent: i64) -> Option<(u64, i64)> {
    let fives = 5_u128.pow(exponent.unsigned_abs() as u32);
    if exponent >= 0 {
        return EXTENDED.round(u128::from(digits) * fives, false, exponent);
    }
    // With the dividend's top bit at 127 and 5^27 < 2^63 the quotient has 65 bits or more, so the
    // remainder matters only as "a bit more".
    let shift = (digits as u128).leading_zeros();
    let dividend = u128::from(digits) << shift;
    EXTENDED.round(dividend / fives, !dividend.is_multiple_of(fives), exponent - i64::from(shift))
}

/// The same for any number of digits.
fn round_big(digits: BigUint, exponent: i64) -> Option<(u64, i64)> {
    let fives = BigUint::power_of_five(exponent.unsigned_abs() as u32);
    if exponent >= 0 {
        let (top, sticky, shift) = digits.times(&fives).top_bits();
        return EXTENDED.round(top, sticky, exponent + shift);
    }
    // Scale the dividend so that the quotient has between 100 and 101 bits.
    let shift = 100 + fives.bit_length() - digits.bit_length();
    let (mut rest, divisor) = if shift >= 0 {
        (digits.shifted_left(shift as u32), fives)
    } else {
        (digits, fives.shifted_left(-shift as u32))
    };
    let mut quotient = 0_u128;
    for bit in (0..=101_u32).rev() {
        let part = divisor.clone().shifted_left(bit);
        if rest.subtract_if_not_less(&part) {
            quotient |= 1 << bit;
        }
    }
    EXTENDED.round(quotient, !rest.is_zero(), exponent - shift)
}

/// An unsigned integer of any size: 64-bit limbs, lowest first, no zero limb at the top.
#[derive(Clone)]
struct BigUint(Vec<u64>);

impl From<u128> for BigUint {
    fn from(value: u128) -> Self {
        let mut big = Self(vec![value as u64, (value >> 64) as u64]);
        big.trim();
        big
    }
}

impl BigUint {
    /// The integer with these decimal digits, taken in chunks that fit in a limb.
    fn from_digits(digits: impl Iterator<Item = u8>) -> Self {
        let mut value = Self(Vec::new());
        let (mut chunk, mut scale) = (0_u64, 1_u64);
        for digit in digits {
            chunk = chunk * 10 + u64::from(digit);
            scale *= 10;
            if scale == DIGITS_CHUNK {
                value.multiply_add(scale, chunk);
                (chunk, scale) = (0, 1);
            }
        }
        value.multiply_add(scale, chunk);
        value
    }

    fn power_of_five(exponent: u32) -> Self {
        let mut value = Self::from(1);
        for _ in 0..exponent / FIVES_MAX {
            value.multiply_add(5_u64.pow(FIVES_MAX), 0);
        }
        value.multiply_add(5_u64.pow(exponent % FIVES_MAX), 0);
        value
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bit_length(&self) -> i64 {
        let Some(&top) = self.0.last() else { return 0 };
        self.0.len() as i64 * 64 - i64::from(top.leading_zeros())
    }

    /// `self * factor + addend`, in place.
    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = u128::from(addend);
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        if carry != 0 {
            self.0.push(carry as u64);
        }
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = vec![0_u64; self.0.len() + other.0.len()];
        for (low, &left) in self.0.iter().enumerate() {
            let mut carry = 0_u128;
            for (limb, &right) in product[low..].iter_mut().zip(&other.0) {
                let sum = u128::from(left) * u128::from(right) + u128::from(*limb) + carry;
                *limb = sum as u64;
                carry = sum >> 64;
            }
            // No earlier row reached this limb.
            product[low + other.0.len()] = carry as u64;
        }
        let mut product = Self(product);
        product.trim();
        product
    }

    fn shifted_left(mut self, bits: u32) -> Self {
        let (limbs, bits) = (bits as usize / 64, bits % 64);
        if bits != 0 {
            self.multiply_add(1 << bits, 0);
        }
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, limbs));
        }
        self
    }

    /// Subtracts `other` if that leaves no negative number; tells whether it did.
    fn subtract_if_not_less(&mut self, other: &Self) -> bool {
        let mine = (self.0.len(), self.0.iter().rev());
        let others = (other.0.len(), other.0.iter().rev());
        if mine.0.cmp(&others.0).then_with(|| mine.1.cmp(others.1)).is_lt() {
            return false;
        }
        let mut borrow = false;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let subtrahend = other.0.get(index).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        self.trim();
        true
    }

    /// The highest 128 bits, whether any bit below them is set, and how many bits are below.
    fn top_bits(&self) -> (u128, bool, i64) {
        let shift = (self.bit_length() - 128).max(0);
        let (limbs, bits) = (shift as usize / 64, shift as u32 % 64);
        let limb = |index: usize| u128::from(self.0.get(limbs + index).copied().unwrap_or(0));
        let mut top = limb(0) >> bits | limb(1) << (64 - bits);
        if bits != 0 {
            top |= limb(2) << (128 - bits);
        }
        let below = self.0.iter().take(limbs).any(|&limb| limb != 0);
        let sticky = below || limb(0) & ((1 << bits) - 1) != 0;
        (top, sticky, shift)
    }

    /// Appends the decimal digits.
    fn format(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest = 0_u128;
            for limb in self.0.iter_mut().rev() {
                let part = rest << 64 | u128::from(*limb);
                *limb = (part / u128::from(DIGITS_CHUNK)) as u64;
                rest = part % u128::from(DIGITS_CHUNK);
            }
            self.trim();
            chunks.push(rest as u64);
        }
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(chunks.pop().unwrap_or(0)).as_bytes());
        for chunk in chunks.into_iter().rev() {
            let text = digits.format(chunk).as_bytes();
            out.extend(std::iter::repeat_n(b'0', CHUNK_DIGITS - text.len()));
            out.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.format(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn incrbyfloat(value: &str, increment: &str) -> Option<String> {
        let value = LongDouble::parse(value.as_bytes())?;
        Some(text_of(value.checked_add(LongDouble::parse(increment.as_bytes())?)?))
    }

    /// Rows captured from Redis 7.0.15 on x86-64: SET, then INCRBYFLOAT.
    #[test]
    fn addition_prints_what_incrbyfloat_replies() {
        for (value, increment, reply) in [
            ("10.5", "0.1", Some("10.6")),
            ("3.0e3", "200", Some("3200")),
            ("5.0e3", "0", Some("5000")),
            ("1", "inf", None),
            ("inf", "-inf", None),
            ("nan", "1", None),
            ("0x10", "0x1p-3", Some("16.125")),
            ("1e17", "0.1", Some("100000000000000000.1015625")),
            ("1e-20", "0", Some("0")),
            ("0", "1e-17", Some("0.00000000000000001")),
            ("0.1", "0.2", Some("0.3")),
            ("1.2e4932", "0", None),
            ("1.18e4932", "1.18e4932", None),
            ("1e-4950", "0", Some("0")),
            ("1e-5000", "0", None),
            ("0e-99999", "0", Some("0")),
            ("-0.0", "0", Some("0")),
            ("-1e-30", "0", Some("0")),
            ("3", "1.000000000000000005", Some("4.00000000000000001")),
            ("1", "-1.0", Some("0")),
            ("0.00000000000000000500", "0", Some("0")),
            ("0.000000000000000015", "0", Some("0.00000000000000002")),
            ("0.5e-16", "0", Some("0.00000000000000005")),
            ("18446744073709551616", "1.5", Some("18446744073709551618")),
            ("18446744073709551615", "0.5", Some("18446744073709551616")),
            ("12345678901234567890123", "0.25", Some("12345678901234567889920")),
            ("1.1", "-1.1000000001", Some("-0.0000000001")),
            ("99999999999999999999", "1e-17", Some("100000000000000000000")),
            ("+5", "+1", Some("6")),
            ("1.", ".5", Some("1.5")),
            ("0xffffffffffffffff", "0xffffffffffffffffp1", Some("55340232221128654844")),
            ("0xffffffffffffffff8", "0", Some("295147905179352825856")),
            ("0xffffffffffffffff18", "0", Some("4722366482869645213440")),
        ] {
            assert_eq!(incrbyfloat(value, increment).as_deref(), reply, "{value} + {increment}");
        }
    }

    #[test]
    fn only_whole_numeric_texts_parse() {
        for text in ["", " 1", "1 ", "1x", "1\0", "e5", ".", "0x", "-", "nan", "-nan(1)"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX]), None);
        assert_eq!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX - 1]), Some(LongDouble::from(0_i64)));
    }

    #[test]
    fn doubles_and_integers_convert_exactly() {
        for value in [0.5, -3.25, 5e-324, 1e300, 1.0 / 3.0] {
            let text = format!("{value:e}");
            let exact = text_of(LongDouble::from(value));
            let shortest = text_of(LongDouble::parse(text.as_bytes()).unwrap());
            assert_eq!(exact[..exact.len().min(15)], shortest[..shortest.len().min(15)], "{text}");
        }
        assert_eq!(text_of(LongDouble::from(i64::MIN)), i64::MIN.to_string());
        assert_eq!(text_of(LongDouble::from(f64::NEG_INFINITY)), "-inf");
    }

    proptest! {
        /// The fast path and the big integers are two ways to one answer.
        #[test]
        fn small_and_big_roundings_agree(digits in 1..u64::MAX, exponent in -27_i64..=27) {
            let big = round_big(BigUint::from(u128::from(digits)), exponent);
            prop_assert_eq!(round_small(digits, exponent), big);
        }

        #[test]
        fn integers_up_to_64_bits_are_exact(left in any::<i32>(), right in any::<i64>()) {
            let sum = i128::from(left) + i128::from(right);
            let reply = incrbyfloat(&left.to_string(), &right.to_string());
            prop_assert_eq!(reply, Some(sum.to_string()));
        }

        #[test]
        fn no_bytes_panic(text in "[-+0-9.exXpPinfa]{0,20}") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                value.checked_add(value);
            }
        }
    }
}
