//! A server that knows one answer: what a request costs in the reactor and the kernel alone.
//!
//! `reactor_ping PORT [BUSY_POLL_MICROSECONDS [executor]]` answers `+PONG` to every RESP array it receives
//! (it counts the asterisks), for `redis-benchmark -t ping_mbulk`. With `executor` it sleeps through
//! glommio, as a core does while a background job waits for a file.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use corelane::reactor::{
    Action, Adoption, BufferPool, CloseReason, ConnId, Options, Peer, Reactor, Service, Wait,
    doorbell,
};
use socket2::{Domain, Socket, Type};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Output by connection index.
#[derive(Default)]
struct Pong {
    outputs: Vec<Vec<u8>>,
    pool: BufferPool,
    actions: Vec<Action>,
    sleeps_in_executor: bool,
}

impl Service for Pong {
    fn accepted(&mut self, socket: OwnedFd, peer: Peer) {
        self.actions.push(Action::Adopt(Box::new(Adoption { socket, peer, token: 0 })));
    }

    fn opened(&mut self, conn: ConnId, _peer: Peer, _token: u64) {
        if self.outputs.len() <= conn.index() {
            self.outputs.resize_with(conn.index() + 1, Vec::new);
        }
        self.outputs[conn.index()] = Vec::new();
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        let output = &mut self.outputs[conn.index()];
        if output.is_empty() {
            *output = self.pool.take();
            self.actions.push(Action::Send(conn));
        }
        for _ in memchr::memchr_iter(b'*', bytes) {
            output.extend_from_slice(b"+PONG\r\n");
        }
    }

    fn half_closed(&mut self, conn: ConnId) {
        self.actions.push(Action::Close(conn));
    }

    fn closed(&mut self, conn: ConnId, _why: CloseReason) {
        self.outputs[conn.index()] = Vec::new();
    }

    fn released(&mut self, _conn: ConnId, _socket: OwnedFd) {}

    fn turn(&mut self, _now: Instant) -> Wait {
        if self.sleeps_in_executor { Wait::WithExecutor(None) } else { Wait::Until(None) }
    }

    fn has_incoming(&self) -> bool {
        false
    }

    fn drain_actions(&mut self, actions: &mut Vec<Action>) {
        actions.append(&mut self.actions);
    }

    fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.outputs[conn.index()])
    }

    fn sent(&mut self, _conn: ConnId, _bytes: usize) {}

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port =
        arguments.next().ok_or("reactor_ping PORT [BUSY_POLL_MICROSECONDS [executor]]")?.parse()?;
    let busy_poll = arguments.next().map_or(Ok(0), |micros| micros.parse())?;
    let sleeps_in_executor = arguments.next().is_some_and(|word| word == "executor");
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    listener.listen(511)?;
    let executor = glommio::LocalExecutorBuilder::default().make().map_err(|e| e.to_string())?;
    executor.run(async move {
        let mut options = Options::new(vec![doorbell()?], 0);
        options.listeners.push(listener.into());
        options.busy_poll = Duration::from_micros(busy_poll);
        let service = Pong { sleeps_in_executor, ..Pong::default() };
        Reactor::new(options, service)?.run().await?;
        Ok(())
    })
}
