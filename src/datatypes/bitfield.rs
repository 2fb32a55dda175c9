//! Integers of 1 to 64 bits at any bit of a string, for BITFIELD.
//!
//! Arithmetic is done in 128 bits, where nothing overflows, and then brought back into the field
//! by the chosen rule. Most significant bit first, as everywhere in bit commands.

/// The type of a field: `u1` to `u63`, `i1` to `i64` (`u64` would not fit a reply's integer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    signed: bool,
    bits: u32,
}

/// What happens to a value that does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The bits that fit are kept.
    Wrap,
    /// The nearest value that fits is taken.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl FieldType {
    /// The type with this sign and width, if there is such a type.
    pub fn new(signed: bool, bits: i64) -> Option<Self> {
        let bits_max = if signed { 64 } else { 63 };
        let bits = u32::try_from(bits).ok().filter(|bits| (1..=bits_max).contains(bits))?;
        Some(Self { signed, bits })
    }

    /// Width in bits, 1 to 64.
    pub fn bits(self) -> usize {
        self.bits as usize
    }

    /// The field at bit `offset`. Beyond the end of the string all bits are zero.
    pub fn get(self, bytes: &[u8], offset: usize) -> i64 {
        let window = window_at(bytes, offset / 8);
        let value = (window >> self.shift(offset)) as u64 & self.mask();
        if self.signed { self.sign_extended(value) } else { value as i64 }
    }

    /// Writes the lowest bits of `value` to the field at bit `offset`. The caller has made room.
    pub fn set(self, bytes: &mut [u8], offset: usize, value: i64) {
        let shift = self.shift(offset);
        let mask = u128::from(self.mask()) << shift;
        let window = window_at(bytes, offset / 8) & !mask;
        let window = window | (u128::from(value as u64 & self.mask()) << shift);
        let touched = &mut bytes[offset / 8..=(offset + self.bits() - 1) / 8];
        for (byte, new) in touched.iter_mut().zip(window.to_be_bytes()) {
            *byte = new;
        }
    }

    /// `value + increment` as this field can hold it; `None` if it cannot and `overflow` says so.
    pub fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(value) + i128::from(increment), overflow)
    }

    /// A client's `value` as this field can hold it. For an unsigned field a negative value is a
    /// large one, as in Redis: it saturates at the top.
    pub fn fit_argument(self, value: i64, overflow: Overflow) -> Option<i64> {
        // Redis 7.0 reckons the distance to the maximum in 64 bits, where it overflows for the
        // smallest values: these it takes for too large (`bitops.c`).
        if self.signed && self.bits < 64 && overflow == Overflow::Saturate {
            let max = (1_i64 << (self.bits - 1)) - 1;
            if max.checked_sub(value).is_none() {
                return Some(max);
            }
        }
        let value = if self.signed { i128::from(value) } else { i128::from(value as u64) };
        self.fit(value, overflow)
    }

    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.signed {
            (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        };
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Wrap => {
                let kept = value as u64 & self.mask();
                Some(if self.signed { self.sign_extended(kept) } else { kept as i64 })
            }
        }
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// How far the field's lowest bit is from the lowest bit of its window.
    fn shift(self, offset: usize) -> u32 {
        u128::BITS - (offset % 8) as u32 - self.bits
    }

    fn sign_extended(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        ((value << unused) as i64) >> unused
    }
}

/// The 16 bytes from `start` on, zeros behind the end: a field touches nine of them at most.
fn window_at(bytes: &[u8], start: usize) -> u128 {
    let mut window = [0_u8; 16];
    let there = bytes.get(start..).unwrap_or_default();
    let length = there.len().min(window.len());
    window[..length].copy_from_slice(&there[..length]);
    u128::from_be_bytes(window)
}

#[cfg(test)]
mod tests {
    use super::super::bits::get_bit;
    use super::*;
    use proptest::prelude::*;

    fn any_type() -> impl Strategy<Value = FieldType> {
        (any::<bool>(), 1_i64..=64)
            .prop_filter_map("u64 does not exist", |(signed, bits)| FieldType::new(signed, bits))
    }

    #[test]
    fn only_the_types_of_redis_exist() {
        for (signed, bits, exists) in [
            (true, 0, false),
            (true, 64, true),
            (true, 65, false),
            (false, 63, true),
            (false, 64, false),
        ] {
            assert_eq!(FieldType::new(signed, bits).is_some(), exists, "{signed} {bits}");
        }
        assert_eq!(FieldType::new(true, -1), None);
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        let u8 = FieldType::new(false, 8).unwrap();
        let i8 = FieldType::new(true, 8).unwrap();
        let i64 = FieldType::new(true, 64).unwrap();
        for (field, value, increment, wrapped, saturated) in [
            (u8, 250, 10, 4, 255),
            (u8, 5, -10, 251, 0),
            (i8, 120, 10, -126, 127),
            (i8, -120, -10, 126, -128),
            (i64, i64::MAX, 1, i64::MIN, i64::MAX),
            (i64, i64::MIN, -1, i64::MAX, i64::MIN),
        ] {
            assert_eq!(field.add(value, increment, Overflow::Wrap), Some(wrapped));
            assert_eq!(field.add(value, increment, Overflow::Saturate), Some(saturated));
            assert_eq!(field.add(value, increment, Overflow::Fail), None);
        }
        assert_eq!(u8.fit_argument(-5, Overflow::Saturate), Some(255));
        let i5 = FieldType::new(true, 5).unwrap();
        assert_eq!(i5.fit_argument(i64::MIN, Overflow::Saturate), Some(15), "as Redis has it");
        assert_eq!(i5.fit_argument(-1000, Overflow::Saturate), Some(-16));
        assert_eq!(u8.fit_argument(-1, Overflow::Wrap), Some(255));
        assert_eq!(i8.fit_argument(200, Overflow::Wrap), Some(-56));
    }

    proptest! {
        #[test]
        fn a_field_reads_back_and_its_neighbours_stay(
            field in any_type(), mut bytes in prop::collection::vec(any::<u8>(), 9..30),
            offset: usize, value: i64,
        ) {
            let offset = offset % (bytes.len() * 8 - field.bits() + 1);
            let before = bytes.clone();
            let value = field.fit_argument(value, Overflow::Wrap).unwrap();
            field.set(&mut bytes, offset, value);
            prop_assert_eq!(field.get(&bytes, offset), value);
            for other in (0..bytes.len() * 8).filter(|o| !(offset..offset + field.bits()).contains(o)) {
                prop_assert_eq!(get_bit(&bytes, other), get_bit(&before, other));
            }
        }

        #[test]
        fn bits_beyond_the_end_read_as_zero(
            field in any_type(), bytes in prop::collection::vec(any::<u8>(), 0..9), offset in 0..200_usize,
        ) {
            let mut longer = bytes.clone();
            longer.resize(64, 0);
            prop_assert_eq!(field.get(&bytes, offset), field.get(&longer, offset));
        }
    }
}
