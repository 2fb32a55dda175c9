//! LOLWUT: a picture, and the version for those who ask this way.

use crate::command::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;

/// Widest and highest picture.
const SIZE_MAX: i64 = 100;

/// LOLWUT [VERSION version] [columns rows]: a maze of slashes, another one each time.
pub fn lolwut(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let first = if request.is_word(1, "version") { 3 } else { 1 };
    if first == 3 && request.get(2).and_then(parse_i64).is_none() {
        return Err(CommandError::NotInteger);
    }
    let size = |at, default| match request.get(at) {
        None => Ok(default),
        Some(word) => parse_i64(word).ok_or(CommandError::NotInteger),
    };
    let columns = size(first, 40)?.clamp(1, SIZE_MAX);
    let rows = size(first + 1, 8)?.clamp(1, SIZE_MAX);
    let mut text = String::new();
    for _ in 0..rows {
        let walls = (0..columns).map(|_| if ctx.keyspace.draw() >> 63 == 0 { '╱' } else { '╲' });
        text.extend(walls);
        text.push('\n');
    }
    text.push_str("\nEvery path stays on its own side, as every shard does.\n");
    text.push_str(concat!("Corelane ver. ", env!("CARGO_PKG_VERSION"), ", Redis ver. 7.0.15\n"));
    reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn the_picture_has_the_asked_size_and_names_the_version() {
        let mut shard = TestShard::new();
        let picture = shard.run("lolwut version 5 7 3");
        let maze: Vec<&str> =
            picture.lines().skip(1).take_while(|line| line.starts_with(['╱', '╲'])).collect();
        assert_eq!(maze.len(), 3, "{picture}");
        assert!(maze.iter().all(|line| line.chars().count() == 7), "{picture}");
        assert!(picture.contains("Redis ver. 7.0.15"));
        assert_eq!(shard.run("lolwut x"), "-ERR value is not an integer or out of range\r\n");
    }
}
