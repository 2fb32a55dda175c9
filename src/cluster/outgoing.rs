//! What this node says: the header of its packets, and to whom they go.

use std::sync::Arc;

use super::bus::{Body, Claim, Extension, Gossip, Header, Kind, MessageFlags, Packet, Publication};
use super::event::{Effect, LinkId};
use super::machine::Cluster;
use super::manual_failover::ManualFailover;
use super::table::{ME, NodeKey};

/// Whom a packet goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    /// Every node that there is a link to.
    All,
    /// The other nodes of this node's shard.
    Shard,
}

impl Cluster {
    /// What all packets of this moment say about this node. A replica speaks of its master's slots.
    fn header(&self) -> Header {
        let me = &self.nodes[ME];
        let owner = &self.nodes[me.master().unwrap_or(ME)];
        let yields = matches!(self.manual, ManualFailover::Yielding { paused: true, .. });
        let mut address = me.address.clone();
        // Without an announced address, receivers take the one that they see.
        address.ip = self.settings.announce_ip.clone().unwrap_or_default();
        Header {
            current_epoch: self.current_epoch,
            config_epoch: owner.config_epoch,
            offset: me.offset,
            sender: me.id,
            slots: owner.slots.clone(),
            master: me.master().map(|master| self.nodes[master].id),
            address,
            flags: me.flags(),
            cluster_is_down: self.verdict.is_down,
            message_flags: MessageFlags::PAUSED.when(yields)
                | MessageFlags::EXTENSIONS.when(!me.hostname.is_empty())
                | MessageFlags::READS_SHARD_PORTS,
        }
    }

    fn send_body(&mut self, link: LinkId, body: Body<'_>) {
        let kind = body.kind();
        let mut header = self.header();
        let extends = body.gossip().is_some_and(|gossip| !gossip.extensions.is_empty());
        header.message_flags = header.message_flags | MessageFlags::EXTENSIONS.when(extends);
        let bytes = Packet { header, body }.encode();
        self.stats.count_sent(kind, 1);
        self.send(link, bytes.into());
    }

    /// The same packet to many.
    fn broadcast(&mut self, audience: Audience, kind: Kind, bytes: Vec<u8>) {
        let bytes: Arc<[u8]> = bytes.into();
        let links = self.links_of(audience);
        self.stats.count_sent(kind, links.len());
        let sends = links.into_iter().map(|link| Effect::Send { link, bytes: bytes.clone() });
        self.out.extend(sends);
    }

    fn links_of(&self, audience: Audience) -> Vec<LinkId> {
        let shard = self.shard_master();
        let hears = |key: NodeKey| match audience {
            Audience::All => true,
            Audience::Shard => Some(key) == shard || self.nodes[key].master() == shard,
        };
        let others = self.nodes.iter().filter(|(key, node)| *key != ME && !node.in_handshake());
        others
            .filter(|(key, _)| hears(*key))
            .filter_map(|(_, node)| node.link.map(|link| LinkId::To(link.number)))
            .collect()
    }

    fn gossip(&mut self, receiver: Option<NodeKey>) -> Gossip<'static> {
        let entries = self.gossip_entries(receiver);
        let hostname = &self.nodes[ME].hostname;
        let hostname = (!hostname.is_empty()).then(|| Extension::Hostname(hostname.clone()));
        let mut extensions: Vec<_> = hostname.into_iter().collect();
        // What goes to all says nothing of shards: Redis would hear it, too.
        if receiver.is_some_and(|key| self.nodes[key].reads_shard_ports == Some(true)) {
            extensions.push(Extension::ShardPorts(self.nodes[ME].shard_ports));
            extensions.push(Extension::ShardId(self.shard_id));
        }
        Gossip { entries, extensions }
    }

    /// Asks a node for a pong, if there is a link to it.
    pub(super) fn send_ping(&mut self, node: NodeKey) {
        let Some(link) = self.link_to(node) else { return };
        if self.nodes[node].ping_sent_ms == 0 {
            self.nodes[node].ping_sent_ms = self.now;
        }
        let gossip = self.gossip(Some(node));
        self.send_body(link, Body::Ping(gossip));
    }

    /// A ping on a link of any kind that waits for no pong: it only carries the header.
    pub(super) fn send_ping_on(&mut self, link: LinkId, node: NodeKey) {
        let gossip = self.gossip(Some(node));
        self.send_body(link, Body::Ping(gossip));
    }

    pub(super) fn send_meet(&mut self, link: LinkId) {
        let gossip = self.gossip(self.links.leads_to(link));
        self.send_body(link, Body::Meet(gossip));
    }

    /// Answers a ping or a meet on its own link.
    pub(super) fn send_pong(&mut self, link: LinkId, receiver: Option<NodeKey>) {
        let gossip = self.gossip(receiver);
        self.send_body(link, Body::Pong(gossip));
    }

    /// News about this node, for all or for its shard.
    pub(super) fn broadcast_pong(&mut self, audience: Audience) {
        let gossip = self.gossip(None);
        let bytes = Packet { header: self.header(), body: Body::Pong(gossip) }.encode();
        self.broadcast(audience, Kind::Pong, bytes);
    }

    pub(super) fn broadcast_fail(&mut self, node: NodeKey) {
        let body = Body::Fail(self.nodes[node].id);
        let bytes = Packet { header: self.header(), body }.encode();
        self.broadcast(Audience::All, Kind::Fail, bytes);
    }

    /// Asks all for their vote. `forced`: although the master lives.
    pub(super) fn request_votes(&mut self, forced: bool) {
        let mut header = self.header();
        header.message_flags = header.message_flags | MessageFlags::FORCE_ACK.when(forced);
        let bytes = Packet { header, body: Body::FailoverAuthRequest }.encode();
        self.broadcast(Audience::All, Kind::FailoverAuthRequest, bytes);
    }

    pub(super) fn send_vote(&mut self, candidate: NodeKey) {
        if let Some(link) = self.link_to(candidate) {
            self.send_body(link, Body::FailoverAuthAck);
        }
    }

    pub(super) fn send_manual_failover_start(&mut self, master: NodeKey) {
        if let Some(link) = self.link_to(master) {
            self.send_body(link, Body::MfStart);
        }
    }

    /// Tells `receiver` what `owner` owns, without the slots that it does not claim any more.
    pub(super) fn send_update(&mut self, receiver: NodeKey, owner: NodeKey) {
        let Some(link) = self.link_to(receiver) else { return };
        let node = &self.nodes[owner];
        let claimed = node.slots.iter().filter(|slot| !self.slots.is_unclaimed(*slot));
        let claim =
            Claim { node: node.id, config_epoch: node.config_epoch, slots: claimed.collect() };
        self.send_body(link, Body::Update(claim));
    }

    /// Sends a message of PUBLISH, or of SPUBLISH (`sharded`), to the nodes that must hear it.
    pub fn publish(
        &mut self,
        channel: &[u8],
        message: &[u8],
        sharded: bool,
        effects: &mut Vec<Effect>,
    ) {
        let publication = Publication { channel, message };
        let (audience, body) = if sharded {
            (Audience::Shard, Body::PublishShard(publication))
        } else {
            (Audience::All, Body::Publish(publication))
        };
        let kind = body.kind();
        let bytes = Packet { header: self.header(), body }.encode();
        self.broadcast(audience, kind, bytes);
        effects.append(&mut self.out);
    }
}
