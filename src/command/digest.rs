//! Digests of values and of the whole data set, as DEBUG DIGEST shows them: 20 bytes by which two
//! servers can be compared without comparing all keys.
//!
//! The scheme is Redis 7.0's (`debug.c`): what has an order is chained through SHA-1, what has none is
//! XORed. Keys have no order, so each shard can do its own and the results are XORed too.

use sha1_smol::Sha1;

use crate::datatypes::listpack::Element;
use crate::datatypes::number::format_f64_17g;
use crate::keyspace::{Database, Entry, TypeName, ValueRef};

/// A digest under way. All zero means "nothing".
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Digest([u8; 20]);

impl Digest {
    /// Adds something that has no place in an order: adding it twice takes it away again.
    pub(super) fn toggle(&mut self, bytes: &[u8]) {
        self.merge(&Digest(Sha1::from(bytes).digest().bytes()));
    }

    /// Adds something that comes after all that was added before.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.toggle(bytes);
        self.0 = Sha1::from(self.0).digest().bytes();
    }

    /// Puts the parts of two shards together.
    pub(super) fn merge(&mut self, other: &Digest) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine ^= theirs);
    }

    /// Begins database number `db`, which holds keys.
    pub(super) fn append_database(&mut self, db: usize) {
        self.append(&(db as u32).to_be_bytes());
    }

    /// Forty hexadecimal digits.
    pub(super) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest of a value and its expiry.
    pub(super) fn of_value(entry: &Entry) -> Digest {
        let mut digest = Digest::default();
        digest.append_value(entry);
        digest
    }

    /// The digest of all keys of `db` with their values.
    pub(super) fn of_database(db: &Database) -> Digest {
        let mut all = Digest::default();
        for entry in db.iter() {
            let mut one = Digest::default();
            one.append(entry.key());
            one.append_value(entry);
            all.toggle(&one.0);
        }
        all
    }

    fn append_value(&mut self, entry: &Entry) {
        self.append(&type_number(entry.value().type_name()).to_be_bytes());
        let buffer = &mut itoa::Buffer::new();
        match entry.value() {
            ValueRef::Str(text) => self.append(text.as_bytes(buffer)),
            ValueRef::List(list) => {
                list.iter().for_each(|element| self.append(element.as_bytes(buffer)));
            }
            ValueRef::Set(set) => {
                set.iter().for_each(|member| self.toggle(member.as_bytes(buffer)));
            }
            ValueRef::Hash(hash) => hash.iter().for_each(|(field, value)| {
                self.toggle_pair(field, value.as_bytes(buffer));
            }),
            ValueRef::ZSet(zset) => zset.iter_all().for_each(|(member, score)| {
                let mut text = Vec::new();
                format_f64_17g(score, &mut text);
                self.toggle_pair(member, &text);
            }),
        }
        if entry.expiry().is_some() {
            self.toggle(b"!!expire!!");
        }
    }

    fn toggle_pair(&mut self, first: Element<'_>, second: &[u8]) {
        let mut pair = Digest::default();
        pair.append(first.as_bytes(&mut itoa::Buffer::new()));
        pair.append(second);
        self.toggle(&pair.0);
    }
}

/// Redis 7.0's numbers of types (`server.h`, OBJ_STRING…), which the digests contain.
fn type_number(name: TypeName) -> u32 {
    match name {
        TypeName::String => 0,
        TypeName::List => 1,
        TypeName::Set => 2,
        TypeName::ZSet => 3,
        TypeName::Hash => 4,
    }
}
