//! Replies of other servers: any bytes are values, a beginning or a fault; and who looks for the end only, however the
//! bytes are cut, finds the same one.
#![no_main]

use corelane::resp::ReplyEnd;
use corelane::resp::parse_reply::parse_reply;
use libfuzzer_sys::fuzz_target;

/// Where the first reply of `data` ends if it comes in pieces of this length; `Err` if it is none.
fn end_in_pieces(data: &[u8], piece: usize) -> Result<Option<usize>, ()> {
    let mut search = ReplyEnd::default();
    let mut came = 0;
    while came < data.len() {
        came = (came + piece).min(data.len());
        if let Some(length) = search.find(&data[..came]).map_err(|_| ())? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let whole = end_in_pieces(data, data.len().max(1));
    assert_eq!(end_in_pieces(data, 1), whole);
    assert_eq!(end_in_pieces(data, 7), whole);
    if let Ok(Some((_, length))) = parse_reply(data) {
        assert!(length <= data.len());
        // What was a whole reply is one also without the bytes behind it, and not one byte earlier.
        assert_eq!(parse_reply(&data[..length]).map(|found| found.map(|(_, length)| length)), Ok(Some(length)));
        assert_eq!(parse_reply(&data[..length - 1]), Ok(None));
        assert_eq!(whole, Ok(Some(length)));
    }
});
