//! Where a packet ends: its first eight bytes say.

use super::{HEADER_BYTES, Malformed, SIGNATURE};

/// Bytes that must be there before the length of a packet is known.
pub const FRAME_HEAD_BYTES: usize = 8;

/// Longest packet that is taken, in bytes. The longest that a peer has reason to send is a PUBLISH of
/// `proto-max-bulk-len` (512 MiB by default) with a channel of the same length.
pub const FRAME_BYTES_MAX: u32 = 1 << 30;

/// The length of the packet that begins with `bytes`, or `None` as long as too few are there.
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Malformed::Signature);
    }
    let Some((head, _)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
    let [_, _, _, _, length @ ..] = *head;
    let length = u32::from_be_bytes(length);
    if (length as usize) < HEADER_BYTES || length > FRAME_BYTES_MAX {
        return Err(Malformed::FrameLength(length));
    }
    Ok(Some(length as usize))
}
