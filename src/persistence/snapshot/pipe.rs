//! A snapshot for somebody on the same core: bytes wait in memory until they are taken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Sink, SinkEvent};
use crate::shard_map::ShardId;

/// What comes out of a pipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// The next bytes, and which shard sent them.
    Bytes(Vec<u8>, Option<ShardId>),
    /// That was all.
    Finished,
    /// There is not going to be a snapshot.
    Abandoned,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    events: VecDeque<SinkEvent>,
    is_over: bool,
}

/// The end that takes bytes out.
#[derive(Clone, Default)]
pub struct Pipe(Rc<RefCell<State>>);

/// The end that bytes go into.
pub struct PipeSink(Pipe);

impl Pipe {
    /// The other end.
    pub fn sink(&self) -> PipeSink {
        PipeSink(self.clone())
    }

    /// The next piece, if there is one.
    pub fn take(&self) -> Option<Piece> {
        self.0.borrow_mut().pieces.pop_front()
    }

    /// Bytes that this shard sent have gone on: it may send more.
    pub fn taken(&self, shard: ShardId) {
        self.0.borrow_mut().events.push_back(SinkEvent::Taken(shard));
    }

    /// The snapshot is where it belongs, or will not be.
    pub fn over(&self, result: Result<(), String>) {
        let mut state = self.0.borrow_mut();
        if !std::mem::replace(&mut state.is_over, true) {
            state.events.push_back(SinkEvent::Over(result));
        }
    }
}

impl Sink for PipeSink {
    fn write(&mut self, bytes: Vec<u8>, from: Option<ShardId>) {
        let mut state = self.0.0.borrow_mut();
        match from {
            Some(shard) if state.is_over => state.events.push_back(SinkEvent::Taken(shard)),
            _ if state.is_over => {}
            _ => state.pieces.push_back(Piece::Bytes(bytes, from)),
        }
    }

    fn finish(&mut self) {
        self.0.0.borrow_mut().pieces.push_back(Piece::Finished);
    }

    fn abandon(&mut self) {
        self.0.0.borrow_mut().pieces.push_back(Piece::Abandoned);
    }

    fn event(&mut self) -> Option<SinkEvent> {
        self.0.0.borrow_mut().events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_the_end_is_told_once() {
        let pipe = Pipe::default();
        let mut sink = pipe.sink();
        let shard = ShardId(1);
        sink.write(b"a".to_vec(), None);
        sink.write(b"b".to_vec(), Some(shard));
        sink.finish();
        assert_eq!(pipe.take(), Some(Piece::Bytes(b"a".to_vec(), None)));
        assert_eq!(pipe.take(), Some(Piece::Bytes(b"b".to_vec(), Some(shard))));
        pipe.taken(shard);
        assert_eq!((pipe.take(), pipe.take()), (Some(Piece::Finished), None));
        pipe.over(Ok(()));
        pipe.over(Err("late".to_owned()));
        // What comes after the end is disposed of at once.
        sink.write(b"c".to_vec(), Some(shard));
        let events: Vec<SinkEvent> = std::iter::from_fn(|| sink.event()).collect();
        let taken = SinkEvent::Taken(shard);
        assert_eq!(events, [taken.clone(), SinkEvent::Over(Ok(())), taken]);
        assert_eq!(pipe.take(), None);
    }
}
