//! One node of a list: a listpack of several elements, or a single large one by itself.
//!
//! Why the count is kept beside the body: finding element number n then reads the row of nodes,
//! 32 bytes each and side by side, and touches the memory of one listpack only.

use crate::datatypes::listpack::{self, Element, LISTPACK_BYTES_MAX, Listpack, Needle};

use super::End;

/// Node size by which a limit in elements is bounded too (Redis 7.0 `quicklist.c`,
/// SIZE_SAFETY_LIMIT).
const SAFE_BYTES_MAX: usize = 8192;
/// What a node is taken to need for an element beyond its text: at most the encoding and the
/// backlen (Redis 7.0 `quicklist.c`, SIZE_ESTIMATE_OVERHEAD).
const ELEMENT_OVERHEAD_BYTES: usize = 8;
/// Bytes of the header and end byte that one of two merged listpacks gives up.
const EMPTY_LISTPACK_BYTES: usize = 7;

/// When a node is full, and which elements stand alone.
///
/// `list-compress-depth` has no place here: nodes stay uncompressed whatever it says. It trades
/// CPU for memory invisibly to clients, and the store is sized for memory that is read at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLimits {
    listpack_size: i16,
    plain_bytes_min: u32,
}

impl NodeLimits {
    /// The limits that `list-max-listpack-size` sets: -1 to -5 for nodes of 4, 8, 16, 32 or
    /// 64 KiB, or a number of elements. Values beyond the range mean its end, as in Redis.
    pub fn new(list_max_listpack_size: i64) -> Self {
        let listpack_size = list_max_listpack_size.clamp(-5, i64::from(i16::MAX)) as i16;
        Self { listpack_size, plain_bytes_min: LISTPACK_BYTES_MAX as u32 }
    }

    /// The same limits, but elements of `plain_bytes_min` bytes and more stand alone. The
    /// default, 1 GiB, is the largest size of a listpack.
    pub fn with_plain_bytes_min(self, plain_bytes_min: u32) -> Self {
        Self { plain_bytes_min: plain_bytes_min.min(LISTPACK_BYTES_MAX as u32), ..self }
    }

    /// Largest node in bytes, if this limit is in bytes.
    fn node_bytes_max(self) -> Option<usize> {
        (self.listpack_size < 0).then(|| 2048 << -self.listpack_size)
    }

    /// Whether `count` elements in `bytes` bytes may be one node.
    fn allows(self, count: usize, bytes: usize) -> bool {
        match (self.node_bytes_max(), usize::try_from(self.listpack_size)) {
            (Some(bytes_max), _) => bytes <= bytes_max,
            (None, Ok(count_max)) => count <= count_max && bytes <= SAFE_BYTES_MAX,
            (None, Err(_)) => unreachable!("a negative limit is in bytes"),
        }
    }

    /// Whether an element of `len` bytes stands alone, outside any listpack.
    pub(super) fn stands_alone(self, len: usize) -> bool {
        len >= self.plain_bytes_min as usize
    }
}

impl Default for NodeLimits {
    /// The limits of a Redis without configuration: nodes of 8 KiB.
    fn default() -> Self {
        Self::new(-2)
    }
}

/// One node of a list. It has at least one element, except within a removal.
#[derive(Clone, Debug)]
pub(super) struct Node {
    count: u32,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Packed(Listpack),
    Plain(Box<[u8]>),
}

const _: () = assert!(size_of::<Node>() == 32, "a list of 5 M elements has 12 000 nodes or more");

/// What a node looks like to a snapshot.
#[derive(Clone, Copy, Debug)]
pub enum NodeView<'a> {
    /// Elements in a listpack.
    Packed(&'a Listpack),
    /// One element by itself.
    Plain(&'a [u8]),
}

impl Node {
    /// A node of the one element `text`, which will be followed by more if `more` are coming.
    pub(super) fn new(text: &[u8], limits: NodeLimits, more: bool) -> Self {
        if limits.stands_alone(text.len()) {
            return Self::plain(text.into());
        }
        let own = text.len() + ELEMENT_OVERHEAD_BYTES;
        let full = limits.node_bytes_max().unwrap_or(0).saturating_sub(EMPTY_LISTPACK_BYTES);
        // A list that has outgrown one node will likely fill this one too, and then a buffer of
        // full size from the start saves the copies of growing.
        let mut listpack = Listpack::with_capacity(if more { own.max(full) } else { own });
        listpack.push_back(text);
        Self { count: 1, body: Body::Packed(listpack) }
    }

    /// A node of one element that stands alone.
    pub(super) fn plain(text: Box<[u8]>) -> Self {
        Self { count: 1, body: Body::Plain(text) }
    }

    /// A node of the elements of `listpack`.
    pub(super) fn packed(listpack: Listpack) -> Self {
        Self { count: listpack.len() as u32, body: Body::Packed(listpack) }
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        match &self.body {
            Body::Packed(listpack) => NodeView::Packed(listpack),
            Body::Plain(text) => NodeView::Plain(text),
        }
    }

    /// Number of elements.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of memory behind this node.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Packed(listpack) => listpack.memory_bytes(),
            Body::Plain(text) => text.len(),
        }
    }

    /// Whether an element of `len` bytes may join this node.
    pub(super) fn allows(&self, len: usize, limits: NodeLimits) -> bool {
        match &self.body {
            Body::Packed(listpack) if !limits.stands_alone(len) => {
                let bytes = listpack.byte_len() + len + ELEMENT_OVERHEAD_BYTES;
                limits.allows(self.count() + 1, bytes)
            }
            Body::Packed(_) | Body::Plain(_) => false,
        }
    }

    /// Moves the elements of `next` to the tail of this node, if both fit in one.
    pub(super) fn absorb(&mut self, next: &Self, limits: NodeLimits) -> bool {
        let (Body::Packed(own), Body::Packed(other)) = (&mut self.body, &next.body) else {
            return false;
        };
        let bytes = own.byte_len() + other.byte_len() - EMPTY_LISTPACK_BYTES;
        if !limits.allows((self.count + next.count) as usize, bytes) {
            return false;
        }
        own.append(other);
        self.count += next.count;
        true
    }

    /// The element at `end`.
    pub(super) fn peek(&self, end: End) -> Option<Element<'_>> {
        match &self.body {
            Body::Packed(listpack) => {
                let position = match end {
                    End::Head => listpack.first(),
                    End::Tail => listpack.last(),
                };
                position.map(|position| listpack.get(position))
            }
            Body::Plain(text) => Some(Element::Bytes(text)),
        }
    }

    /// Element number `offset`.
    pub(super) fn get(&self, offset: usize) -> Option<Element<'_>> {
        match &self.body {
            Body::Packed(listpack) => Some(listpack.get(listpack.seek(offset as i64)?)),
            Body::Plain(text) => (offset == 0).then_some(Element::Bytes(text)),
        }
    }

    /// The number of the first element that `needle` matches.
    pub(super) fn find(&self, needle: Needle<'_>) -> Option<usize> {
        self.iter(End::Head).position(|element| needle.matches(element))
    }

    /// The elements, starting at `end`.
    pub(super) fn iter(&self, end: End) -> NodeIter<'_> {
        match (&self.body, end) {
            (Body::Packed(listpack), End::Head) => NodeIter::Forward(listpack.iter()),
            (Body::Packed(listpack), End::Tail) => NodeIter::Backward(listpack.iter_rev()),
            (Body::Plain(text), _) => NodeIter::Plain(Some(text)),
        }
    }

    /// The elements from number `offset` on, going away from `end`.
    pub(super) fn iter_from(&self, end: End, offset: usize) -> NodeIter<'_> {
        let Body::Packed(listpack) = &self.body else { return self.iter(end) };
        match (listpack.seek(offset as i64), end) {
            (None, _) => NodeIter::Plain(None),
            (Some(from), End::Head) => NodeIter::Forward(listpack.iter_from(from)),
            (Some(from), End::Tail) => NodeIter::Backward(listpack.iter_rev_from(from)),
        }
    }

    /// Adds an element at `end`; the caller has asked [`Self::allows`].
    pub(super) fn push(&mut self, end: End, text: &[u8]) {
        let listpack = self.listpack_mut();
        match end {
            End::Head => listpack.push_front(text),
            End::Tail => listpack.push_back(text),
        }
        self.count += 1;
    }

    /// Adds an element before number `offset`; the caller has asked [`Self::allows`].
    pub(super) fn insert(&mut self, offset: usize, text: &[u8]) {
        let listpack = self.listpack_mut();
        match listpack.seek(offset as i64) {
            Some(position) => drop(listpack.insert_before(position, text)),
            None => listpack.push_back(text),
        }
        self.count += 1;
    }

    /// Puts `text` in the place of element number `offset`, or says that it cannot be in this
    /// node.
    pub(super) fn replace(&mut self, offset: usize, text: &[u8], limits: NodeLimits) -> bool {
        let fits = match (&self.body, self.get(offset)) {
            (Body::Packed(listpack), Some(old)) if !limits.stands_alone(text.len()) => {
                // An integer takes few bytes: counting none is an overestimate, as it has to be.
                let freed = if let Element::Bytes(old) = old { old.len() } else { 0 };
                let bytes = listpack.byte_len() - freed + text.len() + ELEMENT_OVERHEAD_BYTES;
                self.count == 1 || limits.allows(self.count(), bytes)
            }
            (Body::Packed(_) | Body::Plain(_), _) => false,
        };
        match &mut self.body {
            Body::Packed(listpack) if fits => match listpack.seek(offset as i64) {
                Some(position) => {
                    listpack.replace(position, text);
                    true
                }
                None => false,
            },
            Body::Packed(_) => false,
            Body::Plain(old) if limits.stands_alone(text.len()) => {
                *old = text.into();
                true
            }
            Body::Plain(_) => false,
        }
    }

    /// Removes `count` elements from number `offset` on. The node may be empty then.
    pub(super) fn remove(&mut self, offset: usize, count: usize) {
        if let Body::Packed(listpack) = &mut self.body
            && let Some(position) = listpack.seek(offset as i64)
        {
            listpack.remove_range(position, count);
        }
        self.count -= count as u32;
    }

    /// Removes the element at `end`. The node may be empty then.
    pub(super) fn pop(&mut self, end: End) {
        if let Body::Packed(listpack) = &mut self.body {
            let position = match end {
                End::Head => listpack.first(),
                End::Tail => listpack.last(),
            };
            position.map(|position| listpack.remove(position));
        }
        self.count -= 1;
    }

    /// Removes up to `limit` elements that `needle` matches, starting at `end`, and counts them.
    /// The node may be empty then.
    pub(super) fn remove_matching(&mut self, needle: Needle<'_>, end: End, limit: usize) -> usize {
        let removed = match &mut self.body {
            Body::Packed(listpack) => match end {
                End::Head => remove_forward(listpack, needle, limit),
                End::Tail => remove_backward(listpack, needle, limit),
            },
            Body::Plain(text) => usize::from(limit > 0 && needle.matches(Element::Bytes(text))),
        };
        self.count -= removed as u32;
        removed
    }

    /// Moves the elements from number `offset` on into a node of their own.
    pub(super) fn split_off(&mut self, offset: usize) -> Self {
        let listpack = self.listpack_mut();
        let tail = match listpack.seek(offset as i64) {
            Some(position) => listpack.split_off(position),
            None => Listpack::new(),
        };
        let count = self.count - offset as u32;
        self.count = offset as u32;
        Self { count, body: Body::Packed(tail) }
    }

    fn listpack_mut(&mut self) -> &mut Listpack {
        match &mut self.body {
            Body::Packed(listpack) => listpack,
            Body::Plain(_) => panic!("a node of one plain element has no room: ask allows() first"),
        }
    }
}

fn remove_forward(listpack: &mut Listpack, needle: Needle<'_>, limit: usize) -> usize {
    let mut removed = 0;
    let mut at = listpack.first();
    while let Some(position) = at
        && removed < limit
    {
        at = if needle.matches(listpack.get(position)) {
            removed += 1;
            listpack.remove(position)
        } else {
            listpack.next(position)
        };
    }
    removed
}

fn remove_backward(listpack: &mut Listpack, needle: Needle<'_>, limit: usize) -> usize {
    let mut removed = 0;
    let mut at = listpack.last();
    while let Some(position) = at
        && removed < limit
    {
        // A removal does not move what comes before it, so this stays the next one to look at.
        at = listpack.prev(position);
        if needle.matches(listpack.get(position)) {
            removed += 1;
            listpack.remove(position);
        }
    }
    removed
}

/// Elements of one node.
#[derive(Clone, Debug)]
pub(super) enum NodeIter<'a> {
    Forward(listpack::Iter<'a>),
    Backward(listpack::IterRev<'a>),
    Plain(Option<&'a [u8]>),
}

impl<'a> Iterator for NodeIter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Self::Forward(iter) => iter.next(),
            Self::Backward(iter) => iter.next(),
            Self::Plain(text) => text.take().map(Element::Bytes),
        }
    }
}
