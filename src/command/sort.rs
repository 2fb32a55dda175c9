//! SORT and SORT_RO: the elements of a list, a set or a sorted set in order, by themselves or by what other
//! keys hold.
//!
//! The keys that BY and GET lead to are not among the arguments and may live on other shards, so a sort goes in
//! steps: load the elements, reach every key that the patterns make of them, weigh, sort, reach what GET needs,
//! and only then write. Whoever adds a write before the last step breaks the repetition that brings
//! foreign keys here.

use std::cmp::Ordering;

use super::collection::integer;
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::list::{End, List, NodeLimits};
use crate::datatypes::listpack::Element;
use crate::datatypes::number::strtod;
use crate::datatypes::zset::{Order, ZSet};
use crate::keyspace::{Database, Key, NewExpiry, Value, ValueRef};
use crate::resp::Reply;

/// The keys of the patterns, of which the arguments do not tell.
const KEYS_BY_PATTERN: KeySpec = KeySpec {
    access: Access::ReadOnly,
    flags: &["ACCESS"],
    begin: Begin::Unknown {
        notes: "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the \
                content of the key we sort",
    },
    find: Find::Unknown,
};
const DESTINATION: KeySpec = KeySpec {
    access: Access::OverWrite,
    flags: &["UPDATE"],
    begin: Begin::Unknown {
        notes: "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere \
                in the argument array",
    },
    find: Find::SortDestination,
};
const KEYS_READ_ONLY: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadOnly, &["ACCESS"]), KEYS_BY_PATTERN];
const KEYS: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadOnly, &["ACCESS"]), KEYS_BY_PATTERN, DESTINATION];
const CATEGORIES: &[&str] = &["@set", "@sortedset", "@list", "@dangerous"];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "sort", arity: Arity::AtLeast(2), flags: WRITE.with(DENYOOM).with(MOVABLEKEYS), group: Group::Generic, keys: KEYS, categories: CATEGORIES, run: Run::Data(sort) },
    Command { name: "sort_ro", arity: Arity::AtLeast(2), flags: READONLY.with(MOVABLEKEYS), group: Group::Generic, keys: KEYS_READ_ONLY, categories: CATEGORIES, run: Run::Data(sort_ro) },
];

const NOT_A_WEIGHT: CommandError =
    CommandError::text("ERR One or more scores can't be converted into double");
const BY_IN_CLUSTER: CommandError =
    CommandError::text("ERR BY option of SORT denied in Cluster mode.");
const GET_IN_CLUSTER: CommandError =
    CommandError::text("ERR GET option of SORT denied in Cluster mode.");

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC|DESC] [ALPHA] [STORE destination]
fn sort(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    sort_with(ctx, request, SortOptions::parse(request, true, ctx.config.cluster_enabled)?, reply)
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC|DESC] [ALPHA]
fn sort_ro(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    sort_with(ctx, request, SortOptions::parse(request, false, ctx.config.cluster_enabled)?, reply)
}

// ---- what is asked for ----

/// The arguments after the key.
struct SortOptions<'a> {
    descending: bool,
    alpha: bool,
    /// BY a pattern without `*`: the elements stay in the order that they have.
    unsorted: bool,
    by: Option<Pattern<'a>>,
    gets: Vec<Pattern<'a>>,
    limit: (i64, i64),
    /// Which argument names the destination.
    store: Option<usize>,
}

impl<'a> SortOptions<'a> {
    fn parse(request: &Request<'a>, may_store: bool, cluster: bool) -> CommandResult<Self> {
        let (by, store, limit, gets) = (None, None, (0, -1), Vec::new());
        let (descending, alpha, unsorted) = (false, false, false);
        let mut options = Self { descending, alpha, unsorted, by, gets, limit, store };
        let mut at = 2;
        while at < request.len() {
            let left = request.len() - at - 1;
            if request.is_word(at, "asc") {
                options.descending = false;
            } else if request.is_word(at, "desc") {
                options.descending = true;
            } else if request.is_word(at, "alpha") {
                options.alpha = true;
            } else if request.is_word(at, "limit") && left >= 2 {
                options.limit = (integer(request.arg(at + 1))?, integer(request.arg(at + 2))?);
                at += 2;
            } else if request.is_word(at, "store") && left >= 1 && may_store {
                options.store = Some(at + 1);
                at += 1;
            } else if request.is_word(at, "by") && left >= 1 {
                options.set_by(request.arg(at + 1), cluster)?;
                at += 1;
            } else if request.is_word(at, "get") && left >= 1 {
                if cluster {
                    return Err(GET_IN_CLUSTER);
                }
                options.gets.push(Pattern::new(request.arg(at + 1)));
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// Once a constant has been given, no pattern brings the sorting back, as in Redis.
    fn set_by(&mut self, text: &'a [u8], cluster: bool) -> CommandResult {
        if !visible(text).contains(&b'*') {
            self.unsorted = true;
        } else if cluster {
            return Err(BY_IN_CLUSTER);
        }
        self.by = Some(Pattern::new(text));
        Ok(())
    }

    /// Which of `len` elements are shown.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let length = len as i64;
        let start = self.limit.0.clamp(0, length);
        let end = match self.limit.1.clamp(-1, length) {
            -1 => length,
            count => (start + count).min(length),
        };
        start as usize..end as usize
    }
}

/// The text as C sees it: up to the first zero byte.
fn visible(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What BY or GET makes of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// No `*`: nothing.
    Nothing,
    /// The string, or a field of the hash, at this key with the element between its parts.
    Key { before: &'a [u8], after: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn new(text: &'a [u8]) -> Self {
        let seen = visible(text);
        if seen == b"#" {
            return Self::Element;
        }
        let Some(star) = memchr::memchr(b'*', seen) else { return Self::Nothing };
        let (before, rest) = (&text[..star], star + 1);
        let arrow = memchr::memmem::find(&seen[rest..], b"->").map(|at| rest + at);
        // An arrow at the very end belongs to the key.
        match arrow.filter(|at| at + 2 < seen.len()) {
            Some(at) => Self::Key { before, after: &text[rest..at], field: Some(&text[at + 2..]) },
            None => Self::Key { before, after: &text[rest..], field: None },
        }
    }

    /// The key that holds what the pattern leads to from `element`.
    fn key(self, element: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Element | Self::Nothing => None,
            Self::Key { before, after, .. } => Some([before, element, after].concat()),
        }
    }

    /// Shows what the pattern leads to from `element`, if anything is there.
    fn look_up<R>(
        self,
        db: &mut Database,
        element: &[u8],
        show: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        let Self::Key { field, .. } = self else {
            return show((self == Self::Element).then_some(element));
        };
        let key = self.key(element).unwrap_or_default();
        let mut digits = itoa::Buffer::new();
        match (db.read(&Key::new(&key)), field) {
            (Some(ValueRef::Str(text)), None) => show(Some(text.as_bytes(&mut digits))),
            (Some(ValueRef::Hash(hash)), Some(field)) => {
                let value = hash.get(field);
                show(value.as_ref().map(|value| value.as_bytes(&mut digits)))
            }
            _ => show(None),
        }
    }
}

// ---- sorting ----

/// An element and what it is sorted by.
struct Row {
    element: Vec<u8>,
    weight: Weight,
}

enum Weight {
    Number(f64),
    /// The text behind BY, if there is one.
    Text(Option<Vec<u8>>),
    /// The element.
    Own,
}

/// Sorts with the keys in reach. What a run in vain has read is not counted, nor told of.
fn sort_with(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    options: SortOptions<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let mark = ctx.keyspace[ctx.db].mark_reads();
    let result = sort_in_reach(ctx, request, options, reply);
    if result == Err(CommandError::OutOfReach) {
        ctx.keyspace[ctx.db].forget_reads(mark);
    }
    result
}

fn sort_in_reach(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    mut options: SortOptions<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let source = request.key(1);
    let (elements, window) = load(ctx, &source, &mut options)?;
    let all_shown = window.len() == elements.len();
    let by = options.by.filter(|_| !options.unsorted);
    // If all is shown, GET needs the keys of all elements, whatever their order: reached at once, a
    // command that finds some of them elsewhere is repeated but once.
    let gets = if all_shown { &options.gets[..] } else { &[] };
    reach(ctx, elements.iter(), by.iter().chain(gets))?;
    let mut rows = weigh(&mut ctx.keyspace[ctx.db], elements, by, &options)?;
    if !options.unsorted {
        rows.sort_by(|left, right| {
            let order = compare(left, right, options.store.is_some());
            if options.descending { order.reverse() } else { order }
        });
    }
    let shown = &rows[window];
    if !all_shown {
        reach(ctx, shown.iter().map(|row| &row.element), options.gets.iter())?;
    }
    match options.store {
        Some(at) => store(ctx, &request.key(at), shown, &options.gets, reply),
        None => show(ctx, shown, &options.gets, reply),
    }
    Ok(())
}

/// The elements to sort, and which of them are shown once they are sorted.
fn load(
    ctx: &mut Ctx<'_>,
    source: &Key<'_>,
    options: &mut SortOptions<'_>,
) -> CommandResult<(Vec<Vec<u8>>, std::ops::Range<usize>)> {
    let db = &mut ctx.keyspace[ctx.db];
    let texts = |elements: &mut dyn Iterator<Item = Element<'_>>| -> Vec<Vec<u8>> {
        elements.map(|element| element.to_vec()).collect()
    };
    let descending = options.descending;
    match db.read(source) {
        None => Ok((Vec::new(), 0..0)),
        Some(ValueRef::List(list)) => {
            let window = options.window(list.len());
            if !options.unsorted {
                return Ok((texts(&mut list.iter()), window));
            }
            let (start, count) = (window.start, window.len());
            let elements = match (count, descending) {
                (0, _) => Vec::new(),
                (_, true) => texts(&mut list.range_rev(list.len() - start - 1, count)),
                (_, false) => texts(&mut list.range(start, count)),
            };
            Ok((elements, 0..count))
        }
        Some(ValueRef::Set(set)) => {
            // What is stored must not depend on the order of a hash table.
            if options.unsorted && options.store.is_some() {
                (options.unsorted, options.alpha, options.by) = (false, true, None);
            }
            Ok((texts(&mut set.iter()), options.window(set.len())))
        }
        Some(ValueRef::ZSet(_)) => {
            let Some(zset) = db.get_mut::<ZSet>(source)? else { return Ok((Vec::new(), 0..0)) };
            // Redis converts what it sorts, and OBJECT ENCODING shows it ever after.
            zset.convert_to_skiplist();
            let (window, len) = (options.window(zset.len()), zset.len());
            let members = |ranks, order| texts(&mut zset.iter(ranks, order).map(|pair| pair.0));
            Ok(match (options.unsorted, descending) {
                (false, _) => (members(0..len, Order::Ascending), window),
                (true, true) => {
                    let ranks = len - window.end..len - window.start;
                    (members(ranks, Order::Descending), 0..window.len())
                }
                (true, false) => (members(window.clone(), Order::Ascending), 0..window.len()),
            })
        }
        Some(ValueRef::Str(_) | ValueRef::Hash(_) | ValueRef::Stream(_)) => {
            Err(CommandError::WrongType)
        }
    }
}

/// Makes sure that the keys which `patterns` make of `elements` are here, all of them before it fails.
fn reach<'e, 'p>(
    ctx: &mut Ctx<'_>,
    elements: impl Iterator<Item = &'e Vec<u8>>,
    patterns: impl Iterator<Item = &'p Pattern<'p>> + Clone,
) -> CommandResult {
    let mut reached = Ok(());
    for element in elements {
        for key in patterns.clone().filter_map(|pattern| pattern.key(element)) {
            let found = ctx.reach(ctx.db, &Key::new(&key));
            reached = reached.and(found);
        }
    }
    reached
}

/// Finds what each element is sorted by.
fn weigh(
    db: &mut Database,
    elements: Vec<Vec<u8>>,
    by: Option<Pattern<'_>>,
    options: &SortOptions<'_>,
) -> CommandResult<Vec<Row>> {
    let weigh = |element: Vec<u8>| {
        let weight = match (by, options.alpha) {
            _ if options.unsorted => Weight::Own,
            (None, true) => Weight::Own,
            (None, false) => Weight::Number(number(&element)?),
            (Some(by), true) => {
                Weight::Text(by.look_up(db, &element, |text| text.map(<[u8]>::to_vec)))
            }
            (Some(by), false) => {
                by.look_up(db, &element, |text| text.map_or(Ok(0.0), number).map(Weight::Number))?
            }
        };
        Ok(Row { element, weight })
    };
    // All are looked up before one of them fails: each look-up counts, and in vain it is an event.
    let rows: Vec<CommandResult<Row>> = elements.into_iter().map(weigh).collect();
    rows.into_iter().collect()
}

/// A weight, read as C's `strtod` reads it. It is the whole text, up to a zero byte.
fn number(text: &[u8]) -> CommandResult<f64> {
    let parsed = strtod(text);
    let whole = text.get(parsed.length).is_none_or(|byte| *byte == 0);
    if whole && !parsed.out_of_range && !parsed.value.is_nan() {
        Ok(parsed.value)
    } else {
        Err(NOT_A_WEIGHT)
    }
}

/// Equal numbers fall back to the elements, so that the order does not depend on where they came from.
fn compare(left: &Row, right: &Row, stored: bool) -> Ordering {
    match (&left.weight, &right.weight) {
        (Weight::Number(a), Weight::Number(b)) => {
            let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            order.then_with(|| left.element.cmp(&right.element))
        }
        (Weight::Text(Some(a)), Weight::Text(Some(b))) => compare_texts(a, b, stored),
        (Weight::Text(a), Weight::Text(b)) => a.is_some().cmp(&b.is_some()),
        _ => compare_texts(&left.element, &right.element, stored),
    }
}

/// What is stored is compared byte by byte, what is shown by `strcoll` in the C locale, which ends at a zero.
fn compare_texts(left: &[u8], right: &[u8], stored: bool) -> Ordering {
    if stored { left.cmp(right) } else { visible(left).cmp(visible(right)) }
}

// ---- results ----

fn show(ctx: &mut Ctx<'_>, rows: &[Row], gets: &[Pattern<'_>], reply: &mut Reply<'_>) {
    reply.array(rows.len() * gets.len().max(1));
    for Row { element, .. } in rows {
        if gets.is_empty() {
            reply.bulk(element);
        }
        for get in gets {
            get.look_up(&mut ctx.keyspace[ctx.db], element, |text| match text {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            });
        }
    }
}

/// Puts the rows, or what GET makes of them, at `destination` as a list.
fn store(
    ctx: &mut Ctx<'_>,
    destination: &Key<'_>,
    rows: &[Row],
    gets: &[Pattern<'_>],
    reply: &mut Reply<'_>,
) {
    // Nodes of 8 KiB, whatever list-max-listpack-size says: Redis does not look at it here.
    let mut limits = NodeLimits::default();
    if let Some(bytes) = ctx.keyspace.switches.list_plain_bytes_min {
        limits = limits.with_plain_bytes_min(bytes);
    }
    let (mut list, db) = (List::new(limits), &mut ctx.keyspace[ctx.db]);
    for Row { element, .. } in rows {
        if gets.is_empty() {
            list.push(End::Tail, element);
        }
        for get in gets {
            get.look_up(db, element, |text| list.push(End::Tail, text.unwrap_or_default()));
        }
    }
    let length = list.len();
    if length > 0 {
        db.set(destination, Value::List(Box::new(list)), NewExpiry::None);
        ctx.changed(destination, Class::List, "sortstore");
        ctx.changes.dirty += length as u64 - 1; // Redis counts each element as a change
    } else if db.remove(destination) {
        ctx.changed(destination, Class::Generic, "del");
    }
    reply.integer(length as i64);
}

/// Where the destination of a SORT with these arguments is: after the last STORE that is an option and not
/// the value of one.
pub(super) fn destination_in(args: &[&[u8]]) -> Option<usize> {
    let (mut found, mut at) = (None, 2);
    while at < args.len() {
        let is = |word: &str| args[at].eq_ignore_ascii_case(word.as_bytes());
        if is("limit") {
            at += 2;
        } else if is("get") || is("by") {
            at += 1;
        } else if is("store") && at + 1 < args.len() {
            found = Some(at + 1);
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests;
