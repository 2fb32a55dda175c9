//! Commands about the server and about other clients, while everybody is at work.

use std::cell::Cell;
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

fn operator() -> Talker {
    let id = Rc::new(Cell::new(0));
    Talker::new("operator", move |_, random| {
        let known = id.clone();
        Some(match random.below(6) {
            0 => Call::of("client id").check(move |_, reply| match *reply {
                Value::Integer(id) => known.set(id),
                _ => panic!("a number"),
            }),
            1 => Call::of("client list").check(|_, reply| match reply {
                Value::Bulk(lines) => assert!(lines.starts_with(b"id=")),
                _ => panic!("a string"),
            }),
            2 => {
                let samples = random.between(1, 65).to_string();
                Call::new(&["config", "set", "maxmemory-samples", &samples])
            }
            3 => Call::of("config set maxmemory-samples many").check(|_, reply| {
                assert!(matches!(reply, Value::Error(_)), "it is no number");
            }),
            // Somebody who may be gone already, perhaps a client that must not lose its connection:
            // so nobody at all, but every shard is asked.
            4 => Call::of("client kill id 99999999").expect(Value::Integer(0)),
            _ => Call::of("ping").expect(Value::Simple(b"PONG".to_vec())),
        })
    })
}

/// Kills itself in the end: it gets its reply, then its connection ends.
fn suicidal() -> Talker {
    let id = Rc::new(Cell::new(None));
    let mut ended = false;
    Talker::new("suicidal", move |_, random| {
        let known = id.clone();
        Some(match id.get() {
            _ if ended => return None,
            None => Call::of("client id").check(move |_, reply| match *reply {
                Value::Integer(id) => known.set(Some(id)),
                _ => panic!("a number"),
            }),
            Some(_) if random.chance(80) => Call::of("touch a b c d"),
            Some(me) => {
                ended = true;
                let line = format!("client kill id {me} skipme no");
                Call::of(&line).expect(Value::Integer(1))
            }
        })
    })
}

/// Brings operators into the world.
pub fn join(world: &mut World) -> Audit {
    for _ in 0..world.random.between(1, 3) {
        let depth = world.random.between(1, 4);
        world.connect(operator().depth(depth).mortal(true));
    }
    (0..3).for_each(|_| world.connect(suicidal()));
    Box::new(|world| {
        let replies = world.ask(&[vec!["client", "list"]]);
        let Value::Bulk(lines) = &replies[0] else { panic!("a string") };
        assert!(lines.ends_with(b"\n"));
    })
}
