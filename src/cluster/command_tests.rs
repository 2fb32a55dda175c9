//! CLUSTER commands as a client sees them.

use super::event::Effect;
use super::*;
use crate::resp::Reply;
use crate::shard_map::ShardId;

const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const REPLICA: &str = "cccccccccccccccccccccccccccccccccccccccc";
const NOW: u64 = 1_700_000_000_000;

/// A master of slots 0 to 99 beside one of 8192 and up, which has a replica.
fn master() -> Cluster {
    let text = format!(
        "{ME} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-99\n\
         {OTHER} 10.0.0.2:7002@17002 master - 0 0 2 connected 8192-16383\n\
         {REPLICA} 10.0.0.3:7003@17003 slave {OTHER} 0 0 2 connected\n\
         vars currentEpoch 2 lastVoteEpoch 0\n"
    );
    let conf = NodesConf::parse(&text).unwrap().unwrap();
    let settings = Settings { port: 7001, bus_port: 17001, ..Settings::default() };
    Cluster::restore(&conf, settings, [7; 4], NOW).unwrap()
}

/// The reply to a line, and its effects; `kept` are the slots with keys.
fn run_with(cluster: &mut Cluster, line: &str, kept: &SlotSet) -> (String, Vec<Effect>) {
    let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let around = Surroundings { kept, queue_of: &|_| LinkQueue::default() };
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    let mut reply = Reply::new(&mut out, false);
    let result = cluster.command(NOW, &words, &around, &mut reply, &mut effects);
    if let Err(refusal) = result {
        assert!(out.is_empty(), "{line}: a refusal comes alone");
        Reply::new(&mut out, false).error(refusal);
    }
    (String::from_utf8(out).unwrap(), effects)
}

fn run(cluster: &mut Cluster, line: &str) -> String {
    run_with(cluster, line, &SlotSet::new()).0
}

fn slots(numbers: impl IntoIterator<Item = u16>) -> SlotSet {
    numbers.into_iter().filter_map(crate::slot::Slot::new).collect()
}

#[test]
fn refusals_are_in_the_words_of_redis() {
    let mut cluster = master();
    for (line, text) in [
        ("addslots 16384", "Invalid or out of range slot"),
        ("addslots -1", "Invalid or out of range slot"),
        ("addslots 99", "Slot 99 is already busy"),
        ("addslots 200 201 200", "Slot 200 specified multiple times"),
        ("delslots 200", "Slot 200 is already unassigned"),
        ("addslotsrange 9 8", "start slot number 9 is greater than end slot number 8"),
        (
            "addslotsrange 200 201 202",
            "wrong number of arguments for 'cluster|addslotsrange' command",
        ),
        ("delslotsrange 98 100", "Slot 100 is already unassigned"),
        (
            "setslot 1 foo",
            "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
        ),
        ("setslot 100 migrating x", "I'm not the owner of hash slot 100"),
        ("setslot 1 migrating x", "I don't know about node x"),
        ("setslot 1 importing x", "I'm already the owner of hash slot 1"),
        ("setslot 1 node x", "Unknown node x"),
        ("meet 1.2.3.4 x", "Invalid TCP base port specified: x"),
        ("meet 1.2.3.4 1 x", "Invalid TCP bus port specified: x"),
        ("meet localhost 1", "Invalid node address specified: localhost:1"),
        ("meet 1.2.3.4 60000", "Invalid node address specified: 1.2.3.4:60000"),
        ("forget x", "Unknown node x"),
        ("set-config-epoch -1", "Invalid config epoch specified: -1"),
        ("set-config-epoch x", "value is not an integer or out of range"),
        ("failover", "You should send CLUSTER FAILOVER to a replica"),
        ("failover x", "syntax error"),
        ("reset x", "syntax error"),
        (
            "reset a b",
            "unknown subcommand or wrong number of arguments for 'reset'. Try CLUSTER HELP.",
        ),
        (&format!("setslot 1 node {REPLICA}"), "Target node is not a master"),
        (&format!("setslot 1 migrating {REPLICA}"), "Target node is not a master"),
        (&format!("forget {ME}"), "I tried hard but I can't forget myself..."),
        (&format!("replicate {ME}"), "Can't replicate myself"),
        (&format!("replicate {REPLICA}"), "I can only replicate a master, not a replica."),
        (
            &format!("replicate {OTHER}"),
            "To set a master the node must be empty and without assigned slots.",
        ),
        (&format!("replicas {REPLICA}"), "The specified node is not a master"),
        (
            "set-config-epoch 1",
            "The user can assign a config epoch only when the node does not know any other node.",
        ),
    ] {
        assert_eq!(run(&mut cluster, line), format!("-ERR {text}\r\n"), "{line}");
    }
    assert_eq!(cluster.nodes_conf(), master().nodes_conf(), "nothing has changed");
}

#[test]
fn keys_are_in_the_way_of_some_commands() {
    let mut cluster = master();
    for (line, kept, text) in [
        ("flushslots", slots([1]), "DB must be empty to perform CLUSTER FLUSHSLOTS."),
        ("reset", slots([1]), "CLUSTER RESET can't be called with master nodes containing keys"),
        (
            &format!("setslot 5 node {OTHER}"),
            slots([5]),
            "Can't assign hashslot 5 to a different node while I still hold keys for this hash slot.",
        ),
    ] {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        assert!(slots_in_question(&words).intersects(&kept), "{line} must ask for them");
        assert_eq!(run_with(&mut cluster, line, &kept).0, format!("-ERR {text}\r\n"), "{line}");
    }
}

#[test]
fn a_slot_moves_in_three_steps_and_its_new_owner_takes_a_new_epoch() {
    let mut cluster = master();
    for line in [format!("setslot 7 migrating {OTHER}"), format!("setslot 9000 importing {OTHER}")]
    {
        assert_eq!(run(&mut cluster, &line), "+OK\r\n", "{line}");
    }
    let nodes = run(&mut cluster, "nodes");
    assert!(nodes.contains(&format!("0-99 [7->-{OTHER}] [9000-<-{OTHER}]\n")), "{nodes}");
    assert_eq!(run(&mut cluster, &format!("setslot 7 node {OTHER}")), "+OK\r\n");
    let (reply, effects) =
        run_with(&mut cluster, &format!("setslot 9000 node {ME}"), &SlotSet::new());
    assert_eq!(reply, "+OK\r\n");
    assert!(
        matches!(effects.first(), Some(Effect::Persist { sync: true, .. })),
        "the epoch is on disk first: {effects:?}"
    );
    let nodes = run(&mut cluster, "nodes");
    assert!(nodes.contains(" 3 connected 0-6 8-99 9000\n"), "{nodes}");
    assert!(nodes.contains(" 7 8192-8999 9001-16383\n"), "{nodes}");
}

#[test]
fn who_gives_its_last_slot_away_becomes_a_replica() {
    let mut cluster = master();
    assert_eq!(run(&mut cluster, "delslotsrange 1 99"), "+OK\r\n");
    let (reply, effects) =
        run_with(&mut cluster, &format!("setslot 0 node {OTHER}"), &SlotSet::new());
    assert_eq!(reply, "+OK\r\n");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Replicate(_))), "{effects:?}");
    assert_eq!(
        run(&mut cluster, "setslot 0 stable"),
        "-ERR Please use SETSLOT only with masters.\r\n"
    );
    assert_eq!(run(&mut cluster, &format!("forget {OTHER}")), "-ERR Can't forget my master!\r\n");
}

#[test]
fn reports_have_the_form_of_redis() {
    let mut cluster = master();
    let slots = run(&mut cluster, "slots");
    let node = |ip: &str, port: u16, id: &str| {
        format!("*4\r\n$8\r\n{ip}\r\n:{port}\r\n$40\r\n{id}\r\n*0\r\n")
    };
    let expected = format!(
        "*2\r\n*3\r\n:0\r\n:99\r\n{}*3\r\n:8192\r\n:16383\r\n{}",
        node("10.0.0.1", 7001, ME),
        node("10.0.0.2", 7002, OTHER), // Its replica has no data yet.
    );
    assert_eq!(slots, expected);
    let shards = run(&mut cluster, "shards");
    let details = |ip: &str, port: u16, id: &str, role: &str, health: &str| {
        format!(
            "*14\r\n$2\r\nid\r\n$40\r\n{id}\r\n$4\r\nport\r\n:{port}\r\n$2\r\nip\r\n$8\r\n{ip}\r\n\
             $8\r\nendpoint\r\n$8\r\n{ip}\r\n$4\r\nrole\r\n${}\r\n{role}\r\n\
             $18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n${}\r\n{health}\r\n",
            role.len(),
            health.len()
        )
    };
    let expected = format!(
        "*2\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:99\r\n$5\r\nnodes\r\n*1\r\n{}\
         *4\r\n$5\r\nslots\r\n*2\r\n:8192\r\n:16383\r\n$5\r\nnodes\r\n*2\r\n{}{}",
        details("10.0.0.1", 7001, ME, "master", "online"),
        details("10.0.0.2", 7002, OTHER, "master", "online"),
        details("10.0.0.3", 7003, REPLICA, "replica", "loading"),
    );
    assert_eq!(shards, expected);
    assert_eq!(run(&mut cluster, "myid"), format!("$40\r\n{ME}\r\n"));
    assert_eq!(run(&mut cluster, &format!("count-failure-reports {OTHER}")), ":0\r\n");
    assert_eq!(run(&mut cluster, "bumpepoch"), "+BUMPED 3\r\n");
    assert_eq!(run(&mut cluster, "bumpepoch"), "+STILL 3\r\n");
    let info = run(&mut cluster, "info");
    let start = "cluster_state:fail\r\ncluster_slots_assigned:8292\r\ncluster_slots_ok:8292\r\n\
                 cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:3\r\n\
                 cluster_size:2\r\ncluster_current_epoch:3\r\ncluster_my_epoch:3\r\n";
    assert!(info.contains(start), "{info}");
}

/// The same cluster with two shards of this node, three of the other and two of its replica, all with ports.
fn master_with_shards() -> Cluster {
    let mut cluster = master();
    for (id, shards, first) in [(ME, 2, 7101), (OTHER, 3, 7201), (REPLICA, 2, 7301)] {
        let key = cluster.nodes().find(&NodeId::parse(id.as_bytes()).unwrap()).unwrap();
        cluster.nodes[key].shard_ports = ShardPorts::new(shards, first);
        cluster.nodes[key].offset = 1;
    }
    // Three blocks of three shards, which are one and a half of two.
    assert_eq!(run(&mut cluster, "delslotsrange 8384 16383"), "+OK\r\n");
    cluster
}

fn id_of_shard(node: &str, shard: u16) -> NodeId {
    ShardPorts::id(&NodeId::parse(node.as_bytes()).unwrap(), ShardId(shard))
}

#[test]
fn clients_are_told_shards_as_nodes_wherever_one_of_two_nodes_changes_to_the_next() {
    let mut cluster = master_with_shards();
    let node = |ip: &str, port: u16, node: &str, shard: u16| {
        let id = id_of_shard(node, shard);
        format!("*4\r\n$8\r\n{ip}\r\n:{port}\r\n$40\r\n{id}\r\n*0\r\n")
    };
    let expected = format!(
        "*4\r\n*3\r\n:0\r\n:99\r\n{}*4\r\n:8192\r\n:8255\r\n{}{}*4\r\n:8256\r\n:8319\r\n{}{}\
         *4\r\n:8320\r\n:8383\r\n{}{}",
        node("10.0.0.1", 7101, ME, 0),
        node("10.0.0.2", 7203, OTHER, 2),
        node("10.0.0.3", 7301, REPLICA, 0),
        node("10.0.0.2", 7201, OTHER, 0),
        node("10.0.0.3", 7301, REPLICA, 0),
        node("10.0.0.2", 7202, OTHER, 1),
        node("10.0.0.3", 7302, REPLICA, 1),
    );
    assert_eq!(run(&mut cluster, "slots"), expected);
}

#[test]
fn a_shard_with_several_ranges_is_one_entry_and_a_master_without_slots_is_a_node() {
    let mut cluster = master_with_shards();
    assert_eq!(run(&mut cluster, "delslotsrange 8200 8249"), "+OK\r\n");
    let shards = run(&mut cluster, "shards");
    let slots = |numbers: &[u16]| {
        let list: String = numbers.iter().map(|number| format!(":{number}\r\n")).collect();
        format!("$5\r\nslots\r\n*{}\r\n{list}$5\r\nnodes\r\n", numbers.len())
    };
    assert!(shards.starts_with("*4\r\n"), "{shards}");
    let places = [&[0, 99][..], &[8192, 8199, 8250, 8255], &[8256, 8319], &[8320, 8383]];
    let places: Vec<_> = places.map(slots).into();
    assert!(places.iter().all(|part| shards.contains(part.as_str())), "{shards}");
    assert_eq!(run(&mut cluster, "delslotsrange 0 99"), "+OK\r\n");
    let shards = run(&mut cluster, "shards");
    let expected = format!("*4\r\n*4\r\n{}*1\r\n*14\r\n$2\r\nid\r\n$40\r\n{ME}\r\n", slots(&[]));
    assert!(shards.starts_with(&expected), "{shards}");
    assert!(run(&mut cluster, "nodes").contains(&format!("{ME} 10.0.0.1:7001@17001 ")));
}

#[test]
fn operators_name_nodes_and_not_their_shards() {
    let mut cluster = master_with_shards();
    let shard = id_of_shard(OTHER, 2);
    let refusal = format!("-ERR That is the id of shard 2 of node {OTHER}; name the node\r\n");
    for line in ["forget", "replicate", "replicas", "setslot 7 migrating", "setslot 7 node"] {
        assert_eq!(run(&mut cluster, &format!("{line} {shard}")), refusal, "{line}");
    }
    let absent = id_of_shard(OTHER, 3);
    assert_eq!(
        run(&mut cluster, &format!("forget {absent}")),
        format!("-ERR Unknown node {absent}\r\n")
    );
}

#[test]
fn what_the_old_owner_said_before_it_gave_a_slot_away_does_not_undo_that() {
    let mut cluster = master();
    let slot = crate::slot::Slot::new(8192).unwrap();
    assert_eq!(run(&mut cluster, &format!("setslot 8192 importing {OTHER}")), "+OK\r\n");
    assert_eq!(run(&mut cluster, &format!("setslot 8192 node {ME}")), "+OK\r\n");
    let other = cluster.nodes.find(&node_id::NodeId::parse(OTHER.as_bytes()).unwrap()).unwrap();
    let is_mine = |cluster: &Cluster| cluster.slots.owner(slot) == Some(table::ME);
    // It had taken a higher epoch that is not known here yet.
    let epoch = cluster.my_epoch() + 5;
    cluster.apply_claim(other, epoch, &slots(8192..=16383));
    assert!(is_mine(&cluster));
    // If it goes on saying so, it has not given the slot away.
    cluster.begin(NOW + 60_000);
    cluster.apply_claim(other, epoch, &slots(8192..=16383));
    assert!(!is_mine(&cluster));
}
