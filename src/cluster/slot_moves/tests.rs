//! Moves as both nodes see them, from outside.

use super::*;
use crate::cluster::event::Effect;
use crate::cluster::{LinkQueue, NodesConf, Settings, Surroundings};
use crate::slot::Slot;

const SOURCE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TARGET: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const REPLICA: &str = "cccccccccccccccccccccccccccccccccccccccc";
const NAME: &str = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
const NOW: u64 = 1_700_000_000_000;

/// The node with this id, of two masters with slots 0 to 99 and 8192 to 16383.
fn node(id: &str, vars: &str) -> Cluster {
    let mine = |name: &str| if name == id { "myself," } else { "" };
    let text = format!(
        "{SOURCE} 10.0.0.1:7001@17001 {}master - 0 0 5 connected 0-99\n\
         {TARGET} 10.0.0.2:7002@17002 {}master - 0 0 2 connected 8192-16383\n\
         {REPLICA} 10.0.0.3:7003@17003 {}slave {SOURCE} 0 0 5 connected\n\
         vars currentEpoch 5 lastVoteEpoch 0{vars}\n",
        mine(SOURCE),
        mine(TARGET),
        mine(REPLICA),
    );
    let conf = NodesConf::parse(&text).unwrap().unwrap();
    Cluster::restore(&conf, Settings::default(), [7; 4], NOW).unwrap()
}

fn run_at(cluster: &mut Cluster, now_ms: u64, line: &str, kept: &SlotSet) -> (String, Vec<Effect>) {
    let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let around = Surroundings { kept, queue_of: &|_| LinkQueue::default() };
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    let mut reply = Reply::new(&mut out, false);
    if let Err(refusal) = cluster.command(now_ms, &words, &around, &mut reply, &mut effects) {
        Reply::new(&mut out, false).error(refusal);
    }
    (String::from_utf8(out).unwrap(), effects)
}

fn run(cluster: &mut Cluster, line: &str) -> String {
    run_at(cluster, NOW, line, &SlotSet::new()).0
}

fn slots(numbers: impl IntoIterator<Item = u16>) -> SlotSet {
    numbers.into_iter().filter_map(Slot::new).collect()
}

fn deleted(effects: &[Effect]) -> SlotSet {
    let deleted = effects.iter().find_map(|effect| match effect {
        Effect::DeleteKeys(slots) => Some(slots.clone()),
        _ => None,
    });
    deleted.unwrap_or_default()
}

/// A target that has staged slots 3 and 4.
fn staging() -> Cluster {
    let mut target = node(TARGET, "");
    let line = format!("syncslots establish {NAME} {SOURCE} 3 4");
    let (reply, effects) = run_at(&mut target, NOW, &line, &SlotSet::new());
    assert_eq!(reply, "+OK\r\n");
    let is_on_disk = matches!(&effects[0], Effect::Persist { nodes_conf, sync: true }
        if nodes_conf.ends_with(" staged 3-4\n"));
    assert!(is_on_disk, "before the first key comes");
    let map = target.slot_map();
    assert_eq!((&map.coming, &map.staged), (&slots([3, 4]), &slots([3, 4])));
    target
}

#[test]
fn what_cannot_move_is_refused_and_begins_nothing() {
    let mut source = node(SOURCE, "");
    run(&mut source, &format!("setslot 50 migrating {TARGET}"));
    for (line, text) in [
        (format!("migrateslots slotsrange 3 4 node {NAME}"), "I don't know about node"),
        (format!("migrateslots slotsrange 3 4 node {REPLICA}"), "Target node is not a master"),
        (
            format!("migrateslots slotsrange 3 4 node {SOURCE}"),
            "the target of this migration myself",
        ),
        (
            format!("migrateslots slotsrange 60 100 node {TARGET}"),
            "I'm not the owner of hash slot 100",
        ),
        (
            format!("migrateslots slotsrange 49 50 node {TARGET}"),
            "Slot 50 is being migrated already",
        ),
        (format!("migrateslots slotsrange 3 node {TARGET}"), "wrong number of arguments"),
        (format!("migrateslots slotsrange 4 3 node {TARGET}"), "start slot number 4 is greater"),
        (format!("migrateslots slots 3 4 node {TARGET}"), "syntax error"),
        (format!("migrateslots slotsrange 3 4 6 7 {TARGET}"), "syntax error"),
        (
            format!("migrateslots slotsrange 3 4 node {TARGET} slotsrange 4 5 node {TARGET}"),
            "Slot 4 specified multiple times",
        ),
        ("cancelslotmigrations".to_owned(), "No migrations ongoing"),
    ] {
        let reply = run(&mut source, &line);
        assert!(reply.starts_with("-ERR ") && reply.contains(text), "{line}: {reply}");
    }
    assert_eq!(source.next_move(), None);
}

#[test]
fn moves_are_carried_out_in_their_order_and_can_be_cancelled() {
    let mut source = node(SOURCE, "");
    let line = format!("migrate slotsrange 3 4 9 9 node {TARGET} slotsrange 20 20 node {TARGET}");
    assert_eq!(run(&mut source, &line), "+OK\r\n");
    let line = format!("migrateslots slotsrange 9 9 node {TARGET}");
    assert!(run(&mut source, &line).contains("Slot 9 is being migrated already"));
    let order = source.next_move().expect("two wait");
    assert_eq!(
        (order.slots.clone(), order.ip.as_str(), order.port),
        (slots([3, 4, 9]), "10.0.0.2", 7002)
    );
    source.note_move(NOW, &order.name, State::Connecting, "");
    assert_eq!(source.standing_of_move(&order.name), Standing::Goes);
    let next = source.next_move().expect("one waits");
    assert_eq!(next.slots, slots([20]));
    assert_eq!(run(&mut source, "cancelslotmigrations all"), "+OK\r\n");
    assert_eq!(
        (source.next_move(), source.standing_of_move(&order.name)),
        (None, Standing::Cancelled)
    );
    source.note_move(NOW, &order.name, State::Cancelled, "");
    let told = run(&mut source, "getslotmigrations");
    assert!(told.contains("3-4 9-9") && told.matches("cancelled").count() == 2, "{told}");
}

#[test]
fn the_source_gives_slots_to_who_has_taken_them_and_deletes_their_keys() {
    let mut source = node(SOURCE, "");
    run(&mut source, &format!("migrateslots slotsrange 3 4 node {TARGET}"));
    let name = source.next_move().expect("it waits").name;
    let mut effects = Vec::new();
    source.hand_over(NOW, &name, 6, &mut effects);
    assert_eq!(deleted(&effects), slots([3, 4]));
    // Who falls before they are gone deletes them when it is back, and who takes over does.
    let is_on_disk = matches!(&effects[0], Effect::Persist { nodes_conf, sync: true }
        if nodes_conf.ends_with(" staged 3-4\n"));
    let is_told = |effect: &Effect| matches!(effect, Effect::Staged(ranges) if ranges == "3-4");
    assert!(is_on_disk && effects.iter().any(is_told));
    assert_eq!(source.standing_of_move(&name), Standing::Taken);
    assert!(
        !source.slot_map().owns(Slot::new(3).unwrap())
            && source.slot_map().owns(Slot::new(5).unwrap())
    );
    assert_eq!(source.highest_epoch(), 6);
}

#[test]
fn slots_that_stay_after_all_have_an_epoch_above_that_of_the_target() {
    let (mut source, mut target) = (node(SOURCE, ""), staging());
    run(&mut target, &format!("syncslots ready {NAME} 500"));
    let epoch = run(&mut target, &format!("syncslots take {NAME} {}", source.highest_epoch()));
    source.keep_after_all(NOW, &mut Vec::new());
    assert_eq!((epoch.as_str(), source.highest_epoch()), (":6\r\n", 7));
}

#[test]
fn the_target_takes_slots_once_and_in_time() {
    let mut target = staging();
    let take = format!("syncslots take {NAME} 8");
    let late = "-ERR It is too late to take the slots\r\n";
    assert_eq!(run(&mut target, &take), late, "it was not asked whether it is ready");
    assert_eq!(run(&mut target, &format!("syncslots ready {NAME} 500")), "+OK\r\n");
    assert_eq!(run_at(&mut target, NOW + 501, &take, &SlotSet::new()).0, late);
    let (reply, effects) = run_at(&mut target, NOW + 500, &take, &SlotSet::new());
    assert_eq!(reply, ":9\r\n", "above the epoch of the source");
    let Effect::Persist { nodes_conf, sync: true } = &effects[0] else { panic!("{effects:?}") };
    assert!(
        nodes_conf.contains("3-4 8192-16383") && !nodes_conf.contains("staged"),
        "{nodes_conf}"
    );
    let map = target.slot_map();
    assert!(map.owns(Slot::new(3).unwrap()) && map.coming.is_empty() && map.staged.is_empty());
    assert!(run(&mut target, &take).contains("No such slot migration"));
    let mut effects = Vec::new();
    target.import_lost(NOW + 600, &NodeId::parse(NAME.as_bytes()).unwrap(), &mut effects);
    assert!(effects.is_empty(), "the connection has done its work");
}

#[test]
fn what_is_staged_and_not_taken_is_deleted() {
    let name = NodeId::parse(NAME.as_bytes()).unwrap();
    let mut target = staging();
    let mut effects = Vec::new();
    target.import_lost(NOW, &name, &mut effects);
    assert_eq!(deleted(&effects), slots([3, 4]));
    let map = target.slot_map();
    assert!(
        map.coming.is_empty() && map.staged == slots([3, 4]),
        "nobody sees what is being deleted"
    );
    // Nothing is staged on top of it.
    let line = format!("syncslots establish {REPLICA} {SOURCE} 3 4");
    let reply = run_at(&mut target, NOW, &line, &slots([4])).0;
    assert_eq!(reply, "-ERR Slot 4 still holds keys here that are being deleted\r\n");
    // A source that says nothing, or that has the slots no more.
    let mut silent = staging();
    let mut effects = Vec::new();
    silent.step(NOW + 60_001, crate::cluster::Event::Tick, &mut effects);
    assert_eq!(deleted(&effects), slots([3, 4]));
    let mut foreign = staging();
    let effects = run_at(&mut foreign, NOW, "delslots 4", &SlotSet::new()).1;
    assert_eq!(deleted(&effects), slots([3, 4]));
    assert!(run(&mut foreign, &format!("syncslots ready {NAME} 500")).contains("No such"));
}

#[test]
fn a_target_that_fell_deletes_what_was_staged_when_it_is_back() {
    for (vars, expected) in [(" staged 3-4,9-9", slots([3])), ("", SlotSet::new())] {
        let mut target = node(TARGET, vars);
        let (mut effects, found) = (Vec::new(), slots([3, 8192]));
        target.step(NOW, crate::cluster::Event::KeysFound(found), &mut effects);
        assert_eq!(deleted(&effects), expected);
        let is_importing = target.node_lines().contains("[3-<-");
        assert_eq!(is_importing, expected.is_empty(), "as after a move key by key");
    }
    // What is taken key by key is staged no more.
    let mut target = node(TARGET, " staged 3-4");
    run(&mut target, &format!("setslot 3 importing {SOURCE}"));
    assert_eq!(target.slot_map().staged, slots([4]));
}

#[test]
fn a_replica_learns_what_is_staged_and_deletes_it_when_it_is_promoted() {
    let told = |effects: &[Effect]| {
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Staged(ranges) => Some(ranges.clone()),
            _ => None,
        });
        told.unwrap_or_default()
    };
    let mut target = node(TARGET, "");
    let line = format!("syncslots establish {NAME} {SOURCE} 3 4 9 9");
    let begun = told(&run_at(&mut target, NOW, &line, &SlotSet::new()).1);
    run(&mut target, &format!("syncslots ready {NAME} 500"));
    let taken =
        told(&run_at(&mut target, NOW, &format!("syncslots take {NAME} 5"), &SlotSet::new()).1);
    assert_eq!((begun.as_str(), taken.as_str()), ("3-4,9-9", "none"));

    let mut replica = node(REPLICA, "");
    assert_eq!(run(&mut replica, "syncslots staged 200-201,300-300"), "+OK\r\n");
    assert_eq!(replica.slot_map().staged, slots([200, 201, 300]));
    let effects = run_at(&mut replica, NOW, "failover takeover", &SlotSet::new()).1;
    assert_eq!(deleted(&effects), slots([200, 201, 300]));
    assert!(run(&mut replica, "syncslots staged none").contains("Only a master tells"));

    let mut other = node(REPLICA, "");
    run(&mut other, "syncslots staged 200-200");
    assert_eq!(run(&mut other, "syncslots staged none"), "+OK\r\n");
    assert!(other.slot_map().staged.is_empty());
}

#[test]
fn the_target_takes_only_slots_of_the_source_that_do_not_move_already() {
    let mut target = staging();
    run(&mut target, &format!("setslot 10 importing {SOURCE}"));
    for (line, text) in [
        (format!("syncslots establish {REPLICA} {SOURCE} 4 5"), "Slot 4 is being migrated already"),
        (
            format!("syncslots establish {REPLICA} {SOURCE} 10 10"),
            "Slot 10 is being migrated already",
        ),
        (format!("syncslots establish {REPLICA} {SOURCE} 200 200"), "Slot 200 is not the source's"),
        (
            format!("syncslots establish {REPLICA} {TARGET} 8192 8192"),
            "Slot 8192 is not the source's",
        ),
        (format!("syncslots establish {NAME} {SOURCE} 5 5"), "syntax error"),
        (format!("syncslots establish {REPLICA} {SOURCE}"), "syntax error"),
        ("syncslots ping nobody".to_owned(), "No such slot migration"),
    ] {
        let reply = run(&mut target, &line);
        assert!(reply.starts_with("-ERR ") && reply.contains(text), "{line}: {reply}");
    }
}
