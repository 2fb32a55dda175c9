//! A file is read to the same end however it is cut into pieces.

#![no_main]

use corelane::persistence::rdb::Limits;
use corelane::persistence::rdb::read_file::{FileReader, Found};
use libfuzzer_sys::fuzz_target;

/// How many keys are found, and what is said in the end.
fn read(bytes: &[u8], piece: usize, elements: usize) -> (usize, String) {
    let mut reader = FileReader::new(Limits::default(), false);
    let (mut pieces, mut keys) = (bytes.chunks(piece), 0);
    loop {
        match reader.find(elements) {
            Ok(Found::NeedsMore) => match pieces.next() {
                Some(piece) => reader.feed(piece),
                None => return (keys, "ended early".to_owned()),
            },
            Ok(Found::Key(_)) => keys += 1,
            Ok(Found::End) => return (keys, "whole".to_owned()),
            Ok(_) => {}
            Err(error) => return (keys, error.to_string()),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((sizes, rest)) = data.split_first_chunk::<2>() else { return };
    let (piece, elements) = (usize::from(sizes[0]) + 1, usize::from(sizes[1]) + 1);
    let file = [b"REDIS0011", rest].concat();
    assert_eq!(read(&file, file.len(), usize::MAX), read(&file, piece, elements));
});
