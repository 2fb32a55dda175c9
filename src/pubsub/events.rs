//! Keyspace events: what happened to a key, as messages on two channels.
//!
//! `__keyspace@<db>__:<key>` tells who watches a key what happened, `__keyevent@<db>__:<event>` tells who
//! watches an event to which key; which of them, and for what events, `notify-keyspace-events` says.

use std::io::Write;

use super::{Directory, Kind};
use crate::config::values::KeyspaceEvents;

impl Directory {
    /// Publishes that `event` happened to `key` of database `db`, on the channels that `wanted` names.
    pub fn publish_event(&mut self, wanted: KeyspaceEvents, db: usize, key: &[u8], event: &str) {
        if !self.has_listeners() {
            return;
        }
        if wanted.contains(KeyspaceEvents::KEYSPACE) {
            self.publish_about("keyspace", db, key, event.as_bytes());
        }
        if wanted.contains(KeyspaceEvents::KEYEVENT) {
            self.publish_about("keyevent", db, event.as_bytes(), key);
        }
    }

    fn publish_about(&mut self, what: &str, db: usize, about: &[u8], message: &[u8]) {
        let mut channel = std::mem::take(&mut self.event_channel);
        channel.clear();
        // Writing into a vector does not fail.
        let _ = write!(channel, "__{what}@{db}__:");
        channel.extend_from_slice(about);
        self.publish(Kind::Channel, &channel, message);
        self.event_channel = channel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::Change;
    use crate::shard_map::{ShardId, ShardMap};

    #[test]
    fn an_event_is_published_on_the_channels_that_are_wanted() {
        for (letters, expected) in [
            ("KEA", vec![("__keyspace@9__:k", "set"), ("__keyevent@9__:set", "k")]),
            ("KA", vec![("__keyspace@9__:k", "set")]),
            ("EA", vec![("__keyevent@9__:set", "k")]),
            ("A", vec![]),
        ] {
            let mut directory = Directory::new(ShardId(0), ShardMap::new(1).unwrap());
            let wanted = KeyspaceEvents::from_letters(letters.as_bytes()).unwrap();
            directory.publish_event(wanted, 9, b"k", "set");
            assert!(!directory.has_outgoing(), "nobody listens");
            let everything =
                Change { kind: Kind::Pattern, name: b"*".as_slice().into(), joined: true };
            directory.note(ShardId(0), &everything);
            directory.publish_event(wanted, 9, b"k", "set");
            let heard = directory.take_outgoing();
            let heard: Vec<(String, String)> = heard
                .iter()
                .map(|out| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    (text(&out.publication.channel), text(&out.publication.message))
                })
                .collect();
            let heard: Vec<(&str, &str)> =
                heard.iter().map(|(channel, message)| (&**channel, &**message)).collect();
            assert_eq!(heard, expected, "{letters}");
        }
    }
}
