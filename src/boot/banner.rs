//! What the server says of itself when it starts: version, cores, ports, memory.

use crate::cluster::ShardPorts;
use crate::config::Config;
use crate::config::values::Words;

use super::placement::Placement;

/// The lines of the banner, for the log.
pub fn banner(
    config: &Config,
    placement: &Placement,
    shard_ports: Option<ShardPorts>,
) -> Vec<String> {
    let mode = match (config.extras.sentinel_mode, config.cluster_enabled) {
        (true, _) => "sentinel",
        (false, true) => "cluster",
        (false, false) => "standalone",
    };
    vec![
        format!(
            "Corelane {} (speaks Redis 7.0.15), {mode} mode, process {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        ),
        cores(placement),
        listeners(config, shard_ports),
        memory(config),
    ]
}

fn cores(placement: &Placement) -> String {
    let count = placement.shards();
    let shards = if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") };
    if !placement.is_pinned() {
        return format!("Cores: {shards} and the control core, not pinned");
    }
    let cpu = |cpu: Option<usize>| cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
    let data: Vec<String> = placement
        .data
        .iter()
        .enumerate()
        .map(|(shard, on)| format!("{shard} on {}", cpu(*on)))
        .collect();
    format!("Cores: {shards} ({}), control core on {}", data.join(", "), cpu(placement.control))
}

fn listeners(config: &Config, shard_ports: Option<ShardPorts>) -> String {
    let mut places = Vec::new();
    if config.port != 0 {
        places.push(format!("port {} of {}", config.port, config.bind.join(" ")));
    }
    if !config.unixsocket.is_empty() {
        places.push(format!("socket {}", config.unixsocket));
    }
    if let Some(ports) = shard_ports {
        places.push(format!("shard ports from {} on", ports.first()));
    }
    if let Some(bus) = config.bus_port().filter(|_| config.cluster_enabled) {
        places.push(format!("cluster bus port {bus}"));
    }
    if places.is_empty() {
        "Listening: nowhere".to_owned()
    } else {
        format!("Listening: {}", places.join(", "))
    }
}

fn memory(config: &Config) -> String {
    match config.maxmemory {
        0 => "Memory: no limit".to_owned(),
        bytes => format!("Memory: {bytes} bytes, then {}", config.maxmemory_policy.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_tells_cores_listeners_and_memory() {
        let config = Config::from_text(
            b"port 7000\nbind 127.0.0.1\ncluster-enabled yes\nmaxmemory 1gb\nmaxmemory-policy allkeys-lru",
        )
        .unwrap();
        let placement = Placement { data: vec![Some(0), Some(1)], control: Some(7) };
        let lines = banner(&config, &placement, ShardPorts::new(2, 7001));
        assert!(lines[0].contains("cluster mode"), "{}", lines[0]);
        assert_eq!(
            lines[1..],
            [
                "Cores: 2 shards (0 on CPU 0, 1 on CPU 1), control core on CPU 7",
                "Listening: port 7000 of 127.0.0.1, shard ports from 7001 on, cluster bus port 17000",
                "Memory: 1073741824 bytes, then allkeys-lru"
            ]
        );
        let unpinned = Placement { data: vec![None], control: None };
        assert_eq!(cores(&unpinned), "Cores: 1 shard and the control core, not pinned");
    }
}
