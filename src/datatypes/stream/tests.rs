//! A stream against a plain list of entries, and its layout against what redis-server 7.0.15 made of the
//! same commands.

use proptest::prelude::*;

use super::*;

const LIMITS: NodeLimits = NodeLimits { bytes_max: 90, entries_max: 5 };

type Texts = Vec<Vec<u8>>;

fn add(stream: &mut Stream, id: StreamId, texts: &[&[u8]], limits: NodeLimits) {
    stream.append(NewId::Exact(id), texts, &limits, 0).expect("ids of tests grow");
}

fn stream_of(ids: impl IntoIterator<Item = (u64, u64)>) -> Stream {
    let mut stream = Stream::default();
    for (ms, seq) in ids {
        add(&mut stream, StreamId::new(ms, seq), &[b"f", b"v"], LIMITS);
    }
    stream
}

fn texts(entry: Entry<'_>) -> Texts {
    assert_eq!(entry.fields.len(), entry.fields.clone().count());
    entry.fields.flat_map(|(name, value)| [name.to_vec(), value.to_vec()]).collect()
}

fn ids<'s>(entries: impl Iterator<Item = Entry<'s>>) -> Vec<StreamId> {
    entries.map(|entry| entry.id).collect()
}

/// What [`StreamLoader`] makes of the parts of a stream.
fn loaded(stream: &Stream) -> Result<Stream, BadStream> {
    let mut loader = StreamLoader::default();
    for (first, pack) in stream.nodes() {
        loader.node(first, pack.clone())?;
    }
    loader.counters(*stream.counters())?;
    for (name, group) in stream.groups() {
        loader.group(name, group.last_id, group.entries_read)?;
        for (id, pending) in group.pending(StreamId::MIN) {
            loader.pending(id, pending.delivered_ms, pending.deliveries)?;
        }
        for consumer in group.consumers() {
            let number = loader.consumer(consumer.name(), consumer.seen_ms)?;
            for id in consumer.pending(StreamId::MIN) {
                loader.consumer_pending(number, id)?;
            }
        }
    }
    loader.finish()
}

#[test]
fn new_ids_follow_the_time_or_the_last_id() {
    let mut stream = stream_of([(5, 1)]);
    for (wanted, now_ms, expected) in [
        (NewId::Auto, 7, Ok((7, 0))),
        (NewId::Auto, 5, Ok((5, 2))),
        (NewId::Auto, 4, Ok((5, 2))),
        (NewId::AutoSeq(5), 9, Ok((5, 2))),
        (NewId::AutoSeq(6), 9, Ok((6, 0))),
        (NewId::AutoSeq(4), 9, Err(AppendError::NotGreater)),
        (NewId::Exact(StreamId::new(5, 1)), 9, Err(AppendError::NotGreater)),
        (NewId::Exact(StreamId::new(5, 2)), 9, Ok((5, 2))),
    ] {
        let expected = expected.map(|(ms, seq)| StreamId::new(ms, seq));
        assert_eq!(stream.next_id(wanted, now_ms), expected, "{wanted:?} at {now_ms}");
    }
    stream.set_last_id(StreamId::new(5, u64::MAX), None, None);
    assert_eq!(stream.next_id(NewId::AutoSeq(5), 0), Err(AppendError::NotGreater));
    assert_eq!(stream.next_id(NewId::Auto, 0), Ok(StreamId::new(6, 0)));
    stream.set_last_id(StreamId::MAX, None, None);
    assert_eq!(stream.next_id(NewId::Auto, 0), Err(AppendError::Exhausted));
}

#[test]
fn a_node_has_the_layout_of_redis() {
    let mut stream = Stream::default();
    let limits = NodeLimits::default();
    add(&mut stream, StreamId::new(5, 3), &[b"a", b"1", b"b", b"x"], limits);
    add(&mut stream, StreamId::new(7, 0), &[b"a", b"2", b"b", b"y"], limits);
    add(&mut stream, StreamId::new(7, 1), &[b"b", b"z"], limits);
    assert!(stream.remove(StreamId::new(7, 0)));
    let (first, pack) = stream.nodes().next().expect("one node");
    assert_eq!(first, StreamId::new(5, 3));
    let elements: Vec<String> = pack
        .iter()
        .map(|element| String::from_utf8(element.to_vec()).expect("plain letters"))
        .collect();
    assert_eq!(
        elements.join(" "),
        // live deleted n fields 0; flags ms seq values count; … ; flags ms seq n field value count
        "2 1 2 a b 0 2 0 0 1 x 5 3 2 -3 2 y 5 0 2 -2 1 b z 6"
    );
}

#[test]
fn nodes_end_where_those_of_redis_end() {
    // By entries, deleted ones included.
    let mut stream = Stream::default();
    let limits = NodeLimits { bytes_max: 0, entries_max: 3 };
    for seq in 1..=3 {
        add(&mut stream, StreamId::new(0, seq), &[b"f", b"v"], limits);
    }
    stream.remove(StreamId::new(0, 2));
    add(&mut stream, StreamId::new(0, 4), &[b"f", b"v"], limits);
    let firsts: Vec<u64> = stream.nodes().map(|(first, _)| first.seq).collect();
    assert_eq!(firsts, [1, 4]);
    // By bytes: those of the node and those of the new texts reach the limit.
    let limits = NodeLimits { bytes_max: 100, entries_max: 0 };
    let mut stream = stream_of([(1, 0)]);
    let bytes = stream.nodes().next().map_or(0, |(_, pack)| pack.byte_len());
    let value = vec![b'v'; 100 - bytes - 1];
    let mut other = stream.clone();
    add(&mut stream, StreamId::new(2, 0), &[b"f", &value], limits);
    assert_eq!(stream.nodes().len(), 2);
    add(&mut other, StreamId::new(2, 0), &[b"f", &value[1..]], limits);
    assert_eq!(other.nodes().len(), 1);
}

#[test]
fn the_radix_tree_of_redis_would_have_so_many_nodes() {
    // Told by XINFO STREAM of redis-server 7.0.15 with stream-node-max-entries 1.
    for (ids, nodes) in [
        (&[][..], 1),
        (&[(1, 1)], 2),
        (&[(1, 1), (1, 2)], 4),
        (&[(1, 1), (256, 1)], 6),
        (&[(1, 1), (1, 2), (1, 256)], 7),
        (&[(1, 1), (1 << 63, 1)], 5),
        (&[(1, 1), (1, 2), (1, 257), (2, 0), (2, 1), (300, 7), (70_000, 1)], 19),
    ] {
        let mut stream = Stream::default();
        for &(ms, seq) in ids {
            let limits = NodeLimits { bytes_max: 0, entries_max: 1 };
            add(&mut stream, StreamId::new(ms, seq), &[b"f", b"v"], limits);
        }
        assert_eq!(stream.radix_nodes(), nodes, "{ids:?}");
    }
}

#[test]
fn a_trim_by_id_may_leave_a_node_of_deleted_entries_alone() {
    let mut stream = stream_of([(1, 0), (2, 0), (3, 0)]);
    stream.remove(StreamId::new(3, 0));
    let trim = Trim { to: TrimTo::MinId(StreamId::new(3, 0)), approximate: false, entries_max: 0 };
    assert_eq!(stream.trim(trim), 2);
    assert_eq!((stream.len(), stream.nodes().len()), (0, 1));
    assert_eq!(loaded(&stream).map(|stream| stream.len()), Ok(0));
    assert_eq!((stream.last_entry_id(), stream.counters().first_id), Default::default());
    add(&mut stream, StreamId::new(4, 0), &[b"f", b"v"], LIMITS);
    assert_eq!(ids(stream.range(StreamId::MIN, StreamId::MAX)), [StreamId::new(4, 0)]);
}

#[test]
fn an_id_is_used_again_once_the_last_id_was_set_back() {
    let mut stream = stream_of([(1, 0), (2, 0), (5, 0)]);
    assert!(stream.remove(StreamId::new(5, 0)));
    stream.set_last_id(StreamId::new(2, 0), None, None);
    for (ms, seq) in [(3, 0), (4, 0)] {
        add(&mut stream, StreamId::new(ms, seq), &[b"f", b"v"], LIMITS);
    }
    let all = |stream: &Stream| ids(stream.range(StreamId::MIN, StreamId::MAX));
    assert_eq!(loaded(&stream).map(|stream| all(&stream)), Ok(all(&stream)));
    // Beyond the deleted entry, whose id is higher.
    let trim = Trim { to: TrimTo::Len(1), approximate: false, entries_max: 0 };
    assert_eq!((stream.trim(trim), all(&stream)), (3, vec![StreamId::new(4, 0)]));
    let mut stream = stream_of([(1, 0), (5, 0)]);
    stream.remove(StreamId::new(5, 0));
    stream.set_last_id(StreamId::new(1, 0), None, None);
    add(&mut stream, StreamId::new(5, 0), &[b"f", b"again"], LIMITS);
    assert_eq!(loaded(&stream).map(|stream| all(&stream)), Ok(all(&stream)));
    let found = stream.get(StreamId::new(5, 0)).map(texts);
    assert_eq!(found, Some(vec![b"f".to_vec(), b"again".to_vec()]));
    assert!(stream.remove(StreamId::new(5, 0)) && !stream.remove(StreamId::new(5, 0)));
}

#[test]
fn a_group_reads_acknowledges_and_hands_over() {
    let mut stream = stream_of((1..=4).map(|ms| (ms, 0)));
    assert!(stream.add_group(b"g", Group::new(StreamId::MIN, Some(0))));
    assert!(!stream.add_group(b"g", Group::default()));
    let group = stream.group_mut(b"g").expect("just added");
    let alice = group.add_consumer(b"alice", 10).expect("new");
    let bob = group.add_consumer(b"bob", 10).expect("new");
    assert_eq!(group.add_consumer(b"bob", 10), None);
    let mut delivery = Delivery {
        after: StreamId::MIN,
        entries_max: 3,
        consumer: alice,
        no_acknowledgement: false,
        now_ms: 20,
    };
    assert_eq!(stream.deliver(b"g", delivery, |_| {}), 3);
    let group = stream.group_mut(b"g").expect("just added");
    assert_eq!((group.last_id, group.entries_read), (StreamId::new(3, 0), Some(3)));
    // The third goes to bob, the second is acknowledged.
    group.assign(StreamId::new(3, 0), Pending { delivered_ms: 25, deliveries: 7, consumer: bob });
    assert!(group.acknowledge(StreamId::new(2, 0)));
    assert!(!group.acknowledge(StreamId::new(2, 0)));
    group.check();
    stream.remove(StreamId::new(1, 0));
    delivery.now_ms = 30;
    let mut again = Vec::new();
    let visit = |id: StreamId, entry: Option<Entry<'_>>| again.push((id.ms, entry.is_some()));
    assert_eq!(stream.deliver_again(b"g", delivery, visit), 1);
    assert_eq!(again, [(1, false)]);
    delivery.consumer = bob;
    assert_eq!(stream.deliver_again(b"g", delivery, |_, _| {}), 1);
    let group = stream.group_mut(b"g").expect("just added");
    let third = group.pending_entry(StreamId::new(3, 0)).copied();
    assert_eq!(third, Some(Pending { delivered_ms: 30, deliveries: 8, consumer: bob }));
    assert_eq!(group.remove_consumer(b"alice"), Some(1));
    group.check();
    assert_eq!((group.pending_len(), group.last_pending()), (1, Some(StreamId::new(3, 0))));
    // The place of a removed consumer is used again.
    let carol = group.add_consumer(b"carol", 1).expect("new");
    assert_eq!(group.consumer(carol).pending_len(), 0);
    group.check();
}

#[test]
fn a_big_stream_is_freed_in_slices() {
    let mut stream = stream_of((1..=1000).map(|ms| (ms, 0)));
    stream.add_group(b"g", Group::default());
    let consumer = stream.group_mut(b"g").and_then(|group| group.add_consumer(b"c", 0));
    let delivery = Delivery {
        after: StreamId::MIN,
        entries_max: usize::MAX,
        consumer: consumer.expect("new"),
        no_acknowledgement: false,
        now_ms: 0,
    };
    stream.deliver(b"g", delivery, |_| {});
    let parts = stream.parts();
    assert_eq!(parts, stream.nodes().len() + 1000);
    assert!(stream.memory_usage(0) > 1000 * 10 && stream.memory_usage(0) < 1000 * 200);
    let mut slices = 1;
    while !stream.free_slice(100) {
        slices += 1;
    }
    assert!((parts / 100..parts / 100 + 5).contains(&slices), "{slices}");
    assert_eq!(stream.parts(), 0);
}

#[test]
fn foreign_nodes_are_checked() {
    let good: &[&[u8]] = &[
        b"1", b"1", b"1", b"f", b"0", b"2", b"0", b"0", b"v", b"4", b"1", b"0", b"5", b"1", b"g",
        b"w", b"6",
    ];
    let node_of = |elements: &[&[u8]]| {
        let mut pack = Listpack::new();
        elements.iter().for_each(|element| pack.push_back(element));
        StreamLoader::default().node(StreamId::new(1, 1), pack)
    };
    assert_eq!(node_of(good), Ok(()));
    for (at, other) in [
        (0, "2"),
        (0, "x"),
        (1, "0"),
        (2, "2"),
        (2, "-1"),
        (2, "9223372036854775807"),
        (4, "1"),
        (5, "3"),
        (6, "x"),
        (9, "5"),
        (13, "2"),
        (13, "9223372036854775807"),
        (16, "5"),
    ] {
        let mut bad = good.to_vec();
        bad[at] = other.as_bytes();
        assert_eq!(node_of(&bad), Err(BadStream), "{at} {other}");
    }
    for len in 0..good.len() {
        assert_eq!(node_of(&good[..len]), Err(BadStream), "{len}");
    }
}

#[test]
fn pieces_that_contradict_each_other_make_no_stream() {
    let stream = stream_of((1..=20).map(|ms| (ms, 0)));
    let nodes: Vec<_> = stream.nodes().map(|(first, pack)| (first, pack.clone())).collect();
    let mut twice = StreamLoader::default();
    assert_eq!(twice.node(nodes[0].0, nodes[0].1.clone()), Ok(()));
    assert_eq!(twice.node(nodes[0].0, nodes[0].1.clone()), Err(BadStream));
    let counters = *stream.counters();
    for counters in [
        Counters { len: 19, ..counters },
        Counters { len: 21, ..counters },
        Counters { last_id: StreamId::new(19, 0), ..counters },
    ] {
        let mut loader = StreamLoader::default();
        for (first, pack) in &nodes {
            assert_eq!(loader.node(*first, pack.clone()), Ok(()));
        }
        assert_eq!(loader.counters(counters), Err(BadStream), "{counters:?}");
    }
    let (one, two) = (StreamId::new(1, 0), StreamId::new(2, 0));
    let mut loader = StreamLoader::default();
    assert_eq!(loader.pending(one, 0, 1), Err(BadStream), "without a group");
    assert_eq!(loader.group(b"g", two, None), Ok(()));
    assert_eq!(loader.pending(two, 0, 1), Ok(()));
    assert_eq!(loader.pending(one, 0, 1), Err(BadStream), "out of order");
    let alice = loader.consumer(b"alice", 0).expect("new");
    assert_eq!(loader.consumer(b"alice", 0), Err(BadStream));
    assert_eq!(loader.consumer_pending(alice, one), Err(BadStream), "not the group's");
    let bob = loader.consumer(b"bob", 0).expect("new");
    assert_eq!(loader.consumer_pending(bob, two), Ok(()));
    assert_eq!(loader.consumer_pending(alice, two), Err(BadStream), "bob has it");
    assert_eq!(loader.group(b"g", two, None), Err(BadStream), "the same name");
    let mut unclaimed = StreamLoader::default();
    assert_eq!(unclaimed.group(b"g", two, None), Ok(()));
    assert_eq!(unclaimed.pending(two, 0, 1), Ok(()));
    assert!(unclaimed.finish().is_err(), "an entry is pending for nobody");
}

#[test]
fn old_counters_are_estimated() {
    let stream = stream_of((1..=8).map(|ms| (ms, 0)));
    let mut loader = StreamLoader::default();
    for (first, pack) in stream.nodes() {
        loader.node(first, pack.clone()).expect("a node of ours");
    }
    loader.old_counters(8, StreamId::new(9, 0)).expect("they fit");
    loader.old_group(b"begin", StreamId::MIN).expect("new");
    loader.old_group(b"first", StreamId::new(1, 0)).expect("new");
    loader.old_group(b"middle", StreamId::new(3, 0)).expect("new");
    loader.old_group(b"end", StreamId::new(9, 0)).expect("new");
    let stream = loader.finish().expect("all fits");
    let read: Vec<_> = stream.groups().map(|(_, group)| group.entries_read).collect();
    assert_eq!(read, [Some(0), Some(8), Some(1), None], "begin, end, first, middle");
    assert_eq!(stream.counters().first_id, StreamId::new(1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, Texts),
    Remove(u64),
    TrimLen(u64, bool, u64),
    TrimId(u64, bool, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof![
        3 => Just(b"f".to_vec()),
        2 => (-300..300_i64).prop_map(|number| number.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    let texts = prop::collection::vec(text, 2..=6).prop_map(|mut texts| {
        texts.truncate(texts.len() / 2 * 2);
        texts
    });
    prop_oneof![
        8 => (1..400_u64, texts).prop_map(|(distance, texts)| Step::Add(distance, texts)),
        4 => (0..6000_u64).prop_map(Step::Remove),
        1 => (0..30_u64, any::<bool>(), 0..12_u64).prop_map(|(len, approx, max)| Step::TrimLen(len, approx, max)),
        1 => (0..6000_u64, any::<bool>(), 0..12_u64).prop_map(|(id, approx, max)| Step::TrimId(id, approx, max)),
    ]
}

/// An id whose neighbours differ in both numbers.
fn id_of(number: u64) -> StreamId {
    StreamId::new(1000 + number / 7, number % 7)
}

proptest! {
    #[test]
    fn a_stream_is_a_list_of_entries(
        steps in prop::collection::vec(step(), 0..80),
        bounds in (0..6000_u64, 0..6000_u64),
    ) {
        let mut stream = Stream::default();
        let mut model: Vec<(StreamId, Texts)> = Vec::new();
        let (mut last, mut added) = (0, 0);
        for step in steps {
            match step {
                Step::Add(distance, texts) => {
                    last += distance;
                    added += 1;
                    let slices: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                    add(&mut stream, id_of(last), &slices, LIMITS);
                    model.push((id_of(last), texts));
                }
                Step::Remove(number) => {
                    // Mostly an id that is there.
                    let near = model.iter().map(|(id, _)| *id).find(|id| *id >= id_of(number));
                    let id = near.filter(|_| number % 4 > 0).unwrap_or(id_of(number));
                    let before = model.len();
                    model.retain(|(known, _)| *known != id);
                    prop_assert_eq!(stream.remove(id), model.len() < before);
                }
                Step::TrimLen(keep, approximate, entries_max) => {
                    let entries_max = if approximate { entries_max } else { 0 };
                    let trim = Trim { to: TrimTo::Len(keep), approximate, entries_max };
                    let removed = stream.trim(trim);
                    let surplus = (model.len() as u64).saturating_sub(keep);
                    prop_assert!(removed <= surplus && (approximate || removed == surplus));
                    prop_assert!(entries_max == 0 || removed <= entries_max);
                    model.drain(..removed as usize);
                }
                Step::TrimId(number, approximate, entries_max) => {
                    let entries_max = if approximate { entries_max } else { 0 };
                    let trim =
                        Trim { to: TrimTo::MinId(id_of(number)), approximate, entries_max };
                    let removed = stream.trim(trim);
                    let surplus = model.iter().filter(|(id, _)| *id < id_of(number)).count() as u64;
                    prop_assert!(removed <= surplus && (approximate || removed == surplus));
                    prop_assert!(entries_max == 0 || removed <= entries_max);
                    model.drain(..removed as usize);
                }
            }
            prop_assert_eq!(stream.len(), model.len());
            let counters = *stream.counters();
            prop_assert_eq!(counters.first_id, model.first().map_or(StreamId::MIN, |entry| entry.0));
            prop_assert_eq!(stream.last_entry_id(), model.last().map_or(StreamId::MIN, |entry| entry.0));
            prop_assert_eq!(counters.entries_added, added);
        }
        let whole: Vec<(StreamId, Texts)> =
            stream.range(StreamId::MIN, StreamId::MAX).map(|entry| (entry.id, texts(entry))).collect();
        prop_assert_eq!(&whole, &model);
        let (start, end) = (id_of(bounds.0), id_of(bounds.1));
        let mut within: Vec<StreamId> =
            model.iter().map(|(id, _)| *id).filter(|id| (start..=end).contains(id)).collect();
        prop_assert_eq!(ids(stream.range(start, end)), within.clone());
        within.reverse();
        prop_assert_eq!(ids(stream.range_rev(start, end)), within);
        for (id, expected) in &model {
            let found = stream.get(*id).map(texts);
            prop_assert_eq!(found.as_ref(), Some(expected));
        }
        let again = loaded(&stream).expect("parts of a stream make a stream");
        prop_assert_eq!(again.counters(), stream.counters());
        prop_assert_eq!(
            again.range(StreamId::MIN, StreamId::MAX).map(texts).collect::<Vec<_>>(),
            model.into_iter().map(|(_, texts)| texts).collect::<Vec<_>>()
        );
    }
}
