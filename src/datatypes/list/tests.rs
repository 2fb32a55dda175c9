//! Lists against a plain model, under every kind of node limit.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

impl List {
    /// Proves the promise of the module.
    fn check(&self) {
        let mut len = 0;
        for node in &self.nodes {
            assert!(node.count() > 0, "an empty node");
            if let NodeView::Packed(listpack) = node.view() {
                assert_eq!(node.count(), listpack.len(), "a node miscounts");
            }
            len += node.count();
        }
        assert_eq!(len, self.len, "the list miscounts");
    }
}

fn texts<'a>(elements: impl Iterator<Item = Element<'a>>) -> Vec<Vec<u8>> {
    elements.map(|element| element.to_vec()).collect()
}

fn list_of(limits: NodeLimits, texts: &[&[u8]]) -> List {
    let mut list = List::new(limits);
    texts.iter().for_each(|text| list.push(End::Tail, text));
    list
}

fn node_counts(list: &List) -> Vec<usize> {
    list.nodes.iter().map(Node::count).collect()
}

#[test]
fn a_node_is_full_when_redis_says_so() {
    // Counts seen in Redis 7.0.15 after RPUSH of elements of 100 bytes, which take 103 each.
    for (list_max_listpack_size, count) in
        [(-1, 39), (-2, 79), (-3, 158), (-4, 318), (-5, 636), (-9, 636), (3, 3), (1, 1), (1000, 79)]
    {
        let mut list = List::new(NodeLimits::new(list_max_listpack_size));
        (0..1500).for_each(|_| list.push(End::Tail, &[b'x'; 100]));
        assert_eq!(list.nodes[0].count(), count, "list-max-listpack-size {list_max_listpack_size}");
        list.check();
    }
    let mut single = List::new(NodeLimits::new(0));
    (0..3).for_each(|_| single.push(End::Head, b"x"));
    assert_eq!(node_counts(&single), [1, 1, 1]);
}

#[test]
fn an_element_larger_than_a_node_gets_a_node_of_its_own() {
    let big = vec![b'b'; 10_000];
    let mut list = list_of(NodeLimits::default(), &[b"a", &big, b"c"]);
    assert_eq!(node_counts(&list), [1, 1, 1]);
    assert!(list.nodes().all(|node| matches!(node, NodeView::Packed(_))));
    // In place of a small element among others it leaves their node.
    list = list_of(NodeLimits::default(), &[b"a", b"b", b"c"]);
    assert!(list.set(1, &big));
    assert_eq!(node_counts(&list), [1, 1, 1]);
    assert_eq!(texts(list.iter()), [b"a", &big[..], b"c"]);
}

#[test]
fn an_element_of_the_plain_size_stands_alone_wherever_it_is_put() {
    let limits = NodeLimits::default().with_plain_bytes_min(100);
    let plain = [b'p'; 100];
    let mut list = list_of(limits, &[b"a", b"b", b"c", &plain]);
    assert!(list.insert(b"b", Side::Before, &plain));
    assert!(list.set(0, &plain));
    assert!(list.set(-1, b"small"));
    assert_eq!(texts(list.iter()), [&plain[..], &plain, b"b", b"c", b"small"]);
    let alone = list.nodes().filter(|node| matches!(node, NodeView::Plain(_))).count();
    assert_eq!(alone, 2);
    list.check();
    assert_eq!(list.remove_matching(&plain, -1), 1);
    assert_eq!(texts(list.walk(End::Tail)), [&b"small"[..], b"c", b"b", &plain[..]]);
}

#[test]
fn inserting_at_one_place_does_not_leave_a_trail_of_small_nodes() {
    let mut list = list_of(NodeLimits::default(), &[b"first", b"last"]);
    for number in 0..20_000 {
        assert!(list.insert(b"first", Side::After, format!("element {number}").as_bytes()));
    }
    list.check();
    assert!(list.nodes.len() < 100, "{} nodes", list.nodes.len());
}

#[test]
fn a_list_is_freed_in_slices() {
    let mut list = List::new(NodeLimits::new(10));
    (0..100).for_each(|_| list.push(End::Tail, b"x"));
    assert!(!list.free_slice(4));
    assert_eq!(list.len(), 60);
    list.check();
    assert!(list.free_slice(6));
    assert_eq!(list.len(), 0);
    assert!(List::default().free_slice(1));
}

#[test]
fn nodes_of_a_snapshot_are_taken_as_they_are() {
    let source = list_of(NodeLimits::new(2).with_plain_bytes_min(4), &[b"1", b"2", b"long", b"3"]);
    let mut copy = List::default();
    for node in source.nodes() {
        match node {
            NodeView::Packed(listpack) => copy.append_packed(listpack.clone()),
            NodeView::Plain(text) => copy.append_plain(text.to_vec()),
        }
    }
    copy.append_packed(Listpack::new());
    copy.check();
    assert_eq!(node_counts(&copy), [2, 1, 1]);
    assert_eq!(texts(copy.iter()), texts(source.iter()));
}

/// One change or question; an index is taken as it is, so that some are out of range.
#[derive(Clone, Debug)]
enum Step {
    Push(End, Vec<u8>),
    Pop(End),
    Set(i64, Vec<u8>),
    Insert(usize, Side, Vec<u8>),
    RemoveMatching(usize, i64),
    RemoveRange(usize, usize),
    Range(usize, usize),
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u8..6).prop_map(|digit| vec![b'0' + digit]),
        2 => "[a-c]{0,2}".prop_map(String::into_bytes),
        1 => (any::<u8>(), 40usize..90).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u8>(), 3000usize..9000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = || prop_oneof![Just(End::Head), Just(End::Tail)];
    let side = prop_oneof![Just(Side::Before), Just(Side::After)];
    let index = 0usize..60;
    prop_oneof![
        8 => (end(), any_text()).prop_map(|(end, text)| Step::Push(end, text)),
        2 => end().prop_map(Step::Pop),
        2 => (-60i64..60, any_text()).prop_map(|(index, text)| Step::Set(index, text)),
        4 => (index.clone(), side, any_text()).prop_map(|(at, side, text)| Step::Insert(at, side, text)),
        1 => (index.clone(), -3i64..4).prop_map(|(at, count)| Step::RemoveMatching(at, count)),
        1 => (index.clone(), 0usize..12).prop_map(|(start, count)| Step::RemoveRange(start, count)),
        2 => (index, 0usize..80).prop_map(|(start, count)| Step::Range(start, count)),
    ]
}

fn any_limits() -> impl Strategy<Value = NodeLimits> {
    (prop_oneof![Just(-2), Just(-1), 0i64..5], prop_oneof![Just(1 << 30), Just(50)])
        .prop_map(|(size, plain)| NodeLimits::new(size).with_plain_bytes_min(plain))
}

fn apply(step: Step, list: &mut List, model: &mut VecDeque<Vec<u8>>) {
    match step {
        Step::Push(end, text) => {
            list.push(end, &text);
            match end {
                End::Head => model.push_front(text),
                End::Tail => model.push_back(text),
            }
        }
        Step::Pop(end) => {
            let peeked = list.peek(end).map(|element| element.to_vec());
            let expected = match end {
                End::Head => model.pop_front(),
                End::Tail => model.pop_back(),
            };
            assert_eq!((list.pop(end), peeked), (expected.is_some(), expected));
        }
        Step::Set(index, text) => {
            let len = model.len() as i64;
            let absolute = if index < 0 { len + index } else { index };
            let found = (0..len).contains(&absolute);
            assert_eq!(list.set(index, &text), found);
            if found {
                assert!(list.get(index).is_some_and(|element| element.equals(&text)));
                model[absolute as usize] = text;
            }
        }
        Step::Insert(at, side, text) => {
            let pivot = model.get(at).cloned().unwrap_or_else(|| b"absent".to_vec());
            let place = model.iter().position(|element| *element == pivot);
            assert_eq!(list.insert(&pivot, side, &text), place.is_some());
            if let Some(place) = place {
                model.insert(if side == Side::After { place + 1 } else { place }, text);
            }
        }
        Step::RemoveMatching(at, count) => {
            let text = model.get(at).cloned().unwrap_or_else(|| b"absent".to_vec());
            let mut matching: Vec<_> =
                (0..model.len()).filter(|&index| model[index] == text).collect();
            if count < 0 {
                matching.reverse();
            }
            if count != 0 {
                matching.truncate(count.unsigned_abs() as usize);
            }
            assert_eq!(list.remove_matching(&text, count), matching.len());
            matching.sort_unstable();
            matching.iter().rev().for_each(|&index| drop(model.remove(index)));
        }
        Step::RemoveRange(start, count) => {
            let expected: Vec<_> =
                model.drain(start.min(model.len())..model.len().min(start + count)).collect();
            assert_eq!(list.remove_range(start, count), expected.len());
        }
        Step::Range(start, count) => {
            let forward: Vec<_> = model.iter().skip(start).take(count).cloned().collect();
            assert_eq!(list.range(start, count).len(), forward.len());
            assert_eq!(texts(list.range(start, count)), forward);
            let to_head = model.len().saturating_sub(start + 1);
            let backward: Vec<_> = match start < model.len() {
                true => model.iter().rev().skip(to_head).take(count).cloned().collect(),
                false => Vec::new(),
            };
            assert_eq!(texts(list.range_rev(start, count)), backward);
        }
    }
}

proptest! {
    #[test]
    fn a_list_reads_like_a_plain_deque(
        limits in any_limits(),
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        let (mut list, mut model) = (List::new(limits), VecDeque::new());
        for step in steps {
            apply(step, &mut list, &mut model);
            list.check();
            prop_assert_eq!(list.len(), model.len());
        }
        prop_assert!(texts(list.iter()).iter().eq(&model));
        prop_assert!(texts(list.walk(End::Tail)).iter().eq(model.iter().rev()));
        for (index, text) in model.iter().enumerate() {
            prop_assert!(list.get(index as i64).is_some_and(|element| element.equals(text)));
        }
        prop_assert!(list.get(model.len() as i64).is_none());
        prop_assert!(list.get(-(model.len() as i64) - 1).is_none());
    }
}
