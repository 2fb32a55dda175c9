//! A snapshot as commands: the base of append-only files with `aof-use-rdb-preamble no`.
//!
//! Shards make records as for any snapshot; here they are read again and written as the commands that make the
//! keys. That costs the control core what it saves whoever reads the file by eye.

use super::resp_base::{write_database, write_function, write_key, write_timestamp};
use crate::keyspace::snapshot::Records;
use crate::persistence::rdb::read_file::{FileReader, Found};
use crate::persistence::rdb::{Error, Limits, VERSION};

/// Elements of a value that are read at once.
const ELEMENTS_AT_ONCE: usize = usize::MAX;

/// Records of all shards as one stream of commands.
pub struct RespStream {
    limits: Limits,
    /// The database that was selected last.
    database: Option<usize>,
}

impl RespStream {
    /// A stream for values whose shapes have these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, database: None }
    }

    /// What the file begins with: the time, if it is wanted, and libraries of functions.
    pub fn begin<'a>(
        &self,
        seconds: Option<i64>,
        libraries: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(seconds) = seconds {
            write_timestamp(seconds, &mut bytes);
        }
        libraries.for_each(|text| write_function(text, &mut bytes));
        bytes
    }

    /// The commands that make the keys of these records.
    pub fn put(&mut self, records: Records) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if self.database.replace(records.database) != Some(records.database) {
            write_database(records.database as u64, &mut bytes);
        }
        let mut reader = FileReader::of_records(records.bytes, VERSION, self.limits);
        loop {
            match reader.find(ELEMENTS_AT_ONCE)? {
                Found::Key(found) => {
                    write_key(&found.key, &found.value.as_ref(), found.expiry, &mut bytes);
                }
                Found::NeedsMore => return Ok(bytes),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::persistence::rdb::Compression;
    use crate::persistence::rdb::encode::write_text;

    #[test]
    fn records_become_commands_and_databases_are_selected_where_they_change() {
        let record = |database: usize, key: &str| {
            let mut bytes = vec![0];
            write_text(key.as_bytes(), Compression::NONE, &mut bytes);
            write_text(b"v", Compression::NONE, &mut bytes);
            Records { database, keys: 1, bytes }
        };
        let mut stream = RespStream::new(Limits::new(&Config::default()));
        let mut file = stream.begin(Some(5), [&b"lib"[..]].into_iter());
        for records in [record(0, "a"), record(0, "b"), record(3, "c")] {
            file.extend(stream.put(records).expect("good records"));
        }
        let text = String::from_utf8(file).unwrap();
        let words = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        assert_eq!(
            words.collect::<Vec<_>>().join(" ").trim(),
            "#TS:5 FUNCTION LOAD lib SELECT 0 SET a v SET b v SELECT 3 SET c v"
        );
    }
}
