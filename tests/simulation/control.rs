//! A control core without listeners and signals: it answers what the shards ask.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane::command::CommandError;
use corelane::config::Config;
use corelane::lanes::Ports;
use corelane::shard::message::{ControlAnswer, ControlCall, ControlRequest, Message};

/// See the module.
pub struct Control {
    ports: Ports<Message>,
    config: Arc<Config>,
    calls: VecDeque<Box<ControlCall>>,
    /// Shards that have not taken over the settings of the first call yet.
    missing: usize,
}

impl Control {
    pub fn new(ports: Ports<Message>, config: Arc<Config>) -> Self {
        Self { ports, config, calls: VecDeque::new(), missing: 0 }
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
                    _ => panic!("meant for a shard"),
                }
            }
        }
        self.ports.flush(|core| panic!("core {core} never sleeps and is rung"));
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
        self.calls.is_empty() && !self.ports.has_incoming() && !self.ports.is_congested()
    }
}
