//! The loop of one core: completions in, the service's turn, actions out, one entry into the kernel.

use std::{
    fmt, io, mem,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{
    accept::{ACCEPT_REST, AfterAccept, after_accept},
    connections::{Connection, Connections, Receive, Stage},
    ring::{Completion, Lent, Patience, Ring, RingSizes},
    send::{AfterSend, SendInFlight, after_send},
    service::{Action, Adoption, CloseReason, ConnId, Peer, Service, Wait},
    signal::Signal,
};
use crate::lanes::Doorbell;

/// How a reactor is set up.
pub struct Options {
    /// The doorbells of all cores, by core number.
    pub doorbells: Vec<Arc<Doorbell>>,
    /// This core's number.
    pub core: usize,
    /// Sockets to accept from (more by [`Action::Listen`]).
    pub listeners: Vec<OwnedFd>,
    /// How long to look for work before blocking.
    pub busy_poll: Duration,
    /// Receive buffers of the core (a power of two); they are shared by all connections.
    pub buffers: u16,
    /// Bytes of each receive buffer: the most that one call of [`Service::received`] brings.
    pub buffer_bytes: usize,
    /// Operations that fit into one submission; more take more system calls.
    pub submissions: u32,
}

impl Options {
    /// The usual sizes: 256 receive buffers of 16 KiB, of which only used pages take memory.
    pub fn new(doorbells: Vec<Arc<Doorbell>>, core: usize) -> Self {
        Self {
            doorbells,
            core,
            listeners: Vec::new(),
            busy_poll: Duration::ZERO,
            buffers: 256,
            buffer_bytes: 16 * 1024,
            submissions: 1024,
        }
    }
}

/// Why a core has no ring; displays as one line that names the cure.
#[derive(Debug)]
pub struct StartError(io::Error);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cure = match self.0.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "set the sysctl kernel.io_uring_disabled to 0 and, in a container, allow io_uring in its seccomp profile"
            }
            Some(libc::ENOSYS) => {
                "a Linux kernel of 6.1 or newer with CONFIG_IO_URING is needed and, in a container, a seccomp profile that allows it"
            }
            Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= of systemd)",
            Some(libc::EMFILE | libc::ENFILE) => "raise RLIMIT_NOFILE (ulimit -n)",
            Some(libc::EINVAL) => "a Linux kernel of 6.1 or newer is needed",
            _ => "see io_uring_setup(2)",
        };
        write!(f, "cannot set up io_uring: {}: {cure}", self.0)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

struct Listener {
    socket: OwnedFd,
    /// The kernel holds an accept for it, so its place in the table is not free yet.
    armed: bool,
    /// Failed for good, or asked to stop: not armed again.
    over: bool,
    is_unix: bool,
}

/// One core's ring, its sockets, and the service they serve.
pub struct Reactor<S> {
    ring: Ring,
    service: S,
    connections: Connections,
    /// A place is reused only when the kernel holds no accept of its last user.
    listeners: Vec<Option<Listener>>,
    /// When listeners that ran out of descriptors try again.
    accept_again_at: Option<Instant>,
    doorbells: Vec<Arc<Doorbell>>,
    core: usize,
    busy_poll: Duration,
    stopped: bool,
    /// Made when it is first needed.
    signal: Option<Rc<Signal>>,
    // Kept for their capacity; empty between turns.
    completions: Vec<Completion>,
    actions: Vec<Action>,
}

impl<S: Service> Reactor<S> {
    /// A reactor for the calling thread, which alone may run it.
    pub fn new(options: Options, service: S) -> Result<Self, StartError> {
        assert!(options.core < options.doorbells.len(), "a core without a doorbell");
        let sizes = RingSizes {
            submissions: options.submissions,
            // Every connection may report a receive and a send in one turn.
            completions: options.submissions.saturating_mul(4),
            buffers: options.buffers,
            buffer_bytes: options.buffer_bytes,
        };
        let mut reactor = Self {
            ring: Ring::new(&sizes)?,
            service,
            connections: Connections::default(),
            listeners: Vec::new(),
            accept_again_at: None,
            doorbells: options.doorbells,
            core: options.core,
            busy_poll: options.busy_poll,
            stopped: false,
            signal: None,
            completions: Vec::new(),
            actions: Vec::new(),
        };
        reactor.ring.watch_bell(reactor.doorbells[reactor.core].as_raw_fd());
        for listener in options.listeners {
            reactor.listen(listener);
        }
        Ok(reactor)
    }

    /// Serves until [`Action::Stop`], then closes everything and returns the service. An error is
    /// one of the ring itself; nothing can be served after it.
    pub async fn run(mut self) -> io::Result<S> {
        loop {
            let wait = self.turn();
            if self.stopped {
                return Ok(self.shut_down());
            }
            match wait {
                Wait::Poll => self.ring.enter(Patience::None)?,
                Wait::WithExecutor(deadline) => self.wait_in_executor(deadline).await?,
                Wait::Until(deadline) => self.block_until(deadline)?,
            }
        }
    }

    fn turn(&mut self) -> Wait {
        let mut completions = mem::take(&mut self.completions);
        self.ring.take_completions(&mut completions);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        let now = Instant::now();
        let wait = self.service.turn(now);
        self.perform_actions();
        self.resume_accepting(now);
        wait
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { connection, result, lent, more } => {
                self.on_received(connection, result, lent, more);
            }
            Completion::Sent { op, result } => self.on_sent(op, result),
            Completion::Accepted { listener, result, more } => {
                self.on_accepted(listener, result, more);
            }
            // The bell's only message is that the core is awake.
            Completion::BellRang { more: true } => {}
            Completion::BellRang { more: false } => {
                self.ring.watch_bell(self.doorbells[self.core].as_raw_fd());
            }
        }
    }

    // --- receiving ---

    fn on_received(&mut self, index: u32, result: i32, lent: Option<Lent>, more: bool) {
        let (conn, connection) = self.connections.of_operation(index);
        if !more {
            connection.receive = Receive::Off;
        }
        let wanted = matches!(connection.stage, Stage::Open | Stage::Releasing);
        match (result, lent) {
            (1.., Some(lent)) if wanted => self.service.received(conn, self.ring.bytes(&lent)),
            (1.., _) => {}
            (0, _) => {
                connection.ended = true;
                if connection.stage == Stage::Open {
                    self.service.half_closed(conn);
                }
            }
            (error, _) => match -error {
                // Out of buffers: all of this turn go back before the receive is armed again below,
                // and connections queue up for them in the order in which they went without.
                libc::ENOBUFS => self.ring.add_buffers(),
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => return self.fail(index, io::Error::from_raw_os_error(errno)),
            },
        }
        if !more {
            self.after_operation(index);
        }
    }

    /// An operation of this connection is over: starts what waited for that.
    fn after_operation(&mut self, index: u32) {
        let (_, connection) = self.connections.of_operation(index);
        match connection.stage {
            Stage::Open => self.arm_receive(index),
            Stage::Closing | Stage::Releasing => self.go_on_ending(index),
            Stage::Dead => self.bury(index),
        }
    }

    fn arm_receive(&mut self, index: u32) {
        let (_, connection) = self.connections.of_operation(index);
        if connection.should_arm() {
            connection.receive = Receive::Armed;
            self.ring.receive(index, connection.socket.as_raw_fd());
        }
    }

    fn stop_receive(&mut self, index: u32) {
        let (_, connection) = self.connections.of_operation(index);
        if connection.receive == Receive::Armed {
            connection.receive = Receive::Stopping;
            self.ring.stop_receiving(index);
        }
    }

    // --- sending ---

    /// Sends what the service has for this connection; `false` if it has nothing.
    fn send_output(&mut self, index: u32) -> bool {
        let (conn, connection) = self.connections.of_operation(index);
        connection.more_output = false;
        let chunk = self.service.take_output(conn);
        if chunk.is_empty() {
            self.service.recycle(chunk);
            return false;
        }
        let op = SendInFlight { connection: index, chunk, sent: 0 };
        connection.send = Some(self.ring.send(connection.socket.as_raw_fd(), op));
        true
    }

    fn on_sent(&mut self, op: SendInFlight, result: i32) {
        let index = op.connection;
        let (conn, connection) = self.connections.of_operation(index);
        connection.send = None;
        let (stage, more_output) = (connection.stage, connection.more_output);
        if stage != Stage::Dead && result > 0 {
            self.service.sent(conn, result as usize);
        }
        match after_send(op, result) {
            AfterSend::Resubmit(op) if stage != Stage::Dead => {
                connection.send = Some(self.ring.send(connection.socket.as_raw_fd(), op));
                return;
            }
            AfterSend::Resubmit(SendInFlight { chunk, .. }) | AfterSend::Recycle(chunk) => {
                self.service.recycle(chunk);
            }
            AfterSend::Failed(error) => return self.fail(index, error),
        }
        match stage {
            Stage::Open if more_output => self.actions.push(Action::Send(conn)),
            Stage::Open => {}
            Stage::Closing | Stage::Releasing => self.go_on_ending(index),
            Stage::Dead => self.bury(index),
        }
    }

    // --- the end of a connection ---

    /// Asked to close or release: sends what there is, then ends it.
    fn go_on_ending(&mut self, index: u32) {
        self.stop_receive(index);
        let (_, connection) = self.connections.of_operation(index);
        if connection.stage == Stage::Dead || connection.send.is_some() {
            return;
        }
        if self.send_output(index) {
            return;
        }
        let (conn, connection) = self.connections.of_operation(index);
        if !connection.is_quiet() {
            return;
        }
        match connection.stage {
            Stage::Closing => {
                connection.stage = Stage::Dead;
                self.service.closed(conn, CloseReason::Asked);
                self.bury(index);
            }
            Stage::Releasing => {
                let socket = self.connections.remove(index).socket;
                self.service.released(conn, socket);
            }
            Stage::Open | Stage::Dead => {}
        }
    }

    /// An operation failed, and is over.
    fn fail(&mut self, index: u32, error: io::Error) {
        let (_, connection) = self.connections.of_operation(index);
        match connection.stage {
            Stage::Dead => self.bury(index), // known already: this is the echo of a cancellation
            _ => self.kill(index, CloseReason::Failed(error)),
        }
    }

    /// Ends a connection now. Its place stays taken until the kernel has let go of it.
    fn kill(&mut self, index: u32, why: CloseReason) {
        let (conn, connection) = self.connections.of_operation(index);
        if connection.stage == Stage::Dead {
            return;
        }
        connection.stage = Stage::Dead;
        if let Some(key) = connection.send {
            self.ring.stop_sending(key);
        }
        self.stop_receive(index);
        self.service.closed(conn, why);
        self.bury(index);
    }

    /// Frees the place of a dead connection once nothing is in flight.
    fn bury(&mut self, index: u32) {
        let (_, connection) = self.connections.of_operation(index);
        if connection.is_quiet() {
            let socket = self.connections.remove(index).socket;
            self.ring.close(socket);
        }
    }

    // --- actions ---

    fn perform_actions(&mut self) {
        let mut actions = mem::take(&mut self.actions);
        loop {
            self.service.drain_actions(&mut actions);
            if actions.is_empty() {
                break;
            }
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        // `perform` queues nothing here itself, it calls the service, which does.
        self.actions = actions;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(conn) => self.start_send(conn),
            Action::PauseReading(conn) => self.set_reading(conn, false),
            Action::ResumeReading(conn) => self.set_reading(conn, true),
            Action::Close(conn) => self.start_ending(conn, Stage::Closing),
            Action::Release(conn) => self.start_ending(conn, Stage::Releasing),
            Action::Abort(conn) => {
                if let Some((index, _)) = self.connections.named(conn) {
                    self.kill(index, CloseReason::Asked);
                }
            }
            Action::Adopt(adoption) => self.adopt(*adoption),
            Action::Listen(socket) => self.listen(socket),
            Action::StopListening => self.stop_listening(),
            Action::Ring(core) => self.ring.ring_bell(self.doorbells[core].as_raw_fd()),
            Action::Stop => self.stopped = true,
        }
    }

    fn start_send(&mut self, conn: ConnId) {
        let Some((index, connection)) = self.connections.named(conn) else { return };
        if connection.send.is_some() {
            connection.more_output = true;
        } else {
            self.send_output(index);
        }
    }

    fn set_reading(&mut self, conn: ConnId, reading: bool) {
        let Some((index, connection)) = self.connections.named(conn) else { return };
        connection.reading = reading;
        if reading { self.arm_receive(index) } else { self.stop_receive(index) }
    }

    fn start_ending(&mut self, conn: ConnId, stage: Stage) {
        let Some((index, connection)) = self.connections.named(conn) else { return };
        // Closing outranks releasing: a socket that is to be closed must not live on elsewhere.
        if connection.stage != Stage::Closing {
            connection.stage = stage;
        }
        self.go_on_ending(index);
    }

    fn adopt(&mut self, Adoption { socket, peer, token }: Adoption) {
        let options = SockRef::from(&socket);
        // On a socket that does not block, the ring would report EAGAIN instead of waiting. Neither
        // call fails on a connected socket; on a broken one the receive will.
        let _ = options.set_nonblocking(false);
        if matches!(peer, Peer::Tcp { .. }) {
            let _ = options.set_tcp_nodelay(true);
        }
        let conn = self.connections.insert(Connection::new(socket));
        self.service.opened(conn, peer, token);
        self.arm_receive(conn.index() as u32);
    }

    // --- accepting ---

    fn listen(&mut self, socket: OwnedFd) {
        let options = SockRef::from(&socket);
        let _ = options.set_nonblocking(false);
        let is_unix = options.local_addr().is_ok_and(|address| address.is_unix());
        let listener = Some(Listener { socket, armed: false, over: false, is_unix });
        match self.listeners.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = listener,
            None => self.listeners.push(listener),
        }
        self.arm_listeners();
    }

    /// Closes every listening TCP socket as soon as the kernel has let go of it.
    fn stop_listening(&mut self) {
        for (index, place) in self.listeners.iter_mut().enumerate() {
            let Some(listener) = place.as_mut().filter(|listener| !listener.is_unix) else {
                continue;
            };
            listener.over = true;
            if listener.armed {
                self.ring.stop_accepting(index as u32);
            } else {
                *place = None;
            }
        }
    }

    fn arm_listeners(&mut self) {
        for (index, place) in self.listeners.iter_mut().enumerate() {
            if let Some(listener) = place
                && !listener.armed
                && !listener.over
            {
                listener.armed = true;
                self.ring.accept(index as u32, listener.socket.as_raw_fd());
            }
        }
    }

    fn on_accepted(&mut self, index: u32, result: io::Result<OwnedFd>, more: bool) {
        let place = &mut self.listeners[index as usize];
        let listener = place.as_mut().expect("a listener stays until its accept is over");
        listener.armed = more;
        match result {
            Ok(socket) => {
                // A peer that is gone already has no address any more, and nothing to be told.
                if let Ok(peer) = peer_of(&socket) {
                    self.service.accepted(socket, peer);
                }
            }
            Err(_) if listener.over => {}
            Err(error) => match after_accept(error.raw_os_error().unwrap_or_default()) {
                AfterAccept::GoOn => {}
                AfterAccept::Rest => {
                    if self.accept_again_at.is_none() {
                        tracing::warn!("Accepting client connection: {error}");
                    }
                    self.accept_again_at = Some(Instant::now() + ACCEPT_REST);
                }
                AfterAccept::GiveUp => {
                    tracing::warn!("A listening socket failed: {error}");
                    listener.over = true;
                }
            },
        }
        if listener.over && !listener.armed {
            *place = None;
        }
        if self.accept_again_at.is_none() {
            self.arm_listeners();
        }
    }

    fn resume_accepting(&mut self, now: Instant) {
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.arm_listeners();
        }
    }

    // --- waiting ---

    /// Blocks until a completion, the doorbell or `deadline`.
    fn block_until(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if !self.busy_poll.is_zero() && self.finds_work_spinning(deadline)? {
            return Ok(());
        }
        let deadline = [deadline, self.accept_again_at].into_iter().flatten().min();
        let doorbell = self.doorbells[self.core].clone();
        doorbell.prepare_sleep();
        let patience = if self.service.has_incoming() {
            Patience::None
        } else {
            match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => Patience::Endless,
                Some(Duration::ZERO) => Patience::None,
                Some(time) => Patience::For(time),
            }
        };
        let entered = self.ring.enter(patience);
        doorbell.wake_up();
        entered
    }

    /// Sleeps in the executor until a completion, the doorbell or `deadline`; other tasks run.
    async fn wait_in_executor(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let signal = match &self.signal {
            Some(signal) => signal.clone(),
            None => self.make_signal()?,
        };
        self.ring.enter(Patience::None)?;
        let deadline = [deadline, self.accept_again_at].into_iter().flatten().min();
        let doorbell = self.doorbells[self.core].clone();
        doorbell.prepare_sleep();
        doorbell.silence();
        self.ring.set_signalling(true);
        let is_over = deadline.is_some_and(|at| at <= Instant::now());
        if self.ring.has_news() || self.service.has_incoming() || is_over {
            // Not a yield: a task that is always ready keeps the executor from looking at its rings.
            signal.give();
        }
        match deadline.filter(|_| !is_over) {
            Some(deadline) => signal.given_until(deadline).await?,
            None => signal.given().await?,
        }
        self.ring.set_signalling(false);
        doorbell.wake_up();
        // Back to zero, or the next wait would end at once. It is zero if the deadline came first.
        signal.forget();
        self.ring.enter(Patience::None)
    }

    fn make_signal(&mut self) -> io::Result<Rc<Signal>> {
        let signal = Rc::new(Signal::new(self.doorbells[self.core].clone())?);
        self.ring.register_signal(signal.eventfd())?;
        self.signal = Some(signal.clone());
        Ok(signal)
    }

    /// Submits, then looks for work for as long as `busy_poll` says.
    fn finds_work_spinning(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        self.ring.enter(Patience::None)?;
        let mut end = Instant::now() + self.busy_poll;
        if let Some(deadline) = deadline {
            end = end.min(deadline);
        }
        loop {
            if self.ring.has_news() {
                self.ring.enter(Patience::None)?; // runs the work that leads to completions
                return Ok(true);
            }
            if self.service.has_incoming() {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    fn shut_down(mut self) -> S {
        for index in self.connections.indices() {
            self.kill(index, CloseReason::Asked);
        }
        // The ring's drop waits for what is in flight; sockets close with it.
        self.service
    }
}

/// Who is at the other end of a connected socket.
pub fn peer_of(socket: &OwnedFd) -> io::Result<Peer> {
    let socket = SockRef::from(socket);
    let local = socket.local_addr()?;
    if local.is_unix() {
        return Ok(Peer::Unix);
    }
    match (socket.peer_addr()?.as_socket(), local.as_socket()) {
        (Some(remote), Some(local)) => Ok(Peer::Tcp { remote, local }),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
