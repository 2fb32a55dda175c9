//! Values on their way in, from any version of the format.
//!
//! A decoder takes one element after the other from whatever bytes have come, and builds the value as it goes:
//! it can be fed by a network, stop after so many elements, and holds nothing twice. Encodings are
//! chosen as Redis 7.0 chooses them on load: by the present limits, not by those of the writer.
//!
//! Promise: nothing is allocated because a length says so; every element has been seen first. A collection that
//! comes out has at least one element, and no member, field or rank twice.

use super::encode::{PACKED_NODE, PLAIN_NODE};
use super::input::{Error, Input, Text};
use super::pairs::{self, DUPLICATE};
use super::stream::{self, StreamDecoder};
use super::type_code::TypeCode;
use super::{ziplist, zipmap};
use crate::config::Config;
use crate::datatypes::hash::{Hash, HashLimits};
use crate::datatypes::intset::Intset;
use crate::datatypes::list::{End, List, NodeLimits};
use crate::datatypes::listpack::{Element, Listpack};
use crate::datatypes::number::{parse_i64, strtod};
use crate::datatypes::set::{Set, SetLimits};
use crate::datatypes::zset::{Added, ZSet, ZSetLimits};
use crate::keyspace::Value;

const CORRUPT_LISTPACK: Error = Error::Corrupt("a malformed listpack");
const CORRUPT_INTSET: Error = Error::Corrupt("a malformed intset");
const NAN_SCORE: Error = Error::Corrupt("a score that is not a number");
/// Longest text that can be the canonical form of an integer.
const INTEGER_BYTES_MAX: usize = 20;

/// By what the encodings of values are chosen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Limits {
    /// Of hashes.
    pub hash: HashLimits,
    /// Of sets.
    pub set: SetLimits,
    /// Of sorted sets.
    pub zset: ZSetLimits,
    /// Of lists.
    pub list: NodeLimits,
}

impl Limits {
    /// The limits that the settings name.
    pub fn new(config: &Config) -> Self {
        Self {
            hash: HashLimits {
                listpack_entries_max: config.hash_max_listpack_entries,
                listpack_value_bytes_max: config.hash_max_listpack_value,
            },
            set: SetLimits { intset_entries_max: config.set_max_intset_entries },
            zset: ZSetLimits {
                entries_max: config.zset_max_listpack_entries,
                value_bytes_max: config.zset_max_listpack_value,
            },
            list: NodeLimits::new(i64::from(config.list_max_listpack_size)),
        }
    }
}

/// A value under way.
pub struct ValueDecoder {
    limits: Limits,
    stage: Stage,
}

enum Stage {
    /// Nothing but the type is known.
    Start(TypeCode),
    /// Texts, or nodes, of a list.
    List { list: List, left: u64, nodes: Nodes },
    /// Members of a set.
    Set { set: Set, left: u64 },
    /// Fields and values of a hash.
    Hash { hash: Hash, left: u64 },
    /// Members and scores of a sorted set.
    ZSet(ZSetUnderWay),
    /// Pieces of a stream.
    Stream(Box<StreamDecoder>),
}

/// What a list is written as.
#[derive(Clone, Copy)]
enum Nodes {
    Texts,
    Ziplists,
    Quicklist2,
}

/// A sorted set whose encoding depends on its longest member: a few members are kept aside until all have come.
struct ZSetUnderWay {
    zset: ZSet,
    aside: Vec<(Vec<u8>, f64)>,
    few: bool,
    left: u64,
    scores: Scores,
}

/// How scores are written.
#[derive(Clone, Copy)]
enum Scores {
    Texts,
    Doubles,
}

impl ValueDecoder {
    /// Begins a value of this type.
    pub fn new(code: TypeCode, limits: Limits) -> Self {
        Self { limits, stage: Stage::Start(code) }
    }

    /// Takes up to `elements_max` elements, at least one, from `input`. `None`: there is more to come. After
    /// [`Error::Truncated`] the decoder goes on with an input that begins where this one was left and holds
    /// more; any other error is the end.
    pub fn slice(
        &mut self,
        input: &mut Input<'_>,
        elements_max: usize,
    ) -> Result<Option<Value>, Error> {
        for _ in 0..elements_max.max(1) {
            let mark = input.mark();
            match self.step(input) {
                Ok(None) => {}
                Err(Error::Truncated) => {
                    input.rewind(mark);
                    return Err(Error::Truncated);
                }
                done => return done,
            }
        }
        Ok(None)
    }

    /// Takes one element. Reads all of it before anything is changed, so that it can be taken again.
    fn step(&mut self, input: &mut Input<'_>) -> Result<Option<Value>, Error> {
        let limits = &self.limits;
        let left = match &mut self.stage {
            Stage::Start(code) => {
                let code = *code;
                return self.start(code, input);
            }
            Stage::List { list, left, nodes } => {
                match nodes {
                    Nodes::Texts => {
                        let text = input.text()?;
                        list.push(End::Tail, text.as_bytes(&mut itoa::Buffer::new()));
                    }
                    Nodes::Ziplists => append_ziplist(list, input)?,
                    Nodes::Quicklist2 => append_node(list, input)?,
                }
                left
            }
            Stage::Set { set, left } => {
                let member = input.text()?;
                if !set.insert(member.as_bytes(&mut itoa::Buffer::new()), limits.set) {
                    return Err(DUPLICATE);
                }
                left
            }
            Stage::Hash { hash, left } => {
                let (field, value) = (input.text()?, input.text()?);
                let mut buffers = (itoa::Buffer::new(), itoa::Buffer::new());
                let field = field.as_bytes(&mut buffers.0);
                if !hash.set(field, value.as_bytes(&mut buffers.1), limits.hash) {
                    return Err(DUPLICATE);
                }
                left
            }
            Stage::ZSet(zset) => {
                zset.take(input, limits.zset)?;
                &mut zset.left
            }
            Stage::Stream(decoder) => {
                return Ok(decoder.step(input)?.map(|stream| Value::Stream(Box::new(stream))));
            }
        };
        *left -= 1;
        if *left == 0 { self.finish().map(Some) } else { Ok(None) }
    }

    /// Takes what is in one piece whole, and of anything else the number of elements.
    fn start(&mut self, code: TypeCode, input: &mut Input<'_>) -> Result<Option<Value>, Error> {
        let limits = &self.limits;
        Ok(Some(match code {
            TypeCode::String => string(input.text()?),
            TypeCode::HashListpack => pairs::hash_of(listpack(input)?, limits)?,
            TypeCode::HashZiplist => pairs::hash_of(listpack_of_ziplist(input)?, limits)?,
            TypeCode::HashZipmap => hash_of_zipmap(input, limits)?,
            TypeCode::ZSetListpack => pairs::zset_of(listpack(input)?, limits)?,
            TypeCode::ZSetZiplist => pairs::zset_of(listpack_of_ziplist(input)?, limits)?,
            TypeCode::SetIntset => {
                let intset =
                    Intset::from_bytes(input.text()?.into_bytes()).ok_or(CORRUPT_INTSET)?;
                Value::Set(Box::new(Set::from_intset(intset, limits.set)))
            }
            TypeCode::SetListpack => set_of_listpack(&listpack(input)?, limits)?,
            TypeCode::ListZiplist => list_of_ziplist(input, limits)?,
            TypeCode::List
            | TypeCode::ListQuicklist
            | TypeCode::ListQuicklist2
            | TypeCode::Set
            | TypeCode::Hash
            | TypeCode::ZSet
            | TypeCode::ZSet2 => {
                return self.start_collection(code, input.length()?).map(|()| None);
            }
            TypeCode::Stream => return self.start_stream(stream::Form::Plain),
            TypeCode::Stream2 => return self.start_stream(stream::Form::Counted),
            TypeCode::Stream3 => return self.start_stream(stream::Form::Active),
            // Modules are never loaded.
            TypeCode::Module | TypeCode::Module2 => return Err(Error::UnknownType(code.byte())),
        }))
    }

    fn start_stream(&mut self, form: stream::Form) -> Result<Option<Value>, Error> {
        self.stage = Stage::Stream(Box::new(StreamDecoder::new(form)));
        Ok(None)
    }

    /// Makes ready for `left` elements, one at a time.
    fn start_collection(&mut self, code: TypeCode, left: u64) -> Result<(), Error> {
        if left == 0 {
            return Err(Error::Empty);
        }
        let list = |nodes| Stage::List { list: List::new(self.limits.list), left, nodes };
        let zset = |scores| Stage::ZSet(ZSetUnderWay::new(left, scores, self.limits.zset));
        self.stage = match code {
            TypeCode::ListQuicklist => list(Nodes::Ziplists),
            TypeCode::ListQuicklist2 => list(Nodes::Quicklist2),
            TypeCode::Set => Stage::Set { set: Set::default(), left },
            TypeCode::Hash => Stage::Hash { hash: Hash::default(), left },
            TypeCode::ZSet => zset(Scores::Texts),
            TypeCode::ZSet2 => zset(Scores::Doubles),
            _ => list(Nodes::Texts),
        };
        Ok(())
    }

    /// The value, now that its last element has come.
    fn finish(&mut self) -> Result<Value, Error> {
        match std::mem::replace(&mut self.stage, Stage::Start(TypeCode::String)) {
            // Empty nodes are skipped, so nothing may be left.
            Stage::List { list, .. } if list.is_empty() => Err(Error::Empty),
            Stage::List { list, .. } => Ok(Value::List(Box::new(list))),
            Stage::Set { set, .. } => Ok(Value::Set(Box::new(set))),
            Stage::Hash { hash, .. } => Ok(Value::Hash(Box::new(hash))),
            Stage::ZSet(zset) => zset.finish(self.limits.zset),
            Stage::Start(_) | Stage::Stream(_) => {
                unreachable!("the elements of these are not counted here")
            }
        }
    }
}

/// A string, kept as a number if it is the canonical text of one.
pub(super) fn string(text: Text<'_>) -> Value {
    match text {
        Text::Int(value) => Value::Int(value),
        text => {
            let bytes = text.into_bytes();
            let short = bytes.len() <= INTEGER_BYTES_MAX;
            short.then(|| parse_i64(&bytes)).flatten().map_or(Value::Str(bytes), Value::Int)
        }
    }
}

fn listpack(input: &mut Input<'_>) -> Result<Listpack, Error> {
    Listpack::from_bytes(input.text()?.into_bytes()).map_err(|_| CORRUPT_LISTPACK)
}

fn listpack_of_ziplist(input: &mut Input<'_>) -> Result<Listpack, Error> {
    ziplist::to_listpack(input.text()?.as_bytes(&mut itoa::Buffer::new()))
}

fn hash_of_zipmap(input: &mut Input<'_>, limits: &Limits) -> Result<Value, Error> {
    let blob = input.text()?;
    let mut hash = Hash::default();
    zipmap::for_each(blob.as_bytes(&mut itoa::Buffer::new()), |field, value| {
        if hash.set(field, value, limits.hash) { Ok(()) } else { Err(DUPLICATE) }
    })?;
    if hash.is_empty() { Err(Error::Empty) } else { Ok(Value::Hash(Box::new(hash))) }
}

fn set_of_listpack(pack: &Listpack, limits: &Limits) -> Result<Value, Error> {
    let mut set = Set::default();
    for member in pack {
        if !set.insert_element(member, limits.set) {
            return Err(DUPLICATE);
        }
    }
    if set.is_empty() { Err(Error::Empty) } else { Ok(Value::Set(Box::new(set))) }
}

/// A list of the entries of one ziplist, distributed over nodes anew.
fn list_of_ziplist(input: &mut Input<'_>, limits: &Limits) -> Result<Value, Error> {
    let blob = input.text()?;
    let (mut list, mut digits) = (List::new(limits.list), itoa::Buffer::new());
    ziplist::for_each(blob.as_bytes(&mut itoa::Buffer::new()), |element: Element<'_>| {
        list.push(End::Tail, element.as_bytes(&mut digits));
    })?;
    if list.is_empty() { Err(Error::Empty) } else { Ok(Value::List(Box::new(list))) }
}

fn append_ziplist(list: &mut List, input: &mut Input<'_>) -> Result<(), Error> {
    list.append_packed(listpack_of_ziplist(input)?);
    Ok(())
}

fn append_node(list: &mut List, input: &mut Input<'_>) -> Result<(), Error> {
    match input.length()? {
        PLAIN_NODE => {
            let text = input.text()?.into_bytes();
            if text.is_empty() {
                return Err(Error::Corrupt("a node of one empty element"));
            }
            list.append_plain(text);
        }
        PACKED_NODE => list.append_packed(listpack(input)?),
        _ => return Err(Error::Corrupt("a list node of an unknown kind")),
    }
    Ok(())
}

impl ZSetUnderWay {
    fn new(members: u64, scores: Scores, limits: ZSetLimits) -> Self {
        let few = members <= limits.entries_max as u64;
        let zset = if few { ZSet::default() } else { ZSet::for_members(usize::MAX, 0, limits) };
        Self { zset, aside: Vec::new(), few, left: members, scores }
    }

    fn take(&mut self, input: &mut Input<'_>, limits: ZSetLimits) -> Result<(), Error> {
        let (member, score) = (input.text()?, self.score(input)?);
        if score.is_nan() {
            return Err(NAN_SCORE);
        }
        if self.few {
            self.aside.push((member.into_bytes(), score));
            return Ok(());
        }
        add(&mut self.zset, member.as_bytes(&mut itoa::Buffer::new()), score, limits)
    }

    fn score(&self, input: &mut Input<'_>) -> Result<f64, Error> {
        match self.scores {
            Scores::Doubles => input.double(),
            Scores::Texts => Ok(match input.byte()? {
                253 => f64::NAN,
                254 => f64::INFINITY,
                255 => f64::NEG_INFINITY,
                length => {
                    let text = input.take(u64::from(length))?;
                    let parsed = strtod(text);
                    if parsed.length == 0 { f64::NAN } else { parsed.value }
                }
            }),
        }
    }

    fn finish(mut self, limits: ZSetLimits) -> Result<Value, Error> {
        if self.few {
            let longest = self.aside.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
            self.zset = ZSet::for_members(self.aside.len(), longest, limits);
            for (member, score) in &self.aside {
                add(&mut self.zset, member, *score, limits)?;
            }
        }
        Ok(Value::ZSet(Box::new(self.zset)))
    }
}

fn add(zset: &mut ZSet, member: &[u8], score: f64, limits: ZSetLimits) -> Result<(), Error> {
    match zset.insert(member, score, limits) {
        Added::New(_) => Ok(()),
        _ => Err(DUPLICATE),
    }
}
