//! A control core without listeners and signals: it answers what the shards ask, and keeps the journal in
//! memory. The disk takes its time.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane::command::CommandError;
use corelane::config::Config;
use corelane::journal::{Audience, Merge, Parcel, Stamp, Stream};
use corelane::lanes::Ports;
use corelane::shard::message::{ControlAnswer, ControlCall, ControlRequest, Message};

/// See the module.
pub struct Control {
    ports: Ports<Message>,
    config: Arc<Config>,
    calls: VecDeque<Box<ControlCall>>,
    /// Shards that have not taken over the settings of the first call yet.
    missing: usize,
    merge: Merge<Box<Parcel>>,
    stream: Stream,
    /// The journal, as a file would have it.
    pub journal: Vec<u8>,
    /// What the shards know to be on the disk.
    durable: Stamp,
    /// Turns until the disk has what was written.
    disk_turns: usize,
}

/// Turns of the control core that the disk takes.
const DISK_TURNS: usize = 3;

impl Control {
    pub fn new(ports: Ports<Message>, config: Arc<Config>) -> Self {
        Self {
            ports,
            config,
            calls: VecDeque::new(),
            missing: 0,
            merge: Merge::default(),
            stream: Stream::default(),
            journal: Vec::new(),
            durable: Stamp::default(),
            disk_turns: 0,
        }
    }

    pub fn turn(&mut self) {
        for core in 0..self.ports.from.len() {
            while let Some(message) = self.ports.from[core].pop() {
                match message {
                    Message::Control(call) => {
                        self.calls.push_back(call);
                        if self.calls.len() == 1 {
                            self.begin();
                        }
                    }
                    Message::SettingsDone(_) => {
                        self.missing -= 1;
                        if self.missing == 0 {
                            self.answer(Ok("OK"));
                        }
                    }
                    Message::Effects(parcel) => {
                        self.merge.put(parcel.first, parcel.stamp, parcel);
                    }
                    _ => panic!("meant for a shard"),
                }
            }
        }
        while let Some((_, parcel)) = self.merge.pop() {
            self.stream.append(&parcel, Audience::FILE, &mut self.journal);
        }
        self.synchronise();
        self.ports.flush(|core| panic!("core {core} never sleeps and is rung"));
    }

    /// After a while what was written is on the disk.
    fn synchronise(&mut self) {
        let last = self.merge.last();
        if self.durable == last {
            return;
        }
        self.disk_turns += 1;
        if self.disk_turns == DISK_TURNS {
            (self.durable, self.disk_turns) = (last, 0);
            for shard in 0..self.ports.to.len() - 1 {
                self.ports.to[shard].send(Message::Durable(last));
            }
        }
    }

    fn begin(&mut self) {
        let Some(call) = self.calls.front() else { return };
        let ControlRequest::ConfigSet(words) = &call.request else {
            return self.answer(Err(CommandError::Syntax));
        };
        match self.config.set(words, true) {
            Err(error) => self.answer(Err(CommandError::owned(error.to_string()))),
            Ok(config) => {
                self.config = Arc::new(config);
                self.missing = self.ports.to.len() - 1;
                for shard in 0..self.missing {
                    self.ports.to[shard].send(Message::Settings(Arc::clone(&self.config)));
                }
            }
        }
    }

    fn answer(&mut self, result: ControlAnswer) {
        let Some(call) = self.calls.pop_front() else { return };
        let done = Message::ControlDone(Box::new((call.ticket, result)));
        self.ports.to[call.shard.index()].send(done);
        self.begin();
    }

    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty()
            && !self.merge.is_waiting()
            && self.durable == self.merge.last()
            && !self.ports.has_incoming()
            && !self.ports.is_congested()
    }
}
