//! What is done with each packet, in the order in which Redis does it: a later rule reads what an earlier
//! one has learned.

use super::address::Address;
use super::bus::{self, Body, Claim, Gossip, Header, Kind, Malformed, NodeFlags, Publication};
use super::event::{Effect, LinkId};
use super::gossip::role_of;
use super::machine::Cluster;
use super::node::{Contact, Health, Node, Role};
use super::table::{ME, NodeKey};

/// A broken packet is written to the log at most this often, in milliseconds: a peer may send nothing else.
const MALFORMED_LOG_MS: u64 = 60_000;

impl Cluster {
    pub(super) fn on_packet(&mut self, link: LinkId, bytes: &[u8]) {
        if !self.links.knows(link) {
            return; // It was on its way when the link was closed.
        }
        match bus::decode(bytes) {
            Ok(packet) => self.on_decoded(link, &packet.header, packet.body),
            Err(error) => self.on_malformed(link, error),
        }
    }

    fn on_malformed(&mut self, link: LinkId, error: Malformed) {
        if self.now.saturating_sub(self.stats.malformed_logged_ms) >= MALFORMED_LOG_MS {
            self.stats.malformed_logged_ms = self.now;
            tracing::warn!("cluster bus, {link:?}: {error}");
        }
        if error.ends_link() {
            self.close(link);
        }
    }

    fn on_decoded(&mut self, link: LinkId, header: &Header, body: Body<'_>) {
        self.stats.count_received(body.kind());
        // Whoever is in handshake has a random id here, which nobody uses as sender.
        let sender = self.nodes.find(&header.sender);
        if let Some(sender) = sender.filter(|key| *key != ME) {
            self.hear_header(link, sender, header);
        }
        match body {
            Body::Ping(gossip) => self.on_hello(link, sender, header, &gossip, Kind::Ping),
            Body::Pong(gossip) => self.on_hello(link, sender, header, &gossip, Kind::Pong),
            Body::Meet(gossip) => self.on_hello(link, sender, header, &gossip, Kind::Meet),
            Body::Module(_) => {}
            body => {
                // The word of a stranger counts for nothing.
                if let Some(sender) = sender.filter(|key| *key != ME) {
                    self.on_news(sender, header, body);
                }
            }
        }
    }

    /// What every packet of a known node tells.
    fn hear_header(&mut self, link: LinkId, sender: NodeKey, header: &Header) {
        self.bind(link, sender);
        if header.current_epoch > self.current_epoch {
            self.current_epoch = header.current_epoch;
            self.save_first();
        }
        let node = &mut self.nodes[sender];
        node.data_received_ms = self.now;
        node.offset = header.offset;
        // A replica sends the epoch of its master, which would make its own claims too strong one day.
        if header.master.is_none() && header.config_epoch > node.config_epoch {
            node.config_epoch = header.config_epoch;
            self.save_first();
        }
        self.hear_paused_master(sender, header);
    }

    fn on_news(&mut self, sender: NodeKey, header: &Header, body: Body<'_>) {
        match body {
            Body::Fail(id) => self.on_fail(&id),
            Body::Publish(publication) => self.deliver(&publication, false),
            Body::PublishShard(publication) => self.deliver(&publication, true),
            Body::FailoverAuthRequest => self.on_vote_requested(sender, header),
            Body::FailoverAuthAck => self.on_vote(sender, header),
            Body::Update(claim) => self.on_update(&claim),
            Body::MfStart => self.on_manual_failover_start(sender),
            Body::Ping(_) | Body::Pong(_) | Body::Meet(_) | Body::Module(_) => {}
        }
    }

    fn deliver(&mut self, publication: &Publication<'_>, sharded: bool) {
        let (channel, message) = (publication.channel.to_vec(), publication.message.to_vec());
        self.out.push(Effect::Deliver { channel, message, sharded });
    }

    /// Ping, pong and meet.
    fn on_hello(
        &mut self,
        link: LinkId,
        sender: Option<NodeKey>,
        header: &Header,
        gossip: &Gossip<'_>,
        kind: Kind,
    ) {
        if kind != Kind::Pong {
            self.learn_own_ip(link, kind);
            if kind == Kind::Meet && sender.is_none() {
                self.answer_stranger(link, header);
                self.hear_gossip(None, gossip);
            }
            self.send_pong(link, sender);
        }
        if let Some(peer) = self.links.leads_to(link)
            && !self.settle_identity(peer, sender, header)
        {
            return;
        }
        if kind == Kind::Pong
            && let Some(peer) = self.links.leads_to(link)
        {
            self.on_pong(peer);
        }
        if let Some(sender) = sender.filter(|key| *key != ME) {
            self.hear_hello(link, sender, header, gossip, kind);
        }
    }

    fn hear_hello(
        &mut self,
        link: LinkId,
        sender: NodeKey,
        header: &Header,
        gossip: &Gossip<'_>,
        kind: Kind,
    ) {
        self.nodes[sender].no_failover = header.flags.has(NodeFlags::NO_FAILOVER);
        if kind == Kind::Ping {
            self.follow_address(link, sender, header);
        }
        self.hear_role(sender, header);
        self.hear_claim(sender, header);
        self.settle_collision(sender, header);
        self.hear_gossip(Some(sender), gossip);
        self.hear_extensions(sender, header, &gossip.extensions);
    }

    /// A node learns its address from those who call it.
    fn learn_own_ip(&mut self, link: LinkId, kind: Kind) {
        let me = &self.nodes[ME];
        if self.settings.announce_ip.is_some() || !(kind == Kind::Meet || me.address.ip.is_empty())
        {
            return;
        }
        let Some(inbound) = self.links.inbound(link) else { return };
        let ip = inbound.local.into();
        if me.address.ip != ip {
            tracing::info!("this node's address is {ip}");
            self.nodes[ME].address.ip = ip;
            self.topology_changed();
        }
    }

    /// Somebody asks to be let in: he is called back, and says his id then.
    fn answer_stranger(&mut self, link: LinkId, header: &Header) {
        let Some(address) = self.address_of_sender(link, header) else { return };
        self.start_handshake(address, false);
    }

    /// Calls an address whose id is not known. `meet`: and asks it to let this node in.
    pub(super) fn start_handshake(&mut self, address: Address, meet: bool) {
        let same = |node: &Node| {
            node.in_handshake()
                && (&node.address.ip, node.address.bus_port) == (&address.ip, address.bus_port)
        };
        let twin = self.nodes.iter().find(|(_, node)| same(node)).map(|(key, _)| key);
        if let Some(key) = twin {
            if meet && self.nodes[key].link.is_none() {
                self.nodes[key].contact = Contact::Handshake { meet: true };
            }
            return;
        }
        let id = self.random.node_id();
        let node = Node::new(id, Contact::Handshake { meet }, address, self.now);
        if self.nodes.add(node).is_none() {
            tracing::warn!("too many nodes are known to meet another");
        }
    }

    /// Where the sender of this header is: where it says, or where its packet comes from.
    fn address_of_sender(&self, link: LinkId, header: &Header) -> Option<Address> {
        let mut address = header.address.clone();
        if address.ip.is_empty() {
            address.ip = match (self.links.inbound(link), self.links.leads_to(link)) {
                (Some(inbound), _) => inbound.peer.into(),
                (None, Some(node)) => self.nodes[node].address.ip.clone(),
                (None, None) => return None,
            };
        }
        (address.bus_port != 0).then_some(address)
    }

    /// Who is at the other end of a link that this node opened? False if the packet is done with.
    fn settle_identity(&mut self, peer: NodeKey, sender: Option<NodeKey>, header: &Header) -> bool {
        if self.nodes[peer].in_handshake() {
            if let Some(known) = sender {
                // An old acquaintance, under an address that may be new.
                let mut address = header.address.clone();
                if address.ip.is_empty() {
                    address.ip = self.nodes[peer].address.ip.clone();
                }
                self.remove_node(peer);
                if known != ME {
                    self.move_node(known, address);
                }
                return false;
            }
            self.end_handshake(peer, header);
            return true;
        }
        if self.nodes[peer].id == header.sender {
            return true;
        }
        tracing::info!("node {} is not at its address any more", self.nodes[peer].id);
        self.disconnect(peer);
        let node = &mut self.nodes[peer];
        node.contact = Contact::Lost;
        node.address = Address::default();
        self.topology_changed();
        false
    }

    fn end_handshake(&mut self, peer: NodeKey, header: &Header) {
        self.nodes.rename(peer, header.sender);
        let node = &mut self.nodes[peer];
        node.contact = Contact::Known;
        node.role = role_of(header.flags);
        tracing::info!("node {} at {} is met", node.id, node.address);
        self.topology_changed();
    }

    /// A node calls from another address than the one that is known.
    fn follow_address(&mut self, link: LinkId, sender: NodeKey, header: &Header) {
        if self.links.leads_to(link).is_some() {
            return;
        }
        if let Some(address) = self.address_of_sender(link, header) {
            self.move_node(sender, address);
        }
    }

    fn move_node(&mut self, key: NodeKey, address: Address) {
        let node = &mut self.nodes[key];
        if node.address == address {
            return;
        }
        tracing::info!("node {} moves from {} to {address}", node.id, node.address);
        node.address = address;
        if node.contact == Contact::Lost {
            node.contact = Contact::Known;
        }
        self.disconnect(key);
        self.topology_changed();
    }

    fn on_pong(&mut self, peer: NodeKey) {
        let node = &mut self.nodes[peer];
        node.pong_received_ms = self.now;
        if node.ping_sent_ms != 0 {
            node.answered_ms = node.ping_sent_ms;
        }
        node.ping_sent_ms = 0;
        match node.health {
            Health::Fine => {}
            Health::Suspect => {
                node.health = Health::Fine;
                self.topology_changed();
            }
            Health::Failed { since_ms } => self.undo_failure(peer, since_ms),
        }
    }

    /// Master or replica, and of whom?
    fn hear_role(&mut self, sender: NodeKey, header: &Header) {
        let Some(master) = header.master else { return self.make_master(sender) };
        if !self.nodes[sender].is_replica() {
            self.give_up_slots(sender);
            self.nodes[sender].role = Role::Replica { of: None };
            self.nodes[sender].wants_replicas = false;
            self.topology_changed();
        }
        if let Some(master) = self.nodes.find(&master).filter(|master| *master != sender) {
            self.attach(sender, master);
        }
    }

    fn hear_claim(&mut self, sender: NodeKey, header: &Header) {
        let is_master = self.nodes[sender].is_master();
        let owner = if is_master { Some(sender) } else { self.nodes[sender].master() };
        let is_news = owner.is_some_and(|owner| self.nodes[owner].slots != header.slots);
        if !is_news {
            return;
        }
        if is_master {
            self.apply_claim(sender, header.config_epoch, &header.slots);
        }
        self.correct(sender, header);
    }

    /// Tells a node that claims slots with an epoch that is too old who owns them.
    fn correct(&mut self, sender: NodeKey, header: &Header) {
        let better = header.slots.iter().find_map(|slot| {
            let owner = self.slots.owner(slot)?;
            let is_newer = self.nodes[owner].config_epoch > header.config_epoch;
            (owner != sender && is_newer).then_some(owner)
        });
        if let Some(owner) = better {
            self.send_update(sender, owner);
        }
    }

    fn on_update(&mut self, claim: &Claim) {
        let Some(owner) = self.nodes.find(&claim.node) else { return };
        // Nobody knows better than this node what it owns.
        if owner == ME || self.nodes[owner].config_epoch >= claim.config_epoch {
            return;
        }
        self.make_master(owner);
        self.nodes[owner].config_epoch = claim.config_epoch;
        self.save_first();
        self.apply_claim(owner, claim.config_epoch, &claim.slots);
    }

    /// Two masters with one epoch would both be right: the one with the smaller id takes a new one.
    fn settle_collision(&mut self, sender: NodeKey, header: &Header) {
        let (me, other) = (&self.nodes[ME], &self.nodes[sender]);
        let collides = me.is_master()
            && other.is_master()
            && me.config_epoch == header.config_epoch
            && other.config_epoch == header.config_epoch;
        if collides && me.id < other.id {
            self.take_next_epoch();
            tracing::info!("epoch collision with {}: now {}", header.sender, self.current_epoch);
        }
    }
}
