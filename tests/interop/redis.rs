//! A redis-server for one test.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the server may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A folder and a redis-server in it, both gone with the test.
pub struct Redis {
    server: Child,
    /// Where its files are.
    pub folder: PathBuf,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Redis {
    /// Starts on the files that `fill` puts into its folder, and waits until they are loaded.
    pub fn start(appendonly: &str, fill: impl FnOnce(&Path)) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("corelane-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fill(&folder);
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", appendonly, "--enable-debug-command", "yes"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { server, folder, port };
        let deadline = Instant::now() + PATIENCE;
        while redis.ask("PING") != "+PONG\r\n" {
            assert!(Instant::now() < deadline, "redis-server does not load the files");
            thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    /// All that the server answers to inline commands; nothing while it cannot be reached.
    pub fn ask(&self, commands: &str) -> String {
        let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return String::new();
        };
        connection.write_all(format!("{commands}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut reply = Vec::new();
        connection.read_to_end(&mut reply).ok();
        let reply = String::from_utf8_lossy(&reply).into_owned();
        reply.strip_suffix("+OK\r\n").unwrap_or_default().to_owned()
    }

    /// What DUMP answers.
    pub fn dump(&self, key: &[u8]) -> Vec<u8> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!("*2\r\n$4\r\nDUMP\r\n${}\r\n", key.len());
        connection.write_all(&[head.as_bytes(), key, b"\r\nQUIT\r\n"].concat()).unwrap();
        let mut reply = Vec::new();
        connection.read_to_end(&mut reply).unwrap();
        let end = reply.iter().position(|byte| *byte == b'\r').expect("the length has a line");
        let length: usize = std::str::from_utf8(&reply[1..end]).unwrap().parse().unwrap();
        reply[end + 2..][..length].to_vec()
    }
}
