//! The reactor over real sockets, with a service that echoes and does as the test orders.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use crossbeam::queue::SegQueue;
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::lanes::Doorbell;

/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

/// What a test tells the service, in its next turn.
enum Order {
    /// Queue these actions.
    Act(Vec<Action>),
    /// Append bytes to the output of a connection, then queue these actions.
    Say(ConnId, Vec<u8>, Vec<Action>),
    /// Report when so much time has passed.
    WakeIn(Duration),
    /// Run a background task that sleeps so long; wait for it in this way.
    RunBackground(Duration, Wait),
    /// Sleep in the executor from now on.
    SleepInExecutor,
}

/// What the service tells the test.
#[derive(Debug)]
enum Event {
    Opened(ConnId, u64),
    HalfClosed(ConnId),
    Closed(ConnId, CloseReason),
    Released(ConnId, OwnedFd),
    Obeyed,
    Woke,
    BackgroundRan,
}

struct Echo {
    outputs: Vec<Vec<u8>>,
    pool: BufferPool,
    actions: Vec<Action>,
    orders: Arc<SegQueue<Order>>,
    events: mpsc::Sender<Event>,
    wake_at: Option<Instant>,
    background: Option<(Rc<Cell<bool>>, Wait)>,
    in_executor: bool,
    doorbell: Arc<Doorbell>,
    /// The next token: sockets are numbered as they are accepted.
    token: u64,
}

impl Echo {
    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let output = &mut self.outputs[conn.index()];
        if output.is_empty() {
            *output = self.pool.take();
            self.actions.push(Action::Send(conn));
        }
        output.extend_from_slice(bytes);
    }

    fn tell(&self, event: Event) {
        // The test may have stopped listening.
        let _ = self.events.send(event);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Act(actions) => self.actions.extend(actions),
            Order::Say(conn, bytes, actions) => {
                self.say(conn, &bytes);
                self.actions.extend(actions);
            }
            Order::WakeIn(time) => self.wake_at = Some(Instant::now() + time),
            Order::SleepInExecutor => self.in_executor = true,
            Order::RunBackground(time, wait) => {
                let done = Rc::new(Cell::new(false));
                self.background = Some((done.clone(), wait));
                let doorbell = self.doorbell.clone();
                glommio::spawn_local(async move {
                    glommio::timer::sleep(time).await;
                    done.set(true);
                    doorbell.ring_if_asleep().unwrap();
                })
                .detach();
            }
        }
        self.tell(Event::Obeyed);
    }
}

impl Service for Echo {
    fn accepted(&mut self, socket: OwnedFd, peer: Peer) {
        let adoption = Adoption { socket, peer, token: self.token };
        self.actions.push(Action::Adopt(Box::new(adoption)));
        self.token += 1;
    }

    fn opened(&mut self, conn: ConnId, _peer: Peer, token: u64) {
        if self.outputs.len() <= conn.index() {
            self.outputs.resize_with(conn.index() + 1, Vec::new);
        }
        self.tell(Event::Opened(conn, token));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        self.say(conn, bytes);
    }

    fn half_closed(&mut self, conn: ConnId) {
        self.actions.push(Action::Close(conn));
        self.tell(Event::HalfClosed(conn));
    }

    fn closed(&mut self, conn: ConnId, why: CloseReason) {
        self.outputs[conn.index()] = Vec::new();
        self.tell(Event::Closed(conn, why));
    }

    fn released(&mut self, conn: ConnId, socket: OwnedFd) {
        self.tell(Event::Released(conn, socket));
    }

    fn turn(&mut self, now: Instant) -> Wait {
        while let Some(order) = self.orders.pop() {
            self.obey(order);
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.tell(Event::Woke);
        }
        if let Some((done, wait)) = &self.background {
            if !done.get() {
                return *wait;
            }
            self.background = None;
            self.tell(Event::BackgroundRan);
        }
        if self.in_executor { Wait::WithExecutor(self.wake_at) } else { Wait::Until(self.wake_at) }
    }

    fn has_incoming(&self) -> bool {
        !self.orders.is_empty()
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

/// A reactor on a thread of its own.
struct Server {
    address: SocketAddr,
    orders: Arc<SegQueue<Order>>,
    events: mpsc::Receiver<Event>,
    doorbell: Arc<Doorbell>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(adapt: impl FnOnce(&mut Options) + Send + 'static) -> Self {
        Self::on_core(vec![doorbell().unwrap()], 0, adapt)
    }

    fn on_core(
        doorbells: Vec<Arc<Doorbell>>,
        core: usize,
        adapt: impl FnOnce(&mut Options) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(SegQueue::new());
        let (events, receiver) = mpsc::channel();
        let doorbell = doorbells[core].clone();
        let theirs = orders.clone();
        let thread = thread::spawn(move || {
            let executor = executor("test", glommio::Placement::Unbound).unwrap();
            executor.run(async move {
                let mut options = Options::new(doorbells, core);
                options.listeners.push(listener.into());
                adapt(&mut options);
                let echo = Echo {
                    outputs: Vec::new(),
                    pool: BufferPool::default(),
                    actions: Vec::new(),
                    orders: theirs,
                    events,
                    wake_at: None,
                    background: None,
                    in_executor: false,
                    doorbell: options.doorbells[core].clone(),
                    token: 0,
                };
                Reactor::new(options, echo).unwrap().run().await.unwrap();
            });
        });
        Self { address, orders, events: receiver, doorbell, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// A client and the name that the reactor gave it.
    fn open(&self) -> (TcpStream, ConnId) {
        let client = self.connect();
        match self.event() {
            Event::Opened(conn, _) => (client, conn),
            other => panic!("opened was expected, not {other:?}"),
        }
    }

    fn order(&self, order: Order) {
        self.orders.push(order);
        self.doorbell.ring_if_asleep().unwrap();
        match self.event() {
            Event::Obeyed => {}
            other => panic!("obedience was expected, not {other:?}"),
        }
    }

    fn act(&self, action: Action) {
        self.order(Order::Act(vec![action]));
    }

    /// As `act`, while connections come and go.
    fn act_whatever_happens(&self, action: Action) {
        self.orders.push(Order::Act(vec![action]));
        self.doorbell.ring_if_asleep().unwrap();
        while !matches!(self.event(), Event::Obeyed) {}
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(LONG).expect("the reactor has nothing to say")
    }

    fn expect_closed(&self, expected: ConnId) -> CloseReason {
        match self.event() {
            Event::Closed(conn, why) if conn == expected => why,
            other => panic!("closed was expected, not {other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.push(Order::Act(vec![Action::Stop]));
        self.doorbell.ring_if_asleep().unwrap();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("the reactor's thread panicked");
        }
    }
}

/// Bytes in which every place differs from its neighbours, and from the same place of other seeds.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251 + seed * 17) as u8).collect()
}

fn expect_bytes(client: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == expected, "other bytes came back than went out");
}

fn echo(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    expect_bytes(client, bytes);
}

#[test]
fn many_connections_each_get_their_own_bytes_back() {
    let server = Server::start();
    let mut clients: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&pattern(100 + number, number + round)).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            expect_bytes(client, &pattern(100 + number, number + round));
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_arrive_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let bytes = pattern(500, 1);
    for byte in &bytes {
        client.write_all(&[*byte]).unwrap();
    }
    expect_bytes(&mut client, &bytes);
}

#[test]
fn a_slow_reader_gets_everything_in_pieces() {
    let server = Server::start();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(1).unwrap(); // the kernel makes the smallest of it
    client.connect(&server.address.into()).unwrap();
    let mut client: TcpStream = client.into();
    let Event::Opened(conn, _) = server.event() else { panic!("opened was expected") };
    let bytes = pattern(3_000_000, 2);
    server.order(Order::Say(conn, bytes.clone(), vec![]));
    let mut got = Vec::new();
    let mut chunk = vec![0; 100_000];
    while got.len() < bytes.len() {
        if got.len() < 20_000 {
            thread::sleep(Duration::from_millis(5));
        }
        let count = client.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "the connection ended early");
        got.extend_from_slice(&chunk[..count]);
    }
    assert!(got == bytes);
}

#[test]
fn output_queued_while_a_send_is_in_flight_follows_it() {
    let server = Server::start();
    let (mut client, conn) = server.open();
    let large = pattern(8_000_000, 3);
    server.order(Order::Say(conn, large.clone(), vec![]));
    server.order(Order::Say(conn, b"and then".to_vec(), vec![]));
    server.order(Order::Say(conn, b" the end".to_vec(), vec![]));
    expect_bytes(&mut client, &large);
    expect_bytes(&mut client, b"and then the end");
}

#[test]
fn replies_reach_a_peer_that_has_closed_its_sending_half() {
    let server = Server::start();
    let (mut client, conn) = server.open();
    let bytes = pattern(1_000_000, 4);
    let mut writer = client.try_clone().unwrap();
    let theirs = bytes.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&theirs).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == bytes);
    assert!(matches!(server.event(), Event::HalfClosed(name) if name == conn));
    assert!(matches!(server.expect_closed(conn), CloseReason::Asked));
}

#[test]
fn a_reset_in_the_middle_of_a_send_ends_that_connection_only() {
    let server = Server::start();
    let (mut other, _) = server.open();
    let (mut client, conn) = server.open();
    server.order(Order::Say(conn, pattern(16_000_000, 5), vec![]));
    client.read_exact(&mut [0; 1000]).unwrap();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(matches!(server.expect_closed(conn), CloseReason::Failed(_)));
    echo(&mut other, b"still here");
    // The place is reused, and the old name does not reach its new user.
    let (mut next, next_conn) = server.open();
    assert_eq!(next_conn.index(), conn.index());
    server.act(Action::Abort(conn));
    echo(&mut next, b"me too");
}

#[test]
fn connections_share_two_small_buffers_without_loss() {
    let server = Server::with(|options| {
        options.buffers = 2;
        options.buffer_bytes = 64;
        options.submissions = 8; // and the submission queue runs full, too
    });
    let address = server.address;
    let clients: Vec<_> = (0..24)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(LONG)).unwrap();
                for round in 0..10 {
                    echo(&mut client, &pattern(2_000, seed + round));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client lost bytes");
    }
}

/// Set in the process that [`accepting_goes_on_after_descriptors_ran_out`] starts.
const FEW_DESCRIPTORS: &str = "CORELANE_TEST_FEW_DESCRIPTORS";

#[test]
fn accepting_goes_on_after_descriptors_ran_out() {
    if std::env::var_os(FEW_DESCRIPTORS).is_none() {
        // The limit is the process's, so other tests must not be in it.
        let this = std::env::current_exe().unwrap();
        let test = "reactor::tests::accepting_goes_on_after_descriptors_ran_out";
        let script = "ulimit -n 64 && exec \"$0\" --exact \"$1\" --nocapture";
        let mut child = Command::new("sh");
        child.args(["-c", script]).arg(this).arg(test).env(FEW_DESCRIPTORS, "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let server = Server::start();
    let (mut first, _) = server.open();
    let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let fill: Vec<File> = (0..100).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(fill.len() < 64, "the limit does not hold");
    late.connect(&server.address.into()).unwrap();
    let mut late: TcpStream = late.into();
    late.write_all(b"hello?").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(late.read(&mut [0; 1]).is_err(), "accepted without a descriptor");
    echo(&mut first, b"who is in is served");
    drop(fill);
    late.set_read_timeout(Some(LONG)).unwrap();
    expect_bytes(&mut late, b"hello?");
}

#[test]
fn a_paused_connection_is_not_read_until_it_is_resumed() {
    let server = Server::start();
    let (mut client, conn) = server.open();
    for _ in 0..3 {
        echo(&mut client, b"before");
        server.act(Action::PauseReading(conn));
        thread::sleep(Duration::from_millis(20));
        client.write_all(b"held back").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = client.read(&mut [0; 1]).expect_err("a paused connection was read");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        client.set_read_timeout(Some(LONG)).unwrap();
        server.act(Action::ResumeReading(conn));
        expect_bytes(&mut client, b"held back");
    }
    // Resumed before the pause took hold.
    let both = vec![Action::PauseReading(conn), Action::ResumeReading(conn)];
    server.order(Order::Act(both));
    echo(&mut client, b"after");
}

#[test]
fn close_sends_all_output_first() {
    let server = Server::start();
    let (mut client, conn) = server.open();
    let bytes = pattern(5_000_000, 6);
    server.order(Order::Say(conn, bytes.clone(), vec![Action::Close(conn)]));
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
    assert!(matches!(server.expect_closed(conn), CloseReason::Asked));
}

#[test]
fn abort_does_not_wait_for_a_peer_that_does_not_read() {
    let server = Server::start();
    let (mut client, conn) = server.open();
    server.order(Order::Say(conn, pattern(16_000_000, 7), vec![]));
    thread::sleep(Duration::from_millis(20)); // until the socket is full
    server.orders.push(Order::Act(vec![Action::Abort(conn)]));
    server.doorbell.ring_if_asleep().unwrap();
    assert!(matches!(server.event(), Event::Obeyed));
    assert!(matches!(server.expect_closed(conn), CloseReason::Asked));
    let mut got = Vec::new();
    let _ = client.read_to_end(&mut got); // the end, or a reset: both are an end
    assert!(got.len() < 16_000_000);
}

#[test]
fn a_released_socket_lives_on_in_another_reactor() {
    let (from, to) = (Server::start(), Server::start());
    let (mut client, conn) = from.open();
    echo(&mut client, b"here");
    from.order(Order::Say(conn, b"last words".to_vec(), vec![Action::Release(conn)]));
    let Event::Released(name, socket) = from.event() else { panic!("released was expected") };
    assert_eq!(name, conn);
    expect_bytes(&mut client, b"last words");
    let peer = Peer::Tcp { remote: client.local_addr().unwrap(), local: from.address };
    to.act(Action::Adopt(Box::new(Adoption { socket, peer, token: 99 })));
    assert!(matches!(to.event(), Event::Opened(_, 99)));
    echo(&mut client, b"there");
}

#[test]
fn a_sleeping_reactor_hears_the_doorbell_of_another_core() {
    let doorbells = vec![doorbell().unwrap(), doorbell().unwrap()];
    let ringer = Server::on_core(doorbells.clone(), 0, |_| {});
    let sleeper = Server::on_core(doorbells, 1, |_| {});
    for _ in 0..20 {
        sleeper.orders.push(Order::Act(vec![]));
        ringer.act(Action::Ring(1));
        assert!(matches!(sleeper.event(), Event::Obeyed));
    }
}

#[test]
fn no_order_is_lost_between_busy_and_asleep() {
    for busy_poll in [0, 30] {
        let server =
            Server::with(move |options| options.busy_poll = Duration::from_micros(busy_poll));
        for number in 0..2_000u32 {
            if number % 7 == 0 {
                thread::yield_now();
            }
            server.act(Action::Ring(0)); // it rings itself, to be awake now and then
        }
    }
}

#[test]
fn a_deadline_wakes_an_idle_reactor() {
    for busy_poll in [0, 100] {
        let server =
            Server::with(move |options| options.busy_poll = Duration::from_micros(busy_poll));
        let start = Instant::now();
        server.order(Order::WakeIn(Duration::from_millis(60)));
        assert!(matches!(server.event(), Event::Woke));
        assert!(start.elapsed() >= Duration::from_millis(60));
    }
}

#[test]
fn background_tasks_run_while_the_service_sleeps_with_them() {
    let server = Server::start();
    let (mut client, _) = server.open();
    for wait in [
        Wait::WithExecutor(None),
        Wait::WithExecutor(Some(Instant::now() + Duration::from_secs(60))),
        Wait::WithExecutor(Some(Instant::now())),
    ] {
        server.order(Order::RunBackground(Duration::from_millis(30), wait));
        echo(&mut client, b"served meanwhile");
        assert!(matches!(server.event(), Event::BackgroundRan));
        echo(&mut client, b"served afterwards");
    }
}

#[test]
fn sleeping_in_the_executor_misses_nothing() {
    let server = Server::start();
    let (mut client, _) = server.open();
    server.order(Order::SleepInExecutor);
    for number in 0..500 {
        echo(&mut client, &pattern(300, number));
        server.act(Action::Ring(0));
    }
    let start = Instant::now();
    server.order(Order::WakeIn(Duration::from_millis(60)));
    assert!(matches!(server.event(), Event::Woke));
    assert!(start.elapsed() >= Duration::from_millis(60));
    let (mut next, _) = server.open();
    echo(&mut next, b"accepted");
}

#[test]
fn unix_sockets_are_served_too() {
    let path = std::env::temp_dir().join(format!("corelane-reactor-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::start();
    server.act(Action::Listen(listener.into()));
    let mut client = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(b"over a file").unwrap();
    let mut got = [0; 11];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"over a file");
}

#[test]
fn tcp_listeners_stop_alone_and_their_address_can_be_listened_on_again() {
    let path = std::env::temp_dir().join(format!("corelane-stop-{}.sock", std::process::id()));
    let server = Server::start();
    server.act(Action::Listen(UnixListener::bind(&path).unwrap().into()));
    let (mut before, _) = server.open();
    for _ in 0..3 {
        server.act_whatever_happens(Action::StopListening);
        let end = Instant::now() + LONG;
        while TcpStream::connect(server.address).is_ok() {
            assert!(Instant::now() < end, "the address is still listened on");
        }
        echo(&mut before, b"connections live on");
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        client.write_all(b"?").unwrap();
        client.read_exact(&mut [0]).expect("the unix socket is served still");
        let again = TcpListener::bind(server.address).unwrap();
        server.act_whatever_happens(Action::Listen(again.into()));
        echo(&mut server.connect(), b"and here we are again");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn stopping_ends_at_once_whatever_is_in_flight() {
    let server = Server::start();
    let (idle, _) = server.open();
    let (client, conn) = server.open();
    server.order(Order::Say(conn, pattern(16_000_000, 8), vec![]));
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(2), "operations were not taken back");
    for mut client in [idle, client] {
        let _ = client.read_to_end(&mut Vec::new()); // the end, or a reset
    }
    assert!(start.elapsed() < LONG, "a socket stayed open: reading it ran into the timeout");
}

#[test]
fn a_failed_start_names_the_cure() {
    for (errno, word) in [
        (libc::EPERM, "kernel.io_uring_disabled"),
        (libc::ENOSYS, "6.1"),
        (libc::EINVAL, "6.1"),
        (libc::ENOMEM, "RLIMIT_MEMLOCK"),
        (libc::EMFILE, "RLIMIT_NOFILE"),
    ] {
        let text = StartError::from(io::Error::from_raw_os_error(errno)).to_string();
        assert!(text.contains(word) && !text.contains('\n'), "{errno}: {text}");
    }
}
