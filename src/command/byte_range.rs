//! Ranges that count from either end, as GETRANGE, BITCOUNT and BITPOS take them.

use std::ops::RangeInclusive;

/// The part of `start..=end` within a string of `length` units, or `None` if it is empty.
///
/// A negative index counts from the end, and one that is still negative then is 0. So
/// `GETRANGE k 0 -100` gives the first byte: Redis 7.0 does the same.
pub(super) fn clamp(start: i64, end: i64, length: usize) -> Option<RangeInclusive<usize>> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_front = |index: i64| if index < 0 { (length + index).max(0) } else { index };
    let (start, end) = (from_front(start), from_front(end).min(length - 1));
    (start <= end).then_some(start as usize..=end as usize)
}

/// As [`clamp`], but two indexes from the end in the wrong order are empty from the outset.
pub(super) fn clamp_ordered(start: i64, end: i64, length: usize) -> Option<RangeInclusive<usize>> {
    let reversed = start < 0 && end < 0 && start > end;
    if reversed { None } else { clamp(start, end, length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_count_from_either_end_and_stop_at_the_ends() {
        for (start, end, length, expected) in [
            (0, -1, 5, Some(0..=4)),
            (1, 2, 5, Some(1..=2)),
            (-3, -2, 5, Some(2..=3)),
            (0, 100, 5, Some(0..=4)),
            (-100, 1, 5, Some(0..=1)),
            (0, -100, 5, Some(0..=0)),
            (5, 9, 5, None),
            (3, 2, 5, None),
            (0, 0, 0, None),
            (i64::MIN, i64::MAX, 5, Some(0..=4)),
            (i64::MAX, i64::MIN, 5, None),
            (-1, -2, 1, Some(0..=0)),
        ] {
            assert_eq!(clamp(start, end, length), expected, "{start} {end} of {length}");
        }
        assert_eq!(clamp_ordered(-1, -2, 1), None);
        assert_eq!(clamp_ordered(-2, -1, 2), Some(0..=1));
    }
}
