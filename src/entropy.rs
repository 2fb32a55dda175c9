//! Random bytes from the kernel, for names and seeds that must not repeat.

use std::fs::File;
use std::io::{self, Read};

/// As many random bytes as asked for.
///
/// # Errors
/// Those of opening and reading `/dev/urandom`, which a container may lack.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_are_alike() {
        assert_ne!(random_bytes::<20>().unwrap(), random_bytes::<20>().unwrap());
    }
}
