//! The nodes that this node knows, by key and by id.
//!
//! A key stays valid until its node is removed; whoever removes a node removes its key from all places first
//! (`membership.rs` does). Walks go in the order of ids, so that runs with the same seed are the same.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use super::node::Node;
use super::node_id::NodeId;

/// Which node, as long as it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeKey(u16);

/// This node.
pub const ME: NodeKey = NodeKey(0);

/// Most nodes that are known at a time; more are not taken in. Redis advises against more than 1000.
pub const NODES_MAX: usize = 16384;

/// The nodes that are known.
#[derive(Debug)]
pub struct NodeTable {
    nodes: Vec<Option<Node>>,
    by_id: BTreeMap<NodeId, NodeKey>,
    /// All keys in use, in the order of their ids: every tick walks them, several times.
    keys: Vec<NodeKey>,
    free: Vec<NodeKey>,
}

impl NodeTable {
    /// A table with this node.
    pub fn new(me: Node) -> Self {
        assert!(me.is_me, "the first node of a table is the node itself");
        let by_id = BTreeMap::from([(me.id, ME)]);
        Self { nodes: vec![Some(me)], by_id, keys: vec![ME], free: Vec::new() }
    }

    /// How many nodes there are, this one included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: this node is always there.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The node with this id.
    pub fn find(&self, id: &NodeId) -> Option<NodeKey> {
        self.by_id.get(id).copied()
    }

    /// Adds a node; `None` if its id is taken or there is no room.
    pub fn add(&mut self, node: Node) -> Option<NodeKey> {
        if self.len() >= NODES_MAX || self.by_id.contains_key(&node.id) {
            return None;
        }
        let key = self.free.pop().unwrap_or(NodeKey(self.nodes.len() as u16));
        self.keys.insert(self.place_of(&node.id), key);
        self.by_id.insert(node.id, key);
        match self.nodes.get_mut(usize::from(key.0)) {
            Some(place) => *place = Some(node),
            None => self.nodes.push(Some(node)),
        }
        Some(key)
    }

    /// Takes a node out. Its key must not be used any more.
    pub fn remove(&mut self, key: NodeKey) -> Node {
        assert_ne!(key, ME, "a node cannot forget itself");
        let node = self.nodes[usize::from(key.0)].take().expect("keys are of nodes that are known");
        self.by_id.remove(&node.id);
        self.keys.retain(|other| *other != key);
        self.free.push(key);
        node
    }

    /// Where in the order of ids this one belongs; all keys must be of nodes that are there.
    fn place_of(&self, id: &NodeId) -> usize {
        self.keys.partition_point(|key| self[*key].id < *id)
    }

    /// Gives a node another id, which nobody may have.
    pub fn rename(&mut self, key: NodeKey, id: NodeId) {
        assert!(!self.by_id.contains_key(&id), "the id of a renamed node was taken: {id}");
        self.keys.retain(|other| *other != key);
        self.keys.insert(self.place_of(&id), key);
        let before = std::mem::replace(&mut self[key].id, id);
        self.by_id.remove(&before);
        self.by_id.insert(id, key);
    }

    /// All keys, in the order of their ids.
    pub fn keys(&self) -> impl Iterator<Item = NodeKey> + '_ {
        self.keys.iter().copied()
    }

    /// All keys, for walks that change the table.
    pub fn keys_now(&self) -> Vec<NodeKey> {
        self.keys.clone()
    }

    /// All nodes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.keys().map(|key| (key, &self[key]))
    }

    /// The key at a place, below [`Self::len`]: for draws.
    pub fn nth(&self, place: usize) -> NodeKey {
        self.keys[place]
    }
}

impl Index<NodeKey> for NodeTable {
    type Output = Node;

    fn index(&self, key: NodeKey) -> &Node {
        self.nodes[usize::from(key.0)].as_ref().expect("keys are of nodes that are known")
    }
}

impl IndexMut<NodeKey> for NodeTable {
    fn index_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes[usize::from(key.0)].as_mut().expect("keys are of nodes that are known")
    }
}
