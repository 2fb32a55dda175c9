//! From a configuration to a running server: what is checked, opened and started, in small steps.

pub mod banner;
pub mod daemon;
pub mod kernel_check;
pub mod limits;
pub mod listen;
pub mod placement;
pub mod signals;

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use glommio::Placement as CorePlacement;

use crate::clock;
use crate::config::Config;
use crate::control::{Control, Listeners};
use crate::entropy::random_bytes;
use crate::lanes::{self, Ports};
use crate::process::Process;
use crate::reactor::{self, Options, Reactor, Service};
use crate::shard::Shard;
use crate::shard::message::Message;
use crate::shard_map::{ShardId, ShardMap};

/// Messages that one lane holds. A full lane neither blocks nor drops: the sender keeps an overflow
/// queue and stops reading the connections that feed it.
const LANE_MESSAGES_MAX: usize = 1024;

/// The most that glommio grants a task queue; its default queue has as many.
const CLIENT_SHARES: usize = 1000;

/// Runs the server that `config` describes until it is told to stop.
pub fn run(mut config: Config) -> Result<(), Box<dyn Error>> {
    kernel_check::check_kernel()?;
    let clients = limits::raise_open_files(config.maxclients)?;
    config.maxclients = clients.maxclients;
    std::env::set_current_dir(&config.dir)?;
    if config.shards == 0 && config.cpus.0.is_empty() && placement::usable_cpus().len() <= 2 {
        config.shards = 1;
    }
    let placement = placement::place(&placement::usable_cpus(), &config)?;
    config.shards = placement.shards();
    let shards = u16::try_from(placement.shards()).ok().and_then(ShardMap::new);
    let shards = shards.ok_or("shards must be between 1 and 1024")?;
    let listeners = open_listeners(&config)?;
    if config.daemonize {
        daemon::daemonize()?;
    }
    daemon::start_log(&config.logfile, config.loglevel)?;
    let _pidfile = create_pidfile(&config)?;
    for line in clients.log {
        tracing::warn!("{line}");
    }
    for line in banner::banner(&config, &placement) {
        tracing::info!("{line}");
    }
    let doorbells =
        (0..=placement.shards()).map(|_| reactor::doorbell()).collect::<Result<Vec<_>, _>>()?;
    let control_bell = &doorbells[placement.shards()];
    let signals = signals::Signals::install(control_bell.clone_fd()?)?;
    let mut ports = lanes::mesh::<Message>(&doorbells, LANE_MESSAGES_MAX);
    let config_file = config.extras.file.as_ref().map(|path| path.display().to_string());
    let process = Arc::new(Process::new(run_id()?, config.port, config_file));
    let config = Arc::new(config);

    let control_ports = ports.pop().ok_or("there is a control core")?;
    let mut cores = Vec::new();
    let (ready, started) = mpsc::channel();
    for (number, ports) in ports.into_iter().enumerate() {
        let id = ShardId(number as u16);
        let (config, process) = (Arc::clone(&config), Arc::clone(&process));
        let core = Core { number, cpu: placement.data[number], name: format!("shard-{number}") };
        let busy_poll = Duration::from_micros(config.busy_poll);
        cores.push(core.start(busy_poll, ports, ready.clone(), move |ports| {
            let seed = clock::unix_us() as u64 ^ (u64::from(id.0) << 48);
            Shard::new(id, shards, config, process, ports, seed)
        })?);
    }
    let core =
        Core { number: placement.shards(), cpu: placement.control, name: "control".to_owned() };
    let control_config = Arc::clone(&config);
    let make =
        move |ports| Control::new(ports, shards, process, control_config, signals, listeners);
    cores.push(core.start(Duration::ZERO, control_ports, ready, make)?);
    for _ in 0..cores.len() {
        started.recv()??;
    }
    for core in cores {
        core.join().map_err(|_| "a core ended by a panic")?;
    }
    if !config.unixsocket.is_empty() {
        _ = std::fs::remove_file(&config.unixsocket);
    }
    Ok(())
}

/// One core of the process: its number among the lanes, its CPU and its thread's name.
struct Core {
    number: usize,
    cpu: Option<usize>,
    name: String,
}

impl Core {
    /// Starts the thread: a glommio executor whose one foreground task is the reactor over the service
    /// that `make` builds there. Says through `ready` whether the reactor could be set up.
    fn start<S: Service + 'static>(
        self,
        busy_poll: Duration,
        ports: Ports<Message>,
        ready: mpsc::Sender<Result<(), String>>,
        make: impl FnOnce(Ports<Message>) -> S + Send + 'static,
    ) -> Result<std::thread::JoinHandle<()>, Box<dyn Error>> {
        let placement = self.cpu.map_or(CorePlacement::Unbound, CorePlacement::Fixed);
        let run = move || {
            let executor = match reactor::executor(&self.name, placement) {
                Ok(executor) => executor,
                Err(error) => {
                    _ = ready.send(Err(format!("{}: {error}", self.name)));
                    return;
                }
            };
            executor.run(async move {
                let mut options = Options::new(ports.doorbells.clone(), self.number);
                options.busy_poll = busy_poll;
                let reactor = match Reactor::new(options, make(ports)) {
                    Ok(reactor) => reactor,
                    Err(error) => {
                        _ = ready.send(Err(error.to_string()));
                        return;
                    }
                };
                _ = ready.send(Ok(()));
                drop(ready);
                if let Err(error) = run_in_client_queue(reactor).await {
                    tracing::error!("the reactor of {} failed: {error}", self.name);
                    std::process::exit(1);
                }
            });
        };
        Ok(std::thread::Builder::new().name("corelane".to_owned()).spawn(run)?)
    }
}

/// Runs the reactor in a task queue of its own, so that tasks of any other queue of the core
/// (files, timers) give way to clients and get [`CLIENT_SHARES`] to their own of the time.
async fn run_in_client_queue<S: Service + 'static>(reactor: Reactor<S>) -> io::Result<()> {
    let queue = reactor::task_queue("clients", CLIENT_SHARES);
    let task = glommio::spawn_local_into(async move { reactor.run().await.map(drop) }, queue);
    task.map_err(io::Error::other)?.await
}

/// How long a start waits for its port.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// Opens the listening sockets. The kernel takes down the rings of a killed process after the process is
/// gone, and with them its listeners: a restart at once finds the port still in use for some
/// tens of milliseconds, so it tries again for a while.
fn open_listeners(config: &Config) -> Result<Listeners, Box<dyn Error>> {
    let start = Instant::now();
    loop {
        match Listeners::open(config) {
            Err(error) if is_in_use(&*error) && start.elapsed() < PORT_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

fn is_in_use(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<listen::ListenError>() {
        Some(listen::ListenError::Tcp { error, .. }) => error.kind() == io::ErrorKind::AddrInUse,
        _ => false,
    }
}

fn create_pidfile(config: &Config) -> Result<Option<daemon::PidFile>, Box<dyn Error>> {
    let path = match (config.pidfile.as_str(), config.daemonize) {
        ("", false) => return Ok(None),
        ("", true) => "/var/run/corelane.pid",
        (path, _) => path,
    };
    Ok(Some(daemon::PidFile::create(Path::new(path))?))
}

/// 40 random hex digits.
fn run_id() -> Result<String, Box<dyn Error>> {
    Ok(random_bytes::<20>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
