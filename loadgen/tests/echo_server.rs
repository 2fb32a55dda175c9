//! The program against a tiny server on loopback whose every reply is known in advance.
//!
//! The server counts what it is asked, so that the numbers in the JSON report can be compared with
//! what really crossed the wire. The program runs as a user runs it: by its command line.

mod wire;

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wire::{field, integer, number, read_command, stderr, stdout};

/// What a server has seen, beside the `PING` that greets each connection.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// GET is answered by a null, SET by OK, everything else by an error.
    Answer,
    /// As `Answer`, but this long after the first request it is silent for as long again.
    PauseOnce(Duration),
    /// The connection is closed with this request.
    CloseAt(u64),
    /// The greeting is answered and nothing else.
    Silent,
    /// The greeting is refused.
    Refuse,
    /// The greeting is answered, and everything else by something that is not RESP.
    Garbage,
}

struct Server {
    port: u16,
    seen: Arc<Seen>,
}

fn serve(behaviour: Behaviour) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let counted = Arc::clone(&seen);
    // Serves until the test's process ends.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&counted);
            thread::spawn(move || serve_connection(stream, behaviour, &seen));
        }
    });
    Server { port, seen }
}

fn serve_connection(stream: TcpStream, behaviour: Behaviour, seen: &Seen) -> Option<()> {
    seen.connections.fetch_add(1, Ordering::Relaxed);
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut paused) = (None, false);
    for number in 0.. {
        let (words, bytes) = read_command(&mut reader)?;
        if words[0] == "PING" {
            let greeting: &[u8] =
                if behaviour == Behaviour::Refuse { b"-DENIED not you\r\n" } else { b"+PONG\r\n" };
            writer.write_all(greeting).ok()?;
            continue;
        }
        let reply: &[u8] = match (behaviour, words[0].as_str()) {
            (Behaviour::Silent, _) => continue,
            (Behaviour::Garbage, _) => b"HTTP/1.1 400 Bad Request\r\n",
            (_, "GET") => b"$-1\r\n",
            (_, "SET") => b"+OK\r\n",
            _ => b"-ERR unknown command\r\n",
        };
        if behaviour == Behaviour::CloseAt(number) {
            return writer.shutdown(Shutdown::Both).ok();
        }
        let since_first = first.get_or_insert_with(Instant::now).elapsed();
        if let Behaviour::PauseOnce(pause) = behaviour
            && since_first >= pause
            && !std::mem::replace(&mut paused, true)
        {
            thread::sleep(pause);
        }
        seen.requests.fetch_add(1, Ordering::Relaxed);
        seen.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        seen.bytes_out.fetch_add(reply.len() as u64, Ordering::Relaxed);
        writer.write_all(reply).ok()?;
    }
    Some(())
}

fn run(port: u16, options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane-loadgen"))
        .args(["--port", &port.to_string(), "--json", "-"])
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn the_report_counts_what_crossed_the_wire() {
    for options in [
        "-n 1000 -c 1 --ratio 1:0",
        "-n 1003 -c 7 -P 5 --threads 2 --ratio 1:1",
        "-n 10 -c 50 --ratio 0:1 -d 100000",
        "-n 500 -c 3 --rate 20000 --ratio 0:1",
    ] {
        let server = serve(Behaviour::Answer);
        let output = run(server.port, options);
        let json = stdout(&output);
        assert!(output.status.success(), "{options}: {}", stderr(&output));
        let seen = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let asked: u64 = options.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(integer(&json, "requests"), asked, "{options}");
        assert_eq!(seen(&server.seen.requests), asked, "{options}");
        assert_eq!(integer(&json, "bytes_out"), seen(&server.seen.bytes_in), "{options}");
        assert_eq!(integer(&json, "bytes_in"), seen(&server.seen.bytes_out), "{options}");
        assert_eq!(integer(&json, "connections"), seen(&server.seen.connections), "{options}");
        assert_eq!(integer(&json, "errors"), 0, "{options}");
        let (rate, seconds) = (number(&json, "requests_per_second"), number(&json, "seconds"));
        assert!((rate * seconds / asked as f64 - 1.0).abs() < 0.05, "{options}: {json}");
    }
}

#[test]
fn nulls_and_errors_are_counted_and_the_first_error_is_shown() {
    let server = serve(Behaviour::Answer);
    let json = stdout(&run(server.port, "-n 100 --ratio 1:0"));
    assert_eq!((integer(&json, "null_replies"), integer(&json, "errors")), (100, 0));
    let output = Command::new(env!("CARGO_BIN_EXE_corelane-loadgen"))
        .args(["--port", &server.port.to_string(), "-n", "100", "--command", "LPUSH l __value__"])
        .output()
        .unwrap();
    let table = stdout(&output);
    assert!(table.contains("errors        100 (first: ERR unknown command)"), "{table}");
}

#[test]
fn a_fixed_rate_is_kept_to_the_request() {
    let server = serve(Behaviour::Answer);
    let json = stdout(&run(server.port, "--rate 2000 --duration 1 -c 8 --threads 2"));
    assert_eq!(integer(&json, "requests") + integer(&json, "unsent"), 2000, "{json}");
    assert_eq!(field(&json, "mode"), "\"open\"");
    assert!((0.9..1.2).contains(&number(&json, "seconds")), "{json}");
}

/// In a closed loop a pause of 300 ms delays one request per connection; at a fixed rate all the
/// requests that were due meanwhile count their wait: three in ten of a second's.
#[test]
fn a_pause_counts_for_every_request_that_was_due_during_it() {
    let pause = Behaviour::PauseOnce(Duration::from_millis(300));
    let server = serve(pause);
    let json = stdout(&run(server.port, "--rate 1000 -n 1000 -c 1 --ratio 0:1"));
    let p90 = number(&json, "p90");
    // A tenth of the requests waited longer than two thirds of the pause.
    assert!(p90 > 150_000.0, "{json}");
    assert!(number(&json, "p50") < 100_000.0, "{json}");
    let server = serve(pause);
    let json = stdout(&run(server.port, "--duration 1 -c 1 --ratio 0:1"));
    assert!(number(&json, "p90") < 100_000.0, "{json}");
    assert!(number(&json, "max") >= 299_000.0, "{json}");
}

#[test]
fn a_preload_writes_every_key_before_the_run() {
    let server = serve(Behaviour::Answer);
    let output = run(server.port, "--preload --keys 2500 -n 100 -c 3 --threads 3");
    assert!(stderr(&output).contains("preload: 2500 keys in"), "{}", stderr(&output));
    assert_eq!(integer(&stdout(&output), "requests"), 100);
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 2600);
}

#[test]
fn a_server_that_never_answers_is_left_after_the_time_and_counted() {
    let server = serve(Behaviour::Silent);
    let started = Instant::now();
    let json = stdout(&run(server.port, "--duration 0.2 -c 2 -P 3"));
    assert_eq!((integer(&json, "requests"), integer(&json, "unanswered")), (0, 6), "{json}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_run_that_fails_says_why_and_exits_with_one() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("cannot connect to 127.0.0.1:{unused}: Connection refused");
    for (port, options, words) in [
        (unused, "", refused.as_str()),
        (serve(Behaviour::Refuse).port, "", "the server refused PING: DENIED not you"),
        (serve(Behaviour::Answer).port, "--resp3", "refused HELLO: ERR unknown command"),
        (serve(Behaviour::CloseAt(100)).port, "", "the server closed a connection during the run"),
        (serve(Behaviour::Garbage).port, "", "does not speak RESP: a reply begins with 'H'"),
    ] {
        let output = run(port, &format!("-c 1 -n 1000 {options}"));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn what_was_counted_before_a_failure_is_still_reported() {
    let server = serve(Behaviour::CloseAt(100));
    let json = stdout(&run(server.port, "-c 1 -n 1000"));
    // Number 0 is the greeting.
    assert_eq!(integer(&json, "requests"), 99, "{json}");
    assert_eq!(field(&json, "failure"), "\"the server closed a connection during the run\"");
}

#[test]
fn ctrl_c_ends_the_run_with_the_report_so_far() {
    let server = serve(Behaviour::Answer);
    let child = Command::new(env!("CARGO_BIN_EXE_corelane-loadgen"))
        .args(["--port", &server.port.to_string(), "--json", "-", "--duration", "60"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while server.seen.requests.load(Ordering::Relaxed) < 1000 {
        thread::sleep(Duration::from_millis(1));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let json = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(field(&json, "interrupted"), "true");
    assert!(integer(&json, "requests") >= 1000, "{json}");
    assert!(number(&json, "seconds") < 30.0, "{json}");
}
