//! Any bytes are a value or an error, and what is accepted is a value like others: it is dumped, restored,
//! and dumped to the same bytes where no hash table has an order of its own.

#![no_main]

use corelane::persistence::rdb::{Compression, Limits, NEWEST_VERSION, TypeCode, encode, payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = payload::restore(data, NEWEST_VERSION, Limits::default()) else { return };
    let mut dumped = Vec::new();
    payload::dump(&value.as_ref(), Compression::ALL, &mut dumped);
    let (body, version) = payload::open(&dumped).expect("what is dumped has a good frame");
    let again = payload::restore(body, version, Limits::default()).expect("and a good body");
    let code = encode::type_code(&value.as_ref());
    assert_eq!(code, encode::type_code(&again.as_ref()), "an encoding is kept");
    if !matches!(code, TypeCode::Set | TypeCode::Hash) {
        let mut dumped_again = Vec::new();
        payload::dump(&again.as_ref(), Compression::ALL, &mut dumped_again);
        assert_eq!(dumped, dumped_again);
    }
});
