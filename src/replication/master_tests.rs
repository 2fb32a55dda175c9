//! Replicas that come, fall behind, come back and go.

use super::*;

const A: ReplId = ReplId::NONE;

fn settings() -> Settings {
    Settings {
        backlog_bytes: 20_000,
        backlog_ttl_ms: 3_600_000,
        ping_period_ms: 10_000,
        timeout_ms: 60_000,
        snapshot_delay_ms: 0,
        snapshot_replicas: 0,
        diskless: true,
        output_limits: (100_000, 50_000, 10_000),
    }
}

fn id() -> ReplId {
    ReplId::from_random([7; 20])
}

fn profile() -> Profile {
    Profile {
        address: "10.0.0.1".to_owned(),
        port: 7001,
        eof: true,
        psync2: true,
        ..Profile::default()
    }
}

fn output(master: &mut Master<u32>, key: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let some = master.take_output(key);
        if some.is_empty() {
            return out;
        }
        out.extend(some);
    }
}

fn ack(position: u64) -> Vec<u8> {
    let mut out = Vec::new();
    write_effect(&mut out, &[b"REPLCONF", b"ACK", position.to_string().as_bytes()]);
    out
}

/// A master with one replica online, at some position.
fn with_replica() -> (Master<u32>, u64) {
    let mut master = Master::new(History::new(A), settings());
    assert!(!master.wants_stream() && !master.wants_snapshot(0));
    master.attach(0, 1, profile(), Request::Psync(b"?", -1));
    assert!(master.wants_snapshot(0));
    master.snapshot_asked();
    assert!(!master.wants_snapshot(0));
    master.snapshot_begins(id(), [b'm'; 40]);
    master.append(b"*1\r\n$4\r\nPING\r\n");
    master.snapshot_bytes(Arc::from(&b"REDIS"[..]));
    let mark = "m".repeat(40);
    let begun = format!("+FULLRESYNC {} 0\r\n$EOF:{mark}\r\nREDIS", id());
    assert_eq!(String::from_utf8(output(&mut master, 1)).unwrap(), begun);
    master.snapshot_ends(5, true);
    assert_eq!(output(&mut master, 1), mark.as_bytes(), "the stream waits for a word");
    master.received(6, 1, &ack(0)[..7]);
    master.received(6, 1, &ack(0)[7..]);
    assert_eq!(output(&mut master, 1), b"*1\r\n$4\r\nPING\r\n");
    let end = master.history.end;
    master.received(7, 1, &ack(end));
    assert_eq!((master.acknowledged(end), master.acknowledged(end + 1)), (1, 0));
    master.take_doings();
    (master, end)
}

#[test]
fn a_replica_gets_a_snapshot_and_then_the_stream_from_its_cut() {
    let (master, _) = with_replica();
    assert_eq!(master.counts, Counts { full: 1, partial: 0, refused: 0 });
    assert_eq!((master.good_replicas(1000, 10_000), master.good_replicas(20_000, 10_000)), (1, 0));
    let (_, replica) = master.replicas().next().unwrap();
    assert_eq!((replica.stage, replica.acked), (Stage::Online, 14));
    assert_eq!((replica.profile.shown_address(), replica.profile.port), ("10.0.0.1", 7001));
    let backlog = master.backlog().unwrap();
    assert_eq!((backlog.first(), backlog.len(), master.history.end), (0, 14, 14));
}

#[test]
fn one_that_was_away_for_a_moment_gets_what_it_missed() {
    let (mut master, end) = with_replica();
    master.detach(10, 1);
    master.append(b"missed");
    master.attach(20, 2, profile(), Request::Psync(id().as_bytes(), end as i64 + 1));
    let expected = format!("+CONTINUE {}\r\nmissed", id());
    assert_eq!(String::from_utf8(output(&mut master, 2)).unwrap(), expected);
    for (bad, offset) in [(id(), end as i64 + 8), (id(), -1), (ReplId::from_random([9; 20]), 1)] {
        master.attach(20, 3, profile(), Request::Psync(bad.as_bytes(), offset));
        assert!(master.wants_snapshot(20), "{bad} {offset}");
        master.detach(20, 3);
    }
    master.append(&vec![b'x'; 30_000]);
    master.tick(30, false);
    master.attach(30, 3, profile(), Request::Psync(id().as_bytes(), end as i64 + 1));
    assert!(master.wants_snapshot(30), "what it missed is gone");
    assert_eq!(master.counts, Counts { full: 5, partial: 1, refused: 4 });
}

#[test]
fn one_that_cannot_take_an_open_end_gets_the_length_first() {
    let mut master: Master<u32> = Master::new(History::new(A), settings());
    master.attach(0, 1, Profile { eof: false, psync2: false, ..profile() }, Request::Sync);
    master.snapshot_asked();
    master.snapshot_begins(id(), [b'm'; 40]);
    master.snapshot_bytes(Arc::from(&b"RED"[..]));
    master.snapshot_bytes(Arc::from(&b"IS"[..]));
    assert!(output(&mut master, 1).is_empty());
    master.append(b"stream");
    master.snapshot_ends(5, true);
    assert_eq!(output(&mut master, 1), b"$5\r\nREDISstream");
    // It never says anything, and is kept all the same.
    master.take_doings();
    master.tick(100_000, false);
    assert!(!master.take_doings().contains(&Doing::Close(1)));
}

#[test]
fn a_promoted_node_takes_the_replicas_of_its_master() {
    let (mut master, end) = with_replica();
    let new = ReplId::from_random([8; 20]);
    master.promote(new);
    assert_eq!(master.take_doings(), [Doing::Close(1)]);
    master.detach(10, 1);
    master.append(b"new");
    master.attach(20, 2, profile(), Request::Psync(id().as_bytes(), end as i64 + 1));
    let expected = format!("+CONTINUE {new}\r\nnew");
    assert_eq!(String::from_utf8(output(&mut master, 2)).unwrap(), expected);
    master.attach(20, 3, profile(), Request::Psync(id().as_bytes(), end as i64 + 2));
    assert!(master.wants_snapshot(20), "it has more than this node had");
}

#[test]
fn the_silent_and_the_slow_are_closed() {
    let (mut master, _) = with_replica();
    master.tick(59_000, false);
    assert!(!master.take_doings().contains(&Doing::Close(1)));
    master.tick(61_000, false);
    assert!(master.take_doings().contains(&Doing::Close(1)));
    let (mut master, end) = with_replica();
    master.append(&vec![b'x'; 60_000]);
    master.tick(1000, false);
    master.received(8000, 1, &ack(end));
    master.tick(10_500, false);
    assert!(!master.take_doings().contains(&Doing::Close(1)));
    master.tick(11_500, false);
    assert!(master.take_doings().contains(&Doing::Close(1)), "over the soft limit for too long");
    let (mut master, _) = with_replica();
    master.append(&vec![b'x'; 110_000]);
    master.tick(100, false);
    assert!(master.take_doings().contains(&Doing::Close(1)), "over the hard limit");
}

#[test]
fn a_snapshot_that_fails_closes_those_who_wait_for_its_end() {
    let mut master: Master<u32> = Master::new(History::new(A), settings());
    master.attach(0, 1, profile(), Request::Psync(b"?", -1));
    master.snapshot_asked();
    master.snapshot_begins(id(), [b'm'; 40]);
    master.attach(1, 2, profile(), Request::Psync(b"?", -1));
    master.take_doings();
    master.snapshot_ends(5, false);
    assert_eq!(master.take_doings(), [Doing::Close(1)]);
    assert!(master.wants_snapshot(5), "the other one has waited for the next");
}

#[test]
fn without_replicas_the_backlog_ends_after_its_time() {
    let (mut master, _) = with_replica();
    master.detach(1000, 1);
    master.tick(3_600_500, false);
    assert!(master.wants_stream());
    master.tick(3_602_000, false);
    assert!(!master.wants_stream());
}
