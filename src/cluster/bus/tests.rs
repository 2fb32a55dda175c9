//! The codec against packets that Redis and Valkey sent, against itself, and against broken bytes.

use super::*;
use crate::cluster::address::{HOST_BYTES_MAX, IP_BYTES_MAX};
use crate::slot::Slot;
use proptest::prelude::*;

macro_rules! captured {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/cluster-bus/",
            $name,
            ".bin"
        ))
        .as_slice()
    };
}

const CAPTURED: &[(Kind, &[u8])] = &[
    (Kind::Pong, captured!("bus-pong-reply-to-meet-nogossip")),
    (Kind::Ping, captured!("bus-ping-nogossip")),
    (Kind::Ping, captured!("bus-ping-gossip")),
    (Kind::Ping, captured!("bus-ping-gossip-hostname-ext")),
    (Kind::Ping, captured!("bus-ping-from-replica")),
    (Kind::Ping, captured!("bus-ping-pfail-gossip")),
    (Kind::Ping, captured!("bus-ping-mf-paused")),
    (Kind::Fail, captured!("bus-fail")),
    (Kind::Publish, captured!("bus-publish")),
    (Kind::PublishShard, captured!("bus-publishshard")),
    (Kind::Update, captured!("bus-update")),
    (Kind::MfStart, captured!("bus-mfstart")),
    (Kind::FailoverAuthRequest, captured!("bus-failover-auth-request")),
    (Kind::FailoverAuthRequest, captured!("bus-failover-auth-request-forceack")),
    (Kind::FailoverAuthAck, captured!("bus-failover-auth-ack")),
    (Kind::Ping, captured!("valkey801-bus-ping-ext-shardid")),
    (Kind::Ping, captured!("valkey801-bus-ping-ext-hostname-nodename-shardid")),
    (Kind::Ping, captured!("valkey801-bus-ping-ext-forgotten")),
];

#[test]
fn packets_of_other_servers_are_read_and_written_to_the_byte() {
    for (row, (kind, bytes)) in CAPTURED.iter().enumerate() {
        assert_eq!(frame_length(bytes), Ok(Some(bytes.len())), "row {row}");
        let packet = decode(bytes).unwrap_or_else(|error| panic!("row {row}: {error}"));
        assert_eq!(packet.body.kind(), *kind, "row {row}");
        assert_eq!(packet.encode(), *bytes, "row {row}");
    }
}

fn gossip_of(bytes: &[u8]) -> (Header, Gossip<'_>) {
    match decode(bytes) {
        Ok(Packet { header, body: Body::Ping(gossip) }) => (header, gossip),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_fields_of_captured_packets_mean_what_was_going_on() {
    let (header, gossip) = gossip_of(captured!("bus-ping-gossip-hostname-ext"));
    assert_eq!(gossip.entries.len(), 3);
    let name = Host::parse(b"host-15103.example", HOST_BYTES_MAX).unwrap();
    assert_eq!(gossip.extensions, [Extension::Hostname(name)]);
    assert!(header.message_flags.has(MessageFlags::EXTENSIONS));

    let (header, _) = gossip_of(captured!("bus-ping-gossip"));
    assert_eq!((header.slots.len(), header.config_epoch, header.current_epoch), (5461, 1, 3));
    assert_eq!(header.flags.0, 273);
    assert_eq!(header.master, None);

    let (header, _) = gossip_of(captured!("bus-ping-from-replica"));
    assert!(header.flags.has(NodeFlags::REPLICA | NodeFlags::MYSELF));
    assert!(header.master.is_some() && !header.slots.is_empty());

    let (_, gossip) = gossip_of(captured!("bus-ping-pfail-gossip"));
    let flags: Vec<_> = gossip.entries.iter().map(|entry| entry.flags.0 & 0xff).collect();
    assert!(flags.contains(&9) && flags.contains(&5), "{flags:?}");

    let (header, _) = gossip_of(captured!("bus-ping-mf-paused"));
    assert!(header.message_flags.has(MessageFlags::PAUSED));

    let (_, gossip) = gossip_of(captured!("valkey801-bus-ping-ext-forgotten"));
    assert!(matches!(gossip.extensions[0], Extension::Forgotten { seconds: 59, .. }));
    assert!(matches!(gossip.extensions[1], Extension::ShardId(_)));

    let publish = decode(captured!("bus-publish")).unwrap();
    let publication = Publication { channel: b"chan", message: b"hello world" };
    assert_eq!(publish.body, Body::Publish(publication));

    let update = decode(captured!("bus-update")).unwrap();
    let Body::Update(claim) = update.body else { panic!() };
    assert_eq!((claim.config_epoch, claim.slots.len()), (1, 5461));
}

#[test]
fn a_broken_packet_is_refused_with_its_reason() {
    let ping = captured!("bus-ping-gossip-hostname-ext");
    type Break = fn(&mut Vec<u8>);
    let rows: &[(Break, Malformed, bool)] = &[
        (|b| b[0] = b'X', Malformed::Signature, true),
        (|b| b[4..8].copy_from_slice(&2255_u32.to_be_bytes()), Malformed::FrameLength(2255), true),
        (|b| b[4] = 0xff, Malformed::FrameLength(0xff00_0a28), true),
        (|b| b[9] = 2, Malformed::Version(2), true),
        (|b| b[13] = 11, Malformed::UnknownKind(11), false),
        (|b| b[12] = 0x80, Malformed::UnknownKind(0x8000), false),
        (|b| b[15] = 4, Malformed::Length, true), // the extension is too short for an entry
        (|b| b[15] = 2, Malformed::Extension, true), // an entry is read as the extension
        (|b| b[40] = b'A', Malformed::NodeId, true),
        (|b| b[2128] = 1, Malformed::NodeId, true),
        (|b| b[2168] = b'\n', Malformed::Address, true),
        (|b| b[2215] = 2, Malformed::Length, true),
        (|b| b[2253] = 0, Malformed::Length, true), // extensions without their flag
        (|b| b[2256 + 3 * 104 + 3] = 33, Malformed::Extension, true),
        (|b| b[2256 + 3 * 104 + 3] = 40, Malformed::Length, true),
        (|b| b[2256 + 3 * 104 + 3] = 24, Malformed::Extension, true), // cuts off the NUL
        (|b| b[2256 + 3 * 104 + 8] = b' ', Malformed::Address, true),
        (|b| b.push(0), Malformed::Length, true),
        (|b| b.truncate(2255), Malformed::Length, true),
    ];
    for (row, (break_it, reason, ends_link)) in rows.iter().enumerate() {
        let mut bytes = ping.to_vec();
        break_it(&mut bytes);
        assert_eq!(decode(&bytes).map(|_| ()), Err(*reason), "row {row}");
        assert_eq!(reason.ends_link(), *ends_link, "row {row}");
    }
}

#[test]
fn ports_of_shards_that_cannot_be_are_refused() {
    let (header, _) = gossip_of(captured!("bus-ping-gossip-hostname-ext"));
    let ports = ShardPorts::new(3, 7001);
    let extensions = vec![Extension::ShardPorts(ports)];
    let body = Body::Ping(Gossip { entries: Vec::new(), extensions });
    let whole = Packet { header, body }.encode();
    let at = HEADER_BYTES;
    assert_eq!(whole[at..], [0, 0, 0, 16, 0xC0, 0x7E, 0, 0, 0, 3, 0x1B, 0x59, 0, 0, 0, 0]);
    for (place, bytes, valid) in [
        (at + 8, [0, 3], true),
        (at + 8, [0, 0], true), // none
        (at + 8, [4, 0], true),
        (at + 8, [4, 1], false), // more than a process has
        (at + 10, [0, 0], false),
        (at + 10, [0xff, 0xff], false), // the third would be no port
    ] {
        let mut packet = whole.clone();
        packet[place..place + 2].copy_from_slice(&bytes);
        let read = decode(&packet).map(|_| ());
        assert_eq!(read, if valid { Ok(()) } else { Err(Malformed::Extension) }, "{bytes:?}");
    }
}

#[test]
fn a_frame_is_refused_as_soon_as_it_can_be() {
    let packet = captured!("bus-publish");
    for length in 0..8 {
        assert_eq!(frame_length(&packet[..length]), Ok(None), "{length}");
    }
    assert_eq!(frame_length(b"RX"), Err(Malformed::Signature));
    assert_eq!(
        frame_length(captured!("valkey801-bus-publish-light")),
        Err(Malformed::FrameLength(33))
    );
}

fn node_id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId::from_bits)
}

fn slots() -> impl Strategy<Value = SlotSet> {
    let slot = (0..crate::slot::SLOT_COUNT).prop_map(|number| Slot::new(number).unwrap());
    prop::collection::vec(slot, 0..20).prop_map(|slots| slots.into_iter().collect())
}

fn address() -> impl Strategy<Value = Address> {
    ("[0-9a-z.:]{0,45}", any::<[u16; 3]>()).prop_map(|(ip, [port, plain_port, bus_port])| {
        let ip = Host::parse(ip.as_bytes(), IP_BYTES_MAX).unwrap();
        Address { ip, port, plain_port, bus_port }
    })
}

prop_compose! {
    fn any_header()(
        [current_epoch, config_epoch, offset] in any::<[u64; 3]>(),
        sender in node_id(),
        slots in slots(),
        master in prop::option::of(node_id()),
        address in address(),
        flags in any::<u16>(),
        cluster_is_down in any::<bool>(),
        message_flags in any::<u16>(),
    ) -> Header {
        Header {
            current_epoch, config_epoch, offset, sender, slots, master, address,
            flags: NodeFlags(flags),
            cluster_is_down,
            message_flags: MessageFlags(message_flags),
        }
    }
}

prop_compose! {
    fn any_entry()(
        node in node_id(),
        [ping_sent_s, pong_received_s] in any::<[u32; 2]>(),
        address in address(),
        flags in any::<u16>(),
    ) -> GossipEntry {
        GossipEntry { node, ping_sent_s, pong_received_s, address, flags: NodeFlags(flags) }
    }
}

/// Bytes for the parts of packets that are borrowed; their number is that of an extension's payload.
static PAYLOAD: [u8; 64] = [7; 64];

fn any_extension() -> impl Strategy<Value = Extension<'static>> {
    prop_oneof![
        "[0-9A-Za-z.-]{0,255}"
            .prop_map(|name| Host::parse(name.as_bytes(), HOST_BYTES_MAX).unwrap())
            .prop_map(Extension::Hostname),
        (node_id(), any::<u64>())
            .prop_map(|(node, seconds)| Extension::Forgotten { node, seconds }),
        node_id().prop_map(Extension::ShardId),
        (1..=1024_u16, 1..60_000_u16)
            .prop_map(|(shards, first)| { Extension::ShardPorts(ShardPorts::new(shards, first)) }),
        Just(Extension::ShardPorts(None)),
        (4..SHARD_PORTS_KIND, 0..8_usize)
            .prop_map(|(kind, n)| Extension::Other(kind, &PAYLOAD[..n * 8])),
    ]
}

fn any_body() -> impl Strategy<Value = Body<'static>> {
    let gossip = || {
        (prop::collection::vec(any_entry(), 0..12), prop::collection::vec(any_extension(), 0..4))
            .prop_map(|(entries, extensions)| Gossip { entries, extensions })
    };
    let publication = || {
        (0..64_usize, 0..64_usize).prop_map(|(channel, message)| Publication {
            channel: &PAYLOAD[channel..],
            message: &PAYLOAD[message..],
        })
    };
    prop_oneof![
        gossip().prop_map(Body::Ping),
        gossip().prop_map(Body::Pong),
        gossip().prop_map(Body::Meet),
        node_id().prop_map(Body::Fail),
        publication().prop_map(Body::Publish),
        Just(Body::FailoverAuthRequest),
        Just(Body::FailoverAuthAck),
        (any::<u64>(), node_id(), slots()).prop_map(|(config_epoch, node, slots)| {
            Body::Update(Claim { node, config_epoch, slots })
        }),
        Just(Body::MfStart),
        (any::<u64>(), any::<u8>(), 0..64_usize).prop_map(|(module, kind, start)| {
            Body::Module(ModuleMessage { module, kind, payload: &PAYLOAD[start..] })
        }),
        publication().prop_map(Body::PublishShard),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(mut header in any_header(), body in any_body()) {
        // Extensions are read only where the flag says that they are there.
        header.message_flags = header.message_flags | MessageFlags::EXTENSIONS;
        let packet = Packet { header, body };
        let bytes = packet.encode();
        prop_assert_eq!(decode(&bytes), Ok(packet));
    }

    #[test]
    fn damaged_packets_are_read_or_refused_and_never_read_past_their_end(
        row in 0..CAPTURED.len(), cut in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = CAPTURED[row].1.to_vec();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(packet) = decode(&bytes) {
            let again = packet.encode();
            prop_assert_eq!(decode(&again), Ok(packet));
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(decode(&bytes).is_err());
    }
}
