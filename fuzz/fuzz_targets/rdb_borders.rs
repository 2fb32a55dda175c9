//! RDB files: the scan for record borders takes any bytes, and what it hands out decodes or is refused.
#![no_main]

use corelane::persistence::rdb::Limits;
use corelane::persistence::rdb::border::{BorderReader, Found};
use corelane::persistence::rdb::read_file::{self, FileReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = BorderReader::new(false);
    for piece in bytes.chunks(11) {
        reader.feed(piece);
        loop {
            let version = reader.version();
            match reader.find() {
                Ok(Found::NeedsMore) => break,
                Ok(Found::End) | Err(_) => return,
                Ok(Found::Key(raw)) => {
                    let mut record = Vec::new();
                    raw.write(&mut record);
                    let mut reader = FileReader::of_records(record, version, Limits::default());
                    while let Ok(found) = reader.find(usize::MAX) {
                        if matches!(found, read_file::Found::NeedsMore) {
                            break;
                        }
                    }
                }
                Ok(_) => {}
            }
        }
    }
});
