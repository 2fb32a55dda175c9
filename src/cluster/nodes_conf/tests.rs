//! Files of other servers are read, what is written reads back, and what is broken is refused.

use super::*;
use crate::cluster::machine::Cluster;
use crate::cluster::settings::Settings;
use crate::cluster::table::ME;

const SAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/vectors/cluster-bus/nodes.conf.sample"
));

const A: &str = "c70acfdc2b2e49065dcd8c57537406b439df5a06";
const B: &str = "34d4f4895084dd9e4de19f83083c3e5971e93cad";

/// The ports that the nodes of these files have.
fn settings() -> Settings {
    Settings { port: 7001, bus_port: 17001, ..Settings::default() }
}

fn restore(text: &str) -> Cluster {
    let conf = NodesConf::parse(text).unwrap().unwrap();
    Cluster::restore(&conf, settings(), [1; 4], 500).unwrap()
}

#[test]
fn a_file_of_redis_is_read_and_written_but_for_the_times_and_links() {
    let conf = NodesConf::parse(SAMPLE).unwrap().unwrap();
    let settings = Settings { port: 18001, bus_port: 28001, ..Settings::default() };
    let cluster = Cluster::restore(&conf, settings, [1; 4], 500).unwrap();
    let shard = format!("vars shardId {} ", cluster.shard_id);
    let expected =
        SAMPLE.replace("1795356823477 1 connected", "500 1 disconnected").replace("vars ", &shard);
    assert_eq!(cluster.nodes_conf(), expected);
    let me = &cluster.nodes[ME];
    assert_eq!((me.id.as_str(), me.slots.len(), me.replicas.len()), (A, 16384, 1));
    assert_eq!((cluster.current_epoch, cluster.last_vote_epoch), (2, 0));
}

#[test]
fn every_field_survives_writing_and_reading() {
    let lines = [
        format!("{B} :0@0 slave,noaddr - 0 0 0 disconnected"),
        format!(
            "{} ::1:7003@17003,host-3.example master,fail - 0 0 9 disconnected 5",
            "d".repeat(40)
        ),
        format!(
            "{A} 10.0.0.1:7001@17001 myself,master - 0 0 7 connected 0-2 4 16383 [4->-{B}] [93-<-{B}]"
        ),
        format!(
            "{} 10.0.0.5:7005@17005 slave,fail?,nofailover {A} 500 500 7 disconnected",
            "e".repeat(40)
        ),
        format!("{} 10.0.0.6:7006@17006 noflags - 0 0 0 disconnected", "f".repeat(40)),
    ];
    let mut lines: Vec<_> = lines.into();
    lines.sort();
    let text = format!("{}\nvars shardId {B} currentEpoch 12 lastVoteEpoch 11\n", lines.join("\n"));
    let cluster = restore(&text);
    assert_eq!(cluster.nodes_conf(), text);
}

#[test]
fn files_of_newer_versions_and_damaged_epochs_are_understood() {
    let line = format!(
        "{A} 10.0.0.1:7001@17001,,tls-port=0,shard-id={B} myself,master - 0 0 7 connected 0-16383"
    );
    // The epoch of a node may be above the last one that was saved as current.
    let cluster = restore(&format!("\n{line}\n\nvars currentEpoch 3 lastVoteEpoch 0 more 1\n"));
    assert_eq!(cluster.current_epoch, 7);
    assert!(cluster.nodes[ME].hostname.is_empty());
    // A file without a port of the bus: Redis 3 wrote such.
    let cluster = restore(&format!("{A} 10.0.0.1:7001 myself,master - 0 0 0 connected\n"));
    assert_eq!(cluster.nodes[ME].address.bus_port, 17001);
    assert_eq!(NodesConf::parse(""), Ok(None));
}

#[test]
fn a_broken_file_is_refused() {
    let good = format!("{A} 10.0.0.1:7001@17001 myself,master - 0 0 7 connected 0-9");
    for (from, to) in [
        ("myself", "yourself"),
        ("myself,", ""),
        ("connected 0-9", ""),
        ("0-9", "0-x"),
        ("0-9", "16384"),
        ("0-9", "[5->-x]"),
        ("0-9", "[5->"),
        ("0-9", "[5]"),
        ("7001@17001", "70010@17001"),
        ("7001@17001", "7001@x"),
        ("10.0.0.1", "10.0.0.1/8"),
        ("c70a", "C70A"),
        ("c70a", "c70"),
        (" - ", " x "),
        (" 7 ", " -7 "),
        (" 7 ", " x "),
    ] {
        assert!(NodesConf::parse(&good).is_ok());
        let bad = good.replacen(from, to, 1);
        assert!(NodesConf::parse(&bad).is_err(), "{bad}");
    }
    for vars in ["vars currentEpoch", "vars currentEpoch x"] {
        assert!(NodesConf::parse(&format!("{good}\n{vars}\n")).is_err(), "{vars}");
    }
    assert_eq!(NodesConf::parse(&format!("{good}\n{good}")), Err(NodesConfError::Myself));
}

#[test]
fn a_redis_server_starts_with_a_file_of_ours() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};
    struct Server(Child);
    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("no redis-server here: not tested");
        return;
    }
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("corelane-nodes-conf-{port}"));
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "{B} 10.0.0.9:7002@17002,host.example slave,fail? {A} 0 500 7 disconnected\n\
         {A} 127.0.0.1:{port}@{bus} myself,master - 0 0 7 connected 0-16382\n\
         vars shardId {B} currentEpoch 12 lastVoteEpoch 11\n",
        bus = port + 10000
    );
    let settings = Settings { port, bus_port: port + 10000, ..Settings::default() };
    let conf = NodesConf::parse(&text).unwrap().unwrap();
    let ours = Cluster::restore(&conf, settings, [1; 4], 500).unwrap().nodes_conf();
    assert_eq!(ours, text);
    std::fs::write(folder.join("nodes.conf"), ours).unwrap();
    let server = Command::new("redis-server")
        .args(["--cluster-enabled", "yes", "--save", "", "--bind", "127.0.0.1", "--port"])
        .args([&port.to_string(), "--dir", folder.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Server(server.unwrap());
    let mut log = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let ready = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("Ready to accept")));
    assert!(ready.is_some(), "redis-server did not start");
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"CLUSTER NODES\r\nQUIT\r\n").unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.contains(&format!("{A} 127.0.0.1:{port}@")), "{reply}");
    assert!(reply.contains("myself,master - 0 0 7 connected 0-16382"), "{reply}");
    assert!(reply.contains(&format!("{B} 10.0.0.9:7002@17002,host.example slave")), "{reply}");
    drop(server);
    let _ = std::fs::remove_dir_all(folder);
}

/// A port that nobody listens on, and whose bus port nobody listens on either.
fn free_port() -> u16 {
    use std::net::TcpListener;
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = 20001 + port % 30000;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10000) {
            return port;
        }
    }
}
