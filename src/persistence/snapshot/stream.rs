//! Records of all shards as one RDB file.
//!
//! Promise: whatever the order in which the records come, the bytes are a file that Redis 7.0 loads: each
//! chunk of records stands under the number of its database, and the end carries the checksum of all.

use crate::keyspace::snapshot::Records;
use crate::persistence::rdb::Compression;
use crate::persistence::rdb::crc64::Crc64;
use crate::persistence::rdb::write_file::{
    Header, write_database, write_end, write_function, write_header, write_sizes,
};

/// Keys of a database, and those of them that expire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sizes {
    /// All keys.
    pub keys: u64,
    /// Those with an expiry.
    pub expiring: u64,
}

/// See the module.
pub struct SnapshotStream {
    sum: Option<Crc64>,
    /// The database that was named last.
    database: Option<usize>,
    /// By database, until it was written.
    sizes: Vec<Option<Sizes>>,
}

impl SnapshotStream {
    /// A stream of databases of these sizes; `checksum` is what `rdbchecksum` says.
    pub fn new(checksum: bool, sizes: &[Sizes]) -> Self {
        let sizes = sizes.iter().copied().map(Some).collect();
        Self { sum: checksum.then(Crc64::default), database: None, sizes }
    }

    /// What the file begins with: `header`, and the libraries of functions.
    pub fn begin<'a>(
        &mut self,
        header: &Header,
        libraries: impl Iterator<Item = &'a [u8]>,
        compression: Compression,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(header, &mut bytes);
        libraries.for_each(|text| write_function(text, compression, &mut bytes));
        self.add(&bytes);
        bytes
    }

    /// Takes records in; returns what has to stand before them.
    pub fn put(&mut self, records: &Records) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.database != Some(records.database) {
            self.database = Some(records.database);
            write_database(records.database as u64, &mut bytes);
            if let Some(sizes) = self.sizes.get_mut(records.database).and_then(Option::take) {
                write_sizes(sizes.keys, sizes.expiring, &mut bytes);
            }
        }
        self.add(&bytes);
        self.add(&records.bytes);
        bytes
    }

    /// What the file ends with.
    pub fn end(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_end(&mut bytes);
        self.add(&bytes);
        let sum = self.sum.map_or(0, Crc64::value);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::rdb::check_file;
    use crate::persistence::rdb::encode::write_text;

    fn records(database: usize, key: &str) -> Records {
        let mut bytes = vec![0];
        write_text(key.as_bytes(), Compression::NONE, &mut bytes);
        write_text(b"value", Compression::NONE, &mut bytes);
        Records { database, keys: 1, bytes }
    }

    #[test]
    fn chunks_of_several_databases_make_one_file() {
        for checksum in [true, false] {
            let sizes =
                [Sizes { keys: 2, expiring: 0 }, Sizes::default(), Sizes { keys: 1, expiring: 0 }];
            let mut stream = SnapshotStream::new(checksum, &sizes);
            let header = Header { created: 1, used_memory: 2, replication: None, aof_base: false };
            let libraries = [&b"#!lua name=a\n"[..]];
            let mut file = stream.begin(&header, libraries.into_iter(), Compression::ALL);
            let mut lengths = Vec::new();
            for records in [records(0, "a"), records(2, "b"), records(0, "c")] {
                let before = stream.put(&records);
                lengths.push(before.len());
                file.extend(before);
                file.extend(records.bytes);
            }
            file.extend(stream.end());
            assert_eq!(lengths, [5, 5, 2], "sizes are told once");
            let summary = check_file::check(&file[..]).expect("a good file");
            assert_eq!((summary.keys, summary.functions), (3, 1));
            assert_eq!(summary.databases, [(0, 2), (2, 1)].into());
            assert_eq!(file.ends_with(&[0; 8]), !checksum);
        }
    }
}
