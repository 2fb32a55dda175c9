//! What the configuration says to the cluster.

use super::address::Host;
use super::shard_ports::ShardPorts;

/// What the configuration says to the cluster; the names are those of redis.conf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `cluster-node-timeout`, in milliseconds.
    pub node_timeout_ms: u64,
    /// `cluster-replica-validity-factor`; 0 takes data of any age.
    pub replica_validity_factor: u64,
    /// `repl-ping-replica-period`, in milliseconds.
    pub repl_ping_period_ms: u64,
    /// `cluster-migration-barrier`.
    pub migration_barrier: usize,
    /// `cluster-allow-replica-migration`.
    pub allow_replica_migration: bool,
    /// `cluster-replica-no-failover`.
    pub replica_no_failover: bool,
    /// `cluster-require-full-coverage`.
    pub require_full_coverage: bool,
    /// `cluster-preferred-endpoint-type`.
    pub endpoint: Endpoint,
    /// `cluster-announce-ip`; without it, the address that others call.
    pub announce_ip: Option<Host>,
    /// The port that clients are told; the TLS port if the bus uses TLS.
    pub port: u16,
    /// The port without TLS if `port` is for TLS, else 0.
    pub plain_port: u16,
    /// The port of the bus that other nodes are told.
    pub bus_port: u16,
    /// The ports of this node's shards that clients are told, if they have some.
    pub shard_ports: Option<ShardPorts>,
    /// `cluster-announce-hostname`, possibly empty.
    pub hostname: Host,
}

/// How clients are told where a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Endpoint {
    /// By its address.
    #[default]
    Ip,
    /// By its host name.
    Hostname,
    /// Not at all: clients go on with the address that they know.
    Unknown,
}

impl Default for Settings {
    /// The defaults of Redis 7.0.
    fn default() -> Self {
        Self {
            node_timeout_ms: 15000,
            replica_validity_factor: 10,
            repl_ping_period_ms: 10_000,
            migration_barrier: 1,
            allow_replica_migration: true,
            replica_no_failover: false,
            require_full_coverage: true,
            endpoint: Endpoint::Ip,
            announce_ip: None,
            port: 6379,
            plain_port: 0,
            bus_port: 16379,
            shard_ports: None,
            hostname: Host::default(),
        }
    }
}
