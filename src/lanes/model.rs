//! The lanes under loom: every schedule and every allowed reordering of small programs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --target-dir target/loom -p corelane-loom`

use loom::{
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{
    doorbell::Handshake,
    lane::LaneSender,
    ring::{Receiver, channel},
};

/// What an eventfd is to a doorbell: a ring before the sleep is remembered.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn sleep_until_rung(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// Takes `count` messages from `lanes` the way a reactor does; a lost wake-up deadlocks, and loom
/// reports that.
fn receive(count: usize, lanes: &mut [Receiver<usize>], door: &(Handshake, Bell)) -> Vec<usize> {
    let mut got = Vec::new();
    loop {
        for lane in lanes.iter_mut() {
            got.extend(std::iter::from_fn(|| lane.pop()));
        }
        if got.len() == count {
            return got;
        }
        door.0.prepare_sleep();
        if lanes.iter().all(Receiver::is_empty) {
            door.1.sleep_until_rung();
        }
        door.0.wake_up();
    }
}

#[test]
fn messages_cross_once_and_in_order_while_the_ring_runs_full() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel(2);
        let producer = thread::spawn(move || {
            // What does not fit is given back and counted as not sent.
            (0..4).filter(|number| sender.try_push(*number).is_ok()).collect::<Vec<_>>()
        });
        let mut got = Vec::new();
        for _ in 0..2 {
            got.extend(receiver.pop());
        }
        let sent = producer.join().unwrap();
        got.extend(std::iter::from_fn(|| receiver.pop()));
        assert_eq!(got, sent);
    });
}

#[test]
fn no_wake_up_is_lost_between_one_sender_and_a_sleeper() {
    loom::model(|| {
        let (mut sender, receiver) = channel(2);
        let door = Arc::new((Handshake::new(), Bell::default()));
        let theirs = door.clone();
        let producer = thread::spawn(move || {
            for number in 0..2 {
                sender.try_push(number).unwrap();
                if theirs.0.needs_ring() {
                    theirs.1.ring();
                }
            }
        });
        assert_eq!(receive(2, &mut [receiver], &door), [0, 1]);
        producer.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_between_two_senders_and_a_sleeper() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3); // three threads: all schedules would take hours
    model.check(|| {
        let door = Arc::new((Handshake::new(), Bell::default()));
        let mut lanes = Vec::new();
        let mut producers = Vec::new();
        for number in 0..2 {
            let (mut sender, receiver) = channel(1);
            lanes.push(receiver);
            let theirs = door.clone();
            producers.push(thread::spawn(move || {
                sender.try_push(number).unwrap();
                if theirs.0.needs_ring() {
                    theirs.1.ring();
                }
            }));
        }
        let mut got = receive(2, &mut lanes, &door);
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn what_overflows_arrives_after_what_did_not() {
    loom::model(|| {
        let (ring, mut receiver) = channel(1);
        let mut lane = LaneSender::new(ring);
        let producer = thread::spawn(move || {
            for number in 0..3 {
                lane.send(number);
            }
            lane.flush();
            lane
        });
        let mut got: Vec<i32> = receiver.pop().into_iter().collect();
        let mut lane = producer.join().unwrap();
        while lane.is_congested() {
            got.extend(receiver.pop());
            lane.flush();
        }
        got.extend(receiver.pop());
        assert_eq!(got, [0, 1, 2]);
    });
}
