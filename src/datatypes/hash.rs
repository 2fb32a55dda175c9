//! The hash type: fields and their values.
//!
//! Two encodings, with the conversion points of Redis 7.0: "listpack" while fields are few and all
//! texts short, else "hashtable". A hash never goes back to listpack by itself.
//!
//! In the table a field and its value are one allocation ([`Pair`]): one cache miss finds both, and
//! a value of the same length is written in place.

use std::fmt;

use super::hashing::hash_bytes;
use super::listpack::{self, Element, Listpack, Position};
use super::set::extrapolate;
use super::table::{self, Table};
use crate::memory::prefetch;

/// When a hash leaves the listpack encoding.
#[derive(Clone, Copy, Debug)]
pub struct HashLimits {
    /// Most fields in a listpack: `hash-max-listpack-entries`.
    pub listpack_entries_max: usize,
    /// Longest field or value in a listpack: `hash-max-listpack-value`.
    pub listpack_value_bytes_max: usize,
}

impl Default for HashLimits {
    fn default() -> Self {
        Self { listpack_entries_max: 512, listpack_value_bytes_max: 64 }
    }
}

/// A map of byte strings.
#[derive(Clone)]
pub struct Hash(Form);

#[derive(Clone)]
enum Form {
    Listpack(Listpack),
    Table(Table<Pair>),
}

/// A field and its value, as the hash shows them.
pub type Entry<'h> = (Element<'h>, Element<'h>);

impl Default for Hash {
    fn default() -> Self {
        Self(Form::Listpack(Listpack::new()))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({}, {} fields)", self.encoding(), self.len())
    }
}

impl Hash {
    /// A hash of these fields and values by turns, in the encoding that the limits ask for. `None`
    /// if a value is missing.
    pub fn from_listpack(pack: Listpack, limits: HashLimits) -> Option<Self> {
        if !pack.len().is_multiple_of(2) {
            return None;
        }
        let mut hash = Self(Form::Listpack(pack));
        hash.convert_if_over(limits);
        Some(hash)
    }

    /// The listpack behind this hash, if that is its encoding.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.0 {
            Form::Listpack(pack) => Some(pack),
            Form::Table(_) => None,
        }
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Listpack(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Number of fields.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Listpack(pack) => pack.len() / 2,
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        match &self.0 {
            Form::Listpack(pack) => {
                let value = pack.next(find_field(pack, field)?)?;
                Some(pack.get(value))
            }
            Form::Table(table) => {
                let pair = table.find(hash_bytes(field), |pair| pair.field() == field)?;
                Some(Element::Bytes(pair.value()))
            }
        }
    }

    /// Asks for the memory that a look-up of `field` will want.
    pub fn prefetch(&self, field: &[u8]) {
        if let Form::Table(table) = &self.0 {
            table.prefetch(hash_bytes(field), |pair| prefetch(pair.0.as_ptr()));
        }
    }

    /// Whether `field` exists.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Gives `field` this value; `true` if the field is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: HashLimits) -> bool {
        if let Form::Listpack(pack) = &mut self.0 {
            if field.len().max(value.len()) <= limits.listpack_value_bytes_max
                && pack.fits(field.len() + value.len())
            {
                let is_new = set_in_listpack(pack, field, value);
                self.convert_if_over(limits);
                return is_new;
            }
            self.convert();
        }
        self.set_in_table(field, value)
    }

    /// Takes `field` out; `false` if it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Form::Listpack(pack) => match find_field(pack, field) {
                Some(position) => {
                    pack.remove_range(position, 2);
                    true
                }
                None => false,
            },
            Form::Table(table) => {
                let is_pair = |pair: &Pair| pair.field() == field;
                table.remove(hash_bytes(field), is_pair, hash_pair).is_some()
            }
        }
    }

    /// A random field with its value, each with the same probability.
    pub fn random(&self, mut rng: impl FnMut() -> u64) -> Option<Entry<'_>> {
        match &self.0 {
            Form::Listpack(pack) => {
                let index = (u128::from(rng()) * (pack.len() / 2) as u128) >> 64;
                let field = pack.seek(index as i64 * 2)?;
                Some((pack.get(field), pack.get(pack.next(field)?)))
            }
            Form::Table(table) => table.random(rng).map(Pair::entry),
        }
    }

    /// All fields with their values: in the order of arrival in a listpack, in no particular order
    /// in a table.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Form::Listpack(pack) => Iter::Listpack(pack.iter()),
            Form::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// One step of HSCAN: visits about `count` fields and returns the cursor to go on from, with
    /// the guarantee of [`Table::scan`]. A listpack is visited whole.
    pub fn scan<'h>(&'h self, cursor: u64, count: usize, mut visit: impl FnMut(Entry<'h>)) -> u64 {
        match &self.0 {
            Form::Listpack(_) => {
                self.iter().for_each(visit);
                0
            }
            Form::Table(table) => table.scan(cursor, count, hash_pair, |pair| visit(pair.entry())),
        }
    }

    /// Drops about `max_elements` fields and returns whether the hash is empty now.
    pub fn free_slice(&mut self, max_elements: usize) -> bool {
        match &mut self.0 {
            // One allocation, whatever its length.
            Form::Listpack(pack) => {
                *pack = Listpack::new();
                true
            }
            Form::Table(table) => table.free_slice(max_elements),
        }
    }

    /// Estimated bytes of memory, from the sizes of `samples` fields (0: of all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        let own = size_of::<Self>();
        match &self.0 {
            Form::Listpack(pack) => own + pack.memory_bytes(),
            Form::Table(table) => {
                let sizes = table.iter().map(|pair| pair.0.len());
                own + table.allocation_bytes() + extrapolate(sizes, samples, table.len())
            }
        }
    }

    fn convert_if_over(&mut self, limits: HashLimits) {
        if self.as_listpack().is_some_and(|pack| pack.len() / 2 > limits.listpack_entries_max) {
            self.convert();
        }
    }

    fn convert(&mut self) {
        let Form::Listpack(pack) = std::mem::replace(&mut self.0, Form::Table(Table::default()))
        else {
            return;
        };
        let (mut field_buffer, mut value_buffer) = (itoa::Buffer::new(), itoa::Buffer::new());
        for (field, value) in Iter::Listpack(pack.iter()) {
            // Not `insert_unique`: a listpack from a file may name a field twice.
            self.set_in_table(field.as_bytes(&mut field_buffer), value.as_bytes(&mut value_buffer));
        }
    }

    /// Sets in the table; callers have left the listpack behind.
    #[inline]
    fn set_in_table(&mut self, field: &[u8], value: &[u8]) -> bool {
        let Form::Table(table) = &mut self.0 else { return false };
        let (pair, is_new) = table.find_or_insert_with(
            hash_bytes(field),
            |pair| pair.field() == field,
            || Pair::new(field, value),
            hash_pair,
        );
        if !is_new {
            pair.set_value(value);
        }
        is_new
    }
}

/// Where `field` is in a listpack of fields and values by turns.
#[inline]
fn find_field(pack: &Listpack, field: &[u8]) -> Option<Position> {
    pack.find(pack.first()?, field, 1)
}

#[inline]
fn set_in_listpack(pack: &mut Listpack, field: &[u8], value: &[u8]) -> bool {
    if let Some(position) = find_field(pack, field).and_then(|field| pack.next(field)) {
        pack.replace(position, value);
        return false;
    }
    pack.push_back(field);
    pack.push_back(value);
    true
}

/// The fields and values of a [`Hash`].
pub enum Iter<'h> {
    /// Of a listpack.
    Listpack(listpack::Iter<'h>),
    /// Of a hash table.
    Table(table::Iter<'h, Pair>),
}

impl<'h> Iterator for Iter<'h> {
    type Item = Entry<'h>;

    fn next(&mut self) -> Option<Entry<'h>> {
        match self {
            Self::Listpack(elements) => Some((elements.next()?, elements.next()?)),
            Self::Table(table) => table.next().map(Pair::entry),
        }
    }
}

/// A field and its value in one allocation: length of the field, field, value. The length is one
/// byte, or [`LENGTH_FOLLOWS`] and eight more.
#[derive(Clone)]
pub struct Pair(Box<[u8]>);

/// First byte of a pair whose field is too long for a length of one byte.
const LENGTH_FOLLOWS: u8 = u8::MAX;
/// Bytes of a length that does not fit one.
const LONG_LENGTH_BYTES: usize = 1 + size_of::<u64>();

fn hash_pair(pair: &Pair) -> u64 {
    hash_bytes(pair.field())
}

impl Pair {
    fn new(field: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(LONG_LENGTH_BYTES + field.len() + value.len());
        match u8::try_from(field.len()) {
            Ok(length) if length != LENGTH_FOLLOWS => bytes.push(length),
            _ => {
                bytes.push(LENGTH_FOLLOWS);
                bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            }
        }
        bytes.extend_from_slice(field);
        bytes.extend_from_slice(value);
        Self(bytes.into_boxed_slice())
    }

    /// The field and everything that follows.
    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        let (length, texts) = match self.0[0] {
            LENGTH_FOLLOWS => {
                let (length, texts) = self.0[1..].split_at(size_of::<u64>());
                (length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), texts)
            }
            length => (usize::from(length), &self.0[1..]),
        };
        texts.split_at(length)
    }

    #[inline]
    fn field(&self) -> &[u8] {
        self.split().0
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.split().1
    }

    fn entry(&self) -> Entry<'_> {
        let (field, value) = self.split();
        (Element::Bytes(field), Element::Bytes(value))
    }

    /// In place if the length stays, as counters and flags often do.
    fn set_value(&mut self, value: &[u8]) {
        let before = self.0.len() - self.value().len();
        if self.0.len() == before + value.len() {
            self.0[before..].copy_from_slice(value);
        } else {
            self.0 = [&self.0[..before], value].concat().into_boxed_slice();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: HashLimits = HashLimits { listpack_entries_max: 8, listpack_value_bytes_max: 10 };

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn content(hash: &Hash) -> Model {
        hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn encoding_changes_where_redis_changes_it() {
        let of_fields = |count: u32| {
            let mut hash = Hash::default();
            (0..count).for_each(|number| {
                hash.set(number.to_string().as_bytes(), b"v", LIMITS);
            });
            hash
        };
        for (mut hash, field, value, encoding) in [
            (of_fields(0), &b"f"[..], &b"v"[..], "listpack"),
            (of_fields(0), b"0123456789", b"0123456789", "listpack"),
            (of_fields(0), b"0123456789a", b"v", "hashtable"),
            (of_fields(0), b"f", b"0123456789a", "hashtable"),
            (of_fields(7), b"f", b"v", "listpack"),
            (of_fields(8), b"f", b"v", "hashtable"),
            (of_fields(8), b"3", b"w", "listpack"),
        ] {
            hash.set(field, value, LIMITS);
            assert_eq!(hash.encoding(), encoding, "{}", field.escape_ascii());
            assert_eq!(hash.get(field).map(|v| v.to_vec()).as_deref(), Some(value));
        }
        // The limit was lowered meanwhile: the next write converts, though it adds no field.
        let mut hash = of_fields(8);
        hash.set(b"1", b"w", HashLimits { listpack_entries_max: 3, ..LIMITS });
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 8));
    }

    #[test]
    fn a_foreign_listpack_needs_a_value_for_each_field() {
        let pack_of = |texts: &[&[u8]]| {
            let mut pack = Listpack::new();
            texts.iter().for_each(|text| pack.push_back(text));
            pack
        };
        assert!(Hash::from_listpack(pack_of(&[b"a", b"1", b"b"]), LIMITS).is_none());
        let hash = Hash::from_listpack(pack_of(&[b"a", b"1"]), LIMITS).expect("one pair");
        assert_eq!((hash.encoding(), hash.len()), ("listpack", 1));
        // A field that is there twice must not end up in the table twice.
        let twice = Hash::from_listpack(
            pack_of(&[b"a", b"1", b"a", b"2"]),
            HashLimits { listpack_entries_max: 1, ..LIMITS },
        );
        assert_eq!(twice.map(|hash| (hash.encoding(), hash.len())), Some(("hashtable", 1)));
    }

    #[test]
    fn pair_keeps_fields_and_values_of_any_length() {
        for field_length in [0, 1, 254, 255, 256, 70_000] {
            for value_lengths in [[0, 0], [1, 300], [300, 300], [300, 1]] {
                let field = vec![b'f'; field_length];
                let mut pair = Pair::new(&field, &vec![b'v'; value_lengths[0]]);
                assert_eq!(pair.value(), vec![b'v'; value_lengths[0]]);
                pair.set_value(&vec![b'w'; value_lengths[1]]);
                assert_eq!(pair.field(), field, "{field_length}");
                assert_eq!(pair.value(), vec![b'w'; value_lengths[1]], "{value_lengths:?}");
            }
        }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (-9..30i64).prop_map(|value| value.to_string().into_bytes()),
            4 => prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..3),
            1 => (8..14usize).prop_map(|length| vec![b'x'; length]),
        ]
    }

    proptest! {
        #[test]
        fn hash_is_a_map(
            steps in prop::collection::vec((0..3u8, text(), text()), 0..80),
            seed in any::<u64>(),
        ) {
            let (mut hash, mut model, mut seed) = (Hash::default(), Model::new(), seed);
            let mut rng = move || { seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1); seed };
            for (action, field, value) in steps {
                match action {
                    0 => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    _ => {
                        let is_new = model.insert(field.clone(), value.clone()).is_none();
                        prop_assert_eq!(hash.set(&field, &value, LIMITS), is_new);
                    }
                }
                prop_assert_eq!(hash.len(), model.len());
                prop_assert_eq!(hash.get(&field).map(|value| value.to_vec()), model.get(&field).cloned());
                prop_assert_eq!(hash.contains(&value), model.contains_key(&value));
                match hash.random(&mut rng) {
                    None => prop_assert!(model.is_empty()),
                    Some((field, value)) => {
                        prop_assert_eq!(model.get(&field.to_vec()), Some(&value.to_vec()));
                    }
                }
            }
            prop_assert_eq!(&content(&hash), &model);
            let (mut scanned, mut cursor) = (Model::new(), 0);
            loop {
                cursor = hash.scan(cursor, 3, |(field, value)| { scanned.insert(field.to_vec(), value.to_vec()); });
                if cursor == 0 { break }
            }
            prop_assert_eq!(scanned, model);
        }
    }

    #[test]
    fn memory_usage_counts_pairs_and_free_slice_empties_in_pieces() {
        let mut hash = Hash::default();
        for number in 0..5000 {
            hash.set(format!("{number:050}").as_bytes(), &[b'v'; 49], LIMITS);
        }
        let (all, some) = (hash.memory_usage(0), hash.memory_usage(5));
        assert!(all == some && all > 5000 * 117 && all < 5000 * 150, "{all} {some}");
        let mut slices = 1;
        while !hash.free_slice(1000) {
            slices += 1;
        }
        assert!((4..=6).contains(&slices), "{slices} slices");
        assert!(hash.is_empty());
    }
}
