//! CRC-64 as RDB files and DUMP payloads end with: the polynomial of Jones, reflected, from zero.
//!
//! Why eight tables: a snapshot passes every byte through here, and eight bytes a step take an eighth of
//! the dependent look-ups of one byte a step.

/// The polynomial ad93d23594c935a9, its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Bytes that one step takes.
const STEP_BYTES: usize = 8;

/// `TABLES[n][byte]`: the checksum of `byte` followed by `n` zero bytes.
static TABLES: [[u64; 256]; STEP_BYTES] = tables();

const fn tables() -> [[u64; 256]; STEP_BYTES] {
    let mut tables = [[0; 256]; STEP_BYTES];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < STEP_BYTES {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// A checksum under way; what has come so far is [`Crc64::value`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Crc64(u64);

impl Crc64 {
    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let (steps, rest) = bytes.as_chunks::<STEP_BYTES>();
        for step in steps {
            let mixed = self.0 ^ u64::from_le_bytes(*step);
            self.0 =
                mixed.to_le_bytes().iter().enumerate().fold(0, |sum, (at, byte)| {
                    sum ^ TABLES[STEP_BYTES - 1 - at][usize::from(*byte)]
                });
        }
        for byte in rest {
            self.0 = self.0 >> 8 ^ TABLES[0][usize::from(self.0 as u8 ^ byte)];
        }
    }

    /// The checksum of all that came in.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// The checksum of `bytes`.
pub fn crc64(bytes: &[u8]) -> u64 {
    let mut sum = Crc64::default();
    sum.update(bytes);
    sum.value()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The check value that catalogues of checksums name.
    #[test]
    fn the_checksum_is_that_of_jones() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
    }

    proptest! {
        #[test]
        fn pieces_sum_up_as_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 0..100usize) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut sum = Crc64::default();
            sum.update(head);
            sum.update(tail);
            let slow = bytes.iter().fold(0, |sum, byte| {
                (0..8).fold(sum ^ u64::from(*byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL * (sum & 1)))
            });
            prop_assert_eq!(sum.value(), slow);
        }
    }
}
