//! A directory that this crate lays out is accepted by `redis-check-aof` and loaded by redis-server 7.0, with the
//! same data in it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use corelane::journal::recorder::write_effect;
use corelane::persistence::aof::manifest::BaseFormat;
use corelane::persistence::aof::{Directory, Disk, resp_base};
use corelane::persistence::rdb::Limits;
use corelane::persistence::rdb::read_file::{FileReader, Found};

use super::redis::{PATIENCE, Redis};

/// Has the server write its data down as commands, and load that.
fn rewrite_as_commands(redis: &Redis) {
    redis.ask("CONFIG SET aof-use-rdb-preamble no\r\nCONFIG SET appendonly yes");
    let deadline = Instant::now() + PATIENCE;
    let is_done = |info: String| {
        info.contains("aof_rewrites:1\r\n") && info.contains("aof_rewrite_in_progress:0\r\n")
    };
    while !is_done(redis.ask("INFO persistence")) {
        assert!(Instant::now() < deadline, "redis-server does not finish its rewrite");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(redis.ask("DEBUG LOADAOF"), "+OK\r\n");
}

/// What tells two data sets apart.
fn content(redis: &Redis) -> Vec<String> {
    // Redis loses the sign of a score of -0 if the member comes before one that is too long for a listpack, and it
    // writes members down in the order of its hash table, which differs from process to process.
    redis.ask("ZREM z:sl n");
    let stream = "XINFO STREAM st:1 FULL COUNT 0\r\nXINFO STREAM st:empty FULL COUNT 0";
    let mut facts = vec![redis.ask("DEBUG DIGEST"), redis.ask("FUNCTION LIST WITHCODE")];
    for database in [0, 3, 5] {
        facts.push(redis.ask(&format!("SELECT {database}\r\nDBSIZE\r\n{stream}")));
    }
    // When a consumer was last heard of is not written down as commands, nor how idle it is.
    facts.iter_mut().for_each(|fact| *fact = without_seen_times(fact));
    facts
}

fn without_seen_times(text: &str) -> String {
    let mut lines = text.lines();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        kept.push(line);
        if matches!(line, "seen-time" | "radix-tree-keys" | "radix-tree-nodes") {
            lines.next();
        }
    }
    kept.join("\n")
}

/// What is in an RDB file, as commands.
fn as_commands(rdb: &[u8]) -> Vec<u8> {
    let mut reader = FileReader::new(Limits::default(), true);
    reader.feed(rdb);
    let mut out = Vec::new();
    resp_base::write_timestamp(1_700_000_000, &mut out);
    loop {
        match reader.find(usize::MAX).expect("the file is good") {
            Found::Function(source) => resp_base::write_function(&source, &mut out),
            Found::Database(number) => resp_base::write_database(number, &mut out),
            Found::Key(found) => {
                resp_base::write_key(&found.key, &found.value.as_ref(), found.expiry, &mut out);
            }
            Found::End => return out,
            Found::NeedsMore => panic!("the file has an end"),
            _ => {}
        }
    }
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Makes the directory as at a first start, with `base` in it, and writes `records` behind it.
fn lay_out(folder: &Path, format: BaseFormat, base: &[u8], records: &[&[&[u8]]]) {
    let disk = Disk::new(folder, "appendonlydir");
    let found = disk.look("appendonly.aof").unwrap();
    let mut directory = Directory::open("appendonly.aof", &found.standing()).unwrap();
    let change = directory.begin(format, base);
    disk.carry_out(&change).unwrap();
    let mut file = disk.open(change.opens.as_ref().expect("writes go somewhere")).unwrap();
    directory.commit(change);
    let mut bytes = Vec::new();
    records.iter().for_each(|words| write_effect(&mut bytes, words));
    file.write_all(&bytes).unwrap();
}

fn check(folder: &Path) -> bool {
    let manifest = folder.join("appendonlydir/appendonly.aof.manifest");
    let output = Command::new("redis-check-aof").arg(manifest).output().unwrap();
    output.status.success()
}

#[test]
fn redis_loads_a_base_of_commands_and_has_the_same_data() {
    let rdb = vector("rdb/all-types-v10.rdb");
    let original = Redis::start("no", |folder| fs::write(folder.join("dump.rdb"), &rdb).unwrap());
    // Commands do not tell all that a snapshot does (a score of -0, for one): Redis writes its own, too.
    rewrite_as_commands(&original);
    let copy = Redis::start("yes", |folder| {
        lay_out(folder, BaseFormat::Resp, &as_commands(&rdb), &[]);
        assert!(check(folder));
    });
    assert!(copy.ask("DBSIZE") != ":0\r\n");
    assert_eq!(content(&copy), content(&original));
}

#[test]
fn redis_loads_a_snapshot_and_the_records_after_it() {
    let rdb = vector("persistence/appendonly.aof.1.base.rdb");
    let records: [&[&[u8]]; 6] = [
        &[b"SELECT", b"3"],
        &[b"SET", b"k", b"\0\r\n"],
        &[b"MULTI"],
        &[b"APPEND", b"k", b"x"],
        &[b"APPEND", b"k", b"y"],
        &[b"EXEC"],
    ];
    let redis = Redis::start("yes", |folder| {
        lay_out(folder, BaseFormat::Rdb, &rdb, &records);
        assert!(check(folder));
    });
    assert_eq!(redis.ask("SELECT 3\r\nGET k"), "+OK\r\n$5\r\n\0\r\nxy\r\n");
    // It goes on in the same files, and a second start of ours finds them as they should be.
    assert_eq!(redis.ask("SET more 1"), "+OK\r\n");
    let disk = Disk::new(&redis.folder, "appendonlydir");
    let found = disk.look("appendonly.aof").unwrap();
    let directory = Directory::open("appendonly.aof", &found.standing()).unwrap();
    let names: Vec<_> = directory.to_load().map(|file| file.name.clone()).collect();
    assert_eq!(names, ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"]);
    let change = directory.begin(BaseFormat::Rdb, &rdb);
    disk.carry_out(&change).unwrap();
    assert_eq!(change.opens.map(|file| disk.path(&file)), Some(disk_path(&redis.folder)));
}

fn disk_path(folder: &Path) -> PathBuf {
    folder.join("appendonlydir/appendonly.aof.1.incr.aof")
}

#[test]
fn redis_refuses_what_check_aof_refuses() {
    let rdb = vector("persistence/appendonly.aof.1.base.rdb");
    let folder = std::env::temp_dir().join(format!("corelane-aof-cut-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    lay_out(&folder, BaseFormat::Rdb, &rdb, &[&[b"SET", b"k", b"v"]]);
    assert!(check(&folder));
    let incr = disk_path(&folder);
    OpenOptions::new().write(true).open(&incr).unwrap().set_len(20).unwrap();
    assert!(!check(&folder));
    fs::remove_dir_all(&folder).unwrap();
}
