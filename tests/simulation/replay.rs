//! The journal of a run, run again in another world: everything has to be there, and nothing else.

use corelane::resp::parse_reply::Value;

use crate::world::World;

/// Databases that clients of the simulation use.
const DATABASES: usize = 16;

fn words_of(value: &Value) -> Vec<Vec<u8>> {
    let Value::Array(items) = value else { panic!("a list was expected: {value:?}") };
    let bytes = |item: &Value| match item {
        Value::Bulk(bytes) => bytes.clone(),
        other => panic!("a word was expected: {other:?}"),
    };
    items.iter().map(bytes).collect()
}

/// The commands of a stream of effects. They are what a client sends, so a reply parser reads them.
fn commands_of(mut stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    while !stream.is_empty() {
        let parsed = corelane::resp::parse_reply::parse_reply(stream);
        let (value, length) = parsed.expect("effects are well formed").expect("and whole");
        commands.push(words_of(&value));
        stream = &stream[length..];
    }
    commands
}

/// Everything that a client can see of all keys.
fn contents(world: &mut World) -> Vec<(usize, Vec<u8>, Vec<Value>)> {
    let mut found = Vec::new();
    for db in 0..DATABASES {
        let select = vec![b"select".to_vec(), db.to_string().into_bytes()];
        let keys = world.ask(&[select.clone(), vec![b"keys".to_vec(), b"*".to_vec()]]);
        let mut keys = words_of(&keys[1]);
        keys.sort_unstable();
        for key in keys {
            let call = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
            let kind = world.ask(&[select.clone(), call(&[b"type", &key])]).remove(1);
            let look: Vec<Vec<u8>> = match &kind {
                Value::Simple(kind) => match kind.as_slice() {
                    b"string" => call(&[b"get", &key]),
                    b"list" => call(&[b"lrange", &key, b"0", b"-1"]),
                    b"set" => call(&[b"sort", &key, b"alpha"]),
                    b"zset" => call(&[b"zrange", &key, b"0", b"-1", b"withscores"]),
                    b"hash" => call(&[b"hgetall", &key]),
                    b"stream" => call(&[b"xrange", &key, b"-", b"+"]),
                    other => panic!("no such type: {other:?}"),
                },
                other => panic!("TYPE says {other:?}"),
            };
            let is_hash = kind == Value::Simple(b"hash".to_vec());
            let mut value = world.ask(&[select.clone(), look]).remove(1);
            if let (true, Value::Array(pairs)) = (is_hash, &mut value) {
                let mut sorted: Vec<_> = pairs.chunks(2).map(<[Value]>::to_vec).collect();
                sorted.sort_by_key(|pair| format!("{pair:?}"));
                *pairs = sorted.concat();
            }
            let ttl = world.ask(&[select.clone(), call(&[b"pexpiretime", &key])]).remove(1);
            found.push((db, key, vec![kind, value, ttl]));
        }
    }
    found
}

/// Runs the journal of `world` again, if it has one, and compares.
pub fn check(world: &mut World, seed: u64) {
    let expected = match world.journal() {
        Some(_) => contents(world),
        None => return,
    };
    let commands = commands_of(world.journal().unwrap_or_default());
    let mut other = World::new(seed.wrapping_mul(31));
    for (reply, words) in other.ask(&commands).iter().zip(&commands) {
        let shown: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        assert!(!matches!(reply, Value::Error(_)), "an effect fails: {reply:?} to {shown:?}");
    }
    assert_eq!(contents(&mut other), expected);
}
