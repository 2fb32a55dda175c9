//! Where a value in an RDB file ends, without decoding it.
//!
//! Who reads a file for several shards only has to know which bytes are whose; the owners decode them at the
//! same time. A value is described by a few items ([`form`]), and a [`Skipper`] goes through them with
//! a stack of how often what is still to come: so a value of millions of elements can come in any pieces, and
//! no byte is looked at twice.
//!
//! Promise: it ends where [`super::decode`] does, for every value that decodes.

use super::input::{Error, Input};
use super::type_code::TypeCode;

/// What a value is made of.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// A text, however it is written.
    Text,
    /// So many bytes.
    Bytes(u64),
    /// A length, or another number that is written as one.
    Length,
    /// A double as a decimal text behind a byte of its length, some of which mean infinities.
    Decimal,
    /// A length, and so many times what follows.
    Each(&'static [Item]),
}

use Item::{Bytes, Decimal, Each, Length, Text};

/// The first length of a decimal that stands for a value of its own: not a number, and two infinities.
const SPECIAL_DECIMAL_MIN: u8 = 253;

/// Id, time and number of the last delivery.
const PENDING: Item = Each(&[Bytes(16), Bytes(8), Length]);
const CONSUMER_PENDING: Item = Each(&[Bytes(16)]);
/// First id and listpack.
const NODES: Item = Each(&[Text, Text]);
/// Name and time.
const CONSUMERS: Item = Each(&[Text, Bytes(8), CONSUMER_PENDING]);
/// There are two times since Redis 7.2.
const CONSUMERS_3: Item = Each(&[Text, Bytes(16), CONSUMER_PENDING]);
/// Name and last id.
const GROUPS: Item = Each(&[Text, Length, Length, PENDING, CONSUMERS]);
/// They also tell how much they have read since Redis 7.0.
const GROUPS_2: Item = Each(&[Text, Length, Length, Length, PENDING, CONSUMERS]);
const GROUPS_3: Item = Each(&[Text, Length, Length, Length, PENDING, CONSUMERS_3]);

/// What a value of this type is made of; nothing for those that only a module understands.
fn form(code: TypeCode) -> Option<&'static [Item]> {
    use TypeCode as C;
    Some(match code {
        C::String
        | C::HashZipmap
        | C::ListZiplist
        | C::SetIntset
        | C::ZSetZiplist
        | C::HashZiplist
        | C::HashListpack
        | C::ZSetListpack
        | C::SetListpack => &[Text],
        C::List | C::Set | C::ListQuicklist => &[Each(&[Text])],
        C::ZSet => &[Each(&[Text, Decimal])],
        C::Hash => &[Each(&[Text, Text])],
        C::ZSet2 => &[Each(&[Text, Bytes(8)])],
        C::ListQuicklist2 => &[Each(&[Length, Text])],
        // Number of entries and last id.
        C::Stream => &[NODES, Length, Length, Length, GROUPS],
        // First and greatest deleted id, and the number of entries that were ever added, besides.
        C::Stream2 => {
            &[NODES, Length, Length, Length, Length, Length, Length, Length, Length, GROUPS_2]
        }
        C::Stream3 => {
            &[NODES, Length, Length, Length, Length, Length, Length, Length, Length, GROUPS_3]
        }
        C::Module | C::Module2 => return None,
    })
}

/// Items that are still to come.
#[derive(Clone, Copy, Debug)]
struct Rest {
    items: &'static [Item],
    /// The next of them.
    at: usize,
    /// How often all of them come after that.
    again: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Skipper {
    stack: Vec<Rest>,
}

impl Skipper {
    /// At the beginning of a value of this type. An error if only a module could tell its end.
    pub(super) fn begin(&mut self, code: TypeCode) -> Result<(), Error> {
        let items = form(code).ok_or(Error::UnknownType(code.byte()))?;
        self.stack.clear();
        self.stack.push(Rest { items, at: 0, again: 0 });
        Ok(())
    }

    /// Goes on through `input` to the end of the value. After [`Error::Truncated`] it goes on with an input that
    /// begins where this one was left and holds more.
    pub(super) fn skip(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        while let Some(rest) = self.stack.last_mut() {
            let Some(item) = rest.items.get(rest.at) else {
                if rest.again == 0 {
                    self.stack.pop();
                } else {
                    (rest.at, rest.again) = (0, rest.again - 1);
                }
                continue;
            };
            let mark = input.mark();
            let skipped = skip_item(*item, input);
            if skipped.is_err() {
                input.rewind(mark);
            }
            let inner = skipped?;
            rest.at += 1;
            if let Some((items, count)) = inner
                && let Some(again) = count.checked_sub(1)
            {
                self.stack.push(Rest { items, at: 0, again });
            }
        }
        Ok(())
    }
}

/// Items, and how often they come.
type Inner = (&'static [Item], u64);

/// Skips one item; what is inside it and still to come.
fn skip_item(item: Item, input: &mut Input<'_>) -> Result<Option<Inner>, Error> {
    match item {
        Text => input.skip_text()?,
        Bytes(count) => _ = input.take(count)?,
        Length => _ = input.length()?,
        Decimal => {
            let length = input.byte()?;
            if length < SPECIAL_DECIMAL_MIN {
                input.take(length.into())?;
            }
        }
        Each(items) => return Ok(Some((items, input.length()?))),
    }
    Ok(None)
}
