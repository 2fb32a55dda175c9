//! Links to masters that answer as Redis 7.0 does, and to others.

use super::*;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const MARK: &str = "cccccccccccccccccccccccccccccccccccccccc";

fn id(text: &str) -> ReplId {
    ReplId::parse(text.as_bytes()).unwrap()
}

fn introduction() -> Introduction {
    Introduction { port: 7001, timeout_ms: 60_000, ..Introduction::default() }
}

fn written(link: &mut Link) -> String {
    let mut out = Vec::new();
    for doing in link.take_doings() {
        if let Doing::Write(bytes) = doing {
            out.extend(bytes);
        }
    }
    let text = String::from_utf8(out).unwrap();
    let words = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// A link that has asked for data.
fn asking(known: Option<(ReplId, u64)>) -> (Link, String) {
    let mut link = Link::new(introduction(), known);
    let asked = asks(&mut link);
    (link, asked)
}

/// The words with which a fresh link asks for data.
fn asks(link: &mut Link) -> String {
    link.tick(0);
    assert_eq!(link.take_doings(), [Doing::Connect]);
    link.connected(0);
    assert_eq!(written(link), "PING");
    link.received(1, b"+PO");
    link.received(1, b"NG\r\n");
    assert_eq!(written(link), "REPLCONF listening-port 7001 REPLCONF capa eof capa psync2");
    link.received(2, b"+OK\r\n+OK\r\n");
    written(link)
}

#[test]
fn the_words_of_a_handshake_are_those_of_redis() {
    let vector = include_bytes!("../../tests/vectors/replication/replica-handshake.bin");
    let mut link = Link::new(introduction(), None);
    link.tick(0);
    link.connected(0);
    link.received(0, b"+PONG\r\n+OK\r\n");
    link.received(0, b"+OK\r\n");
    let mut said = Vec::new();
    for doing in link.take_doings() {
        if let Doing::Write(bytes) = doing {
            said.extend(bytes);
        }
    }
    let words = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").map(str::to_owned);
        // Ports and ids differ.
        let is_name = |line: &String| line.starts_with(|c: char| c.is_ascii_alphabetic());
        lines.filter(|line| is_name(line) && line.len() < 40).collect::<Vec<_>>()
    };
    assert_eq!(words(&said), words(vector));
}

#[test]
fn a_snapshot_with_a_mark_is_found_wherever_the_bytes_are_cut() {
    let payload = format!("REDIS0010 and {} more", &MARK[1..]);
    let sent = format!("\n+FULLRESYNC {ID} 500\r\n\n$EOF:{MARK}\r\n{payload}{MARK}");
    for size in [1, 7, 41, 1000] {
        let (mut link, asked) = asking(None);
        assert_eq!(asked, "PSYNC ? -1");
        let (mut loaded, mut begun, mut over) = (Vec::new(), None, false);
        for piece in sent.as_bytes().chunks(size) {
            link.received(3, piece);
            for doing in link.take_doings() {
                match doing {
                    Doing::BeginLoad { id, position, len } => begun = Some((id, position, len)),
                    Doing::Load(bytes) => loaded.extend(bytes),
                    Doing::EndLoad => over = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(begun, Some((id(ID), 500, None)));
        assert_eq!(String::from_utf8(loaded).unwrap(), payload);
        assert!(over);
        assert_eq!(link.progress(), Progress::Sync);
        link.loaded(4, true);
        assert_eq!(written(&mut link), "REPLCONF ACK 500");
        assert_eq!((link.position(), link.is_up()), (500, true));
    }
}

#[test]
fn a_snapshot_of_known_length_is_followed_by_the_stream() {
    let (mut link, asked) = asking(Some((id(OTHER), 41)));
    assert_eq!(asked, format!("PSYNC {OTHER} 42"));
    link.received(3, format!("+FULLRESYNC {ID} 7\r\n$5\r\n12345*1\r\n$4\r\nping\r\n").as_bytes());
    let doings = link.take_doings();
    assert_eq!(doings.len(), 3);
    assert_eq!(doings[1], Doing::Load(b"12345".to_vec()));
    assert_eq!(link.next_chunk(3), None, "nothing is applied before the snapshot is");
    link.loaded(4, true);
    let chunk = link.next_chunk(4).unwrap();
    assert_eq!(chunk.verbatim, b"*1\r\n$4\r\nping\r\n");
    link.applied(&chunk);
    assert_eq!(link.position(), 7 + 14);
}

fn online() -> Link {
    let (mut link, asked) = asking(Some((id(ID), 100)));
    assert_eq!(asked, format!("PSYNC {ID} 101"));
    link.received(3, format!("+CONTINUE {OTHER}\r\n").as_bytes());
    let doings = link.take_doings();
    assert_eq!(doings[0], Doing::Continue(Some(id(OTHER))));
    assert_eq!(link.known(), Some((id(OTHER), 100)));
    link
}

fn effect(words: &[&str]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut out = Vec::new();
    write_effect(&mut out, &words);
    out
}

#[test]
fn blocks_are_applied_whole_and_acknowledgements_stop_before_who_asked() {
    let parts = [
        effect(&["SELECT", "0"]),
        effect(&["MULTI"]),
        effect(&["SET", "a", "1"]),
        effect(&["EXEC"]),
        effect(&["REPLCONF", "GETACK", "*"]),
        effect(&["SET", "b", "2"]),
    ];
    let stream = parts.concat();
    for size in [1, 5, 37, 1000] {
        let mut link = online();
        let (mut verbatim, mut commands, mut acks) = (Vec::new(), Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            link.received(5, piece);
            while let Some(chunk) = link.next_chunk(5) {
                assert_eq!(link.next_chunk(5), None, "one after the other");
                let blocks = |word: &[u8]| memchr::memmem::find_iter(&chunk.verbatim, word).count();
                assert_eq!(blocks(b"MULTI"), blocks(b"EXEC"));
                verbatim.extend_from_slice(&chunk.verbatim);
                commands.extend_from_slice(&chunk.commands);
                link.applied(&chunk);
                assert_eq!(link.position(), 100 + verbatim.len() as u64);
                let said = written(&mut link);
                if !said.is_empty() {
                    acks.push(said);
                }
            }
        }
        assert_eq!(verbatim, stream);
        assert_eq!(commands, [&parts[..4], &parts[5..]].concat().concat());
        let before: usize = parts[..4].iter().map(Vec::len).sum();
        assert!(acks.contains(&format!("REPLCONF ACK {}", 100 + before)), "{acks:?}");
    }
}

#[test]
fn a_link_that_breaks_asks_for_the_rest_and_a_bad_stream_for_everything() {
    let mut link = online();
    link.received(5, &effect(&["SET", "a", "1"])[..10]);
    link.closed(6);
    assert!(link.next_chunk(6).is_none());
    link.tick(6);
    assert_eq!(link.take_doings().last(), Some(&Doing::Connect));
    assert_eq!(link.known(), Some((id(OTHER), 100)), "half a command was not applied");
    let mut link = online();
    link.received(5, b"SET a 1\r\n");
    assert_eq!(link.next_chunk(5), None);
    assert_eq!((link.known(), link.take_doings().last()), (None, Some(&Doing::Disconnect)));
}

#[test]
fn a_silent_master_is_left_and_tried_again() {
    let mut link = online();
    link.take_doings();
    link.tick(59_000);
    assert_eq!(written(&mut link), "REPLCONF ACK 100");
    link.tick(61_000);
    assert_eq!(link.take_doings(), [Doing::Disconnect]);
    link.tick(61_500);
    assert_eq!(link.take_doings(), []);
    link.tick(62_000);
    assert_eq!(link.take_doings(), [Doing::Connect]);
}

#[test]
fn refusals_are_answered_as_redis_does() {
    for (answer, then) in [
        ("-NOMASTERLINK Can't SYNC while not connected with my master\r\n", Progress::Connect),
        ("-LOADING Redis is loading the dataset in memory\r\n", Progress::Connect),
        ("-ERR unknown command\r\n", Progress::Sync),
        ("+HELLO\r\n", Progress::Connect),
    ] {
        let (mut link, _) = asking(None);
        link.received(3, answer.as_bytes());
        assert_eq!(link.progress(), then, "{answer}");
    }
    let mut link = Link::new(
        Introduction { auth: Some((String::new(), "pw".to_owned())), ..introduction() },
        None,
    );
    link.tick(0);
    link.connected(0);
    link.received(0, b"-NOAUTH Authentication required.\r\n");
    assert!(
        written(&mut link)
            .ends_with("AUTH pw REPLCONF listening-port 7001 REPLCONF capa eof capa psync2")
    );
    link.received(0, b"-WRONGPASS no\r\n");
    assert_eq!(link.progress(), Progress::Connect);
}

#[test]
fn a_master_that_is_lost_while_its_snapshot_is_loaded_is_asked_for_the_rest() {
    let (mut link, _) = asking(None);
    link.received(3, format!("+FULLRESYNC {ID} 7\r\n$5\r\n12345").as_bytes());
    link.closed(4);
    link.loaded(5, true);
    assert!(!link.is_up());
    assert_eq!(link.known(), Some((id(ID), 7)), "what was loaded counts");
    link.take_doings();
    link.tick(5);
    assert_eq!(link.take_doings(), [Doing::Connect]);
}

#[test]
fn a_master_that_does_not_take_over_is_not_asked_for_its_data() {
    let mut link = Link::new(introduction(), Some((id(ID), 7)));
    link.set_failover();
    assert_eq!(asks(&mut link), format!("PSYNC {ID} 8 FAILOVER"));
    link.received(2, b"-ERR PSYNC FAILOVER replid must match my replid.\r\n");
    assert_eq!(link.take_doings(), [Doing::Disconnect, Doing::Refused]);
}

#[test]
fn what_has_come_is_applied_before_it_is_acknowledged() {
    let mut link = online();
    link.take_doings();
    let ping = effect(&["ping"]);
    link.received(1004, &ping);
    link.tick(1004);
    assert_eq!(written(&mut link), "");
    let chunk = link.next_chunk(1004).unwrap();
    link.tick(1005);
    assert_eq!(written(&mut link), "");
    link.applied(&chunk);
    link.tick(1006);
    assert_eq!(written(&mut link), format!("REPLCONF ACK {}", 100 + ping.len()));
    // A command that comes slowly is no reason to fall silent.
    link.received(2500, &ping[..5]);
    link.tick(2505);
    assert_eq!(written(&mut link), "");
    link.tick(2506);
    assert_eq!(written(&mut link), format!("REPLCONF ACK {}", 100 + ping.len()));
}
