//! The set type: members without order, each once.
//!
//! Two encodings, with the conversion points of Redis 7.0: "intset" while all members are integers
//! and there are few of them, else "hashtable". A set never goes back to intset by itself.
//!
//! The table keeps short members in its buckets ([`SmallBytes`]), so that a look-up hashes once and
//! mostly touches two cache lines; it grows and is freed in pieces ([`Table`]).

use std::fmt;

use super::hashing::hash_bytes;
use super::intset::{self, Intset};
use super::listpack::Element;
use super::number::parse_i64;
use super::small_bytes::SmallBytes;
use super::table::{self, Table};

/// Largest intset, whatever the configuration says (Redis 7.0 `t_set.c`, setTypeAdd).
const INTSET_ENTRIES_MAX: usize = 1 << 30;

/// When a set leaves the intset encoding.
#[derive(Clone, Copy, Debug)]
pub struct SetLimits {
    /// Most members of an intset: `set-max-intset-entries`.
    pub intset_entries_max: usize,
}

impl Default for SetLimits {
    fn default() -> Self {
        Self { intset_entries_max: 512 }
    }
}

/// A set of byte strings.
#[derive(Clone)]
pub struct Set(Form);

#[derive(Clone)]
enum Form {
    Ints(Intset),
    Table(Table<SmallBytes>),
}

/// A member that has left its set.
#[derive(Clone, Debug)]
pub enum Member {
    /// Out of an intset.
    Int(i64),
    /// Out of a hash table.
    Bytes(SmallBytes),
}

impl Member {
    /// The member as the set showed it.
    pub fn as_element(&self) -> Element<'_> {
        match self {
            Self::Int(value) => Element::Int(*value),
            Self::Bytes(bytes) => Element::Bytes(bytes.as_slice()),
        }
    }
}

impl Default for Set {
    fn default() -> Self {
        Self(Form::Ints(Intset::default()))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({}, {} members)", self.encoding(), self.len())
    }
}

fn hash_member(member: &SmallBytes) -> u64 {
    hash_bytes(member.as_slice())
}

impl Set {
    /// A set of these integers, in the encoding that the limits ask for.
    pub fn from_intset(ints: Intset, limits: SetLimits) -> Self {
        let mut set = Self(Form::Ints(ints));
        set.convert_if_over(limits);
        set
    }

    /// The intset behind this set, if that is its encoding.
    pub fn as_intset(&self) -> Option<&Intset> {
        match &self.0 {
            Form::Ints(ints) => Some(ints),
            Form::Table(_) => None,
        }
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Ints(_) => "intset",
            Form::Table(_) => "hashtable",
        }
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Ints(ints) => ints.len(),
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `member`; `false` if it was there.
    #[inline]
    pub fn insert(&mut self, member: &[u8], limits: SetLimits) -> bool {
        if let Form::Ints(_) = &self.0 {
            match parse_i64(member) {
                Some(value) => return self.insert_int(value, limits),
                None => self.convert(),
            }
        }
        self.insert_bytes(member)
    }

    /// Adds a member that came out of a set or a listpack; `false` if it was there.
    pub fn insert_element(&mut self, member: Element<'_>, limits: SetLimits) -> bool {
        match member {
            Element::Int(value) => self.insert_int(value, limits),
            Element::Bytes(bytes) => self.insert(bytes, limits),
        }
    }

    /// Whether `member` is in the set.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Form::Ints(ints) => parse_i64(member).is_some_and(|value| ints.contains(value)),
            Form::Table(table) => {
                table.find(hash_bytes(member), |known| known.as_slice() == member).is_some()
            }
        }
    }

    /// Asks for the memory that a look-up of `member` will want.
    pub fn prefetch(&self, member: &[u8]) {
        if let Form::Table(table) = &self.0 {
            table.prefetch(hash_bytes(member), |_| {});
        }
    }

    /// Whether a member of another set is in this one.
    pub fn contains_element(&self, member: Element<'_>) -> bool {
        match (&self.0, member) {
            (Form::Ints(ints), Element::Int(value)) => ints.contains(value),
            (_, member) => self.contains(member.as_bytes(&mut itoa::Buffer::new())),
        }
    }

    /// Takes `member` out; `false` if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Ints(ints) => parse_i64(member).is_some_and(|value| ints.remove(value)),
            Form::Table(table) => {
                let is_member = |known: &SmallBytes| known.as_slice() == member;
                table.remove(hash_bytes(member), is_member, hash_member).is_some()
            }
        }
    }

    /// Takes out a member of another set; `false` if it was not there.
    pub fn remove_element(&mut self, member: Element<'_>) -> bool {
        match (&mut self.0, member) {
            (Form::Ints(ints), Element::Int(value)) => ints.remove(value),
            (_, member) => self.remove(member.as_bytes(&mut itoa::Buffer::new())),
        }
    }

    /// A random member, each with the same probability.
    pub fn random(&self, rng: impl FnMut() -> u64) -> Option<Element<'_>> {
        match &self.0 {
            Form::Ints(ints) => ints.random(rng).map(Element::Int),
            Form::Table(table) => table.random(rng).map(|m| Element::Bytes(m.as_slice())),
        }
    }

    /// Takes out a random member, each with the same probability.
    pub fn pop_random(&mut self, rng: impl FnMut() -> u64) -> Option<Member> {
        match &mut self.0 {
            Form::Ints(ints) => {
                let value = ints.random(rng)?;
                ints.remove(value);
                Some(Member::Int(value))
            }
            Form::Table(table) => table.pop_random(rng, hash_member).map(Member::Bytes),
        }
    }

    /// All members: ascending in an intset, in no particular order in a table.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Form::Ints(ints) => Iter::Ints(ints.iter()),
            Form::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// One step of SSCAN: visits about `count` members and returns the cursor to go on from, with
    /// the guarantee of [`Table::scan`]. An intset is visited whole.
    pub fn scan<'s>(
        &'s self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(Element<'s>),
    ) -> u64 {
        match &self.0 {
            Form::Ints(ints) => {
                ints.iter().for_each(|value| visit(Element::Int(value)));
                0
            }
            Form::Table(table) => table.scan(cursor, count, hash_member, |member| {
                visit(Element::Bytes(member.as_slice()));
            }),
        }
    }

    /// Drops about `max_elements` members and returns whether the set is empty now.
    pub fn free_slice(&mut self, max_elements: usize) -> bool {
        match &mut self.0 {
            // One allocation, whatever its length.
            Form::Ints(ints) => {
                *ints = Intset::default();
                true
            }
            Form::Table(table) => table.free_slice(max_elements),
        }
    }

    /// Estimated bytes of memory, from the sizes of `samples` members (0: of all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        let own = size_of::<Self>();
        match &self.0 {
            Form::Ints(ints) => own + ints.memory_bytes(),
            Form::Table(table) => {
                let sizes = table.iter().map(SmallBytes::heap_bytes);
                own + table.allocation_bytes() + extrapolate(sizes, samples, table.len())
            }
        }
    }

    fn insert_int(&mut self, value: i64, limits: SetLimits) -> bool {
        let Form::Ints(ints) = &mut self.0 else {
            return self.insert_bytes(itoa::Buffer::new().format(value).as_bytes());
        };
        let is_new = ints.insert(value);
        if is_new {
            self.convert_if_over(limits);
        }
        is_new
    }

    fn convert_if_over(&mut self, limits: SetLimits) {
        let entries_max = limits.intset_entries_max.min(INTSET_ENTRIES_MAX);
        if matches!(&self.0, Form::Ints(ints) if ints.len() > entries_max) {
            self.convert();
        }
    }

    fn convert(&mut self) {
        let Form::Ints(ints) = &self.0 else { return };
        let mut table = Table::default();
        let mut buffer = itoa::Buffer::new();
        for value in ints.iter() {
            let text = buffer.format(value).as_bytes();
            table.insert_unique(hash_bytes(text), SmallBytes::new(text), hash_member);
        }
        self.0 = Form::Table(table);
    }

    /// Adds to the table; callers have left the intset behind.
    #[inline]
    fn insert_bytes(&mut self, member: &[u8]) -> bool {
        let Form::Table(table) = &mut self.0 else { return false };
        let (_, is_new) = table.find_or_insert_with(
            hash_bytes(member),
            |known| known.as_slice() == member,
            || SmallBytes::new(member),
            hash_member,
        );
        is_new
    }
}

/// The sum that `len` sizes would have, from the first `samples` of them (0: from all).
pub(super) fn extrapolate(sizes: impl Iterator<Item = usize>, samples: usize, len: usize) -> usize {
    let samples = if samples == 0 { len } else { samples.min(len) };
    let sum: usize = sizes.take(samples).sum();
    (sum as u128 * len as u128 / samples.max(1) as u128) as usize
}

/// The members of a [`Set`].
pub enum Iter<'s> {
    /// Of an intset.
    Ints(intset::Iter<'s>),
    /// Of a hash table.
    Table(table::Iter<'s, SmallBytes>),
}

impl<'s> Iterator for Iter<'s> {
    type Item = Element<'s>;

    fn next(&mut self) -> Option<Element<'s>> {
        match self {
            Self::Ints(ints) => ints.next().map(Element::Int),
            Self::Table(table) => table.next().map(|member| Element::Bytes(member.as_slice())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: SetLimits = SetLimits { intset_entries_max: 16 };

    fn content(set: &Set) -> BTreeSet<Vec<u8>> {
        set.iter().map(|member| member.to_vec()).collect()
    }

    #[test]
    fn encoding_changes_where_redis_changes_it() {
        let ints = |count: i64| -> Set {
            let mut set = Set::default();
            (0..count).for_each(|value| {
                set.insert_element(Element::Int(value), LIMITS);
            });
            set
        };
        for (mut set, added, encoding) in [
            (Set::default(), &b"1"[..], "intset"),
            (Set::default(), b"a", "hashtable"),
            (Set::default(), b"01", "hashtable"),
            (Set::default(), b"9223372036854775808", "hashtable"),
            (ints(15), b"99", "intset"),
            (ints(16), b"99", "hashtable"),
            (ints(16), b"3", "intset"), // nothing added, nothing converted
            (ints(3), b"x", "hashtable"),
        ] {
            set.insert(added, LIMITS);
            assert_eq!(set.encoding(), encoding, "{}", added.escape_ascii());
        }
        let mut set = ints(17);
        (0..16).for_each(|value| assert!(set.remove(value.to_string().as_bytes())));
        assert_eq!((set.encoding(), set.len()), ("hashtable", 1));
        let loaded = ints(10).as_intset().cloned().expect("ten integers are an intset");
        let few = SetLimits { intset_entries_max: 9 };
        assert_eq!(Set::from_intset(loaded.clone(), LIMITS).encoding(), "intset");
        assert_eq!(Set::from_intset(loaded, few).encoding(), "hashtable");
    }

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (-20..40i64).prop_map(|value| value.to_string().into_bytes()),
            prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..4),
            (20..26usize).prop_map(|length| vec![b'x'; length]),
        ]
    }

    proptest! {
        #[test]
        fn set_is_a_set(
            ints in prop::collection::vec(-20..40i64, 0..20),
            steps in prop::collection::vec((0..4u8, member()), 0..80),
            seed in any::<u64>(),
        ) {
            let (mut set, mut model, mut seed) = (Set::default(), BTreeSet::new(), seed);
            let mut rng = move || { seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1); seed };
            for value in ints {
                let text = value.to_string().into_bytes();
                prop_assert_eq!(set.insert_element(Element::Int(value), LIMITS), model.insert(text));
            }
            for (action, member) in steps {
                match action {
                    0 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                    1 => {
                        let popped = set.pop_random(&mut rng).map(|member| member.as_element().to_vec());
                        prop_assert_eq!(popped.is_some(), !model.is_empty());
                        if let Some(popped) = popped { prop_assert!(model.remove(&popped)); }
                    }
                    _ => prop_assert_eq!(set.insert(&member, LIMITS), model.insert(member.clone())),
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(&member), model.contains(&member));
                prop_assert_eq!(set.contains_element(Element::Bytes(&member)), model.contains(&member));
                if let Some(drawn) = set.random(&mut rng) { prop_assert!(model.contains(&drawn.to_vec())); }
            }
            prop_assert_eq!(&content(&set), &model);
            let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
            loop {
                cursor = set.scan(cursor, 3, |member| { scanned.insert(member.to_vec()); });
                if cursor == 0 { break }
            }
            prop_assert_eq!(scanned, model);
            let mut other = set.clone();
            for member in set.iter() { prop_assert!(other.remove_element(member)); }
            prop_assert!(other.is_empty());
        }
    }

    #[test]
    fn memory_usage_counts_long_members_and_free_slice_empties_in_pieces() {
        let mut set = Set::default();
        for number in 0..5000 {
            set.insert(format!("{number:0100}").as_bytes(), LIMITS);
        }
        let (all, some) = (set.memory_usage(0), set.memory_usage(5));
        assert!(all == some && all > 5000 * 124 && all < 5000 * 180, "{all} {some}");
        let mut slices = 1;
        while !set.free_slice(1000) {
            slices += 1;
        }
        assert!((4..=6).contains(&slices), "{slices} slices");
        assert!(set.is_empty());
    }
}
