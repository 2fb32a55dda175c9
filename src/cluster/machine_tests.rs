//! Single steps of a node, seen from outside.

use std::net::IpAddr;

use super::bus::{self, Body, FRAME_HEAD_BYTES, Header, Kind, MessageFlags, NodeFlags, Packet};
use super::*;
use crate::cluster::address::Address;

const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const REPLICA: &str = "cccccccccccccccccccccccccccccccccccccccc";
const NOW: u64 = 1_700_000_000_000;

/// A master of half the slots beside another with one replica; an inbound link, number 0, is there.
fn master() -> Cluster {
    let text = format!(
        "{ME} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-8191\n\
         {OTHER} 10.0.0.2:7001@17001 master,fail - 0 0 2 connected 8192-16383\n\
         {REPLICA} 10.0.0.3:7001@17001 slave {OTHER} 0 0 2 connected\n\
         vars currentEpoch 2 lastVoteEpoch 0\n"
    );
    let conf = NodesConf::parse(&text).unwrap().unwrap();
    let mut cluster = Cluster::restore(&conf, Settings::default(), [7; 4], NOW).unwrap();
    let ip = |last| IpAddr::from([10, 0, 0, last]);
    let (peer, local) = (ip(3), ip(1));
    step(&mut cluster, Event::Tick);
    step(&mut cluster, Event::Accepted { link: LinkId::From(0), peer, local });
    cluster
}

fn step(cluster: &mut Cluster, event: Event<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    cluster.step(NOW, event, &mut effects);
    effects
}

/// What the replica says in every packet.
fn header_of_replica(epoch: u64) -> Header {
    let id = |text: &str| NodeId::parse(text.as_bytes()).unwrap();
    Header {
        current_epoch: epoch,
        config_epoch: 2,
        offset: 5,
        sender: id(REPLICA),
        slots: SlotSet::all().iter().filter(|slot| slot.get() >= 8192).collect(),
        master: Some(id(OTHER)),
        address: Address { port: 7001, bus_port: 17001, ..Address::default() },
        flags: NodeFlags::REPLICA,
        cluster_is_down: false,
        message_flags: MessageFlags::default(),
    }
}

fn hear(cluster: &mut Cluster, header: Header, body: Body<'_>) -> Vec<Effect> {
    let bytes = Packet { header, body }.encode();
    step(cluster, Event::Packet { link: LinkId::From(0), bytes: &bytes })
}

fn place_of_vote(effects: &[Effect]) -> Option<usize> {
    effects.iter().position(|effect| match effect {
        Effect::Send { bytes, .. } => bus::decode(bytes).unwrap().body == Body::FailoverAuthAck,
        _ => false,
    })
}

#[test]
fn a_vote_is_on_disk_before_it_is_sent_and_there_is_one_per_epoch() {
    let mut cluster = master();
    let effects = hear(&mut cluster, header_of_replica(3), Body::FailoverAuthRequest);
    let vote = place_of_vote(&effects).expect("the vote is given");
    let saved = effects[..vote].iter().any(|effect| match effect {
        Effect::Persist { nodes_conf, sync } => {
            *sync && nodes_conf.ends_with(" currentEpoch 3 lastVoteEpoch 3\n")
        }
        _ => false,
    });
    assert!(saved, "{effects:?}");
    let effects = hear(&mut cluster, header_of_replica(3), Body::FailoverAuthRequest);
    assert_eq!(place_of_vote(&effects), None);
}

#[test]
fn a_vote_is_refused_for_each_reason_alone() {
    type Spoil = fn(&mut Header);
    let rows: &[(&str, Spoil)] = &[
        ("an old epoch", |header| header.current_epoch = 1),
        ("slots that others own with a newer epoch", |header| {
            header.config_epoch = 0;
            header.slots = SlotSet::all();
        }),
    ];
    for (reason, spoil) in rows {
        let mut cluster = master();
        let mut header = header_of_replica(3);
        spoil(&mut header);
        let effects = hear(&mut cluster, header, Body::FailoverAuthRequest);
        assert_eq!(place_of_vote(&effects), None, "{reason}");
    }
    // The master lives: only a forced request gets a vote.
    for forced in [false, true] {
        let mut cluster = master();
        let other = cluster.nodes().find(&NodeId::parse(OTHER.as_bytes()).unwrap()).unwrap();
        cluster.nodes[other].health = node::Health::Fine;
        let mut header = header_of_replica(3);
        header.message_flags = MessageFlags::FORCE_ACK.when(forced);
        let effects = hear(&mut cluster, header, Body::FailoverAuthRequest);
        assert_eq!(place_of_vote(&effects).is_some(), forced);
    }
}

#[test]
fn a_broken_packet_ends_its_link_and_an_unknown_one_is_skipped() {
    let mut cluster = master();
    let good = Packet { header: header_of_replica(2), body: Body::MfStart }.encode();
    let mut unknown = good.clone();
    unknown[13] = 99;
    let link = LinkId::From(0);
    assert!(step(&mut cluster, Event::Packet { link, bytes: &unknown }).is_empty());
    let mut broken = good.clone();
    broken[FRAME_HEAD_BYTES + 1] = 9;
    let effects = step(&mut cluster, Event::Packet { link, bytes: &broken });
    assert!(matches!(effects.as_slice(), [Effect::Close { link: LinkId::From(0) }]), "{effects:?}");
    // What was on its way on that link is not heard any more.
    assert!(step(&mut cluster, Event::Packet { link, bytes: &good }).is_empty());
    assert_eq!(cluster.packets(Kind::MfStart), (0, 0));
}

/// What a step says of the ports of this node's shards, packet by packet.
fn ports_told(effects: &[Effect]) -> Vec<Option<Option<ShardPorts>>> {
    let packets = effects.iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bus::decode(bytes).unwrap()),
        _ => None,
    });
    let told = |packet: Packet<'_>| {
        let extensions = packet.body.gossip().map(|gossip| gossip.extensions.clone())?;
        extensions.into_iter().find_map(|extension| match extension {
            bus::Extension::ShardPorts(ports) => Some(ports),
            _ => None,
        })
    };
    packets.map(told).collect()
}

#[test]
fn ports_of_shards_are_told_at_once_to_those_who_read_them_and_to_nobody_else() {
    let ports = ShardPorts::new(3, 7101);
    let mut cluster = master();
    let settings = Settings { shard_ports: ports, ..cluster.settings.clone() };
    step(&mut cluster, Event::Settings(settings));
    let ping = || Body::Ping(bus::Gossip::default());
    // Redis: neither its pong says a word of them nor anything else.
    assert_eq!(ports_told(&hear(&mut cluster, header_of_replica(2), ping())), [None]);
    let mut header = header_of_replica(2);
    header.message_flags = MessageFlags::READS_SHARD_PORTS;
    let told = ports_told(&hear(&mut cluster, header.clone(), ping()));
    assert_eq!(told, [Some(ports), Some(ports)], "a ping of its own, and the pong");
    assert_eq!(ports_told(&hear(&mut cluster, header.clone(), ping())), [Some(ports)]);
    // That there are none any more is a thing to say.
    let settings = Settings { shard_ports: None, ..cluster.settings.clone() };
    step(&mut cluster, Event::Settings(settings));
    assert_eq!(ports_told(&hear(&mut cluster, header, ping())), [Some(None)]);
}

#[test]
fn a_replica_has_the_shard_id_of_its_master_and_keeps_it_in_its_file() {
    let text = format!(
        "{ME} 10.0.0.1:7001@17001 myself,slave {REPLICA} 0 0 1 connected\n\
         {REPLICA} 10.0.0.3:7001@17001 master - 0 0 2 connected 8192-16383\n\
         vars currentEpoch 2 lastVoteEpoch 0\n"
    );
    let restore = |text: &str| {
        let conf = NodesConf::parse(text).unwrap().unwrap();
        Cluster::restore(&conf, Settings::default(), [7; 4], NOW).unwrap()
    };
    let mut cluster = restore(&text);
    let ip = |last| IpAddr::from([10, 0, 0, last]);
    let (peer, local) = (ip(3), ip(1));
    step(&mut cluster, Event::Accepted { link: LinkId::From(0), peer, local });
    let mut header = header_of_replica(2);
    (header.master, header.flags) = (None, NodeFlags::MASTER);
    header.message_flags = MessageFlags::READS_SHARD_PORTS | MessageFlags::EXTENSIONS;
    let told = NodeId::parse(OTHER.as_bytes()).unwrap();
    let extensions = vec![bus::Extension::ShardId(told)];
    assert_ne!(cluster.shard_id, told);
    hear(&mut cluster, header, Body::Ping(bus::Gossip { entries: Vec::new(), extensions }));
    assert_eq!(cluster.shard_id, told);
    let mut restarted = restore(&cluster.nodes_conf());
    assert_eq!(restarted.shard_id, told);
    // Who leaves the cluster has nothing in common with its master any more.
    restarted.forget_all(false);
    assert_ne!(restarted.shard_id, told);
}

#[test]
fn what_is_known_of_ports_lasts_until_told_otherwise_or_another_server_takes_the_place() {
    let mut cluster = master();
    let ports = ShardPorts::new(3, 7101);
    let replica = cluster.nodes().find(&NodeId::parse(REPLICA.as_bytes()).unwrap()).unwrap();
    let mut corelane = header_of_replica(2);
    corelane.message_flags = MessageFlags::READS_SHARD_PORTS;
    let saying = |said: Option<Option<ShardPorts>>| {
        let extensions = said.map(bus::Extension::ShardPorts).into_iter().collect();
        Body::Pong(bus::Gossip { entries: Vec::new(), extensions })
    };
    for (header, said, known, is_news) in [
        (&corelane, Some(ports), ports, true),
        (&corelane, Some(ports), ports, false),
        (&corelane, None, ports, false),
        (&corelane, Some(None), None, true),
        (&corelane, Some(ports), ports, true),
        (&header_of_replica(2), None, None, true), // this is a Redis
    ] {
        let mut header = header.clone();
        let extends = MessageFlags::EXTENSIONS.when(said.is_some());
        header.message_flags = header.message_flags | extends;
        let effects = hear(&mut cluster, header, saying(said));
        assert_eq!(cluster.nodes()[replica].shard_ports, known, "{said:?}");
        let told = effects.iter().any(|effect| matches!(effect, Effect::SlotMap(_)));
        assert_eq!(told, is_news, "{said:?}");
    }
}

/// Whether a MEET is among them.
fn asks_to_be_let_in(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Send { bytes, .. } => matches!(bus::decode(bytes).unwrap().body, Body::Meet(_)),
        _ => false,
    })
}

fn header_of_other() -> Header {
    Header {
        sender: NodeId::parse(OTHER.as_bytes()).unwrap(),
        master: None,
        flags: NodeFlags::MASTER,
        ..header_of_replica(1)
    }
}

fn address_of_other() -> Address {
    Address {
        ip: IpAddr::from([10, 0, 0, 2]).into(),
        port: 7001,
        bus_port: 17001,
        ..Address::default()
    }
}

/// A node that has met `OTHER`, which has answered and not called back.
fn acquaintance() -> (Cluster, u64) {
    let mut cluster = Cluster::new(Settings::default(), [7; 4], NOW);
    let mut effects = Vec::new();
    cluster.start_handshake(address_of_other(), true);
    cluster.step(NOW, Event::Tick, &mut effects);
    let link = effects.iter().find_map(|effect| match effect {
        Effect::Connect { link, .. } => Some(*link),
        _ => None,
    });
    let link = link.expect("whom one meets one calls");
    assert!(asks_to_be_let_in(&step(&mut cluster, Event::Connected { link })));
    let bytes = Packet { header: header_of_other(), body: Body::Pong(Default::default()) }.encode();
    step(&mut cluster, Event::Packet { link, bytes: &bytes });
    (cluster, NOW)
}

fn ticks(cluster: &mut Cluster, from_ms: u64, to_ms: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for now in (from_ms..=to_ms).step_by(100) {
        cluster.step(now, Event::Tick, &mut effects);
    }
    effects
}

#[test]
fn who_was_met_and_does_not_call_back_is_asked_again() {
    let patience = Settings::default().node_timeout_ms;
    let (mut cluster, now) = acquaintance();
    assert!(!asks_to_be_let_in(&ticks(&mut cluster, now, now + patience)));
    assert!(asks_to_be_let_in(&ticks(&mut cluster, now + patience, now + patience + 200)));
    let (mut called, now) = acquaintance();
    let ip = |last| IpAddr::from([10, 0, 0, last]);
    step(&mut called, Event::Accepted { link: LinkId::From(0), peer: ip(2), local: ip(1) });
    hear(&mut called, header_of_other(), Body::Ping(Default::default()));
    assert!(!asks_to_be_let_in(&ticks(&mut called, now, now + 3 * patience)));
}

#[test]
fn a_handshake_is_not_late_when_it_was_this_process_that_stood_still() {
    let patience = Settings::default().node_timeout_ms;
    let meets = |cluster: &Cluster| cluster.nodes.iter().any(|(_, node)| node.in_handshake());
    let mut cluster = Cluster::new(Settings::default(), [7; 4], NOW);
    cluster.start_handshake(address_of_other(), true);
    ticks(&mut cluster, NOW, NOW);
    let after = NOW + patience + 100;
    ticks(&mut cluster, after, after);
    assert!(meets(&cluster), "there may be an answer that was not read");
    ticks(&mut cluster, after + 100, after + 100);
    assert!(!meets(&cluster));
}
