//! Packets to bytes.

use super::decode::{EXTENSION_HEAD_BYTES, RESERVED_BYTES};
use super::{
    Body, Claim, Extension, Gossip, GossipEntry, HEADER_BYTES, Header, IP_FIELD_BYTES,
    ModuleMessage, Packet, Publication, SHARD_PORTS_KIND, SIGNATURE, VERSION,
};
use crate::cluster::address::Host;
use crate::cluster::node_id::{NODE_ID_BYTES, NodeId};
use crate::cluster::shard_ports::ShardPorts;

impl Packet<'_> {
    /// The packet as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + GOSSIP_USUAL_BYTES);
        header(&self.header, &self.body, &mut out);
        debug_assert_eq!(out.len(), HEADER_BYTES, "the fields fill the header");
        match &self.body {
            Body::Ping(gossip) | Body::Pong(gossip) | Body::Meet(gossip) => {
                gossip.entries.iter().for_each(|entry| gossip_entry(entry, &mut out));
                gossip.extensions.iter().for_each(|one| extension(one, &mut out));
            }
            Body::Fail(node) => out.extend_from_slice(node.as_bytes()),
            Body::Publish(publication) | Body::PublishShard(publication) => {
                publish(publication, &mut out);
            }
            Body::FailoverAuthRequest | Body::FailoverAuthAck | Body::MfStart => {}
            Body::Update(claimed) => claim(claimed, &mut out),
            Body::Module(message) => module_message(message, &mut out),
        }
        let length = length_field(out.len());
        out[SIGNATURE.len()..][..4].copy_from_slice(&length);
        out
    }
}

/// Room for the gossip of a cluster of usual size.
const GOSSIP_USUAL_BYTES: usize = 512;

fn header(header: &Header, body: &Body<'_>, out: &mut Vec<u8>) {
    let none = Gossip::default();
    let gossip = match body {
        Body::Ping(gossip) | Body::Pong(gossip) | Body::Meet(gossip) => gossip,
        _ => &none,
    };
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 4]); // The length, put in when it is known.
    u16(VERSION, out);
    u16(header.address.port, out);
    u16(body.kind() as u16, out);
    u16(count_field(gossip.entries.len()), out);
    u64(header.current_epoch, out);
    u64(header.config_epoch, out);
    u64(header.offset, out);
    out.extend_from_slice(header.sender.as_bytes());
    header.slots.write_bytes(out);
    let master = header.master.as_ref().map_or(&[0; NODE_ID_BYTES], NodeId::as_bytes);
    out.extend_from_slice(master);
    ip(&header.address.ip, out);
    u16(count_field(gossip.extensions.len()), out);
    out.resize(out.len() + RESERVED_BYTES, 0);
    u16(header.address.plain_port, out);
    u16(header.address.bus_port, out);
    u16(header.flags.0, out);
    let state = u8::from(header.cluster_is_down);
    let [low, high] = header.message_flags.0.to_le_bytes();
    out.extend_from_slice(&[state, low, high, 0]);
}

fn gossip_entry(entry: &GossipEntry, out: &mut Vec<u8>) {
    out.extend_from_slice(entry.node.as_bytes());
    u32(entry.ping_sent_s, out);
    u32(entry.pong_received_s, out);
    ip(&entry.address.ip, out);
    u16(entry.address.port, out);
    u16(entry.address.bus_port, out);
    u16(entry.flags.0, out);
    u16(entry.address.plain_port, out);
    u16(0, out);
}

fn extension(extension: &Extension<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let kind = match extension {
        Extension::Hostname(_) => 0,
        Extension::Forgotten { .. } => 2,
        Extension::ShardId(_) => 3,
        Extension::ShardPorts(_) => SHARD_PORTS_KIND,
        Extension::Other(kind, _) => *kind,
    };
    u32(0, out); // The length, put in when it is known.
    u16(kind, out);
    u16(0, out);
    debug_assert_eq!(out.len() - start, EXTENSION_HEAD_BYTES);
    match extension {
        Extension::Hostname(name) => {
            out.extend_from_slice(name.as_str().as_bytes());
            out.push(0);
        }
        Extension::Forgotten { node, seconds } => {
            out.extend_from_slice(node.as_bytes());
            u64(*seconds, out);
        }
        Extension::ShardId(id) => out.extend_from_slice(id.as_bytes()),
        Extension::ShardPorts(ports) => {
            u16(ports.map_or(0, ShardPorts::count), out);
            u16(ports.map_or(0, ShardPorts::first), out);
            u32(0, out);
        }
        Extension::Other(_, payload) => out.extend_from_slice(payload),
    }
    let length = (out.len() - start).next_multiple_of(8);
    out.resize(start + length, 0);
    out[start..start + 4].copy_from_slice(&length_field(length));
}

fn publish(publication: &Publication<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&length_field(publication.channel.len()));
    out.extend_from_slice(&length_field(publication.message.len()));
    out.extend_from_slice(publication.channel);
    out.extend_from_slice(publication.message);
}

fn claim(claim: &Claim, out: &mut Vec<u8>) {
    u64(claim.config_epoch, out);
    out.extend_from_slice(claim.node.as_bytes());
    claim.slots.write_bytes(out);
}

fn module_message(message: &ModuleMessage<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.module.to_ne_bytes());
    out.extend_from_slice(&length_field(message.payload.len()));
    out.push(message.kind);
    out.extend_from_slice(message.payload);
}

fn ip(ip: &Host, out: &mut Vec<u8>) {
    let text = ip.as_str().as_bytes();
    assert!(text.len() < IP_FIELD_BYTES, "an address longer than its field: {ip:?}");
    out.extend_from_slice(text);
    out.resize(out.len() + IP_FIELD_BYTES - text.len(), 0);
}

fn u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn count_field(count: usize) -> u16 {
    u16::try_from(count).expect("a packet has at most 65535 entries and as many extensions")
}

fn length_field(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a packet is shorter than 4 GiB").to_be_bytes()
}
