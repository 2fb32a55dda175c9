//! The links of the cluster bus as sockets.
//!
//! The node numbers the links that it opens, the driver those that it accepts. A socket that is being
//! connected stays here until it is: the node must not greet somebody who never hears it, for a MEET is said once.
//! Those are looked at every few milliseconds, as there are few and seldom any.
//!
//! Promise: of a link that the node has closed, it hears nothing more.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::Control;
use super::sockets::{Owner, SocketId, Sockets, begin_connecting, unconnected};
use crate::cluster::address::Host;
use crate::cluster::bus::frame_length;
use crate::cluster::{Event, LinkId, LinkQueue};
use crate::pubsub::{Kind, Publication};
use crate::reactor::Peer;
use crate::shard::message::Message;

/// How often a socket that is being connected is looked at, at first and after [`CONNECTS_SOON`].
const LOOK_SOON: Duration = Duration::from_millis(1);
const LOOK_LATER: Duration = Duration::from_millis(20);
/// A connection within a data center is there after this time, or takes long.
const CONNECTS_SOON: Duration = Duration::from_millis(10);

/// A link that stands.
struct Standing {
    socket: SocketId,
    /// The beginning of a packet.
    input: Vec<u8>,
}

/// A link that this node opens.
struct Connecting {
    socket: Socket,
    remote: SocketAddr,
    since: Instant,
    /// What was to be sent meanwhile.
    output: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Bus {
    /// How many links were accepted.
    accepted: u64,
    standing: HashMap<LinkId, Standing>,
    by_socket: HashMap<SocketId, LinkId>,
    connecting: HashMap<LinkId, Connecting>,
    /// When those are looked at next.
    next_look: Option<Instant>,
}

impl Bus {
    /// When sockets that are being connected are to be looked at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// What waits to be sent on a link.
    pub(super) fn queue(&self, link: LinkId, sockets: &Sockets) -> LinkQueue {
        let used_bytes = match (self.standing.get(&link), self.connecting.get(&link)) {
            (Some(standing), _) => sockets.unsent(standing.socket),
            (None, Some(connecting)) => connecting.output.len(),
            (None, None) => 0,
        };
        LinkQueue { allocated_bytes: used_bytes, used_bytes }
    }

    /// What waits to be sent on all links.
    pub(super) fn waiting_bytes(&self, sockets: &Sockets) -> usize {
        let links = self.standing.keys().chain(self.connecting.keys());
        links.map(|link| self.queue(*link, sockets).used_bytes).sum()
    }

    fn stand(&mut self, link: LinkId, socket: SocketId) {
        self.standing.insert(link, Standing { socket, input: Vec::new() });
        self.by_socket.insert(socket, link);
    }
}

/// Begins to connect; nothing if that fails at once.
fn start_connecting(ip: &Host, port: u16, source: Option<IpAddr>) -> Option<Connecting> {
    let remote = SocketAddr::new(ip.as_str().parse().ok()?, port);
    let socket = unconnected(remote).ok()?;
    if let Some(source) = source {
        // As in Redis, an address that cannot be had is no reason not to try without.
        _ = socket.bind(&SocketAddr::new(source, 0).into());
    }
    begin_connecting(&socket, remote).ok()?;
    Some(Connecting { socket, remote, since: Instant::now(), output: Vec::new() })
}

/// What became of a socket that is being connected; nothing yet, there, or failed.
fn outcome(socket: &Socket) -> Option<bool> {
    match socket.take_error() {
        Ok(None) => socket.peer_addr().is_ok().then_some(true),
        Ok(Some(_)) | Err(_) => Some(false),
    }
}

impl Control {
    /// Opens a link; false if that fails at once.
    pub(super) fn open_link(&mut self, link: LinkId, ip: &Host, port: u16) -> bool {
        let source = self.config.bind_source_addr.parse().ok();
        let Some(cluster) = &mut self.cluster else { return false };
        let Some(connecting) = start_connecting(ip, port, source) else { return false };
        cluster.bus.connecting.insert(link, connecting);
        // At the end of this very turn: on a loopback it is there already.
        cluster.bus.next_look = Some(Instant::now());
        true
    }

    /// Closes a link; the node knows.
    pub(super) fn close_link(&mut self, link: LinkId) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.bus.connecting.remove(&link);
        if let Some(standing) = cluster.bus.standing.remove(&link) {
            cluster.bus.by_socket.remove(&standing.socket);
            self.sockets.close(standing.socket, &mut self.actions);
        }
    }

    pub(super) fn send_on_link(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(standing) = cluster.bus.standing.get(&link) {
            self.sockets.write(standing.socket, bytes, &mut self.actions);
        } else if let Some(connecting) = cluster.bus.connecting.get_mut(&link) {
            connecting.output.extend_from_slice(bytes);
        }
    }

    /// Whether this socket was accepted on the port of the bus.
    pub(super) fn is_for_bus(&self, peer: &Peer) -> bool {
        let Peer::Tcp { local, .. } = peer else { return false };
        self.cluster.is_some() && self.config.bus_port() == Some(local.port())
    }

    /// Another node has connected.
    pub(super) fn accept_link(&mut self, socket: OwnedFd, peer: Peer) {
        let Peer::Tcp { remote, local } = peer else { return };
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.is_ticking()) else {
            return; // As long as data is being loaded, this node is not one of the cluster.
        };
        cluster.bus.accepted += 1;
        let link = LinkId::From(cluster.bus.accepted);
        let id = self.sockets.adopt(socket, peer, Owner::Bus, &mut self.actions);
        cluster.bus.stand(link, id);
        let (peer, local) = (remote.ip().to_canonical(), local.ip().to_canonical());
        self.cluster_step(Event::Accepted { link, peer, local });
    }

    /// Looks at the sockets that are being connected.
    pub(super) fn look_at_connecting_links(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.bus.next_look.is_none_or(|next| next > now) {
            return;
        }
        let mut settled = Vec::new();
        let mut next = None;
        for (link, connecting) in &cluster.bus.connecting {
            match outcome(&connecting.socket) {
                Some(is_there) => settled.push((*link, is_there)),
                None => {
                    let is_young = now.saturating_duration_since(connecting.since) < CONNECTS_SOON;
                    let look = now + if is_young { LOOK_SOON } else { LOOK_LATER };
                    next = next.into_iter().chain([look]).min();
                }
            }
        }
        cluster.bus.next_look = next;
        settled.sort_unstable();
        for (link, is_there) in settled {
            self.end_connecting(link, is_there);
        }
    }

    fn end_connecting(&mut self, link: LinkId, is_there: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(connecting) = cluster.bus.connecting.remove(&link) else { return };
        let local = connecting.socket.local_addr().ok().and_then(|local| local.as_socket());
        let (true, Some(local)) = (is_there, local) else {
            return self.cluster_step(Event::LinkLost { link, overflowed: false });
        };
        let peer = Peer::Tcp { remote: connecting.remote, local };
        let id = self.sockets.adopt(connecting.socket.into(), peer, Owner::Bus, &mut self.actions);
        cluster.bus.stand(link, id);
        self.sockets.write(id, &connecting.output, &mut self.actions);
        self.cluster_step(Event::Connected { link });
    }

    /// Bytes have come on a link.
    pub(super) fn on_bus_bytes(&mut self, socket: SocketId, bytes: &[u8]) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(link) = cluster.bus.by_socket.get(&socket).copied() else { return };
        let Some(standing) = cluster.bus.standing.get_mut(&link) else { return };
        let mut input = std::mem::take(&mut standing.input);
        input.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            let rest = &input[start..];
            let length = match frame_length(rest) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => break,
                // The node says what comes of a packet that is none: the end of the link.
                Err(_) => rest.len(),
            };
            self.cluster_step(Event::Packet { link, bytes: &rest[..length] });
            start += length;
            if !self.link_stands(link) {
                return;
            }
        }
        input.drain(..start);
        if let Some(cluster) = &mut self.cluster
            && let Some(standing) = cluster.bus.standing.get_mut(&link)
        {
            standing.input = input;
        }
    }

    fn link_stands(&self, link: LinkId) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.bus.standing.contains_key(&link))
    }

    /// A socket of the bus is gone, or the other end says that it will say nothing more.
    pub(super) fn on_bus_lost(&mut self, socket: SocketId) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(link) = cluster.bus.by_socket.get(&socket).copied() {
            self.close_link(link);
            self.cluster_step(Event::LinkLost { link, overflowed: false });
        }
    }

    /// Closes links on which more waits than `cluster-link-sendbuf-limit` allows: their other end does not read.
    pub(super) fn close_overflowing_links(&mut self) {
        let limit = self.config.cluster_link_sendbuf_limit;
        let Some(cluster) = &self.cluster else { return };
        if limit == 0 {
            return;
        }
        let standing = cluster.bus.standing.keys().copied();
        let overflows =
            |link: &LinkId| cluster.bus.queue(*link, &self.sockets).used_bytes as u64 > limit;
        let mut links: Vec<LinkId> = standing.filter(overflows).collect();
        links.sort_unstable();
        for link in links {
            tracing::warn!("the other end of {link:?} does not read, it is closed");
            self.close_link(link);
            self.cluster_step(Event::LinkLost { link, overflowed: true });
        }
    }

    /// A client has published something: the other nodes have subscribers, too.
    pub(super) fn publish_on_bus(&mut self, publication: &Publication) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut effects = Vec::new();
        let sharded = publication.kind == Kind::Shard;
        let (channel, message) = (&publication.channel, &publication.message);
        cluster.node.publish(channel, message, sharded, &mut effects);
        self.perform(effects);
    }

    /// Another node's client has published something. By way of one shard, so that messages stay in order.
    pub(super) fn deliver(&mut self, channel: Vec<u8>, message: Vec<u8>, sharded: bool) {
        let kind = if sharded { Kind::Shard } else { Kind::Channel };
        let Some(from) = self.shards.iter().next() else { return };
        let publication = Publication { from, kind, channel, message };
        self.tell(from, Message::PublishHere(Box::new(publication)));
    }
}
