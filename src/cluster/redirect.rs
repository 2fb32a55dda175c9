//! Whether a command runs on this node, and where it has to go if not.
//!
//! [`Territory`] is what a data core keeps of the cluster: the finished [`SlotMap`], and a bit for each slot
//! that needs no further thought. Nearly all commands are let through by one look at such a bit; only for the
//! others [`Territory::route`] decides, in the order and in the words of Redis 7.0 (`cluster.c`, getNodeByQuery).
//!
//! Promise: nothing here looks at a key's value. Where it matters whether keys are there (slots on their way),
//! the answer is [`Route::Look`], and who owns the keys asks [`Territory::after_look`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::forwarding::Redirection;
use super::slot_map::{SlotMap, SlotOwner, Tenure};
use crate::command::CommandError;
use crate::slot::{SLOT_COUNT, Slot, slot_of};

const CROSS_SLOT: CommandError =
    CommandError::text("CROSSSLOT Keys in request don't hash to the same slot");
const TRY_AGAIN: CommandError =
    CommandError::text("TRYAGAIN Multiple keys request during rehashing of slot");
const NOT_SERVED: CommandError = CommandError::text("CLUSTERDOWN Hash slot not served");
/// The cluster is down, and so is what needs keys.
pub const DOWN: CommandError = CommandError::text("CLUSTERDOWN The cluster is down");
/// The cluster is down, but for those who read.
pub const DOWN_FOR_WRITES: CommandError =
    CommandError::text("CLUSTERDOWN The cluster is down and only accepts read commands");

const WORDS: usize = SLOT_COUNT as usize / 64;

/// A set of slots, to be asked in one step.
struct Bits([u64; WORDS]);

impl Bits {
    fn of(is_in: impl Fn(Slot) -> bool) -> Self {
        let mut bits = [0; WORDS];
        let slots = (0..SLOT_COUNT).filter_map(Slot::new);
        slots.filter(|slot| is_in(*slot)).for_each(|slot| bits[slot.index() / 64] |= bit(slot));
        Self(bits)
    }

    #[inline]
    fn has(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] & bit(slot) != 0
    }
}

const fn bit(slot: Slot) -> u64 {
    1 << (slot.index() % 64)
}

/// See the module.
pub struct Territory {
    /// `None` until the control core has told.
    map: Option<Arc<SlotMap>>,
    /// Commands with keys are refused: the map says so, or it is too old to rely on.
    is_down: bool,
    lapsed: bool,
    served: Bits,
    mirrored: Bits,
}

/// What decides besides the keys.
#[derive(Clone, Copy, Default, Debug)]
pub struct Terms {
    /// The command may write.
    pub writes: bool,
    /// It is EXEC, and a command of its block may write.
    pub block_writes: bool,
    /// It is about shard channels, which are in a slot as keys are, but are nowhere stored.
    pub is_channel: bool,
    /// The client has said ASKING, or the command implies it.
    pub asking: bool,
    /// The client has said READONLY.
    pub readonly: bool,
    /// The client brings slots to here, see [`SlotMap::coming`].
    pub brings: bool,
    /// It is MIGRATE, which moves the keys of slots on their way.
    pub is_migrate: bool,
    /// `cluster-allow-reads-when-down`
    pub reads_when_down: bool,
    /// `cluster-allow-pubsubshard-when-down`
    pub channels_when_down: bool,
}

/// What [`Territory::route`] decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// It runs here.
    Here,
    /// That depends on which of its keys are here; all are in this slot.
    Look(Slot),
    /// It does not; the client is told why, or where it does.
    Elsewhere(CommandError),
}

/// Which keys of a command are here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// So many are.
    pub present: usize,
    /// So many are not.
    pub missing: usize,
    /// They are not all the same key.
    pub several: bool,
}

impl Found {
    /// Which of `keys` are here, as `is_present` says.
    pub fn among(keys: &[&[u8]], is_present: impl Fn(&[u8]) -> bool) -> Self {
        let present = keys.iter().filter(|key| is_present(key)).count();
        Self::counted(keys, present)
    }

    /// So many of `keys` are here.
    pub fn counted(keys: &[&[u8]], present: usize) -> Self {
        let several = keys.windows(2).any(|pair| pair[0] != pair[1]);
        Self { present, missing: keys.len() - present, several }
    }
}

impl Territory {
    /// Whether this node is a master.
    pub fn is_masters(&self) -> bool {
        self.map.as_ref().is_some_and(|map| !map.is_replica)
    }

    /// That of a node which has this map.
    pub fn new(map: Option<Arc<SlotMap>>) -> Self {
        Self::under_lease(map, false)
    }

    /// The same, possibly of a node that has not heard from its cluster for too long.
    fn under_lease(map: Option<Arc<SlotMap>>, lapsed: bool) -> Self {
        let is_down = lapsed || map.as_ref().is_none_or(|map| map.is_down);
        let is_up = !is_down;
        let tenure_is = |wanted: fn(&Tenure<'_>) -> bool| {
            Bits::of(|slot| is_up && map.as_ref().is_some_and(|map| wanted(&map.tenure(slot))))
        };
        let served = tenure_is(|tenure| matches!(tenure, Tenure::Owned));
        let mirrored = tenure_is(|tenure| matches!(tenure, Tenure::OfMaster { .. }));
        Self { map, is_down, lapsed, served, mirrored }
    }

    /// What this turns into when the lease of the node has lapsed, or is valid again; `None` if that is no news.
    pub fn when_lease(&self, lapsed: bool) -> Option<Self> {
        (self.lapsed != lapsed).then(|| Self::under_lease(self.map.clone(), lapsed))
    }

    /// Whether any command for one key of `slot` runs here, whatever the key.
    #[inline]
    pub fn serves(&self, slot: Slot) -> bool {
        self.served.has(slot)
    }

    /// Whether a command that reads one key of `slot` runs here if its client has said READONLY.
    #[inline]
    pub fn mirrors(&self, slot: Slot) -> bool {
        self.mirrored.has(slot)
    }

    /// Whether the keys of `slot` are here: this node owns it, or its master does.
    pub fn has_data(&self, slot: Slot) -> bool {
        self.map.as_ref().is_some_and(|map| map.has_data(slot))
    }

    /// The id of the node that owns `slot`, to compare.
    pub fn owner(&self, slot: Slot) -> Option<&SlotOwner> {
        self.map.as_ref().and_then(|map| map.owner(slot))
    }

    /// Whether it makes no difference whether a command writes: the cluster is up and this node no replica.
    pub fn serves_alike(&self) -> bool {
        self.map.as_ref().is_some_and(|map| !self.is_down && !map.is_replica)
    }

    /// Whether this node has the keys of `slot`, or is getting them, by right.
    pub fn keeps(&self, slot: Slot) -> bool {
        let elsewhere = |tenure| matches!(tenure, Tenure::Elsewhere { .. } | Tenure::Unassigned);
        let Some(map) = &self.map else { return false };
        map.coming.contains(slot) || !elsewhere(map.tenure(slot))
    }

    /// Where a command with these keys runs, in the order in which it names them.
    pub fn route(&self, terms: &Terms, keys: &[&[u8]]) -> Route {
        let Some((first, others)) = keys.split_first() else { return Route::Here };
        let slot = slot_of(first);
        let Some(map) = self.map.as_ref().filter(|map| map.owner(slot).is_some()) else {
            return Route::Elsewhere(NOT_SERVED);
        };
        if others.iter().any(|key| key != first && slot_of(key) != slot) {
            return Route::Elsewhere(CROSS_SLOT);
        }
        if self.is_down
            && let Some(error) = terms.refusal_while_down()
        {
            return Route::Elsewhere(error);
        }
        let several = others.iter().any(|key| key != first);
        route_in(map, slot, terms, several)
    }

    /// What follows from which keys are here, where [`Territory::route`] has said that one has to look.
    pub fn after_look(&self, slot: Slot, found: Found) -> Result<(), CommandError> {
        let Some(map) = &self.map else { return Ok(()) };
        match map.tenure(slot) {
            Tenure::Migrating { .. } if found.missing > 0 && found.present > 0 => Err(TRY_AGAIN),
            Tenure::Migrating { to } if found.missing > 0 => {
                Err(redirect("ASK", slot, to, map.port_to_ask(slot, to)))
            }
            Tenure::Importing { .. } if found.several && found.missing > 0 => Err(TRY_AGAIN),
            _ => Ok(()),
        }
    }

    /// Where a redirection leads, be it ours or another node's. A name in it is that of a node in the map, and is
    /// not asked of anybody else.
    pub fn address_of(&self, to: &Redirection<'_>) -> Option<SocketAddr> {
        let ip = to.host.parse::<IpAddr>().ok().or_else(|| {
            let map = self.map.as_ref()?;
            let is_meant = |node: &&SlotOwner| node.listens_at(to.port) && node.is_called(to.host);
            let node = map.owner(to.slot).into_iter().chain(&map.nodes).find(is_meant)?;
            node.ip.as_str().parse().ok()
        })?;
        Some(SocketAddr::new(ip, to.port))
    }

    /// Whether a node that has slots, or is about to, is there.
    pub fn has_node_at(&self, address: SocketAddr) -> bool {
        let is_there = |node: &SlotOwner| {
            let ip = node.ip.as_str().parse();
            node.listens_at(address.port()) && ip.is_ok_and(|ip: IpAddr| ip == address.ip())
        };
        self.map.as_ref().is_some_and(|map| map.nodes.iter().any(is_there))
    }

    /// Why a client that waits for keys of `slot` waits in vain, if it does (Redis 7.0 `cluster.c`,
    /// clusterRedirectBlockedClientIfNeeded).
    pub fn refusal_of_waiting(&self, slot: Slot, readonly: bool) -> Option<CommandError> {
        let map = self.map.as_ref()?;
        if self.is_down {
            return Some(DOWN);
        }
        match map.tenure(slot) {
            Tenure::Owned | Tenure::Migrating { .. } | Tenure::Importing { .. } => None,
            Tenure::OfMaster { .. } if readonly => None,
            Tenure::OfMaster { owner } | Tenure::Elsewhere { owner } => {
                Some(redirect("MOVED", slot, owner, owner.port_of(slot)))
            }
            Tenure::Unassigned => Some(NOT_SERVED),
        }
    }
}

fn route_in(map: &SlotMap, slot: Slot, terms: &Terms, several: bool) -> Route {
    let moved =
        |owner: &SlotOwner| Route::Elsewhere(redirect("MOVED", slot, owner, owner.port_of(slot)));
    match map.tenure(slot) {
        Tenure::Owned => Route::Here,
        Tenure::Migrating { .. } | Tenure::Importing { .. } if terms.is_migrate => Route::Here,
        // Subscribers stay until the slot has left.
        Tenure::Migrating { .. } if terms.is_channel => Route::Here,
        Tenure::Migrating { .. } => Route::Look(slot),
        Tenure::Importing { .. } if terms.asking && several && !terms.is_channel => {
            Route::Look(slot)
        }
        Tenure::Importing { .. } if terms.asking => Route::Here,
        Tenure::Importing { owner: Some(owner) } => moved(owner),
        Tenure::OfMaster { .. } if terms.may_run_on_replica() => Route::Here,
        Tenure::Elsewhere { .. } if terms.brings && map.coming.contains(slot) => Route::Here,
        Tenure::OfMaster { owner } | Tenure::Elsewhere { owner } => moved(owner),
        Tenure::Importing { owner: None } | Tenure::Unassigned => Route::Elsewhere(NOT_SERVED),
    }
}

impl Terms {
    fn refusal_while_down(&self) -> Option<CommandError> {
        match (self.is_channel, self.writes) {
            (true, _) => (!self.channels_when_down).then_some(DOWN),
            (false, _) if !self.reads_when_down => Some(DOWN),
            (false, true) => Some(DOWN_FOR_WRITES),
            (false, false) => None,
        }
    }

    fn may_run_on_replica(&self) -> bool {
        (self.readonly || self.is_channel) && !self.writes && !self.block_writes
    }
}

fn redirect(word: &str, slot: Slot, to: &SlotOwner, port: u16) -> CommandError {
    let endpoint = to.endpoint.as_ref().map_or("?", |host| host.as_str());
    CommandError::Text(Cow::Owned(format!("{word} {} {endpoint}:{port}", slot.get())))
}

#[cfg(test)]
mod tests {
    use super::super::address::Host;
    use super::super::node_id::NodeId;
    use super::super::shard_ports::ShardPorts;
    use super::super::slot_map::Move;
    use super::*;

    fn owner(number: u8, port: u16) -> SlotOwner {
        let host = Host::parse(b"127.0.0.1", 45).expect("a host");
        let id = NodeId::new([b'0' + number; 40]).expect("an id");
        SlotOwner {
            id,
            endpoint: Some(host.clone()),
            ip: host,
            port,
            plain_port: 0,
            shard_ports: None,
        }
    }

    const OURS: &[u8] = b"ours";
    const LEAVING: &[u8] = b"leaving";
    const COMING: &[u8] = b"coming";
    const THEIRS: &[u8] = b"theirs";
    const NOBODYS: &[u8] = b"nobodys";

    fn map(is_down: bool, is_replica: bool) -> SlotMap {
        let mut map = SlotMap::new(owner(0, 7000));
        map.nodes.push(owner(1, 7001));
        (map.is_down, map.is_replica) = (is_down, is_replica);
        map.serving = is_replica.then_some(1);
        map.set_owner(slot_of(OURS), 0);
        map.set_owner(slot_of(LEAVING), 0);
        map.set_move(slot_of(LEAVING), Move::To(1));
        map.set_owner(slot_of(COMING), 1);
        map.set_move(slot_of(COMING), Move::From(1));
        map.set_owner(slot_of(THEIRS), 1);
        map
    }

    fn moved(word: &str, key: &[u8]) -> String {
        format!("{word} {} 127.0.0.1:7001", slot_of(key).get())
    }

    fn said(route: Route) -> String {
        match route {
            Route::Here => "here".to_owned(),
            Route::Look(_) => "look".to_owned(),
            Route::Elsewhere(error) => error.to_string(),
        }
    }

    #[test]
    fn a_command_goes_where_its_slot_is() {
        let territory = Territory::new(Some(Arc::new(map(false, false))));
        let (asking, channel) = (
            Terms { asking: true, ..Terms::default() },
            Terms { is_channel: true, ..Terms::default() },
        );
        let migrate = Terms { is_migrate: true, ..Terms::default() };
        let plain = Terms::default();
        let down = "CLUSTERDOWN Hash slot not served";
        let cross = "CROSSSLOT Keys in request don't hash to the same slot";
        let two: &[&[u8]] = &[b"{coming}a", b"{coming}b"];
        for (terms, keys, expected) in [
            (plain, &[] as &[&[u8]], "here"),
            (plain, &[OURS], "here"),
            (plain, &[OURS, OURS], "here"),
            (plain, &[OURS, THEIRS], cross),
            (plain, &[THEIRS, OURS], cross),
            (plain, &[NOBODYS, OURS], down),
            (plain, &[OURS, NOBODYS], cross),
            (plain, &[LEAVING], "look"),
            (channel, &[LEAVING], "here"),
            (migrate, &[LEAVING], "here"),
            (migrate, &[COMING], "here"),
            (migrate, &[THEIRS], &moved("MOVED", THEIRS)),
            (plain, &[COMING], &moved("MOVED", COMING)),
            (asking, &[COMING], "here"),
            (asking, &[COMING, COMING], "here"),
            (asking, two, "look"),
            (asking, &[THEIRS], &moved("MOVED", THEIRS)),
            (plain, &[THEIRS], &moved("MOVED", THEIRS)),
        ] {
            assert_eq!(said(territory.route(&terms, keys)), expected, "{terms:?} {keys:?}");
        }
    }

    #[test]
    fn a_redirection_leads_to_an_address_or_to_the_node_that_it_names() {
        let mut map = map(false, false);
        map.nodes[1].endpoint = None;
        map.nodes.push(SlotOwner { endpoint: Host::parse(b"third", 45), ..owner(2, 7002) });
        map.nodes[2].ip = Host::parse(b"10.0.0.3", 45).expect("a host");
        map.nodes[2].shard_ports = ShardPorts::new(2, 7201);
        let territory = Territory::new(Some(Arc::new(map)));
        let slot = slot_of(THEIRS).get();
        for (to, expected) in [
            ("10.9.9.9:1", Some("10.9.9.9:1")),
            ("::1:7001", Some("[::1]:7001")),
            ("?:7001", Some("127.0.0.1:7001")),
            ("?:7002", None),
            ("third:7002", Some("10.0.0.3:7002")),
            ("third:7202", Some("10.0.0.3:7202")),
            ("third:7203", None),
            ("fourth:7002", None),
            (":7001", None),
        ] {
            let text = format!("MOVED {slot} {to}");
            let to = Redirection::parse(&text).expect("a redirection");
            let address = territory.address_of(&to);
            assert_eq!(address.map(|at| at.to_string()), expected.map(str::to_owned), "{text}");
        }
        for (address, is_there) in [
            ("127.0.0.1:7001", true),
            ("10.0.0.3:7201", true),
            ("10.0.0.3:7203", false),
            ("10.0.0.1:7001", false),
        ] {
            assert_eq!(
                territory.has_node_at(address.parse().expect("an address")),
                is_there,
                "{address}"
            );
        }
    }

    #[test]
    fn who_is_sent_away_is_sent_to_the_shard_that_has_the_slot() {
        let mut map = map(false, false);
        map.nodes[1].shard_ports = ShardPorts::new(4, 7101);
        let territory = Territory::new(Some(Arc::new(map)));
        let to = |word: &str, key: &[u8]| {
            let slot = slot_of(key).get();
            // Of four shards, each has blocks of 64.
            format!("{word} {slot} 127.0.0.1:{}", 7101 + slot / 64 % 4)
        };
        for key in [THEIRS, COMING] {
            assert_eq!(said(territory.route(&Terms::default(), &[key])), to("MOVED", key));
        }
    }

    #[test]
    fn who_asks_for_a_slot_on_its_way_is_sent_to_a_shard_that_clients_know() {
        let mut map = map(false, false);
        map.nodes[1].shard_ports = ShardPorts::new(4, 7101);
        (0..SLOT_COUNT).filter_map(Slot::new).for_each(|slot| map.set_owner(slot, 0));
        let slot = slot_of(LEAVING).get();
        let own_shard = slot / 64 % 4;
        let other_shard = (own_shard + 1) % 4;
        let missing = Found { missing: 1, ..Found::default() };
        let other = |index| Slot::new(other_shard * 64 + index).unwrap();
        let own = |index| Slot::new(own_shard * 64 + index).unwrap();
        // It has no slots; two of one shard; and the first one of the shard that gets the slot.
        for (more, expected) in [
            (&[] as &[Slot], own_shard),
            (&[other(0), other(1)], other_shard),
            (&[own(0)], other_shard),
        ] {
            more.iter().for_each(|slot| map.set_owner(*slot, 1));
            let territory = Territory::new(Some(Arc::new(map.clone())));
            let asked = territory.after_look(slot_of(LEAVING), missing).unwrap_err();
            assert_eq!(asked.to_string(), format!("ASK {slot} 127.0.0.1:{}", 7101 + expected));
        }
    }

    #[test]
    fn a_replica_serves_readers_of_its_master() {
        let territory = Territory::new(Some(Arc::new(map(false, true))));
        let reader = Terms { readonly: true, ..Terms::default() };
        let moved = moved("MOVED", THEIRS);
        for (terms, expected) in [
            (Terms::default(), moved.as_str()),
            (reader, "here"),
            (Terms { writes: true, ..reader }, &moved),
            (Terms { block_writes: true, ..reader }, &moved),
            (Terms { is_channel: true, ..Terms::default() }, "here"),
        ] {
            assert_eq!(said(territory.route(&terms, &[THEIRS])), expected, "{terms:?}");
        }
        assert!(territory.mirrors(slot_of(THEIRS)) && !territory.serves(slot_of(THEIRS)));
    }

    #[test]
    fn a_lapsed_lease_is_as_good_as_a_cluster_that_is_down_until_it_is_renewed() {
        let valid = Territory::new(Some(Arc::new(map(false, false))));
        let slot = slot_of(OURS);
        assert!(valid.when_lease(false).is_none());
        let lapsed = valid.when_lease(true).unwrap();
        assert!(valid.serves(slot) && !lapsed.serves(slot) && !lapsed.serves_alike());
        assert_eq!(lapsed.route(&Terms::default(), &[OURS]), Route::Elsewhere(DOWN));
        assert!(lapsed.when_lease(true).is_none());
        assert!(lapsed.when_lease(false).unwrap().serves(slot));
    }

    #[test]
    fn while_the_cluster_is_down_only_the_settings_let_somebody_through() {
        let territory = Territory::new(Some(Arc::new(map(true, false))));
        let reads = Terms { reads_when_down: true, ..Terms::default() };
        let channel = Terms { is_channel: true, ..Terms::default() };
        for (terms, expected) in [
            (Terms::default(), "CLUSTERDOWN The cluster is down"),
            (reads, "here"),
            (
                Terms { writes: true, ..reads },
                "CLUSTERDOWN The cluster is down and only accepts read commands",
            ),
            (channel, "CLUSTERDOWN The cluster is down"),
            (Terms { channels_when_down: true, ..channel }, "here"),
        ] {
            assert_eq!(said(territory.route(&terms, &[OURS])), expected, "{terms:?}");
        }
        assert!(!territory.serves(slot_of(OURS)));
        let unknown = Territory::new(None).route(&Terms::default(), &[OURS]);
        assert_eq!(said(unknown), "CLUSTERDOWN Hash slot not served");
    }

    #[test]
    fn in_slots_on_their_way_it_counts_which_keys_are_here() {
        let territory = Territory::new(Some(Arc::new(map(false, false))));
        let found = |present, missing, several| Found { present, missing, several };
        let ask = moved("ASK", LEAVING);
        let again = "TRYAGAIN Multiple keys request during rehashing of slot";
        for (key, found, expected) in [
            (LEAVING, found(1, 0, false), None),
            (LEAVING, found(2, 0, true), None),
            (LEAVING, found(0, 2, true), Some(ask.as_str())),
            (LEAVING, found(1, 1, true), Some(again)),
            (COMING, found(2, 0, true), None),
            (COMING, found(1, 1, true), Some(again)),
            (COMING, found(0, 2, true), Some(again)),
            (OURS, found(0, 1, false), None),
        ] {
            let refused = territory.after_look(slot_of(key), found).err();
            assert_eq!(refused.map(|error| error.to_string()).as_deref(), expected, "{found:?}");
        }
        let keys: [&[u8]; 3] = [b"a", b"a", b"b"];
        assert_eq!(Found::among(&keys, |key| key == b"a"), found(2, 1, true));
        assert_eq!(Found::counted(&keys[..2], 0), found(0, 2, false));
    }

    #[test]
    fn who_waits_for_a_slot_that_left_is_told() {
        let up = Territory::new(Some(Arc::new(map(false, false))));
        let said = |territory: &Territory, key: &[u8], readonly| {
            territory.refusal_of_waiting(slot_of(key), readonly).map(|error| error.to_string())
        };
        for key in [OURS, LEAVING, COMING] {
            assert_eq!(said(&up, key, false), None);
        }
        assert_eq!(said(&up, THEIRS, false), Some(moved("MOVED", THEIRS)));
        assert_eq!(said(&up, NOBODYS, false).as_deref(), Some("CLUSTERDOWN Hash slot not served"));
        let replica = Territory::new(Some(Arc::new(map(false, true))));
        assert_eq!(said(&replica, THEIRS, true), None);
        assert_eq!(said(&replica, THEIRS, false), Some(moved("MOVED", THEIRS)));
        let down = Territory::new(Some(Arc::new(map(true, false))));
        assert_eq!(said(&down, OURS, false).as_deref(), Some("CLUSTERDOWN The cluster is down"));
    }
}
