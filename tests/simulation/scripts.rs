//! Scripts that move money from account to account, and look at all of it.
//!
//! Some name all their keys, some name none and are found out about after they have written; some need all
//! shards. Whoever looks at all accounts at once sees all of the money.

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::random::Random;
use crate::talker::{Call, Talker};
use crate::world::World;

const MONEY: i64 = 1000;
const DB: &str = "10";

/// Moves ARGV[1] from the first to the second of its keys, which are declared or come as arguments.
const MOVE: &str = "local from, to = KEYS[1] or ARGV[2], KEYS[2] or ARGV[#ARGV]
    redis.call('DECRBY', from, ARGV[1]) redis.call('INCRBY', to, ARGV[1]) return 'moved'";
/// Takes all of the money, and gives it back to one account.
const GATHER: &str = "local sum = 0
    for _, key in ipairs(ARGV) do sum = sum + redis.call('GETSET', key, 0) end
    redis.call('INCRBY', ARGV[1], sum) return sum";
/// Empties the database and fills it again.
const REFILL: &str = "redis.call('FLUSHDB')
    for at, key in ipairs(ARGV) do redis.call('SET', key, at == 1 and 1000 or 0) end return 1000";
/// How much money there is.
const COUNT: &str = "local sum = 0
    for _, list in ipairs({KEYS, ARGV}) do
      for _, key in ipairs(list) do sum = sum + redis.call('GET', key) end
    end return sum";
/// The same, after a write and with all keys that there are.
const COUNT_ALL: &str = "redis.call('INCRBY', ARGV[1], 0)
    local sum, keys = 0, redis.call('KEYS', '*')
    for _, key in ipairs(keys) do sum = sum + redis.call('GET', key) end
    assert(#keys == redis.call('DBSIZE')) return sum";

fn number(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a number"),
        other => panic!("a number, not {other:?}"),
    }
}

fn sum(value: &Value) -> i64 {
    let Value::Array(items) = value else { panic!("an array, not {value:?}") };
    items.iter().map(number).sum()
}

/// An EVAL that declares the first `declared` of its keys.
fn eval(script: &str, declared: usize, keys: &[String], first: &[String]) -> Vec<String> {
    let (keys, rest) = keys.split_at(declared);
    let head = [script.to_owned(), declared.to_string()];
    let words = ["eval".to_owned()].into_iter().chain(head);
    words.chain([keys, first, rest].concat()).collect()
}

fn transfer(accounts: &[String], random: &mut Random) -> Vec<String> {
    let keys = [random.pick(accounts).clone(), random.pick(accounts).clone()];
    let amount = random.between(1, 9).to_string();
    eval(MOVE, *random.pick(&[0, 1, 2, 2]), &keys, &[amount])
}

fn mover(mut accounts: Vec<String>) -> Talker {
    let moved = || Value::Bulk(b"moved".to_vec());
    let all = || Value::Integer(MONEY);
    Talker::new("mover", move |_, random| {
        random.shuffle(&mut accounts);
        Some(match random.below(10) {
            0 => Call::new(&eval(REFILL, 0, &accounts, &[])).expect(all()),
            1 => Call::new(&eval(GATHER, 0, &accounts, &[])).expect(all()),
            2 => {
                let block = [transfer(&accounts, random), transfer(&accounts, random)];
                Call::block(&block, move |_, reply| {
                    assert_eq!(*reply, Value::Array(vec![moved(), moved()]));
                })
            }
            _ => Call::new(&transfer(&accounts, random)).expect(moved()),
        })
    })
}

fn auditor(mut accounts: Vec<String>) -> Talker {
    let all = || Value::Integer(MONEY);
    Talker::new("auditor", move |_, random| {
        random.shuffle(&mut accounts);
        let mget = || ["mget".to_owned()].into_iter().chain(accounts.clone()).collect::<Vec<_>>();
        Some(match random.below(5) {
            0 => Call::new(&mget()).check(|_, reply| assert_eq!(sum(reply), MONEY)),
            1 => Call::new(&eval(COUNT_ALL, 0, &accounts, &[])).expect(all()),
            2 => {
                let block = [mget(), eval(COUNT, 0, &accounts, &[])];
                Call::block(&block, move |_, reply| {
                    let Value::Array(replies) = reply else { panic!("EXEC answers an array") };
                    assert_eq!((sum(&replies[0]), &replies[1]), (MONEY, &all()));
                })
            }
            _ => {
                let declared = random.between(0, accounts.len());
                Call::new(&eval(COUNT, declared, &accounts, &[])).expect(all())
            }
        })
    })
}

/// Brings movers and auditors of money into the world.
pub fn join(world: &mut World) -> Audit {
    let count = world.random.between(1, 6);
    let accounts = world.keys("purse", count);
    let select = vec!["select".to_owned(), DB.to_owned()];
    world.ask(&[select.clone(), eval(REFILL, 0, &accounts, &[])]);
    for _ in 0..world.random.between(2, 5) {
        let (depth, mortal) = (world.random.between(1, 6), world.random.chance(40));
        let talker = match world.random.chance(60) {
            true => mover(accounts.clone()),
            false => auditor(accounts.clone()),
        };
        world.connect(talker.depth(depth).mortal(mortal).greeting(format!("select {DB}")));
    }
    Box::new(move |world| {
        let replies = world.ask(&[select, eval(COUNT_ALL, 0, &accounts, &[])]);
        assert_eq!(replies[1], Value::Integer(MONEY));
    })
}
