//! Any bytes are a packet of the cluster bus or none; what is one is written to a packet that means the same.

#![no_main]

use corelane::cluster::bus::{decode, frame_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(length)) = frame_length(data)
        && let Some(frame) = data.get(..length)
        && let Ok(packet) = decode(frame)
    {
        assert_eq!(decode(&packet.encode()), Ok(packet));
    }
    // Nearly no random bytes have the right length, so it is put in.
    let mut frame = [b"RCmb\0\0\0\0".as_slice(), data].concat();
    let length = frame.len() as u32;
    frame[4..8].copy_from_slice(&length.to_be_bytes());
    if let Ok(packet) = decode(&frame) {
        assert_eq!(decode(&packet.encode()), Ok(packet));
    }
});
