//! A link and the node at its other end, which is a list of replies.

use proptest::prelude::*;

use super::*;

const PLAIN: Login<'_> = Login { resp3: false, user: b"", password: b"" };

/// A link that was let in.
fn link() -> Link<u32> {
    let mut link = Link::new(&PLAIN);
    link.take_output();
    assert_eq!(hear(&mut link, b"-ERR Unknown subcommand\r\n"), Ok(vec![]));
    link
}

/// What is answered to whom when these bytes come.
fn hear(link: &mut Link<u32>, bytes: &[u8]) -> Result<Vec<(u32, String)>, LinkError> {
    let mut answers = Vec::new();
    let mut note = |request: Request<u32>, reply: &[u8]| {
        answers.push((request.due, String::from_utf8_lossy(reply).into_owned()));
    };
    link.received(bytes, &mut note)?;
    Ok(answers)
}

fn command(words: &str, due: u32) -> Request<u32> {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    Request::command(&words, due)
}

fn block(commands: &[&str], due: u32) -> Request<u32> {
    Request::block(commands.iter().map(|words| words.split(' ').map(str::as_bytes).collect()), due)
}

/// The commands that a link has written, each as a line.
fn said(link: &mut Link<u32>) -> Vec<String> {
    let output = String::from_utf8(link.take_output()).expect("text");
    let of_words = |command: &str| -> String {
        let lines: Vec<&str> = command.split("\r\n").skip(2).step_by(2).collect();
        lines.join(" ")
    };
    output.split('*').skip(1).map(of_words).collect()
}

fn answer(due: u32, text: &str) -> (u32, String) {
    (due, text.to_owned())
}

#[test]
fn a_link_says_what_it_is_before_anything_else() {
    for (login, expected) in [
        (PLAIN, vec!["CLIENT SETINFO forwards yes"]),
        (
            Login { password: b"pw", ..PLAIN },
            vec!["AUTH default pw", "CLIENT SETINFO forwards yes"],
        ),
        (
            Login { resp3: true, user: b"u", password: b"pw" },
            vec!["HELLO 3 AUTH u pw", "CLIENT SETINFO forwards yes"],
        ),
        (Login { resp3: true, ..PLAIN }, vec!["HELLO 3", "CLIENT SETINFO forwards yes"]),
    ] {
        let mut link = Link::new(&login);
        link.send(command("GET a", 1));
        assert_eq!(said(&mut link), expected);
        assert!(!link.is_in() && !link.is_idle());
        for _ in 1..expected.len() {
            assert_eq!(hear(&mut link, b"%1\r\n+proto\r\n:3\r\n"), Ok(vec![]));
            assert_eq!(said(&mut link), [] as [&str; 0]);
        }
        assert_eq!(hear(&mut link, b"-ERR what?\r\n"), Ok(vec![]));
        assert!(link.is_in());
        assert_eq!(said(&mut link), ["GET a"]);
    }
}

#[test]
fn a_link_that_is_not_let_in_has_sent_nothing() {
    for (login, replies) in [
        (Login { password: b"pw", ..PLAIN }, "-WRONGPASS no\r\n"),
        (PLAIN, "-NOAUTH no\r\n"),
        (Login { resp3: true, ..PLAIN }, "%0\r\n-NOAUTH no\r\n"),
    ] {
        let mut link = Link::new(&login);
        link.send(command("SET a 1", 1));
        let heard = hear(&mut link, replies.as_bytes());
        assert!(
            matches!(&heard, Err(LinkError::Refused(why)) if why.ends_with(" no")),
            "{heard:?}"
        );
        let fates: Vec<_> = link.lose().map(|(request, fate)| (request.due, fate)).collect();
        assert_eq!(fates, [(1, Fate::Unsent)]);
    }
}

#[test]
fn answers_go_to_who_asked_in_order_and_byte_for_byte() {
    let mut link = link();
    link.send(command("GET a", 1));
    link.send(command("LRANGE b 0 -1", 2));
    assert_eq!(said(&mut link), ["GET a", "LRANGE b 0 -1"]);
    assert_eq!(
        hear(&mut link, b"$3\r\na\r\n\r\n*2\r\n$-1\r\n"),
        Ok(vec![answer(1, "$3\r\na\r\n\r\n")])
    );
    assert_eq!(hear(&mut link, b"%0\r\n"), Ok(vec![answer(2, "*2\r\n$-1\r\n%0\r\n")]));
    assert!(link.is_idle());
    assert_eq!(hear(&mut link, b"+OK\r\n"), Err(LinkError::Unasked));
}

#[test]
fn who_is_sent_elsewhere_goes_there_a_bounded_number_of_times() {
    let mut link = link();
    let mut request = command("GET a", 1);
    let to = |reply| Redirection::of_reply(reply).expect("a redirection");
    assert!(request.follow(&to(b"-ASK 7 10.0.0.1:7001\r\n")));
    link.send(request);
    assert_eq!(said(&mut link), ["ASKING", "GET a"]);
    let mut request = command("GET a", 2);
    for _ in 0..HOPS_MAX {
        assert!(request.follow(&to(b"-MOVED 7 10.0.0.1:7001\r\n")));
    }
    assert!(!request.follow(&to(b"-MOVED 7 10.0.0.1:7001\r\n")));
    link.send(request);
    assert_eq!(said(&mut link), ["GET a"]);
    assert_eq!(
        hear(&mut link, b"+OK\r\n$1\r\n1\r\n+2\r\n"),
        Ok(vec![answer(1, "$1\r\n1\r\n"), answer(2, "+2\r\n")])
    );
}

#[test]
fn of_a_block_only_the_last_reply_counts_or_where_it_was_sent() {
    let mut link = link();
    for due in 0..3 {
        link.send(block(&["SET a 1", "GET a"], due));
    }
    assert_eq!(said(&mut link)[..4], ["MULTI", "SET a 1", "GET a", "EXEC"]);
    let queued = "+OK\r\n+QUEUED\r\n";
    let moved = "-MOVED 7 10.0.0.1:7001\r\n";
    let heard = [
        &format!("{queued}+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n"),
        &format!("{queued}{moved}-EXECABORT x\r\n"),
        &format!("{queued}-OOM x\r\n-EXECABORT x\r\n"),
    ]
    .map(|replies| hear(&mut link, replies.as_bytes()));
    let expected = ["*2\r\n+OK\r\n$1\r\n1\r\n", moved, "-EXECABORT x\r\n"];
    for (due, (heard, expected)) in heard.into_iter().zip(expected).enumerate() {
        assert_eq!(heard, Ok(vec![answer(due as u32, expected)]));
    }
}

#[test]
fn what_was_sent_and_not_answered_is_told_apart_from_what_never_left() {
    let mut link = link();
    link.send(command("INCR a", 1));
    link.send(command("INCR b", 2));
    assert_eq!(hear(&mut link, b":1\r\n:"), Ok(vec![answer(1, ":1\r\n")]));
    let fates: Vec<_> = link.lose().map(|(request, fate)| (request.due, fate)).collect();
    assert_eq!(fates, [(2, Fate::Unanswered)]);
}

#[test]
fn a_link_is_full_when_much_waits_for_answers_and_has_room_when_that_has_come() {
    let mut link = link();
    let long = vec![b'x'; UNANSWERED_BYTES_MAX];
    link.send(Request::command(&[b"SET", b"a", &long], 1));
    assert!(link.is_full());
    assert_eq!(hear(&mut link, b"+OK\r\n"), Ok(vec![answer(1, "+OK\r\n")]));
    assert!(!link.is_full());
}

#[test]
fn messages_out_of_turn_answer_nobody() {
    let mut link = link();
    link.send(command("GET a", 1));
    assert_eq!(hear(&mut link, b">2\r\n+invalidate\r\n_\r\n+1\r\n"), Ok(vec![answer(1, "+1\r\n")]));
}

proptest! {
    #[test]
    fn whatever_a_node_says_nobody_is_answered_twice(
        words in prop::collection::vec(prop::sample::select(vec![
            "+OK\r\n", "-MOVED 7 10.0.0.1:7001\r\n", "-ASK 7 :1\r\n", "-EXECABORT x\r\n", "*2\r\n", "$3\r\nabc\r\n",
            ">1\r\n", "$9\r\n", "%1\r\n", "\r\n", "x", ":1\r\n",
        ]), 0..40),
        cuts in prop::collection::vec(0..9_usize, 0..60),
        requests in prop::collection::vec(0..3_usize, 0..12),
    ) {
        let mut link = link();
        for (due, kind) in (0..).zip(&requests) {
            let mut request = if *kind == 0 { block(&["GET a", "GET b"], due) } else { command("GET a", due) };
            request.asking = *kind == 1;
            link.send(request);
        }
        let (stream, mut told, mut at) = (words.concat().into_bytes(), Vec::new(), 0_usize);
        let mut is_broken = false;
        for step in cuts.into_iter().chain([usize::MAX]) {
            let end = at.saturating_add(step).min(stream.len());
            match hear(&mut link, &stream[at..end]) {
                Ok(answers) => told.extend(answers.into_iter().map(|(due, _)| due)),
                // Answers of the same bytes before that are not noted here.
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
            at = end;
        }
        told.extend(link.lose().map(|(request, _)| request.due));
        prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(is_broken || told.len() == requests.len());
    }
}
