//! One machine of the simulated world: a node, its disk, and the little of replication that elections see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::super::NodesConf;
use super::super::event::{LinkId, MasterLink, Replication, Upstream};
use super::super::machine::Cluster;
use super::super::random::Seed;
use super::super::settings::Settings;

/// Where a node is in the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(pub usize);

/// A machine.
pub struct Host {
    /// The node, while the machine runs.
    pub node: Option<Cluster>,
    /// Raised by every start, so that what was meant for an earlier life is not heard.
    pub life: u64,
    /// nodes.conf as it was written.
    pub written: String,
    /// nodes.conf as it would be after the power fails.
    pub synced: String,
    /// The ends of connections here.
    pub ends: BTreeMap<LinkId, u64>,
    pub next_inbound: u64,
    /// Whom its data come from.
    pub upstream: Upstream,
    /// Bytes of replication that it has.
    pub offset: u64,
    pub master_link: MasterLink,
    pub writes_paused: bool,
    pub settings: Settings,
    /// By how much its clock is wrong, in milliseconds.
    pub skew_ms: i64,
}

impl Host {
    pub fn new(settings: Settings) -> Self {
        Self {
            node: None,
            life: 0,
            written: String::new(),
            synced: String::new(),
            ends: BTreeMap::new(),
            next_inbound: 0,
            upstream: Upstream::None,
            offset: 0,
            master_link: MasterLink::Never,
            writes_paused: false,
            settings,
            skew_ms: 0,
        }
    }

    /// What its clock shows at this time.
    pub fn clock(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.skew_ms)
    }

    /// Starts the node with what is on its disk.
    pub fn start(&mut self, seed: Seed, now: u64) {
        let conf = NodesConf::parse(&self.written).expect("nodes read what they write");
        self.node = Some(match conf {
            Some(conf) => Cluster::restore(&conf, self.settings.clone(), seed, now)
                .expect("nodes take what they wrote"),
            None => Cluster::new(self.settings.clone(), seed, now),
        });
        self.life += 1;
        self.upstream = Upstream::None;
        self.master_link = MasterLink::Never;
        self.writes_paused = false;
    }

    /// The node dies; `power` says whether what was not synced is lost with it.
    pub fn crash(&mut self, power: bool) {
        self.node = None;
        self.life += 1;
        self.ends.clear();
        if power {
            self.written = self.synced.clone();
        }
    }

    pub fn replication(&self) -> Replication {
        Replication { offset: self.offset, master_link: self.master_link }
    }
}

/// The address of a machine.
pub fn ip_of(host: HostId) -> IpAddr {
    let [.., high, low] = (host.0 as u32).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// The machine with this address.
pub fn host_of(ip: &str) -> HostId {
    let ip: Ipv4Addr = ip.parse().expect("simulated addresses are IPv4");
    let [_, _, high, low] = ip.octets();
    HostId(usize::from(high) << 8 | usize::from(low))
}

/// The port of all buses.
pub const BUS_PORT: u16 = 17000;
