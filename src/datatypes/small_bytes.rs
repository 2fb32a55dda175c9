//! A byte string of 24 bytes that holds short contents in place: the member of a hash-table set.
//!
//! Why: most members of most sets are short (numbers, identifiers). Kept in the bucket of the hash
//! table itself, such a member costs no allocation and the look-up touches one cache line less; a
//! longer one is a single allocation of exactly its length.

/// Longest content kept in place: what fits in the size of a boxed slice plus its discriminant.
const INLINE_BYTES_MAX: usize = 22;

const _: () = assert!(size_of::<SmallBytes>() == 24, "a bucket of a set is three words");

/// An immutable byte string, in place when it is short.
#[derive(Clone)]
pub struct SmallBytes(Form);

#[derive(Clone)]
enum Form {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Heap(Box<[u8]>),
}

impl SmallBytes {
    /// A copy of `content`.
    #[inline]
    pub fn new(content: &[u8]) -> Self {
        if content.len() > INLINE_BYTES_MAX {
            return Self(Form::Heap(content.into()));
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..content.len()].copy_from_slice(content);
        Self(Form::Inline { length: content.len() as u8, bytes })
    }

    /// The content.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Form::Heap(bytes) => bytes,
        }
    }

    /// Bytes allocated beside the 24 of the string itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Heap(bytes) => bytes.len(),
        }
    }
}

impl std::fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_whatever_its_length() {
        for length in 0..64u8 {
            let content: Vec<u8> = (0..length).collect();
            let string = SmallBytes::new(&content);
            assert_eq!(string.as_slice(), content, "length {length}");
            let on_heap = usize::from(length) > INLINE_BYTES_MAX;
            assert_eq!(string.heap_bytes() > 0, on_heap, "length {length}");
        }
    }
}
