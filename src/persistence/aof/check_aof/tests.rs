//! The same files go to `redis-check-aof`, which has to say the same and leave the same behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    /// All files with their content.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

fn vector(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/persistence/");
    std::fs::read(format!("{folder}{name}")).expect("the vector is there")
}

fn ours(words: &[OsString], answer: &[u8]) -> (String, bool) {
    let mut out = Vec::new();
    let sound = match Arguments::parse(words) {
        Ok(arguments) => check_aof(&arguments, &mut &answer[..], &mut out).unwrap(),
        Err(error) => {
            writeln!(out, "{error}").unwrap();
            false
        }
    };
    (String::from_utf8(out).unwrap(), sound)
}

fn theirs(words: &[OsString], answer: &[u8]) -> (String, bool) {
    let mut child = Command::new("redis-check-aof")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-check-aof is installed");
    child.stdin.take().unwrap().write_all(answer).unwrap_or(());
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// What is left of a report when log decorations, counts that only Redis keeps and its own name are taken away.
fn essence(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let lines = lines
        .filter(|line| !line.contains("already expired") && !line.contains("[additional info]"));
    lines
        .map(|line| match line.split_once(":C ") {
            Some((_, logged)) => logged.split_once(" # ").map_or("", |(_, text)| text).to_owned(),
            None => line.replace("redis-check-aof [", "corelane check-aof ["),
        })
        // The byte after the end of a text is whatever Redis has in memory.
        .map(|line| match line.split_once("got: 00") {
            Some((before, _)) => format!("{before}got: 00"),
            None => line,
        })
        .filter(|line| !line.is_empty())
        .collect()
}

/// Runs both on the same files and compares all that can be seen.
fn compare(files: &[(&str, Vec<u8>)], words: &[&str], answer: &[u8]) {
    let folder = Folder::new(&format!("check-{:?}", std::thread::current().id()));
    let words: Vec<OsString> = words
        .iter()
        .map(|word| match files.iter().any(|(name, _)| name == word) {
            true => folder.0.join(word).into(),
            false => OsString::from(word),
        })
        .collect();
    let run = |check: fn(&[OsString], &[u8]) -> (String, bool)| {
        for (name, bytes) in files {
            folder.write(name, bytes);
        }
        let (text, sound) = check(&words, answer);
        (essence(&text), sound, folder.content())
    };
    let (ours, theirs) = (run(ours), run(theirs));
    assert_eq!((&ours.0, ours.1), (&theirs.0, theirs.1), "{words:?}");
    assert!(ours.2 == theirs.2, "{words:?} leave different files");
}

#[test]
fn one_file_gets_the_verdict_of_redis() {
    let (incr, base) = (vector("appendonly.aof.1.incr.aof"), vector("appendonly.aof.1.base.rdb"));
    for bytes in [
        &b""[..],
        &incr,
        &base,
        &[&base[..], &incr].concat(),
        b"x",
        b"RE",
        b"*1\r\n",
        b"*1",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n$4\r\nPING\r\n",
        b"*1\r\n$5\r\nMULTI\r\n",
        b"*1\r\n$4\r\nping\r\n*1\r\n$4\r\nexec\r\n",
        b"*1\r\n$5\r\nmulti\r\n*1\r\n$5\r\nmulti\r\n",
        b"*1\r\n$-4\r\nPING\r\n",
        b"*1\n$4\r\nPING\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*1\r\n#4\r\nPING\r\n",
        b"*3\r\n$x\r\n",
        b"*1\r\n$12\r\nabcdefghijk\r\n",
        b"#TS:x\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$4\r\nPING\r\n\0\0",
    ] {
        compare(&[("f", bytes.to_vec())], &["f"], b"");
        compare(&[("f", bytes.to_vec())], &["--fix", "f"], b"n\n");
        compare(&[("f", bytes.to_vec())], &["--fix", "f"], b"yes\n");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_gets_the_verdict_of_redis() {
    let incr = vector("appendonly.aof.1.incr.aof");
    for length in 0..incr.len() {
        compare(&[("f", incr[..length].to_vec())], &["--fix", "f"], b"y\n");
    }
}

#[test]
fn a_manifest_gets_the_verdict_of_redis() {
    let (incr, base) = (vector("appendonly.aof.1.incr.aof"), vector("appendonly.aof.1.base.rdb"));
    let manifest = b"#c\nfile b seq 1 type b\nfile i seq 1 type i\nfile j seq 2 type i\n".to_vec();
    let cut = incr[..100].to_vec();
    for (base, first, second) in [
        (base.clone(), incr.clone(), incr.clone()),
        (vec![], vec![], vec![]),
        (vector("appendonly.aof.4.base.aof-resp-base"), incr.clone(), cut.clone()),
        (base.clone(), cut.clone(), incr.clone()),
        (base, incr.clone(), b"garbage".to_vec()),
    ] {
        let files = [("m", manifest.clone()), ("b", base), ("i", first), ("j", second)];
        compare(&files, &["m"], b"");
        compare(&files, &["--fix", "m"], b"y\n");
    }
    let missing = [("m", manifest), ("i", incr.clone()), ("j", incr)];
    compare(&missing, &["m"], b"");
    for manifest in ["file x seq 0 type b\n", "file x seq 1 type q\n", "file a/b seq 1 type i\n"] {
        compare(&[("m", manifest.as_bytes().to_vec())], &["m"], b"");
    }
}

#[test]
fn times_cut_where_redis_cuts() {
    let timed = vector("incr-with-timestamps.aof");
    let manifest = b"file f seq 1 type i\nfile l seq 2 type i\n".to_vec();
    let late = b"*1\r\n$4\r\nPING\r\n#TS:1795356199\r\n*1\r\n$4\r\nPING\r\n".to_vec();
    for time in ["1", "0", "abc", "1795356191", "1795356192", "1795356198", "1995356191"] {
        let option = "--truncate-to-timestamp";
        compare(&[("f", timed.clone())], &[option, time, "f"], b"");
        compare(&[("f", b"#TS:x\r\n".to_vec())], &[option, time, "f"], b"");
        let files = [("m", manifest.clone()), ("f", timed.clone()), ("l", late.clone())];
        compare(&files, &[option, time, "m"], b"");
    }
}

#[test]
fn arguments_are_those_of_redis() {
    let none: [(&str, Vec<u8>); 0] = [];
    for words in [
        &[][..],
        &["a", "b"],
        &["a", "b", "c", "d"],
        &["--fix"],
        &["--bogus", "f"],
        &["missing-file"],
    ] {
        compare(&none, words, b"");
    }
}
