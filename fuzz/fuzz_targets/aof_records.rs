//! Append-only files: any bytes, cut anywhere, are records or a fault, and the same ones however they are cut.
#![no_main]

use corelane::persistence::aof::{Found, RecordReader};
use libfuzzer_sys::fuzz_target;

/// The records of `bytes` fed in pieces of this length, and whether a fault ends them.
fn records(bytes: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut reader, mut found) = (RecordReader::new(0), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.feed(piece);
        loop {
            match reader.find() {
                Ok(Found::NeedsMore) => break,
                Ok(Found::Annotation(_)) => {}
                Ok(Found::Record) => found.push(reader.words().map(<[u8]>::to_vec).collect()),
                Err(_) => return (found, true),
            }
        }
    }
    _ = reader.end();
    (found, false)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = records(bytes, bytes.len().max(1));
    assert_eq!(records(bytes, 1), whole);
    assert_eq!(records(bytes, 7), whole);
});
