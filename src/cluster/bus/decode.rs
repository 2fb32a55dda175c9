//! Bytes to packets.
//!
//! A packet is wholly understood or refused: lengths must add up to the byte, ids and addresses must be
//! printable, for they end in nodes.conf and in replies.

use super::{
    Body, Claim, Extension, FRAME_HEAD_BYTES, Gossip, GossipEntry, HEADER_BYTES, Header,
    IP_FIELD_BYTES, Malformed, MessageFlags, ModuleMessage, NodeFlags, Packet, Publication,
    SHARD_PORTS_KIND, VERSION, frame_length,
};
use crate::cluster::address::{Address, HOST_BYTES_MAX, Host, IP_BYTES_MAX};
use crate::cluster::node_id::{NODE_ID_BYTES, NodeId};
use crate::cluster::shard_ports::ShardPorts;
use crate::cluster::slot_set::{SLOT_SET_BYTES, SlotSet};

/// The packet that `bytes` are; they must end where it ends (see [`frame_length`]).
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    if frame_length(bytes)? != Some(bytes.len()) {
        return Err(Malformed::Length);
    }
    let mut reader = Reader { rest: bytes };
    let (header, kind) = header(&mut reader)?;
    let body = body(&mut reader, &header, kind)?;
    if !reader.rest.is_empty() {
        return Err(Malformed::Length);
    }
    Ok(Packet { header: header.header, body })
}

/// The header, and those of its fields that say how to read the rest.
struct Head {
    header: Header,
    entries: u16,
    extensions: u16,
}

/// The fields in the order in which they travel.
fn header(reader: &mut Reader<'_>) -> Result<(Head, u16), Malformed> {
    reader.take(FRAME_HEAD_BYTES)?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let port = reader.u16()?;
    let kind = reader.u16()?;
    let entries = reader.u16()?;
    let current_epoch = reader.u64()?;
    let config_epoch = reader.u64()?;
    let offset = reader.u64()?;
    let sender = reader.node_id()?;
    let slots = reader.slots()?;
    let master = reader.node_id_or_none()?;
    let ip = reader.ip()?;
    let extensions = reader.u16()?;
    reader.take(RESERVED_BYTES)?;
    let plain_port = reader.u16()?;
    let bus_port = reader.u16()?;
    let flags = NodeFlags(reader.u16()?);
    let [state, low, high, _] = reader.array()?;
    let header = Header {
        current_epoch,
        config_epoch,
        offset,
        sender,
        slots,
        master,
        address: Address { ip, port, plain_port, bus_port },
        flags,
        cluster_is_down: state != 0,
        message_flags: MessageFlags(u16::from_le_bytes([low, high])),
    };
    Ok((Head { header, entries, extensions }, kind))
}

/// Bytes of the header that mean nothing.
pub(super) const RESERVED_BYTES: usize = 30;

const _: () = assert!(
    HEADER_BYTES
        == FRAME_HEAD_BYTES
            + 4 * 2
            + 3 * 8
            + 2 * NODE_ID_BYTES
            + SLOT_SET_BYTES
            + IP_FIELD_BYTES
            + 2
            + RESERVED_BYTES
            + 3 * 2
            + 4,
    "the fields fill the header"
);

fn body<'a>(reader: &mut Reader<'a>, head: &Head, kind: u16) -> Result<Body<'a>, Malformed> {
    Ok(match kind {
        0 => Body::Ping(gossip(reader, head)?),
        1 => Body::Pong(gossip(reader, head)?),
        2 => Body::Meet(gossip(reader, head)?),
        3 => Body::Fail(reader.node_id()?),
        4 => Body::Publish(publication(reader)?),
        5 => Body::FailoverAuthRequest,
        6 => Body::FailoverAuthAck,
        7 => Body::Update(claim(reader)?),
        8 => Body::MfStart,
        9 => Body::Module(module_message(reader)?),
        10 => Body::PublishShard(publication(reader)?),
        _ => return Err(Malformed::UnknownKind(kind)),
    })
}

fn gossip<'a>(reader: &mut Reader<'a>, head: &Head) -> Result<Gossip<'a>, Malformed> {
    // No memory is reserved for a count that the packet only claims.
    let entries = (0..head.entries).map(|_| gossip_entry(reader)).collect::<Result<_, _>>()?;
    let has_extensions = head.header.message_flags.has(MessageFlags::EXTENSIONS);
    let count = if has_extensions { head.extensions } else { 0 };
    let extensions = (0..count).map(|_| extension(reader)).collect::<Result<_, _>>()?;
    Ok(Gossip { entries, extensions })
}

fn gossip_entry(reader: &mut Reader<'_>) -> Result<GossipEntry, Malformed> {
    let node = reader.node_id()?;
    let ping_sent_s = reader.u32()?;
    let pong_received_s = reader.u32()?;
    let ip = reader.ip()?;
    let port = reader.u16()?;
    let bus_port = reader.u16()?;
    let flags = NodeFlags(reader.u16()?);
    let plain_port = reader.u16()?;
    reader.u16()?; // Reserved.
    let address = Address { ip, port, plain_port, bus_port };
    Ok(GossipEntry { node, ping_sent_s, pong_received_s, address, flags })
}

/// Bytes before the payload of an extension.
pub(super) const EXTENSION_HEAD_BYTES: usize = 8;

fn extension<'a>(reader: &mut Reader<'a>) -> Result<Extension<'a>, Malformed> {
    let length = reader.u32()? as usize;
    let kind = reader.u16()?;
    reader.u16()?; // Reserved.
    if length < EXTENSION_HEAD_BYTES || !length.is_multiple_of(8) {
        return Err(Malformed::Extension);
    }
    let payload = reader.take(length - EXTENSION_HEAD_BYTES)?;
    let mut fields = Reader { rest: payload };
    let known = match kind {
        0 => Extension::Hostname(hostname(payload)?),
        2 => Extension::Forgotten { node: fields.node_id()?, seconds: fields.u64()? },
        3 => Extension::ShardId(fields.node_id()?),
        SHARD_PORTS_KIND => Extension::ShardPorts(shard_ports(&mut fields)?),
        _ => return Ok(Extension::Other(kind, payload)),
    };
    if !matches!(known, Extension::Hostname(_)) && !fields.rest.is_empty() {
        return Err(Malformed::Extension);
    }
    Ok(known)
}

fn hostname(payload: &[u8]) -> Result<Host, Malformed> {
    let end = payload.iter().position(|byte| *byte == 0).ok_or(Malformed::Extension)?;
    Host::parse(&payload[..end], HOST_BYTES_MAX).ok_or(Malformed::Address)
}

/// How many ports and the first of them; no ports is a thing to say, too.
fn shard_ports(fields: &mut Reader<'_>) -> Result<Option<ShardPorts>, Malformed> {
    let (count, first) = (fields.u16()?, fields.u16()?);
    fields.u32()?; // Reserved.
    match count {
        0 => Ok(None),
        count => ShardPorts::new(count, first).map(Some).ok_or(Malformed::Extension),
    }
}

fn publication<'a>(reader: &mut Reader<'a>) -> Result<Publication<'a>, Malformed> {
    let channel_length = reader.u32()? as usize;
    let message_length = reader.u32()? as usize;
    let channel = reader.take(channel_length)?;
    let message = reader.take(message_length)?;
    Ok(Publication { channel, message })
}

fn claim(reader: &mut Reader<'_>) -> Result<Claim, Malformed> {
    let config_epoch = reader.u64()?;
    let node = reader.node_id()?;
    Ok(Claim { node, config_epoch, slots: reader.slots()? })
}

fn module_message<'a>(reader: &mut Reader<'a>) -> Result<ModuleMessage<'a>, Malformed> {
    let module = u64::from_ne_bytes(reader.array()?);
    let length = reader.u32()? as usize;
    let [kind] = reader.array()?;
    Ok(ModuleMessage { module, kind, payload: reader.take(length)? })
}

/// The bytes that are still to be read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.chunk().copied()
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn node_id(&mut self) -> Result<NodeId, Malformed> {
        NodeId::new(self.array()?).ok_or(Malformed::NodeId)
    }

    /// An id, or zeros for none.
    fn node_id_or_none(&mut self) -> Result<Option<NodeId>, Malformed> {
        match self.array()? {
            bytes if bytes == [0; NODE_ID_BYTES] => Ok(None),
            bytes => NodeId::new(bytes).map(Some).ok_or(Malformed::NodeId),
        }
    }

    fn slots(&mut self) -> Result<SlotSet, Malformed> {
        Ok(SlotSet::from_bytes(self.chunk::<SLOT_SET_BYTES>()?))
    }

    fn ip(&mut self) -> Result<Host, Malformed> {
        let field: &[u8; IP_FIELD_BYTES] = self.chunk()?;
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        Host::parse(text, IP_BYTES_MAX).ok_or(Malformed::Address)
    }
}
