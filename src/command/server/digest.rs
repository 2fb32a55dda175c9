//! DEBUG DIGEST: one number for everything that a keyspace holds.
//!
//! It is the number that Redis 7.0 computes (`debug.c`), so that a replica of either kind can be
//! compared with its master. Keys are combined by XOR, hence in any order: shards compute their share
//! each, and the shares are XORed.

use sha1_smol::Sha1;

use crate::datatypes::listpack::Element;
use crate::datatypes::number::format_f64_17g;
use crate::datatypes::stream::StreamId;
use crate::keyspace::{Database, Entry, Keyspace, ValueRef};

/// A SHA-1 sum, or several combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut sum = Sha1::new();
    sum.update(bytes);
    sum.digest().bytes()
}

impl Digest {
    /// Combines with `bytes` whatever the order of such calls.
    fn xor(&mut self, bytes: &[u8]) {
        self.combine(&Self(sha1(bytes)));
    }

    /// Combines with another digest, whatever the order.
    pub fn combine(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine ^= theirs);
    }

    /// Combines with `bytes` so that the order of such calls matters.
    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = sha1(&self.0);
    }

    fn mix_element(&mut self, element: Element<'_>) {
        self.mix(element.as_bytes(&mut itoa::Buffer::new()));
    }

    /// Forty hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Combines with what the entry holds: type, value and whether it expires.
    fn mix_value(&mut self, entry: &Entry) {
        let value = entry.value();
        self.mix(&type_number(&value).to_be_bytes());
        match value {
            ValueRef::Str(text) => self.mix(text.as_bytes(&mut itoa::Buffer::new())),
            ValueRef::List(list) => list.iter().for_each(|element| self.mix_element(element)),
            ValueRef::Set(set) => {
                set.iter().for_each(|member| self.xor(member.as_bytes(&mut itoa::Buffer::new())));
            }
            ValueRef::Hash(hash) => hash.iter().for_each(|(field, value)| {
                let mut pair = Self::default();
                pair.mix_element(field);
                pair.mix_element(value);
                self.xor(&pair.0);
            }),
            ValueRef::ZSet(zset) => zset.iter_all().for_each(|(member, score)| {
                let mut pair = Self::default();
                let mut text = Vec::new();
                format_f64_17g(score, &mut text);
                pair.mix_element(member);
                pair.mix(&text);
                self.xor(&pair.0);
            }),
            ValueRef::Stream(stream) => {
                for entry in stream.range(StreamId::MIN, StreamId::MAX) {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.fields {
                        self.mix_element(field);
                        self.mix_element(value);
                    }
                }
            }
        }
        if entry.expiry().is_some() {
            self.xor(b"!!expire!!");
        }
    }
}

/// Redis 7.0 `server.h`, OBJ_STRING and its kin.
fn type_number(value: &ValueRef<'_>) -> u32 {
    match value {
        ValueRef::Str(_) => 0,
        ValueRef::List(_) => 1,
        ValueRef::Set(_) => 2,
        ValueRef::ZSet(_) => 3,
        ValueRef::Hash(_) => 4,
        ValueRef::Stream(_) => 6,
    }
}

/// The digest of a value; zero for a key that does not exist.
pub fn of_value(entry: Option<&Entry>) -> Digest {
    let mut digest = Digest::default();
    entry.inspect(|entry| digest.mix_value(entry));
    digest
}

fn of_database(database: &Database) -> Option<Digest> {
    if database.is_empty() {
        return None;
    }
    let mut all = Digest::default();
    for entry in database.iter() {
        let mut digest = Digest::default();
        digest.mix(entry.key());
        digest.mix_value(entry);
        all.xor(&digest.0);
    }
    Some(all)
}

/// One shard's share of the digest: for each database that has keys there, its keys.
pub fn share(keyspace: &Keyspace) -> Vec<Option<Digest>> {
    keyspace.databases().iter().map(of_database).collect()
}

/// The digest of everything, from the shares of all shards.
pub fn whole(shares: impl Iterator<Item = Vec<Option<Digest>>>) -> Digest {
    let mut databases: Vec<Option<Digest>> = Vec::new();
    for share in shares {
        databases.resize(databases.len().max(share.len()), None);
        for (whole, part) in databases.iter_mut().zip(share) {
            if let Some(part) = part {
                whole.get_or_insert_default().combine(&part);
            }
        }
    }
    let mut all = Digest::default();
    for (number, database) in (0_u32..).zip(databases) {
        if let Some(database) = database {
            all.mix(&number.to_be_bytes());
            all.combine(&database);
        }
    }
    all
}
