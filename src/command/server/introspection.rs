//! COMMAND: what the command table knows, told to clients.
//!
//! Client libraries route by it (first key, last key, step, key specifications), `redis-cli` hints by
//! it. Everything comes from the rows, so a new row is told without a line here.

use super::docs;
use crate::command::help::help;
use crate::command::spec::{
    Access, Begin, FLAG_WORDS, Find, KeySpec, MOVABLEKEYS, NO_MANDATORY_KEYS,
};
use crate::command::{
    Command, CommandError, CommandId, CommandResult, CommandTable, Ctx, Request, Run,
};
use crate::datatypes::glob::glob_match;
use crate::resp::Reply;

const HELP: [&str; 14] = [
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Show how many commands there are.",
    "DOCS [<command-name> ...]",
    "    Document the commands, or all of them.",
    "GETKEYS <full-command>",
    "    Show the keys in a command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Show the keys in a command, and what it does with them.",
    "INFO [<command-name> ...]",
    "    Describe the commands, or all of them.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    List the names of commands and subcommands.",
];

/// Commands that are not subcommands.
fn top_level() -> impl Iterator<Item = &'static Command> {
    let commands = CommandTable::get().commands().iter().copied();
    commands.filter(|command| command.container().is_none())
}

fn named(name: &[u8]) -> Option<&'static Command> {
    let table = CommandTable::get();
    table.find(name).map(|id| table.command(id))
}

/// COMMAND
pub fn command(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.array(top_level().count());
    top_level().for_each(|command| describe(command, reply));
    Ok(())
}

/// COMMAND COUNT
pub fn count(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.integer(top_level().count() as i64);
    Ok(())
}

/// COMMAND INFO [name …]
pub fn info(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let names = request.rest(2);
    if names.is_empty() {
        return command(ctx, request, reply);
    }
    reply.array(names.len());
    for name in names {
        match named(name) {
            Some(command) => describe(command, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

/// COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN value]
pub fn list(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let value = request.get(4).unwrap_or_default();
    let category = || [b"@", value].concat().to_ascii_lowercase();
    let wanted: Box<dyn Fn(&Command) -> bool> =
        match (request.len(), request.is_word(2, "filterby")) {
            (2, _) => Box::new(|_| true),
            // There are no modules, so no command is of one.
            (5, true) if request.is_word(3, "module") => Box::new(|_| false),
            (5, true) if request.is_word(3, "aclcat") => {
                let category = String::from_utf8_lossy(&category()).into_owned();
                Box::new(move |command| command.is_in_category(&category))
            }
            (5, true) if request.is_word(3, "pattern") => {
                Box::new(|command| glob_match(value, command.name.as_bytes(), true))
            }
            _ => return Err(CommandError::Syntax),
        };
    let all = CommandTable::get().commands().iter();
    let found: Vec<_> = all.filter(|command| wanted(command)).collect();
    reply.array(found.len());
    found.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
    Ok(())
}

/// COMMAND HELP
pub fn show_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "COMMAND", &HELP);
    Ok(())
}

// ---- COMMAND INFO ----

/// The ten elements of COMMAND INFO.
fn describe(command: &'static Command, reply: &mut Reply<'_>) {
    let (first, last, step) = legacy_range(command.keys);
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.to_wire());
    let flags = FLAG_WORDS.iter().filter(|(flag, _)| command.flags.has(*flag));
    write_statuses(flags.map(|(_, word)| (*word).to_owned()).collect(), reply);
    [first, last, step].into_iter().for_each(|number| reply.integer(number));
    write_statuses(command.acl_categories().map(str::to_owned).collect(), reply);
    let tips = docs::tips(command.name);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| write_key_spec(spec, reply));
    let subcommands: Vec<_> = CommandTable::get().subcommands(command).collect();
    reply.set(subcommands.len());
    subcommands.into_iter().for_each(|(_, subcommand)| describe(subcommand, reply));
}

fn write_statuses(words: Vec<String>, reply: &mut Reply<'_>) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

/// First key, last key and step, for clients from before key specifications. All zero for commands
/// whose keys do not form one range.
fn legacy_range(keys: &[KeySpec]) -> (i64, i64, i64) {
    let ranges = keys.iter().filter_map(|spec| match (spec.begin, spec.find) {
        (Begin::Index(first), Find::Range { last, step }) => {
            let (first, last) = (i64::from(first), i64::from(last));
            Some((first, if last < 0 { last } else { first + last }, i64::from(step)))
        }
        (Begin::MigrateKey, _) => Some((3, 3, 1)),
        (
            Begin::Keyword { .. }
            | Begin::MigrateKeys
            | Begin::Streams { .. }
            | Begin::Unknown { .. },
            _,
        )
        | (_, Find::Keynum { .. } | Find::HalfOfRest | Find::Unknown | Find::SortDestination) => {
            None
        }
    });
    let mut whole: Option<(i64, i64, i64)> = None;
    for (first, last, step) in ranges {
        whole = Some(match whole {
            None => (first, last, step),
            // Ranges that follow each other are one, such as source and destination.
            Some((start, end, 1)) if step == 1 && end == first - 1 => (start, last, 1),
            Some(_) => return (0, 0, 0),
        });
    }
    whole.unwrap_or((0, 0, 0))
}

fn write_key_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    if let Begin::Unknown { notes } = spec.begin {
        reply.map(4);
        reply.bulk(b"notes");
        reply.bulk(notes.as_bytes());
    } else {
        reply.map(3);
    }
    reply.bulk(b"flags");
    write_statuses(key_flags(spec), reply);
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(at) => write_search("index", &[("index", i64::from(at))], reply),
        Begin::MigrateKey => write_search("index", &[("index", 3)], reply),
        Begin::MigrateKeys => write_keyword("KEYS", -2, reply),
        Begin::Keyword { word, from } => write_keyword(word, i64::from(from), reply),
        Begin::Streams { from } => write_keyword("STREAMS", i64::from(from), reply),
        Begin::Unknown { .. } => write_search("unknown", &[], reply),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step } => {
            let (last, step) = (i64::from(last), i64::from(step));
            write_search("range", &[("lastkey", last), ("keystep", step), ("limit", 0)], reply);
        }
        Find::HalfOfRest => {
            // In Redis's words: up to the last but, of what is left, only the half.
            write_search("range", &[("lastkey", -1), ("keystep", 1), ("limit", 2)], reply);
        }
        Find::Keynum { first } => {
            let first = i64::from(first);
            let fields = [("keynumidx", 0), ("firstkey", first), ("keystep", 1)];
            write_search("keynum", &fields, reply);
        }
        Find::Unknown | Find::SortDestination => write_search("unknown", &[], reply),
    }
}

fn write_keyword(word: &str, from: i64, reply: &mut Reply<'_>) {
    write_search_header("keyword", 2, reply);
    reply.bulk(b"keyword");
    reply.bulk(word.as_bytes());
    reply.bulk(b"startfrom");
    reply.integer(from);
}

fn write_search(kind: &str, fields: &[(&str, i64)], reply: &mut Reply<'_>) {
    write_search_header(kind, fields.len(), reply);
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

fn write_search_header(kind: &str, fields: usize, reply: &mut Reply<'_>) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

/// `RW`, `access`, …
fn key_flags(spec: &KeySpec) -> Vec<String> {
    let access = match spec.access {
        Access::ReadOnly => "RO",
        Access::ReadWrite => "RW",
        Access::OverWrite => "OW",
        Access::Remove => "RM",
        Access::NotKey => "not_key",
    };
    let further = spec.flags.iter().map(|flag| flag.to_ascii_lowercase());
    std::iter::once(access.to_owned()).chain(further).collect()
}

// ---- COMMAND DOCS ----

/// COMMAND DOCS [name …]
pub fn write_docs(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let names = request.rest(2);
    let commands: Vec<&'static Command> = if names.is_empty() {
        top_level().collect()
    } else {
        names.iter().filter_map(|name| named(name)).collect()
    };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| write_doc(command, reply));
    Ok(())
}

fn write_doc(command: &'static Command, reply: &mut Reply<'_>) {
    reply.bulk(command.name.as_bytes());
    let map = reply.deferred();
    let mut fields = 0;
    let mut field = |reply: &mut Reply<'_>, name: &str, value: &str| {
        if !value.is_empty() {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
            fields += 1;
        }
    };
    let doc = docs::doc(command.name);
    field(reply, "summary", doc.map_or("", |doc| doc.summary));
    field(reply, "since", doc.map_or("", |doc| doc.since));
    field(reply, "group", command.group.as_str());
    field(reply, "complexity", doc.map_or("", |doc| doc.complexity));
    if let Some((since, replaced_by)) = docs::deprecation(command.name) {
        reply.bulk(b"doc_flags");
        write_statuses(vec!["deprecated".to_owned()], reply);
        field(reply, "deprecated_since", since);
        field(reply, "replaced_by", replaced_by);
        fields += 1;
    }
    if has_keys(command) {
        reply.bulk(b"arguments");
        reply.array(command.keys.len());
        command.keys.iter().enumerate().for_each(|(at, spec)| write_key_argument(at, spec, reply));
        fields += 1;
    }
    let subcommands: Vec<_> = CommandTable::get().subcommands(command).collect();
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        subcommands.into_iter().for_each(|(_, subcommand)| write_doc(subcommand, reply));
        fields += 1;
    }
    reply.set_map_len(map, fields);
}

/// Shard channels have key specifications, for the sake of their slots, and are no keys.
fn has_keys(command: &Command) -> bool {
    command.keys.iter().any(|spec| spec.access != Access::NotKey)
}

/// Of the arguments, the table knows the keys.
fn write_key_argument(at: usize, spec: &KeySpec, reply: &mut Reply<'_>) {
    let several = !matches!(spec.find, Find::Range { last: 0, .. });
    reply.map(if several { 4 } else { 3 });
    reply.bulk(b"name");
    reply.bulk(b"key");
    reply.bulk(b"type");
    reply.bulk(b"key");
    reply.bulk(b"key_spec_index");
    reply.integer(at as i64);
    if several {
        reply.bulk(b"flags");
        write_statuses(vec!["multiple".to_owned()], reply);
    }
}

// ---- COMMAND GETKEYS ----

/// COMMAND GETKEYS command [argument …]
pub fn get_keys(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let keys = find_keys(request.rest(2))?;
    reply.array(keys.len());
    keys.iter().for_each(|(key, _)| reply.bulk(key));
    Ok(())
}

/// COMMAND GETKEYSANDFLAGS command [argument …]
pub fn get_keys_and_flags(
    _: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let keys = find_keys(request.rest(2))?;
    reply.array(keys.len());
    for (key, flags) in keys {
        reply.array(2);
        reply.bulk(key);
        write_statuses(flags, reply);
    }
    Ok(())
}

/// The keys of a command, each with its flags.
fn find_keys<'a>(words: &[&'a [u8]]) -> CommandResult<Vec<(&'a [u8], Vec<String>)>> {
    let id = identify(words).ok_or(CommandError::text("ERR Invalid command specified"))?;
    let command = CommandTable::get().command(id);
    if !has_keys(command) && !command.flags.has(MOVABLEKEYS) {
        return Err(CommandError::text("ERR The command has no key arguments"));
    }
    if !command.arity.allows(words.len()) {
        let text = "ERR Invalid number of arguments specified for command";
        return Err(CommandError::text(text));
    }
    let mut keys = Vec::new();
    for spec in command.keys {
        let flags = flags_in(command, spec, words);
        spec.for_each(words, |at| keys.push((words[at], flags.clone())));
    }
    let whole = keys.len() >= announced_keys(command, words);
    if whole && (!keys.is_empty() || command.flags.has(NO_MANDATORY_KEYS)) {
        return Ok(keys);
    }
    if command.flags.has(NO_MANDATORY_KEYS) {
        return Ok(Vec::new());
    }
    Err(CommandError::text("ERR Invalid arguments specified for command"))
}

/// The keys that the counts in the arguments promise (`ZUNION 2 …`).
fn announced_keys(command: &Command, words: &[&[u8]]) -> usize {
    let count = |spec: &KeySpec| match (spec.begin, spec.find) {
        (Begin::Index(at), Find::Keynum { .. }) => {
            let text = std::str::from_utf8(words.get(usize::from(at))?).ok()?;
            text.parse::<usize>().ok()
        }
        _ => None,
    };
    command.keys.iter().filter_map(count).sum()
}

/// SET reads its key only with GET: the one command whose arguments change what it does with it.
fn flags_in(command: &Command, spec: &KeySpec, words: &[&[u8]]) -> Vec<String> {
    let reads = words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"get"));
    match (command.name, reads) {
        ("set", false) => vec!["OW".to_owned(), "update".to_owned()],
        ("set", true) => ["RW", "access", "update"].map(str::to_owned).into(),
        _ => key_flags(spec),
    }
}

fn identify(words: &[&[u8]]) -> Option<CommandId> {
    let table = CommandTable::get();
    let id = table.find(words.first()?)?;
    let command = table.command(id);
    match (command.run, words.get(1)) {
        (Run::Container | Run::ContainerOr(_), Some(word)) => table.find_subcommand(command, word),
        _ => Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    fn run(words: &str) -> String {
        TestShard::new().run(words)
    }

    #[test]
    fn info_describes_a_command_as_redis_does() {
        assert_eq!(
            run("command info get nothing"),
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
             *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n\
             *1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n\
             $12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n\
             $9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
             *6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n\
             *0\r\n$-1\r\n"
        );
        let config = run("command info config");
        assert!(config.starts_with("*1\r\n*10\r\n$6\r\nconfig\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n"));
        assert!(config.contains("$10\r\nconfig|get\r\n:-3\r\n"));
    }

    #[test]
    fn the_legacy_range_joins_ranges_that_follow_each_other() {
        use crate::command::spec::{KEYS_ODD, KEYS_READ};
        let one = |at| KeySpec::one(at, Access::ReadOnly, &[]);
        for (keys, expected) in [
            (&[one(1)][..], (1, 1, 1)),
            (&[one(1), one(2)], (1, 2, 1)),
            (&[one(1), one(3)], (0, 0, 0)),
            (KEYS_READ, (1, -1, 1)),
            (KEYS_ODD, (1, -1, 2)),
            (&[one(1), KeySpec::counted(2, Access::ReadOnly, &[])], (1, 1, 1)),
            (&[KeySpec::counted(1, Access::ReadOnly, &[])], (0, 0, 0)),
            (&[], (0, 0, 0)),
        ] {
            assert_eq!(legacy_range(keys), expected);
        }
    }

    #[test]
    fn list_filters_by_category_pattern_and_module() {
        assert_eq!(run("command list filterby module x"), "*0\r\n");
        assert_eq!(run("command list filterby aclcat nothing"), "*0\r\n");
        assert_eq!(run("command list filterby pattern GE?"), "*1\r\n$3\r\nget\r\n");
        assert!(run("command list filterby aclcat STRING").contains("$3\r\nget\r\n"));
        assert!(run("command list").contains("$10\r\nconfig|get\r\n"));
        for wrong in ["foo", "filterby", "filterby pattern", "filterby foo bar"] {
            assert_eq!(run(&format!("command list {wrong}")), "-ERR syntax error\r\n");
        }
    }

    #[test]
    fn getkeys_finds_the_keys_or_says_why_not() {
        for (words, expected) in [
            ("getkeys get a", "*1\r\n$1\r\na\r\n"),
            ("getkeys del a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("getkeys memory usage a", "*1\r\n$1\r\na\r\n"),
            ("getkeysandflags get a", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n"),
            ("getkeys sintercard 2 a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("getkeys sintercard 9 a", "-ERR Invalid arguments specified for command\r\n"),
            ("getkeys foo a", "-ERR Invalid command specified\r\n"),
            ("getkeys config get a", "-ERR The command has no key arguments\r\n"),
            ("getkeys get a b", "-ERR Invalid number of arguments specified for command\r\n"),
        ] {
            assert_eq!(run(&format!("command {words}")), expected, "{words}");
        }
    }

    #[test]
    fn docs_have_the_fields_of_redis() {
        assert_eq!(
            run("command docs get nothing"),
            "*2\r\n$3\r\nget\r\n*10\r\n$7\r\nsummary\r\n$14\r\nReads a string\r\n\
             $5\r\nsince\r\n$5\r\n1.0.0\r\n$5\r\ngroup\r\n$6\r\nstring\r\n$10\r\ncomplexity\r\n$4\r\nO(1)\r\n\
             $9\r\narguments\r\n*1\r\n*6\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$3\r\nkey\r\n\
             $14\r\nkey_spec_index\r\n:0\r\n"
        );
        assert!(run("command docs config").contains("$11\r\nsubcommands\r\n"));
        assert!(run("command docs hmset").contains("+deprecated\r\n"));
    }

    #[test]
    fn command_alone_describes_all_of_them() {
        let count = top_level().count();
        assert_eq!(run("command count"), format!(":{count}\r\n"));
        assert!(run("command").starts_with(&format!("*{count}\r\n")));
        assert!(run("command info").starts_with(&format!("*{count}\r\n")));
    }
}
