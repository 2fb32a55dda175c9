//! Listpacks against Redis's own bytes, against a plain model, and against bytes of no merit.

use proptest::prelude::*;

use super::*;

fn listpack_of(texts: &[&[u8]]) -> Listpack {
    let mut listpack = Listpack::new();
    texts.iter().for_each(|text| listpack.push_back(text));
    listpack
}

fn texts(listpack: &Listpack) -> Vec<Vec<u8>> {
    listpack.iter().map(|element| element.to_vec()).collect()
}

#[test]
fn the_bytes_are_those_that_redis_writes() {
    // Elements of DUMP payloads of Redis 7.0.15: a hash {f1: v1, f2: 2} and a sorted set.
    let hash = listpack_of(&[b"f1", b"v1", b"f2", b"2"]);
    assert_eq!(hash.as_bytes(), b"\x15\0\0\0\x04\0\x82f1\x03\x82v1\x03\x82f2\x03\x02\x01\xff");
    let zset = listpack_of(&[b"c", b"-inf", b"a", b"1", b"b", b"2.5", b"e", b"3", b"d", b"inf"]);
    assert_eq!(
        zset.as_bytes(),
        b"\x2a\0\0\0\x0a\0\x81c\x02\x84-inf\x05\x81a\x02\x01\x01\x81b\x02\x832.5\x04\x81e\x02\
          \x03\x01\x81d\x02\x83inf\x04\xff"
    );
    // The list of Redis's DUMP that holds an integer at every border of width.
    let list = listpack_of(&[
        b"a",
        b"1",
        b"-1",
        b"127",
        b"128",
        b"4095",
        b"-4096",
        b"4096",
        b"32767",
        b"32768",
        b"8388607",
        b"8388608",
        b"2147483647",
        b"2147483648",
        b"9223372036854775807",
        b"-9223372036854775808",
    ]);
    assert_eq!(
        &list.as_bytes()[6..],
        b"\x81a\x02\x01\x01\xdf\xff\x02\x7f\x01\xc0\x80\x02\xcf\xff\x02\xd0\0\x02\xf1\0\x10\x03\
          \xf1\xff\x7f\x03\xf2\0\x80\0\x04\xf2\xff\xff\x7f\x04\xf3\0\0\x80\0\x05\
          \xf3\xff\xff\xff\x7f\x05\xf4\0\0\0\x80\0\0\0\0\x09\
          \xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09\xf4\0\0\0\0\0\0\0\x80\x09\xff"
    );
    assert_eq!(Listpack::new().into_bytes(), b"\x07\0\0\0\0\0\xff");
}

#[test]
fn bytes_that_are_no_listpack_are_refused() {
    for (bytes, why) in [
        (&b""[..], "no header"),
        (b"\x06\0\0\0\0\0", "no end byte"),
        (b"\x08\0\0\0\0\0\xff", "total bytes too many"),
        (b"\x07\0\0\0\x01\0\xff", "count too high"),
        (b"\x09\0\0\0\0\0\x01\x01\xff", "count too low"),
        (b"\x09\0\0\0\x01\0\x01\x02\xff", "backlen too long"),
        (b"\x09\0\0\0\x01\0\x01\x81\xff", "backlen goes on"),
        (b"\x09\0\0\0\x01\0\x82a\xff", "string longer than the rest"),
        (b"\x08\0\0\0\x01\0\x01\xff", "no backlen"),
        (b"\x09\0\0\0\x01\0\xf5\x01\xff", "no such encoding"),
        (b"\x0d\0\0\0\x01\0\xf0\xff\xff\xff\xff\x05\xff", "string of 4 GiB"),
        (b"\x09\0\0\0\x01\0\xe0\x02\xff", "cut within the length"),
        (b"\x0a\0\0\0\x01\0\x01\x01\xff\xff", "end byte before the end"),
        (b"\x09\0\0\0\x01\0\x01\x01\x00", "no end byte at the end"),
    ] {
        assert_eq!(Listpack::from_bytes(bytes.to_vec()).unwrap_err(), Corrupt, "{why}");
    }
}

#[test]
fn a_foreign_listpack_may_use_wider_encodings_and_not_know_its_count() {
    // 1 as a 16-bit integer, "2" as a string, "b" with a 32-bit length.
    let bytes = b"\x17\0\0\0\xff\xff\xf1\x01\0\x03\x812\x02\xf0\x01\0\0\0b\x06\x7f\x01\xff";
    let mut foreign = Listpack::from_bytes(bytes.to_vec()).unwrap();
    assert_eq!(foreign.len(), 4);
    for text in [&b"1"[..], b"2", b"b", b"127"] {
        assert!(foreign.find(foreign.first().unwrap(), text, 0).is_some());
    }
    foreign.push_front(b"0");
    foreign.remove(foreign.last().unwrap());
    assert_eq!(texts(&foreign), [b"0", b"1", b"2", b"b"]);
}

#[test]
fn a_count_beyond_the_header_is_walked() {
    let mut listpack = Listpack::new();
    for value in 0..70_000 {
        listpack.push_back_int(value);
    }
    assert_eq!(listpack.len(), 70_000);
    assert_eq!(listpack.as_bytes()[4..6], [0xFF, 0xFF]);
    assert!(listpack.get(listpack.seek(-70_000).unwrap()).equals(b"0"));
    assert!(listpack.get(listpack.seek(65_535).unwrap()).equals(b"65535"));
    listpack.remove_range(listpack.first().unwrap(), 69_999);
    assert_eq!(texts(&listpack), [b"69999"]);
    assert_eq!(listpack.len(), 1);
    assert!(Listpack::from_bytes(listpack.into_bytes()).is_ok());
}

#[test]
fn find_looks_only_at_every_other_element_when_told_to() {
    let hash = listpack_of(&[b"a", b"b", b"b", b"7", b"7", b"c"]);
    let first = hash.first().unwrap();
    assert_eq!(hash.find(first, b"b", 1), hash.seek(2));
    assert_eq!(hash.find(first, b"7", 1), hash.seek(4));
    assert_eq!(hash.find(first, b"c", 1), None);
    assert_eq!(hash.find(first, b"c", 0), hash.seek(-1));
}

#[test]
fn memory_follows_the_size_down_as_well_as_up() {
    let mut listpack = Listpack::new();
    for value in 0..10_000 {
        listpack.push_back_int(value);
        assert!(listpack.memory_bytes() <= listpack.byte_len() * 9 / 8 + 32);
    }
    while let Some(first) = listpack.first() {
        listpack.remove(first);
        assert!(listpack.memory_bytes() <= listpack.byte_len() * 2 + 32);
    }
    assert_eq!(listpack.memory_bytes(), BUFFER_BYTES_MIN);
}

#[test]
fn fits_stops_at_the_size_that_redis_deems_safe() {
    let listpack = Listpack::new();
    assert!(listpack.fits(LISTPACK_BYTES_MAX - EMPTY_BYTES));
    assert!(!listpack.fits(LISTPACK_BYTES_MAX - EMPTY_BYTES + 1));
    assert!(!listpack.fits(usize::MAX));
}

/// One change; an index beyond the end is taken modulo the length.
#[derive(Clone, Debug)]
enum Change {
    PushBack(Vec<u8>),
    PushBackAll(Vec<Vec<u8>>),
    PushFront(Vec<u8>),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    Remove(usize),
    RemoveRange(usize, usize),
    SplitAndAppend(usize),
    ShrinkToFit,
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        (-5000i64..5000).prop_map(|value| value.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..70),
        (60usize..200).prop_map(|len| vec![b'x'; len]),
        (4090usize..4100).prop_map(|len| vec![b'y'; len]),
        (16_370usize..16_390).prop_map(|len| vec![b'z'; len]),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    use Change::*;
    let index = 0usize..1000;
    prop_oneof![
        3 => any_text().prop_map(PushBack),
        2 => prop::collection::vec(any_text(), 0..4).prop_map(PushBackAll),
        3 => any_text().prop_map(PushFront),
        2 => (index.clone(), any_text()).prop_map(|(index, text)| InsertBefore(index, text)),
        2 => (index.clone(), any_text()).prop_map(|(index, text)| InsertAfter(index, text)),
        2 => (index.clone(), any_text()).prop_map(|(index, text)| Replace(index, text)),
        4 => index.clone().prop_map(Remove),
        1 => (index.clone(), 0usize..6).prop_map(|(index, count)| RemoveRange(index, count)),
        1 => index.prop_map(SplitAndAppend),
        1 => Just(ShrinkToFit),
    ]
}

/// Makes the change in both, and checks what the listpack answered.
fn apply(change: Change, listpack: &mut Listpack, model: &mut Vec<Vec<u8>>) {
    let position = |listpack: &Listpack, index: usize| {
        let index = index % listpack.len();
        (index, listpack.seek(index as i64).unwrap())
    };
    match change {
        Change::PushBack(text) => {
            listpack.push_back(&text);
            model.push(text);
        }
        Change::PushBackAll(texts) => {
            listpack.push_back_all(texts.iter().map(|text| Element::Bytes(text)));
            model.extend(texts);
        }
        Change::PushFront(text) => {
            listpack.push_front(&text);
            model.insert(0, text);
        }
        Change::ShrinkToFit => listpack.shrink_to_fit(),
        _ if model.is_empty() => {}
        Change::InsertBefore(index, text) => {
            let (index, at) = position(listpack, index);
            let new = listpack.insert_before(at, &text);
            assert!(listpack.get(new).equals(&text));
            model.insert(index, text);
        }
        Change::InsertAfter(index, text) => {
            let (index, at) = position(listpack, index);
            let new = listpack.insert_after(at, &text);
            assert!(listpack.get(new).equals(&text));
            model.insert(index + 1, text);
        }
        Change::Replace(index, text) => {
            let (index, at) = position(listpack, index);
            let new = listpack.replace(at, &text);
            assert!(listpack.get(new).equals(&text));
            model[index] = text;
        }
        Change::Remove(index) => {
            let (index, at) = position(listpack, index);
            let next = listpack.remove(at);
            model.remove(index);
            assert_eq!(next.map(|at| listpack.get(at).to_vec()).as_ref(), model.get(index));
        }
        Change::RemoveRange(index, count) => {
            let (index, at) = position(listpack, index);
            let next = listpack.remove_range(at, count);
            model.drain(index..model.len().min(index + count));
            assert_eq!(next.map(|at| listpack.get(at).to_vec()).as_ref(), model.get(index));
        }
        Change::SplitAndAppend(index) => {
            let (index, at) = position(listpack, index);
            let tail = listpack.split_off(at);
            assert_eq!((listpack.len(), tail.len()), (index, model.len() - index));
            listpack.append(&tail);
        }
    }
}

proptest! {
    #[test]
    fn a_listpack_reads_like_a_plain_vector(changes in prop::collection::vec(any_change(), 1..80)) {
        let (mut listpack, mut model) = (Listpack::new(), Vec::new());
        for change in changes {
            apply(change, &mut listpack, &mut model);
            prop_assert_eq!(&texts(&listpack), &model);
            prop_assert_eq!(listpack.len(), model.len());
            prop_assert_eq!(listpack.is_empty(), model.is_empty());
            let checked = Listpack::from_bytes(listpack.as_bytes().to_vec());
            prop_assert_eq!(checked.map(|copy| copy.as_bytes().to_vec()), Ok(listpack.as_bytes().to_vec()));
            let backwards: Vec<_> = listpack.iter_rev().map(|element| element.to_vec()).collect();
            prop_assert!(backwards.iter().rev().eq(&model));
        }
        for (index, text) in model.iter().enumerate() {
            let at = listpack.seek(index as i64).unwrap();
            prop_assert_eq!(listpack.seek(index as i64 - model.len() as i64), Some(at));
            prop_assert!(listpack.find(at, text, 0) == Some(at));
            prop_assert!(listpack.iter_from(at).count() == model.len() - index);
            prop_assert!(listpack.iter_rev_from(at).count() == index + 1);
            prop_assert_eq!(listpack.next(at), listpack.seek(index as i64 + 1));
            prop_assert_eq!(listpack.prev(at).is_none(), index == 0);
        }
        prop_assert_eq!(listpack.seek(model.len() as i64), None);
        prop_assert_eq!(listpack.clone().into_bytes(), listpack.into_bytes());
    }

    #[test]
    fn no_bytes_make_a_walk_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..64),
        header in any::<bool>(),
    ) {
        if header && bytes.len() >= 7 {
            let len = bytes.len() as u32;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            bytes[4..6].copy_from_slice(&[0xFF; 2]);
            bytes[len as usize - 1] = 0xFF;
        }
        if let Ok(listpack) = Listpack::from_bytes(bytes) {
            prop_assert_eq!(listpack.iter().count(), listpack.iter_rev().count());
        }
    }

    #[test]
    fn one_damaged_byte_is_refused_or_harmless(
        items in prop::collection::vec(any_text(), 1..6), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut listpack = Listpack::new();
        items.iter().for_each(|text| listpack.push_back(text));
        let mut bytes = listpack.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(listpack) = Listpack::from_bytes(bytes) {
            prop_assert_eq!(listpack.iter().count(), listpack.iter_rev().count());
        }
    }
}
