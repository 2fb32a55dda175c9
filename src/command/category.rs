//! The ACL categories of a command, computed from its row.
//!
//! The rules are Redis 7.0's (`setImplicitACLCategories`): flags imply categories, a group is one, and
//! what is left is said in the row itself.

use super::spec::{ADMIN, BLOCKING, FAST, PUBSUB, READONLY, WRITE};
use super::{Command, Run};

/// Every category, in the order in which Redis lists them.
pub const CATEGORIES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

impl Command {
    /// Whether the command is in `category`, written with its `@`.
    pub fn is_in_category(&self, category: &str) -> bool {
        let named = self.categories.contains(&category);
        // A container does nothing itself, so it is about nothing.
        // SORT, of the group for all types, is in the categories of the types that it sorts instead.
        let of_types = self.categories.contains(&"@list");
        let by_group = self.group.category() == Some(category)
            && !matches!(self.run, Run::Container)
            && !(of_types && category == "@keyspace");
        // A script may do anything, whatever its row says of the data.
        let scripting = self.categories.contains(&"@scripting");
        let by_flags = match category {
            "@write" => self.flags.has(WRITE),
            "@read" => self.flags.has(READONLY) && !scripting,
            "@admin" | "@dangerous" => self.flags.has(ADMIN),
            "@pubsub" => self.flags.has(PUBSUB),
            "@blocking" => self.flags.has(BLOCKING),
            "@fast" => self.flags.has(FAST),
            "@slow" => !self.flags.has(FAST),
            _ => false,
        };
        named || by_group || by_flags
    }

    /// The categories of the command.
    pub fn acl_categories(&self) -> impl Iterator<Item = &'static str> {
        CATEGORIES.into_iter().filter(|category| self.is_in_category(category))
    }
}

#[cfg(test)]
mod tests {
    use crate::command::CommandTable;

    #[test]
    fn categories_follow_from_flags_group_and_row() {
        let table = CommandTable::get();
        for (name, expected) in [
            ("get", "@read @string @fast"),
            ("del", "@keyspace @write @slow"),
            ("sort", "@write @set @sortedset @list @slow @dangerous"),
            ("restore", "@keyspace @write @slow @dangerous"),
            ("client", "@slow"),
            ("config|set", "@admin @slow @dangerous"),
            ("command|count", "@slow @connection"),
            ("info", "@slow @dangerous"),
        ] {
            let command = table.command(table.find(name.as_bytes()).unwrap());
            let categories: Vec<_> = command.acl_categories().collect();
            assert_eq!(categories.join(" "), expected, "{name}");
        }
    }
}
