//! What is compressed comes back; any bytes decompress to the length asked for, or not at all.

#![no_main]

use corelane::persistence::rdb::lzf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut compressed = Vec::new();
    if lzf::compress(data, data.len(), &mut compressed) {
        assert_eq!(lzf::decompress(&compressed, data.len()).as_deref(), Some(data));
    }
    let Some((length, bytes)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    if let Some(text) = lzf::decompress(bytes, length) {
        assert_eq!(text.len(), length);
    }
});
