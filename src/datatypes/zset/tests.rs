use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// A listpack of up to eight members, so that random operations meet both forms.
const SMALL: ZSetLimits = ZSetLimits { entries_max: 8, value_bytes_max: 12 };

/// Everything is a skiplist.
const NEVER_PACKED: ZSetLimits = ZSetLimits { entries_max: 0, value_bytes_max: 0 };

type Pairs = Vec<(Vec<u8>, f64)>;

fn pairs<'a>(iter: impl Iterator<Item = (Element<'a>, f64)>) -> Pairs {
    iter.map(|(member, score)| (member.to_vec(), score)).collect()
}

fn sorted(model: &HashMap<Vec<u8>, f64>) -> Pairs {
    let mut pairs: Pairs = model.iter().map(|(member, &score)| (member.clone(), score)).collect();
    pairs.sort_by(|left, right| compare((left.1, &left.0), (right.1, &right.0)));
    pairs
}

fn build(pairs: &[(&str, f64)], limits: ZSetLimits) -> ZSet {
    let mut zset = ZSet::default();
    for (member, score) in pairs {
        zset.insert(member.as_bytes(), *score, limits);
    }
    zset
}

/// Calls `test` with the same members in both forms.
fn in_both_forms(pairs: &[(&str, f64)], test: impl Fn(ZSet)) {
    let (packed, indexed) = (build(pairs, ZSetLimits::default()), build(pairs, NEVER_PACKED));
    assert_eq!((packed.encoding(), indexed.encoding()), ("listpack", "skiplist"));
    test(packed);
    test(indexed);
}

#[derive(Clone, Debug)]
enum Operation {
    Add(Vec<u8>, f64, AddMode),
    Remove(Vec<u8>),
    RemoveRanks(usize, usize),
    Pop(Order),
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..40_u32).prop_map(|number| number.to_string().into_bytes()),
        3 => "[ab]{0,3}".prop_map(String::into_bytes),
        1 => "[ab]{11,26}".prop_map(String::into_bytes),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-3..4_i32).prop_map(f64::from),
        2 => Just(0.5),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(1e300),
    ]
}

fn mode() -> impl Strategy<Value = AddMode> {
    let presence = prop_oneof![8 => Just(Presence::Any), 1 => Just(Presence::Missing), 1 => Just(Presence::Present)];
    let comparison = prop_oneof![
        8 => Just(Comparison::Always),
        1 => Just(Comparison::Greater),
        1 => Just(Comparison::Less)
    ];
    (presence, comparison, prop::bool::weighted(0.2))
        .prop_map(|(presence, comparison, increment)| AddMode { presence, comparison, increment })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => (member(), score(), mode()).prop_map(|(m, s, mode)| Operation::Add(m, s, mode)),
        4 => member().prop_map(Operation::Remove),
        1 => (0..20_usize, 0..6_usize).prop_map(|(start, count)| Operation::RemoveRanks(start, count)),
        1 => Just(Operation::Pop(Order::Ascending)),
        1 => Just(Operation::Pop(Order::Descending)),
    ]
}

/// What an addition must do, said in another way than the code under test says it.
fn model_add(model: &mut HashMap<Vec<u8>, f64>, member: &[u8], score: f64, mode: AddMode) -> Added {
    let Some(current) = model.get(member).copied() else {
        if mode.presence == Presence::Present {
            return Added::Refused;
        }
        model.insert(member.to_vec(), score);
        return Added::New(score);
    };
    let new = if mode.increment { current + score } else { score };
    if mode.presence == Presence::Missing {
        Added::Refused
    } else if new.is_nan() {
        Added::NotANumber
    } else if (mode.comparison == Comparison::Greater && new <= current)
        || (mode.comparison == Comparison::Less && new >= current)
    {
        Added::Refused
    } else if new == current {
        Added::Unchanged(new)
    } else {
        model.insert(member.to_vec(), new);
        Added::Updated(new)
    }
}

fn apply(
    zset: &mut ZSet,
    model: &mut HashMap<Vec<u8>, f64>,
    operation: &Operation,
    limits: ZSetLimits,
) {
    match operation {
        Operation::Add(member, score, mode) => {
            let expected = model_add(model, member, *score, *mode);
            assert_eq!(zset.add(member, *score, *mode, limits), expected);
        }
        Operation::Remove(member) => assert_eq!(zset.remove(member), model.remove(member)),
        Operation::RemoveRanks(start, count) => {
            let all = sorted(model);
            let removed = all.iter().skip(*start).take(*count);
            assert_eq!(zset.remove_ranks(*start..start + count), removed.clone().count());
            for (member, _) in removed {
                model.remove(member);
            }
        }
        Operation::Pop(order) => {
            let mut all = sorted(model);
            let expected = match order {
                Order::Ascending if !all.is_empty() => Some(all.remove(0)),
                _ => all.pop(),
            };
            let popped = zset.pop(*order, |member, score| (member.to_vec(), score));
            assert_eq!(popped, expected);
            if let Some((member, _)) = expected {
                model.remove(&member);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_sorted_map(operations in proptest::collection::vec(operation(), 0..120)) {
        for limits in [SMALL, ZSetLimits::default(), NEVER_PACKED] {
            let (mut zset, mut model) = (ZSet::default(), HashMap::new());
            for operation in &operations {
                apply(&mut zset, &mut model, operation, limits);
                prop_assert_eq!(zset.len(), model.len());
            }
            let all = sorted(&model);
            prop_assert_eq!(pairs(zset.iter_all()), all.clone());
            let descending = pairs(zset.iter(0..usize::MAX, Order::Descending));
            prop_assert!(descending.iter().eq(all.iter().rev()));
            for (rank, (member, score)) in all.iter().enumerate() {
                prop_assert_eq!(zset.score(member), Some(*score));
                prop_assert_eq!(zset.rank(member), Some(rank));
                let at_rank = zset.get(rank).map(|(member, score)| (member.to_vec(), score));
                prop_assert_eq!(at_rank.as_ref(), Some(&all[rank]));
            }
            prop_assert!(zset.get(all.len()).is_none());
            let copy = zset.clone();
            prop_assert_eq!(pairs(copy.iter_all()), all);
        }
    }

    #[test]
    fn ranges_are_the_members_between_their_ends(
        members in proptest::collection::hash_map(member(), score(), 0..30),
        ends in (score(), score()),
        excluded in any::<(bool, bool)>(),
        lex_ends in (member(), member()),
    ) {
        for limits in [ZSetLimits::default(), NEVER_PACKED] {
            let (mut scored, mut flat) = (ZSet::default(), ZSet::default());
            for (member, score) in &members {
                scored.insert(member, *score, limits);
                flat.insert(member, 0.0, limits);
            }
            let range = ScoreRange {
                min: ends.0, max: ends.1, min_excluded: excluded.0, max_excluded: excluded.1,
            };
            let expected: Pairs = sorted(&members).into_iter()
                .filter(|(_, score)| !range.is_below(*score) && !range.is_above(*score)).collect();
            let ranks = scored.ranks_by_score(&range);
            prop_assert_eq!(pairs(scored.iter(ranks, Order::Ascending)), expected);

            let bound = |text, excluded| match excluded {
                true => LexBound::Excluded(text),
                false => LexBound::Included(text),
            };
            let range = LexRange {
                min: bound(&lex_ends.0, excluded.0), max: bound(&lex_ends.1, excluded.1),
            };
            let expected: Vec<Vec<u8>> = pairs(flat.iter_all()).into_iter().map(|pair| pair.0)
                .filter(|member| !range.is_below(member) && !range.is_above(member)).collect();
            let ranks = flat.ranks_by_lex(&range);
            let got = pairs(flat.iter(ranks, Order::Ascending)).into_iter().map(|pair| pair.0);
            prop_assert!(got.eq(expected));
        }
    }
}

#[test]
fn a_listpack_converts_at_its_limits_and_stays_converted() {
    let mut zset = ZSet::default();
    for number in 0..128 {
        zset.insert(format!("m{number}").as_bytes(), 1.0, ZSetLimits::default());
    }
    assert_eq!(zset.encoding(), "listpack");
    zset.insert(b"m5", 2.0, ZSetLimits::default());
    assert_eq!(zset.encoding(), "listpack", "an update adds no entry");
    zset.insert(b"one more", 1.0, ZSetLimits::default());
    assert_eq!((zset.encoding(), zset.len()), ("skiplist", 129));
    zset.remove_ranks(1..129);
    assert_eq!((zset.encoding(), zset.len()), ("skiplist", 1));

    let mut zset = ZSet::default();
    zset.insert(&[b'x'; 64], 1.0, ZSetLimits::default());
    assert_eq!(zset.encoding(), "listpack");
    zset.insert(&[b'x'; 65], 1.0, ZSetLimits::default());
    assert_eq!(zset.encoding(), "skiplist");
}

/// The listpacks inside DUMP of Redis 7.0.15 after ZADD of one member "m" with this score.
#[test]
fn a_listpack_has_the_bytes_of_redis() {
    for (score, bytes) in [
        (16.0, "0c0000000200816d021001ff"),
        (0.5, "0f0000000200816d0283302e3504ff"),
        (f64::INFINITY, "0f0000000200816d0283696e6604ff"),
        (-0.0, "0c0000000200816d020001ff"),
        (1e17, "140000000200816d02f400008a5d7845630109ff"),
        (4611686018427387904.0, "140000000200816d02f4000000000000004009ff"),
        (5e18, "110000000200816d028535652b313806ff"),
        (
            9223372036854775807.0,
            "220000000200816d0296392e32323333373230333638353437373538652b313817ff",
        ),
    ] {
        let zset = build(&[("m", score)], ZSetLimits::default());
        let got = zset.as_listpack().unwrap().as_bytes().iter().map(|byte| format!("{byte:02x}"));
        assert_eq!(got.collect::<String>(), bytes, "{score}");
    }
}

#[test]
fn a_listpack_from_outside_must_be_pairs_with_scores() {
    for (elements, valid) in [
        (&["a", "1", "b", "2.5"][..], true),
        (&[], true),
        (&["a"], false),
        (&["a", "b"], false),
        (&["a", "nan"], false),
        (&["1", "inf"], true),
    ] {
        let mut listpack = Listpack::new();
        elements.iter().for_each(|element| listpack.push_back(element.as_bytes()));
        assert_eq!(ZSet::from_listpack(listpack).is_some(), valid, "{elements:?}");
    }
}

#[test]
fn a_repeated_member_in_a_foreign_listpack_survives_conversion_once() {
    let mut listpack = Listpack::new();
    ["a", "1", "a", "2"].iter().for_each(|element| listpack.push_back(element.as_bytes()));
    let mut zset = ZSet::from_listpack(listpack).unwrap();
    zset.insert(b"b", 3.0, NEVER_PACKED);
    assert_eq!(pairs(zset.iter_all()), [(b"a".to_vec(), 2.0), (b"b".to_vec(), 3.0)]);
}

#[test]
fn minus_zero_is_the_score_zero() {
    in_both_forms(&[("b", -0.0), ("a", 0.0), ("c", 0.0)], |mut zset| {
        let members: Vec<_> = pairs(zset.iter_all()).into_iter().map(|pair| pair.0).collect();
        assert_eq!(members, [b"a", b"b", b"c"]);
        let added = zset.add(b"a", -0.0, AddMode::default(), ZSetLimits::default());
        assert_eq!(added, Added::Unchanged(-0.0));
    });
}

#[test]
fn infinities_of_opposite_sign_do_not_add() {
    in_both_forms(&[("a", f64::INFINITY)], |mut zset| {
        let mode = AddMode { increment: true, ..AddMode::default() };
        let added = zset.add(b"a", f64::NEG_INFINITY, mode, ZSetLimits::default());
        assert_eq!(added, Added::NotANumber);
        assert_eq!(zset.score(b"a"), Some(f64::INFINITY));
        assert_eq!(zset.add(b"b", f64::NAN, mode, ZSetLimits::default()), Added::NotANumber);
        assert_eq!(zset.len(), 1);
    });
}

#[test]
fn a_scan_visits_every_member() {
    for count in [3_u32, 100, 5000] {
        let mut zset = ZSet::default();
        for number in 0..count {
            zset.insert(number.to_string().as_bytes(), f64::from(number), ZSetLimits::default());
        }
        let (mut cursor, mut seen) = (0, HashMap::new());
        loop {
            cursor = zset.scan(cursor, 10, |member, score| {
                seen.insert(member.to_vec(), score);
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(sorted(&seen), pairs(zset.iter_all()), "{count} members");
    }
}

#[test]
fn freeing_by_slices_ends_with_nothing() {
    let mut zset = ZSet::default();
    for number in 0..20_000_u32 {
        let member = format!("a member that is longer than a cell: {number}");
        zset.insert(member.as_bytes(), f64::from(number), ZSetLimits::default());
    }
    assert!(zset.memory_usage(5) > 20_000 * 40);
    let mut slices = 1;
    while !zset.free_slice(1000) {
        slices += 1;
        assert!(slices < 200, "freeing does not end");
    }
    assert!(slices > 20, "a slice freed too much: all was gone after {slices}");
    assert!(zset.is_empty());
    assert_eq!(zset.encoding(), "listpack");
}
