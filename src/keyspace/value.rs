//! What a key can hold, in its three forms: owned, borrowed and borrowed to change.

use crate::datatypes::{hash::Hash, list::List, set::Set, stream::Stream, zset::ZSet};

/// An owned value, on its way into or out of the keyspace.
pub enum Value {
    /// A string that is a canonical 64-bit decimal.
    Int(i64),
    /// A string.
    Str(Vec<u8>),
    /// A string that was modified in place since it was set: `OBJECT ENCODING` says "raw".
    ModifiedStr(Vec<u8>),
    /// A list.
    List(Box<List>),
    /// A set.
    Set(Box<Set>),
    /// A hash.
    Hash(Box<Hash>),
    /// A sorted set.
    ZSet(Box<ZSet>),
    /// A stream.
    Stream(Box<Stream>),
}

impl Value {
    /// The value, to read.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Int(n) => ValueRef::Str(StrRef::Int(*n)),
            Value::Str(bytes) | Value::ModifiedStr(bytes) => ValueRef::Str(StrRef::Bytes(bytes)),
            Value::List(list) => ValueRef::List(list),
            Value::Set(set) => ValueRef::Set(set),
            Value::Hash(hash) => ValueRef::Hash(hash),
            Value::ZSet(zset) => ValueRef::ZSet(zset),
            Value::Stream(stream) => ValueRef::Stream(stream),
        }
    }
}

/// A string value, to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StrRef<'a> {
    /// Kept as a number.
    Int(i64),
    /// Kept as bytes.
    Bytes(&'a [u8]),
}

impl<'a> StrRef<'a> {
    /// The bytes; `buffer` is where a number is printed to.
    pub fn as_bytes<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            StrRef::Int(n) => buffer.format(n).as_bytes(),
            StrRef::Bytes(bytes) => bytes,
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether the string has no bytes.
    pub fn is_empty(&self) -> bool {
        matches!(self, StrRef::Bytes(bytes) if bytes.is_empty())
    }
}

/// A value, to read.
pub enum ValueRef<'a> {
    /// A string.
    Str(StrRef<'a>),
    /// A list.
    List(&'a List),
    /// A set.
    Set(&'a Set),
    /// A hash.
    Hash(&'a Hash),
    /// A sorted set.
    ZSet(&'a ZSet),
    /// A stream.
    Stream(&'a Stream),
}

/// A value, to change in place.
pub enum ValueMut<'a> {
    /// A string; from now on it is a `Vec` of its own.
    Str(&'a mut Vec<u8>),
    /// A list.
    List(&'a mut List),
    /// A set.
    Set(&'a mut Set),
    /// A hash.
    Hash(&'a mut Hash),
    /// A sorted set.
    ZSet(&'a mut ZSet),
    /// A stream.
    Stream(&'a mut Stream),
}

/// Redis's type names (`TYPE`, `SCAN … TYPE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TypeName {
    /// "string"
    String,
    /// "list"
    List,
    /// "set"
    Set,
    /// "hash"
    Hash,
    /// "zset"
    ZSet,
    /// "stream"
    Stream,
}

impl TypeName {
    /// The word that clients see.
    pub const fn as_str(self) -> &'static str {
        match self {
            TypeName::String => "string",
            TypeName::List => "list",
            TypeName::Set => "set",
            TypeName::Hash => "hash",
            TypeName::ZSet => "zset",
            TypeName::Stream => "stream",
        }
    }
}

impl ValueRef<'_> {
    /// The type of the value.
    pub fn type_name(&self) -> TypeName {
        match self {
            ValueRef::Str(_) => TypeName::String,
            ValueRef::List(_) => TypeName::List,
            ValueRef::Set(_) => TypeName::Set,
            ValueRef::Hash(_) => TypeName::Hash,
            ValueRef::ZSet(_) => TypeName::ZSet,
            ValueRef::Stream(_) => TypeName::Stream,
        }
    }

    /// A deep copy (COPY).
    pub fn to_owned(&self, shown_raw: bool) -> Value {
        match self {
            ValueRef::Str(StrRef::Int(n)) => Value::Int(*n),
            ValueRef::Str(StrRef::Bytes(bytes)) if shown_raw => Value::ModifiedStr(bytes.to_vec()),
            ValueRef::Str(StrRef::Bytes(bytes)) => Value::Str(bytes.to_vec()),
            ValueRef::List(list) => Value::List(Box::new((*list).clone())),
            ValueRef::Set(set) => Value::Set(Box::new((*set).clone())),
            ValueRef::Hash(hash) => Value::Hash(Box::new((*hash).clone())),
            ValueRef::ZSet(zset) => Value::ZSet(Box::new((*zset).clone())),
            ValueRef::Stream(stream) => Value::Stream(Box::new((*stream).clone())),
        }
    }
}

/// A collection that can live under a key; lets the keyspace hand out typed references.
pub trait Collection: Default + Sized + 'static {
    /// The collection inside `value`, if it is of this type.
    fn from_ref(value: ValueRef<'_>) -> Option<&Self>;
    /// The collection inside `value`, if it is of this type.
    fn from_mut(value: ValueMut<'_>) -> Option<&mut Self>;
    /// The collection as a value of its own.
    fn into_value(self) -> Value;
    /// How many elements it has.
    fn len(&self) -> usize;
    /// Whether it has no elements; a key with an empty collection does not exist, unless that is a stream.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The type that entries of it have.
    const KIND: super::entry::Kind;
}

macro_rules! collection {
    ($type:ident) => {
        impl Collection for $type {
            fn from_ref(value: ValueRef<'_>) -> Option<&Self> {
                match value {
                    ValueRef::$type(inner) => Some(inner),
                    _ => None,
                }
            }
            fn from_mut(value: ValueMut<'_>) -> Option<&mut Self> {
                match value {
                    ValueMut::$type(inner) => Some(inner),
                    _ => None,
                }
            }
            fn into_value(self) -> Value {
                Value::$type(Box::new(self))
            }
            fn len(&self) -> usize {
                $type::len(self)
            }
            const KIND: super::entry::Kind = super::entry::Kind::$type;
        }
    };
}

collection!(List);
collection!(Set);
collection!(Hash);
collection!(ZSet);
collection!(Stream);
