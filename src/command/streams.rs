//! Streams: the rows of the family, and the commands about entries: XADD, XRANGE, XTRIM and their kin.
//!
//! Reading for consumers is in `streams_read.rs`, groups in `streams_groups.rs`, taking over entries in
//! `streams_claim.rs`, XINFO in `streams_info.rs`. An empty stream stays: its last id and its groups are
//! worth keeping.

use std::borrow::Cow;

use super::collection::{bulk_element, integer};
use super::spec::*;
use super::streams_claim::{xautoclaim, xclaim};
use super::streams_groups::*;
use super::streams_info::*;
use super::streams_read::{XREAD, XREADGROUP};
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::config::Config;
use crate::datatypes::stream::{
    AppendError, Entry, NewId, NodeLimits, Stream, StreamId, Trim, TrimTo,
};
use crate::keyspace::{Collection, Expired, Key};
use crate::resp::Reply;

const KEY_AT_TWO_READ: &[KeySpec] = &[KeySpec::one(2, Access::ReadOnly, &["ACCESS"])];
const KEY_AT_TWO_INSERT: &[KeySpec] = &[KeySpec::one(2, Access::ReadWrite, &["INSERT"])];
const KEY_AT_TWO_UPDATE: &[KeySpec] = &[KeySpec::one(2, Access::ReadWrite, &["UPDATE"])];
const KEY_AT_TWO_DELETE: &[KeySpec] = &[KeySpec::one(2, Access::ReadWrite, &["DELETE"])];
const KEYS_OF_XREAD: &[KeySpec] = &[KeySpec::streams(1, Access::ReadOnly, &["ACCESS"])];
const KEYS_OF_XREADGROUP: &[KeySpec] = &[KeySpec::streams(4, Access::ReadOnly, &["ACCESS"])];

const WRITE_FAST: Flags = WRITE.with(FAST);
const WRITE_GROWS: Flags = WRITE.with(DENYOOM);
const READS_MANY: Flags = READONLY.with(BLOCKING).with(MOVABLEKEYS);
const READS_FOR_GROUP: Flags = WRITE.with(BLOCKING).with(MOVABLEKEYS);
const HELP_FLAGS: Flags = LOADING.with(STALE);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "xack", arity: Arity::AtLeast(4), flags: WRITE_FAST, group: Group::Stream, keys: KEY_UPDATE, categories: &[], run: Run::Data(xack) },
    Command { name: "xadd", arity: Arity::AtLeast(5), flags: WRITE_GROWS.with(FAST), group: Group::Stream, keys: KEY_UPDATE, categories: &[], run: Run::Data(xadd) },
    Command { name: "xautoclaim", arity: Arity::AtLeast(6), flags: WRITE_FAST, group: Group::Stream, keys: KEY_DELETE, categories: &[], run: Run::Data(xautoclaim) },
    Command { name: "xclaim", arity: Arity::AtLeast(6), flags: WRITE_FAST, group: Group::Stream, keys: KEY_UPDATE, categories: &[], run: Run::Data(xclaim) },
    Command { name: "xdel", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::Stream, keys: KEY_DELETE, categories: &[], run: Run::Data(xdel) },
    Command { name: "xgroup", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Stream, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "xgroup|create", arity: Arity::AtLeast(5), flags: WRITE_GROWS, group: Group::Stream, keys: KEY_AT_TWO_INSERT, categories: &[], run: Run::Data(create) },
    Command { name: "xgroup|createconsumer", arity: Arity::Exactly(5), flags: WRITE_GROWS, group: Group::Stream, keys: KEY_AT_TWO_INSERT, categories: &[], run: Run::Data(create_consumer) },
    Command { name: "xgroup|delconsumer", arity: Arity::Exactly(5), flags: WRITE, group: Group::Stream, keys: KEY_AT_TWO_DELETE, categories: &[], run: Run::Data(delete_consumer) },
    Command { name: "xgroup|destroy", arity: Arity::Exactly(4), flags: WRITE, group: Group::Stream, keys: KEY_AT_TWO_DELETE, categories: &[], run: Run::Data(destroy) },
    Command { name: "xgroup|help", arity: Arity::Exactly(2), flags: HELP_FLAGS, group: Group::Stream, keys: NO_KEYS, categories: &[], run: Run::Data(group_help) },
    Command { name: "xgroup|setid", arity: Arity::AtLeast(5), flags: WRITE, group: Group::Stream, keys: KEY_AT_TWO_UPDATE, categories: &[], run: Run::Data(set_group_id) },
    Command { name: "xinfo", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Stream, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "xinfo|consumers", arity: Arity::Exactly(4), flags: READONLY, group: Group::Stream, keys: KEY_AT_TWO_READ, categories: &[], run: Run::Data(info_consumers) },
    Command { name: "xinfo|groups", arity: Arity::Exactly(3), flags: READONLY, group: Group::Stream, keys: KEY_AT_TWO_READ, categories: &[], run: Run::Data(info_groups) },
    Command { name: "xinfo|help", arity: Arity::Exactly(2), flags: HELP_FLAGS, group: Group::Stream, keys: NO_KEYS, categories: &[], run: Run::Data(info_help) },
    Command { name: "xinfo|stream", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Stream, keys: KEY_AT_TWO_READ, categories: &[], run: Run::Data(info_stream) },
    Command { name: "xlen", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::Stream, keys: KEY_LOOK, categories: &[], run: Run::Data(xlen) },
    Command { name: "xpending", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Stream, keys: KEY_READ, categories: &[], run: Run::Data(xpending) },
    Command { name: "xrange", arity: Arity::AtLeast(4), flags: READONLY, group: Group::Stream, keys: KEY_READ, categories: &[], run: Run::Data(xrange) },
    Command { name: "xread", arity: Arity::AtLeast(4), flags: READS_MANY, group: Group::Stream, keys: KEYS_OF_XREAD, categories: &[], run: Run::Blocking(XREAD) },
    Command { name: "xreadgroup", arity: Arity::AtLeast(7), flags: READS_FOR_GROUP, group: Group::Stream, keys: KEYS_OF_XREADGROUP, categories: &[], run: Run::Blocking(XREADGROUP) },
    Command { name: "xrevrange", arity: Arity::AtLeast(4), flags: READONLY, group: Group::Stream, keys: KEY_READ, categories: &[], run: Run::Data(xrevrange) },
    Command { name: "xsetid", arity: Arity::AtLeast(3), flags: WRITE_GROWS.with(FAST), group: Group::Stream, keys: KEY_UPDATE, categories: &[], run: Run::Data(xsetid) },
    Command { name: "xtrim", arity: Arity::AtLeast(4), flags: WRITE, group: Group::Stream, keys: KEY_DELETE, categories: &[], run: Run::Data(xtrim) },
];

const INVALID_ID: CommandError =
    CommandError::text("ERR Invalid stream ID specified as stream command argument");
const ID_TOO_SMALL: CommandError = CommandError::text(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);
const TRIMMED_TWICE: CommandError = CommandError::text(
    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
);
const LIMIT_OF_EXACT: CommandError =
    CommandError::text("ERR syntax error, LIMIT cannot be used without the special ~ option");

// ---- what all stream commands share ----

/// An id as an argument; an id without sequence number gets the lowest.
pub(super) fn id_argument(text: &[u8]) -> CommandResult<StreamId> {
    StreamId::parse(text, 0).ok_or(INVALID_ID)
}

/// The lower bound of a range: `-`, an id, or `(` and an id that is not in the range.
pub(super) fn start_argument(text: &[u8]) -> CommandResult<StreamId> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => {
            let next = StreamId::parse(id, 0).ok_or(INVALID_ID)?.next();
            next.ok_or(CommandError::text("ERR invalid start ID for the interval"))
        }
        _ => StreamId::parse_bound(text, 0).ok_or(INVALID_ID),
    }
}

/// The upper bound of a range; an id without sequence number means all of its milliseconds.
pub(super) fn end_argument(text: &[u8]) -> CommandResult<StreamId> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => {
            let prev = StreamId::parse(id, u64::MAX).ok_or(INVALID_ID)?.prev();
            prev.ok_or(CommandError::text("ERR invalid end ID for the interval"))
        }
        _ => StreamId::parse_bound(text, u64::MAX).ok_or(INVALID_ID),
    }
}

/// Writes an id as a bulk string.
pub(super) fn bulk_id(reply: &mut Reply<'_>, id: StreamId) {
    // Two numbers of at most twenty digits, and the dash.
    let mut text = [b'-'; 41];
    let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (ms, seq) = (ms.format(id.ms).as_bytes(), seq.format(id.seq).as_bytes());
    let length = ms.len() + 1 + seq.len();
    text[..ms.len()].copy_from_slice(ms);
    text[ms.len() + 1..length].copy_from_slice(seq);
    reply.bulk(&text[..length]);
}

/// Writes an entry: its id, and its fields and values by turns.
pub(super) fn write_entry(reply: &mut Reply<'_>, entry: Entry<'_>) {
    reply.array(2);
    bulk_id(reply, entry.id);
    reply.array(entry.fields.len() * 2);
    for (field, value) in entry.fields {
        bulk_element(reply, field);
        bulk_element(reply, value);
    }
}

/// Writes an array of entries; how many there are is seen at their end.
pub(super) fn write_entries<'s>(
    reply: &mut Reply<'_>,
    entries: impl Iterator<Item = Entry<'s>>,
) -> usize {
    let array = reply.deferred();
    let count = entries.map(|entry| write_entry(reply, entry)).count();
    reply.set_array_len(array, count);
    count
}

/// Notes changes of groups. Unlike other changes they are none to who watches the key, as in Redis.
pub(super) fn group_changed(ctx: &mut Ctx<'_>, key: &Key<'_>, event: Option<&'static str>) {
    ctx.changes.dirty += 1;
    if let Some(event) = event {
        ctx.notify(key, Class::Stream, event);
    }
}

/// `NOGROUP` in the words of most commands.
pub(super) fn no_key_or_group(key: &[u8], group: &[u8], where_asked: &str) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::owned(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}'{where_asked}"
    ))
}

/// `NOGROUP` in the words of XGROUP and XINFO, which know that the key is there.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::owned(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// What a subcommand of XGROUP or XINFO says of arguments that it does not understand.
pub(super) fn subcommand_syntax(request: &Request<'_>) -> CommandError {
    let container = String::from_utf8_lossy(request.arg(0)).to_uppercase();
    let word = String::from_utf8_lossy(request.arg(1)).into_owned();
    CommandError::owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{word}'. Try {container} HELP."
    ))
}

// ---- adding and trimming ----

/// The options of XADD and XTRIM.
struct Options {
    trim: Option<Trimming>,
    /// NOMKSTREAM: XADD does not create the key.
    only_existing: bool,
    /// XADD's id.
    id: NewId,
    /// Where XADD's fields begin.
    fields_at: usize,
}

/// What the words before the id of XADD, or all words of XTRIM, have said so far.
#[derive(Default)]
struct TrimWords {
    to: Option<TrimTo>,
    approximate: bool,
    limit: Option<i64>,
    places: TrimPlaces,
}

/// Where the arguments speak of trimming.
#[derive(Default)]
struct TrimPlaces {
    /// The threshold.
    threshold: usize,
    /// Each LIMIT.
    limits: Vec<usize>,
}

impl TrimPlaces {
    /// Turns the words of an approximate trim into those of the exact one that leaves `stream` as it is now.
    /// LIMIT goes: Redis leaves it, and takes that from its own files alone.
    fn make_exact(&self, words: &mut Vec<Cow<'_, [u8]>>, to: TrimTo, stream: &Stream) {
        words[self.threshold - 1] = Cow::Borrowed(b"=");
        let threshold = match to {
            TrimTo::Len(_) => stream.len().to_string(),
            TrimTo::MinId(_) => {
                let first = stream.nodes().next().map_or(StreamId::MAX, |(first, _)| first);
                first.to_string()
            }
        };
        words[self.threshold] = Cow::Owned(threshold.into_bytes());
        for at in self.limits.iter().rev() {
            words.drain(*at..at + 2);
        }
    }
}

/// What decides about LIMIT.
struct TrimRules<'a> {
    config: &'a Config,
    /// The command is from a file or a master: it was limited where it was first run, and its LIMIT, which Redis
    /// leaves in, means nothing.
    obeys: bool,
}

impl<'a> TrimRules<'a> {
    fn of(ctx: &'a Ctx<'_>) -> Self {
        Self { config: ctx.config, obeys: ctx.keyspace.expired() == Expired::Kept }
    }
}

/// How a stream is to be trimmed, and where the arguments say so.
struct Trimming {
    trim: Trim,
    places: TrimPlaces,
}

impl TrimWords {
    /// Reads `[= | ~] threshold` from argument `at` on, and says where to go on.
    fn threshold(
        &mut self,
        request: &Request<'_>,
        at: usize,
        parse: impl FnOnce(&[u8]) -> CommandResult<TrimTo>,
    ) -> CommandResult<usize> {
        if self.to.is_some() {
            return Err(TRIMMED_TWICE);
        }
        let has_more = request.get(at + 1).is_some();
        self.approximate = has_more && request.arg(at) == b"~";
        let at = at + usize::from(self.approximate || (has_more && request.arg(at) == b"="));
        self.to = Some(parse(request.arg(at))?);
        self.places.threshold = at;
        Ok(at + 1)
    }

    fn finish(self, rules: &TrimRules<'_>) -> CommandResult<Option<Trimming>> {
        let Some(to) = self.to else {
            return match self.limit {
                None => Ok(None),
                Some(0) if rules.obeys => Ok(None),
                // Redis keeps "no limit" as 0, so it takes this for a trim that is exact.
                Some(0) => Err(LIMIT_OF_EXACT),
                Some(_) => Err(CommandError::text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
            };
        };
        let entries_max = match self.limit {
            _ if rules.obeys => 0,
            Some(_) if !self.approximate => return Err(LIMIT_OF_EXACT),
            Some(limit) => limit as u64,
            None if self.approximate => default_limit(rules.config),
            None => 0,
        };
        let trim = Trim { to, approximate: self.approximate, entries_max };
        Ok(Some(Trimming { trim, places: self.places }))
    }
}

/// Entries that an approximate trim without LIMIT takes at most: those of a hundred full nodes, within
/// bounds (Redis 7.0 `t_stream.c`).
fn default_limit(config: &Config) -> u64 {
    const NODES: i64 = 100;
    match (config.stream_node_max_entries as i64).wrapping_mul(NODES) {
        ..=0 => 10_000,
        entries => entries.min(1_000_000) as u64,
    }
}

impl Options {
    fn of_xadd(request: &Request<'_>, rules: &TrimRules<'_>) -> CommandResult<Self> {
        let (mut words, mut only_existing) = (TrimWords::default(), false);
        let mut at = 2;
        let mut id = None;
        while let Some(word) = request.get(at) {
            if let Some(next) = trim_option(&mut words, request, at)? {
                at = next;
            } else if request.is_word(at, "nomkstream") {
                only_existing = true;
                at += 1;
            } else {
                id = Some(NewId::parse(word).ok_or(INVALID_ID)?);
                at += 1;
                break;
            }
        }
        let trim = words.finish(rules)?;
        let id = id.ok_or_else(|| CommandError::WrongArity("xadd".to_owned()))?;
        Ok(Self { trim, only_existing, id, fields_at: at })
    }

    fn of_xtrim(request: &Request<'_>, rules: &TrimRules<'_>) -> CommandResult<Trimming> {
        let mut words = TrimWords::default();
        let mut at = 2;
        while at < request.len() {
            at = trim_option(&mut words, request, at)?.ok_or(CommandError::Syntax)?;
        }
        let missing =
            CommandError::text("ERR syntax error, XTRIM must be called with a trimming strategy");
        match (words.to, words.limit) {
            (None, Some(0)) => Err(missing),
            _ => words.finish(rules)?.ok_or(missing),
        }
    }
}

/// Reads MAXLEN, MINID or LIMIT at argument `at`, and says where to go on; `None` if something else
/// is there.
fn trim_option(
    words: &mut TrimWords,
    request: &Request<'_>,
    at: usize,
) -> CommandResult<Option<usize>> {
    let Some(value) = request.get(at + 1) else { return Ok(None) };
    if request.is_word(at, "maxlen") {
        let next = words.threshold(request, at + 1, |text| {
            let length = u64::try_from(integer(text)?);
            let negative = CommandError::text("ERR The MAXLEN argument must be >= 0.");
            length.map(TrimTo::Len).map_err(|_| negative)
        });
        next.map(Some)
    } else if request.is_word(at, "minid") {
        let next = words.threshold(request, at + 1, |text| id_argument(text).map(TrimTo::MinId));
        next.map(Some)
    } else if request.is_word(at, "limit") {
        let limit = integer(value)?;
        if limit < 0 {
            return Err(CommandError::text("ERR The LIMIT argument must be >= 0."));
        }
        words.limit = Some(limit);
        words.places.limits.push(at);
        Ok(Some(at + 2))
    } else {
        Ok(None)
    }
}

/// XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value
/// [field value …]
fn xadd(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let options = Options::of_xadd(request, &TrimRules::of(ctx))?;
    if options.id == NewId::Exact(StreamId::MIN) {
        return Err(CommandError::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let texts = request.rest(options.fields_at);
    if texts.is_empty() || !texts.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("xadd".to_owned()));
    }
    let limits = NodeLimits {
        bytes_max: ctx.config.stream_node_max_bytes,
        entries_max: ctx.config.stream_node_max_entries,
    };
    let (key, now_ms) = (request.key(1), ctx.now_ms());
    let add = |stream: &mut Stream| -> Result<(StreamId, u64), AppendError> {
        let id = stream.append(options.id, texts, &limits, now_ms)?;
        Ok((id, options.trim.as_ref().map_or(0, |trimming| stream.trim(trimming.trim))))
    };
    let db = &mut ctx.keyspace[ctx.db];
    let (id, trimmed) = match db.get_mut::<Stream>(&key)? {
        Some(stream) => add(stream).map_err(append_error)?,
        None if options.only_existing => {
            reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::default();
            let added = add(&mut stream).map_err(append_error)?;
            db.insert(&key, stream.into_value(), None);
            added
        }
    };
    bulk_id(reply, id);
    ctx.changed(&key, Class::Stream, "xadd");
    if trimmed > 0 {
        ctx.notify(&key, Class::Stream, "xtrim");
    }
    let approximate = options.trim.filter(|trimming| trimming.trim.approximate);
    let new_id = match options.id {
        NewId::Exact(_) => None,
        NewId::Auto | NewId::AutoSeq(_) => Some((options.fields_at - 1, id)),
    };
    record_exactly(ctx, request, new_id, approximate);
    Ok(())
}

/// Records XADD or XTRIM with the id that was given to the entry, and with what an approximate trim came
/// to: how much of a node goes is the business of who keeps the nodes.
fn record_exactly(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    new_id: Option<(usize, StreamId)>,
    approximate: Option<Trimming>,
) {
    if !ctx.journal.is_on() || (new_id.is_none() && approximate.is_none()) {
        return;
    }
    let mut words: Vec<Cow<'_, [u8]>> =
        request.args().iter().map(|word| Cow::Borrowed(*word)).collect();
    if let Some((at, id)) = new_id {
        words[at] = Cow::Owned(id.to_string().into_bytes());
    }
    if let Some(Trimming { trim, places }) = approximate
        && let Ok(Some(stream)) = ctx.keyspace[ctx.db].peek_as::<Stream>(&request.key(1))
    {
        places.make_exact(&mut words, trim.to, stream);
    }
    let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
    ctx.instead(&words);
}

fn append_error(error: AppendError) -> CommandError {
    match error {
        AppendError::NotGreater => ID_TOO_SMALL,
        AppendError::Exhausted => CommandError::text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ),
        AppendError::TooLarge => CommandError::text("ERR Elements are too large to be stored"),
    }
}

/// XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]
fn xtrim(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let trimming = Options::of_xtrim(request, &TrimRules::of(ctx))?;
    let key = request.key(1);
    let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)?;
    let trimmed = stream.map_or(0, |stream| stream.trim(trimming.trim));
    entries_removed(ctx, &key, "xtrim", trimmed);
    if trimmed > 0 && trimming.trim.approximate {
        record_exactly(ctx, request, None, Some(trimming));
    }
    reply.integer(trimmed as i64);
    Ok(())
}

/// XDEL key id [id …]
fn xdel(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let mut removed = 0;
    if let Some(stream) = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)? {
        // All are read before one is removed: a bad id leaves the stream as it is.
        let ids = request.rest(2).iter().map(|text| id_argument(text));
        let ids = ids.collect::<CommandResult<Vec<StreamId>>>()?;
        removed = ids.into_iter().filter(|id| stream.remove(*id)).count() as u64;
    }
    entries_removed(ctx, &key, "xdel", removed);
    reply.integer(removed as i64);
    Ok(())
}

/// Notes that entries were removed: Redis counts each of them as a change.
fn entries_removed(ctx: &mut Ctx<'_>, key: &Key<'_>, event: &'static str, entries: u64) {
    if entries > 0 {
        ctx.changed(key, Class::Stream, event);
        ctx.changes.dirty += entries - 1;
    }
}

/// XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]
fn xsetid(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let id = id_argument(request.arg(2))?;
    let (mut entries_added, mut max_deleted_id) = (None, None);
    let mut at = 3;
    while at < request.len() {
        let value = request.get(at + 1).ok_or(CommandError::Syntax)?;
        if request.is_word(at, "entriesadded") {
            let added = u64::try_from(integer(value)?);
            let negative = CommandError::text("ERR entries_added must be positive");
            entries_added = Some(added.map_err(|_| negative)?);
        } else if request.is_word(at, "maxdeletedid") {
            let deleted = id_argument(value)?;
            if id < deleted {
                return Err(CommandError::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            // The lowest id says that nothing was deleted, and Redis takes it for "not given".
            max_deleted_id = Some(deleted).filter(|deleted| *deleted != StreamId::MIN);
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let key = request.key(1);
    let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)?.ok_or(CommandError::NoSuchKey)?;
    check_new_last_id(stream, id, entries_added)?;
    stream.set_last_id(id, entries_added, max_deleted_id);
    group_changed(ctx, &key, Some("xsetid"));
    reply.ok();
    Ok(())
}

/// Whether a stream can have this last id and this count of entries ever added.
fn check_new_last_id(stream: &Stream, id: StreamId, entries_added: Option<u64>) -> CommandResult {
    let counters = stream.counters();
    let text = if counters.len > 0 && id < stream.last_entry_id() {
        "ERR The ID specified in XSETID is smaller than the target stream top item"
    } else if counters.len > 0 && entries_added.is_some_and(|added| added < counters.len) {
        "ERR The entries_added specified in XSETID is smaller than the target stream length"
    } else {
        return Ok(());
    };
    Err(CommandError::text(text))
}

// ---- looking ----

/// XLEN key
fn xlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let stream = ctx.keyspace[ctx.db].read_as::<Stream>(&request.key(1))?;
    reply.integer(stream.map_or(0, |stream| stream.len() as i64));
    Ok(())
}

/// XRANGE key start end [COUNT count]
fn xrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let start = start_argument(request.arg(2))?;
    let end = end_argument(request.arg(3))?;
    let count = range_count(request)?;
    range_reply(ctx, request, reply, count, |stream, reply, count| {
        write_entries(reply, stream.range(start, end).take(count));
    })
}

/// XREVRANGE key end start [COUNT count]
fn xrevrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let start = start_argument(request.arg(3))?;
    let end = end_argument(request.arg(2))?;
    let count = range_count(request)?;
    range_reply(ctx, request, reply, count, |stream, reply, count| {
        write_entries(reply, stream.range_rev(start, end).take(count));
    })
}

fn range_count(request: &Request<'_>) -> CommandResult<Option<usize>> {
    let mut count = None;
    for option in request.rest(4).chunks(2) {
        match option {
            [word, value] if word.eq_ignore_ascii_case(b"count") => {
                count = match integer(value)? {
                    // Redis keeps "no limit" as -1, yet takes what is below for 0.
                    ..0 => Some(0),
                    value => Some(value as usize),
                };
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(count)
}

fn range_reply(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    count: Option<usize>,
    write: impl FnOnce(&Stream, &mut Reply<'_>, usize),
) -> CommandResult {
    match (ctx.keyspace[ctx.db].read_as::<Stream>(&request.key(1))?, count) {
        (None, _) => reply.array(0),
        (Some(_), Some(0)) => reply.null_array(),
        (Some(stream), count) => write(stream, reply, count.unwrap_or(usize::MAX)),
    }
    Ok(())
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
