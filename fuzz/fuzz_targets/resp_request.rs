//! Any bytes, split anywhere, give the same commands as in one piece, and never a panic.
//!
//! The first byte of the input says how long the pieces are; the rest is the stream.

#![no_main]

use corelane::resp::{Limits, Parser, Step};
use libfuzzer_sys::fuzz_target;

/// What the stream was understood as: the commands, and whether an error ended it.
type Understood = (Vec<Vec<Vec<u8>>>, Option<String>);

fn understand(stream: &[u8], piece: usize, limits: &Limits) -> Understood {
    let mut parser = Parser::default();
    let mut commands = Vec::new();
    let (mut start, mut end) = (0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        loop {
            let input = &stream[start..end];
            let mut args = Vec::new();
            let consumed = match parser.next(input, limits, &mut args) {
                Ok(Step::Command { consumed }) => {
                    commands.push(args.iter().map(|arg| arg.to_vec()).collect());
                    consumed
                }
                Ok(Step::Inline { consumed, args }) => {
                    commands.push(args);
                    consumed
                }
                Ok(Step::Nothing { consumed }) => consumed,
                Ok(Step::Incomplete { need }) => {
                    assert!(need > input.len(), "asks for bytes that it has");
                    break;
                }
                Err(error) => return (commands, Some(error.to_string())),
            };
            assert!(0 < consumed && consumed <= input.len(), "consumed {consumed} bytes");
            start += consumed;
        }
    }
    (commands, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((knobs, stream)) = data.split_first() else { return };
    let limits = Limits { bulk_bytes_max: 1 << 20, unauthenticated: knobs & 128 != 0 };
    let piece = usize::from(knobs & 127) + 1;
    assert_eq!(understand(stream, piece, &limits), understand(stream, usize::MAX / 2, &limits));
});
