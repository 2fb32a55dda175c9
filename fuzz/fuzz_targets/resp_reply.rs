//! Any bytes are a reply, the beginning of one, or an error; never a panic or a read too far.

#![no_main]

use corelane::resp::parse_reply::parse_reply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((_, length))) = parse_reply(data) {
        assert!(0 < length && length <= data.len(), "took {length} of {} bytes", data.len());
        // A reply is known by its own bytes: none of its beginnings is one.
        assert_eq!(parse_reply(&data[..length - 1]), Ok(None));
    }
});
