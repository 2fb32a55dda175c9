//! `corelane-gap` against a tiny server whose silence is known: it holds one lock for all
//! connections, and some commands keep it for a while.

mod wire;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use wire::{field, integer, number, read_command, stderr, stdout};

/// How long a server is silent with `DEL` and with a `FLUSHALL` of any keys.
const SILENCE: Duration = Duration::from_millis(400);

/// What a server holds: as many keys as were set, until they expire together.
#[derive(Default)]
struct State {
    keys: u64,
    expire_at_millis: u64,
}

fn serve(keys: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = Arc::new(Mutex::new(State { keys, ..State::default() }));
    // Serves until the test's process ends.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            thread::spawn(move || serve_connection(stream, &state));
        }
    });
    port
}

fn serve_connection(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (words, _) = read_command(&mut reader)?;
        let reply = answer(&words, &mut state.lock().unwrap());
        writer.write_all(reply.as_bytes()).ok()?;
    }
}

fn answer(words: &[String], state: &mut State) -> String {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    match words[0].as_str() {
        "SET" => state.keys += 1,
        "PEXPIREAT" => {
            state.expire_at_millis = state.expire_at_millis.max(words[2].parse().unwrap())
        }
        "DBSIZE" => {
            if state.expire_at_millis > 0 && unix.as_millis() as u64 >= state.expire_at_millis {
                *state = State::default();
            }
            return format!(":{}\r\n", state.keys);
        }
        "DEL" => thread::sleep(SILENCE),
        "FLUSHALL" => {
            if state.keys > 0 {
                thread::sleep(SILENCE);
            }
            *state = State::default();
        }
        _ => {}
    }
    "+OK\r\n".to_owned()
}

fn gap(port: u16, options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane-gap"))
        .args(["--port", &port.to_string(), "--json", "-", "--scale", "0.0001"])
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn the_longest_silence_is_found_and_the_control_does_not_have_it() {
    for (scenario, items, is_silent) in
        [("grow", 1000, false), ("delzset", 500, true), ("flushall", 1000, true)]
    {
        let output = gap(serve(0), &format!("--scenarios {scenario}"));
        let json = stdout(&output);
        assert!(output.status.success(), "{scenario}: {}", stderr(&output));
        assert_eq!(integer(&json, "items"), items, "{json}");
        let (longest, control) =
            (number(&json, "longest_gap_ms"), number(&json, "control_longest_ms"));
        let silence = SILENCE.as_millis() as f64;
        assert_eq!(longest >= silence * 0.9, is_silent, "{scenario}: {json}");
        assert!(control < silence * 0.9, "{scenario}: {json}");
        assert!(integer(&json, "pings") > 10, "{json}");
    }
}

#[test]
fn expiring_keys_are_waited_for_and_two_servers_stand_side_by_side() {
    let (one, two) = (serve(0), serve(0));
    let started = Instant::now();
    let output = gap(one, &format!("--scenarios expire --probes 2 --versus-port {two}"));
    let json = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json.matches("\"scenario\": \"expire\"").count(), 2, "{json}");
    assert!(json.contains(&format!(":{one}\"")) && json.contains(&format!(":{two}\"")), "{json}");
    assert_eq!(integer(&json, "items"), 100);
    // All times lie in one second, so the last key goes within it or a little later.
    assert!((0.5..5.0).contains(&number(&json, "took_seconds")), "{json}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_server_with_keys_is_left_alone_unless_told_otherwise() {
    let port = serve(7);
    let output = gap(port, "--scenarios idle");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("holds 7 keys; --flush allows"), "{}", stderr(&output));
    let output = gap(port, "--scenarios idle --flush");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(field(&stdout(&output), "scenario"), "\"idle\"");
}
