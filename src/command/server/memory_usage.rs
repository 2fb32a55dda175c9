//! MEMORY USAGE and what else of MEMORY needs no figures of other shards.

use crate::command::help::help;
use crate::command::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Entry, Kind, StrRef, ValueRef};
use crate::memory;
use crate::resp::Reply;

const HELP: [&str; 11] = [
    "DOCTOR",
    "    Look for problems with memory.",
    "MALLOC-STATS",
    "    Show figures of the allocator.",
    "PURGE",
    "    Ask the allocator to give free memory back.",
    "STATS",
    "    Show what uses how much memory.",
    "USAGE <key> [SAMPLES <count>]",
    "    Estimate the bytes of a key and its value. Of a big value, <count> elements",
    "    are measured (5 if not given, 0 for all).",
];

/// Elements measured unless asked for more (Redis 7.0 `object.c`, OBJ_COMPUTE_SIZE_DEF_SAMPLES).
const SAMPLES_DEFAULT: usize = 5;
/// A key's share of the table of its slot: its pointer and tag at full load.
const TABLE_BYTES_PER_KEY: usize = 9;

/// The allocator gives small blocks in steps of so many bytes.
const ALLOCATION_STEP_BYTES: usize = 8;

/// MEMORY USAGE key [SAMPLES count]
pub fn usage(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let samples = samples(request)?;
    let database = &ctx.keyspace[ctx.db];
    // Looking at a key's size is no use of it: neither hit nor access.
    match database.peek(&request.key(2)) {
        Some(entry) => reply.integer(entry_bytes(entry, samples) as i64),
        None => reply.null(),
    }
    Ok(())
}

fn samples(request: &Request<'_>) -> CommandResult<usize> {
    let mut samples = SAMPLES_DEFAULT;
    let mut options = request.rest(3).chunks(2);
    options.try_for_each(|option| match option {
        [word, count] if word.eq_ignore_ascii_case(b"samples") => {
            let count = parse_i64(count).ok_or(CommandError::NotInteger)?;
            samples = usize::try_from(count).map_err(|_| CommandError::Syntax)?;
            Ok(())
        }
        _ => Err(CommandError::Syntax),
    })?;
    Ok(samples)
}

/// Bytes of an entry and all it points to, as far as so many samples tell (0 for all).
pub fn entry_bytes(entry: &Entry, samples: usize) -> usize {
    let payload = match entry.value() {
        ValueRef::Str(StrRef::Bytes(bytes)) if entry.kind() == Kind::Raw => bytes.len(),
        ValueRef::Str(_) => 0,
        ValueRef::List(list) => list.memory_bytes(),
        ValueRef::Set(set) => set.memory_usage(samples),
        ValueRef::Hash(hash) => hash.memory_usage(samples),
        ValueRef::ZSet(zset) => zset.memory_usage(samples),
        ValueRef::Stream(stream) => stream.memory_usage(samples),
    };
    let own = entry.allocated_bytes().next_multiple_of(ALLOCATION_STEP_BYTES);
    own + TABLE_BYTES_PER_KEY + payload
}

/// MEMORY PURGE
pub fn purge(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    // mimalloc gives pages back by itself a moment after they are free; there is nothing to push.
    reply.ok();
    Ok(())
}

/// MEMORY MALLOC-STATS
pub fn malloc_stats(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let text = format!("mimalloc: {} bytes allocated\n", memory::used_bytes());
    reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// MEMORY HELP
pub fn show_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "MEMORY", &HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    fn usage(shard: &mut TestShard, words: &str) -> usize {
        let reply = shard.run(&format!("memory usage {words}"));
        reply.trim_start_matches(':').trim_end().parse().unwrap_or_else(|_| panic!("{reply}"))
    }

    #[test]
    fn usage_grows_with_key_and_value() {
        let mut shard = TestShard::new();
        shard.run("set k v");
        let small = usage(&mut shard, "k");
        assert!((10..80).contains(&small), "{small}");
        shard.run(&format!("set k {}", "v".repeat(10_000)));
        assert!((10_000..10_100).contains(&usage(&mut shard, "k")));
        for number in 0..2000 {
            shard.run(&format!("sadd s member:{number:040}"));
        }
        let (some, all) = (usage(&mut shard, "s"), usage(&mut shard, "s samples 0"));
        assert!(some.abs_diff(all) < all / 10 && all > 2000 * 47, "{some} {all}");
        assert_eq!(shard.run("memory usage nothing"), "$-1\r\n");
    }

    #[test]
    fn wrong_options_are_refused_in_the_words_of_redis() {
        let mut shard = TestShard::new();
        for (words, expected) in [
            ("k samples -1", "-ERR syntax error\r\n"),
            ("k samples", "-ERR syntax error\r\n"),
            ("k sample 5", "-ERR syntax error\r\n"),
            ("k samples x", "-ERR value is not an integer or out of range\r\n"),
        ] {
            assert_eq!(shard.run(&format!("memory usage {words}")), expected, "{words}");
        }
        assert_eq!(shard.run("memory purge"), "+OK\r\n");
        assert!(shard.run("memory malloc-stats").contains("bytes allocated"));
        assert!(shard.run("memory help").starts_with("*14\r\n+MEMORY"));
    }
}
