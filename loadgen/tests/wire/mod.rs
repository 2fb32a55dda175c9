//! What the tests' tiny servers read, and what the tests read of the programs' output.
//!
//! Written against the protocol and not with the crate's own code, so that the two check each other.

use std::io::BufRead;
use std::process::Output;

/// One command and how many bytes it was; `None` at the end of the stream.
pub fn read_command(reader: &mut impl BufRead) -> Option<(Vec<String>, u64)> {
    let mut bytes = 0;
    let mut number = |reader: &mut dyn BufRead, mark: &str| {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
        bytes += line.len() as u64;
        line.trim_end().strip_prefix(mark)?.parse::<usize>().ok()
    };
    let count = number(reader, "*")?;
    let mut words = Vec::new();
    let mut payload_bytes = 0;
    for _ in 0..count {
        let mut payload = vec![0; number(reader, "$")? + 2];
        reader.read_exact(&mut payload).ok()?;
        payload_bytes += payload.len() as u64;
        payload.truncate(payload.len() - 2);
        words.push(String::from_utf8(payload).ok()?);
    }
    Some((words, bytes + payload_bytes))
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text of `"name": value` in a report, up to the next separator.
pub fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let (_, after) = json.split_once(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("{json}"));
    after.split([',', '}']).next().unwrap()
}

pub fn number(json: &str, name: &str) -> f64 {
    field(json, name).parse().unwrap_or_else(|_| panic!("{name} in {json}"))
}

pub fn integer(json: &str, name: &str) -> u64 {
    number(json, name) as u64
}
