//! The ring against socket pairs: short sends, exhausted buffers, closed peers, early drops.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use super::*;

fn pair() -> (Socket, Socket) {
    Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap()
}

/// Turns `ring` until `done` says so, and fails the test if that takes ten seconds.
fn turn_until(ring: &mut Ring, mut visit: impl FnMut(Event<'_>) -> bool) {
    for _ in 0..100_000 {
        ring.submit_and_wait(Duration::from_millis(100)).unwrap();
        let mut done = false;
        ring.reap(|event| done |= visit(event));
        if done {
            return;
        }
    }
    panic!("nothing more happened");
}

#[test]
fn a_short_send_goes_on_and_an_error_closes() {
    let op = |sent| SendInFlight { chunk: vec![7; 10], sent };
    assert!(matches!(after_send(op(0), 4), AfterSend::Resubmit(op) if op.sent == 4));
    assert!(matches!(after_send(op(4), 6), AfterSend::Recycle(chunk) if chunk.is_empty()));
    assert!(matches!(after_send(op(4), -libc::EINTR), AfterSend::Resubmit(op) if op.sent == 4));
    let AfterSend::Close(error) = after_send(op(4), -libc::EPIPE) else { panic!("not closed") };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_receive_ends_with_the_stream_and_survives_full_buffers() {
    for (result, after) in [
        (0, AfterReceive::Close(None)),
        (5, AfterReceive::Bytes(5)),
        (-libc::ENOBUFS, AfterReceive::Rearm),
        (-libc::EINTR, AfterReceive::Rearm),
        (-libc::ECONNRESET, AfterReceive::Close(Some(libc::ECONNRESET))),
    ] {
        assert_eq!(after_receive(result), after, "{result}");
    }
}

#[test]
fn operations_survive_the_way_through_the_kernel() {
    for op in [Operation::Receive(0), Operation::Send(0), Operation::Receive(9), Operation::Send(8)]
    {
        assert_eq!(Operation::from_user_data(op.user_data()), op);
    }
}

#[test]
fn chunks_larger_than_every_buffer_arrive_whole_in_both_directions() {
    // The second is what a kernel without deferred completions gets.
    for uring in [build(), build_plain()] {
        echo_a_large_chunk(uring.unwrap());
    }
}

fn echo_a_large_chunk(uring: IoUring) {
    const BYTES: usize = 24 << 20; // more than all provided buffers and the socket hold
    let (ours, theirs) = pair();
    let echo = thread::spawn(move || {
        let (mut reader, mut writer) = (theirs.try_clone().unwrap(), theirs);
        let mut all = vec![0; BYTES];
        reader.read_exact(&mut all).unwrap();
        writer.write_all(&all).unwrap();
        (all, writer) // the socket stays open until all has been received
    });
    let mut ring = Ring::on(uring, vec![ours]).unwrap();
    let chunk: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    let (mut received, mut sent) = (Vec::new(), false);
    ring.send(0, chunk.clone());
    turn_until(&mut ring, |event| {
        match event {
            Event::Received { connection: 0, bytes } => received.extend_from_slice(bytes),
            Event::Sent { connection: 0, chunk } => sent = chunk.is_empty(),
            other => panic!("{other:?}"),
        }
        received.len() == BYTES
    });
    assert!(sent);
    assert!(received == chunk, "the echo differs from what was sent");
    assert!(echo.join().unwrap().0 == chunk, "the peer received something else");
}

#[test]
fn a_peer_that_closes_is_reported_without_an_error() {
    let (ours, theirs) = pair();
    let mut ring = Ring::new(vec![ours]).unwrap();
    theirs.shutdown(Shutdown::Both).unwrap();
    turn_until(&mut ring, |event| matches!(event, Event::Closed { connection: 0, error: None }));
}

#[test]
fn more_connections_than_the_submission_queue_holds_are_all_served() {
    let count = SUBMISSIONS_MAX as usize + 100;
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| pair()).unzip();
    let mut ring = Ring::new(ours).unwrap();
    (0..count).for_each(|connection| ring.send(connection, vec![b'x']));
    let mut sent = 0;
    turn_until(&mut ring, |event| {
        sent += usize::from(matches!(event, Event::Sent { .. }));
        sent == count
    });
    for mut peer in theirs {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}

#[test]
fn a_ring_dropped_in_the_middle_of_a_send_waits_for_the_kernel() {
    let (ours, theirs) = pair();
    let mut ring = Ring::new(vec![ours]).unwrap();
    ring.send(0, vec![1; 16 << 20]); // the peer never reads, so this stays in flight
    ring.submit_and_wait(Duration::from_millis(1)).unwrap();
    assert_eq!(ring.outstanding, 2);
    assert!(ring.quiesce());
    drop(ring);
    drop(theirs);
}
