//! The links of a node: one to every other node, which it opens itself, and those that others opened.
//!
//! An inbound link is anonymous until a known node speaks on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::event::{Effect, LinkId};
use super::machine::Cluster;
use super::node::{Contact, Outbound};
use super::node_id::NodeId;
use super::table::NodeKey;

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Whom the links lead to that this node opened.
    outbound: BTreeMap<u64, NodeKey>,
    inbound: BTreeMap<u64, Inbound>,
    /// The number of the next link that this node opens.
    next: u64,
}

/// A link that another node opened.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    /// Where it comes from.
    pub(super) peer: IpAddr,
    /// The address that was called.
    pub(super) local: IpAddr,
    /// Who speaks on it, once that is known.
    pub(super) node: Option<NodeKey>,
    pub(super) created_ms: u64,
}

/// A link whose other end is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// The link.
    pub link: LinkId,
    /// Who is at the other end.
    pub node: NodeId,
    /// When it was opened, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Links {
    /// The node that an outbound link leads to.
    pub(super) fn leads_to(&self, link: LinkId) -> Option<NodeKey> {
        match link {
            LinkId::To(number) => self.outbound.get(&number).copied(),
            LinkId::From(_) => None,
        }
    }

    /// What is known of an inbound link.
    pub(super) fn inbound(&self, link: LinkId) -> Option<&Inbound> {
        match link {
            LinkId::From(number) => self.inbound.get(&number),
            LinkId::To(_) => None,
        }
    }

    /// Whether the link is one of this node: what comes late from a closed one is not heard.
    pub(super) fn knows(&self, link: LinkId) -> bool {
        self.leads_to(link).is_some() || self.inbound(link).is_some()
    }
}

impl Cluster {
    pub(super) fn on_accepted(&mut self, link: LinkId, peer: IpAddr, local: IpAddr) {
        let LinkId::From(number) = link else { return };
        let inbound = Inbound { peer, local, node: None, created_ms: self.now };
        self.links.inbound.insert(number, inbound);
    }

    /// Greets whom this link leads to.
    pub(super) fn on_connected(&mut self, link: LinkId) {
        let Some(node) = self.links.leads_to(link) else { return };
        if self.nodes[node].contact == (Contact::Handshake { meet: true }) {
            self.send_meet(link);
            self.nodes[node].contact = Contact::Handshake { meet: false };
            self.nodes[node].uncalled_since_ms = Some(self.now);
        } else {
            // A ping that was due before the link broke is still due: only a pong ends the waiting.
            self.send_ping(node);
        }
    }

    pub(super) fn on_link_lost(&mut self, link: LinkId, overflowed: bool) {
        self.stats.links_overflowed += u64::from(overflowed && self.links.knows(link));
        match link {
            LinkId::To(number) => {
                let Some(node) = self.links.outbound.remove(&number) else { return };
                let node = &mut self.nodes[node];
                node.link = None;
                // Without this, a node that refuses connections would never be asked, so never be missed.
                if node.ping_sent_ms == 0 {
                    node.ping_sent_ms = self.now;
                }
            }
            LinkId::From(number) => self.unbind(number),
        }
    }

    fn unbind(&mut self, number: u64) {
        let node = self.links.inbound.remove(&number).and_then(|inbound| inbound.node);
        if let Some(node) = node.map(|node| &mut self.nodes[node])
            && node.inbound == Some(number)
        {
            node.inbound = None;
        }
    }

    /// Opens the link to a node.
    pub(super) fn connect(&mut self, node: NodeKey) {
        let number = self.links.next;
        self.links.next += 1;
        self.links.outbound.insert(number, node);
        let target = &mut self.nodes[node];
        target.link = Some(Outbound { number, created_ms: self.now });
        let (ip, port) = (target.address.ip.clone(), target.address.bus_port);
        self.out.push(Effect::Connect { link: LinkId::To(number), ip, port });
    }

    /// Closes the link to a node, if there is one; the next tick opens another.
    pub(super) fn disconnect(&mut self, node: NodeKey) {
        if let Some(link) = self.nodes[node].link.take() {
            self.links.outbound.remove(&link.number);
            self.out.push(Effect::Close { link: LinkId::To(link.number) });
        }
    }

    /// Closes a link of either kind.
    pub(super) fn close(&mut self, link: LinkId) {
        match link {
            LinkId::To(_) => {
                if let Some(node) = self.links.leads_to(link) {
                    self.disconnect(node);
                }
            }
            LinkId::From(number) => {
                self.unbind(number);
                self.out.push(Effect::Close { link });
            }
        }
    }

    /// From now on this inbound link is that of `node`; an older one of it is not needed any more.
    pub(super) fn bind(&mut self, link: LinkId, node: NodeKey) {
        let LinkId::From(number) = link else { return };
        let Some(inbound) = self.links.inbound.get_mut(&number) else { return };
        let before = inbound.node.replace(node);
        self.nodes[node].uncalled_since_ms = None;
        if before == Some(node) {
            return;
        }
        if let Some(before) = before.map(|before| &mut self.nodes[before])
            && before.inbound == Some(number)
        {
            before.inbound = None;
        }
        if let Some(older) = self.nodes[node].inbound.replace(number) {
            self.links.inbound.remove(&older);
            self.out.push(Effect::Close { link: LinkId::From(older) });
        }
    }

    /// Makes the links of a node that is about to be removed nobody's.
    pub(super) fn forget_links(&mut self, node: NodeKey) {
        self.disconnect(node);
        if let Some(number) = self.nodes[node].inbound.take()
            && let Some(inbound) = self.links.inbound.get_mut(&number)
        {
            inbound.node = None;
        }
    }

    /// The links from and to nodes that are known, for CLUSTER LINKS.
    pub fn link_list(&self) -> Vec<LinkInfo> {
        let mut list = Vec::new();
        for (_, node) in self.nodes.iter() {
            if let Some(link) = node.link {
                let id = LinkId::To(link.number);
                list.push(LinkInfo { link: id, node: node.id, created_ms: link.created_ms });
            }
            let inbound = node.inbound.and_then(|number| {
                let created_ms = self.links.inbound.get(&number)?.created_ms;
                Some(LinkInfo { link: LinkId::From(number), node: node.id, created_ms })
            });
            list.extend(inbound);
        }
        list
    }

    /// The link to a node, if there is one.
    pub(super) fn link_to(&self, node: NodeKey) -> Option<LinkId> {
        self.nodes[node].link.map(|link| LinkId::To(link.number))
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: Arc<[u8]>) {
        self.out.push(Effect::Send { link, bytes });
    }
}
