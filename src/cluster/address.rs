//! Where a node is.
//!
//! Addresses come from other nodes and end in nodes.conf, whose fields are divided by spaces, and in
//! replies to clients. So a [`Host`] holds only characters that mean nothing there.

use std::fmt;
use std::net::IpAddr;

/// Longest address, in bytes (Redis 7.0 `cluster.h`, NET_IP_STR_LEN without the NUL).
pub const IP_BYTES_MAX: usize = 45;
/// Longest host name, in bytes (Redis 7.0 `cluster.h`, NET_HOST_STR_LEN without the NUL).
pub const HOST_BYTES_MAX: usize = 255;
/// How far the port of the bus is from the port of the clients, unless told otherwise.
pub const BUS_PORT_OFFSET: u16 = 10000;

/// An IP address or host name as text, possibly empty: letters, digits and `.-:_%`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Host(Box<str>);

impl Host {
    /// The host that `text` names, if it has only the characters of one and at most `bytes_max`.
    pub fn parse(text: &[u8], bytes_max: usize) -> Option<Self> {
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b".-:_%".contains(byte);
        if text.len() > bytes_max || !text.iter().all(valid) {
            return None;
        }
        Some(Self(str::from_utf8(text).ok()?.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        // A scope id has no place in an address that other machines use, and IpAddr has none.
        Self(ip.to_canonical().to_string().into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// A node's address and its ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Address {
    /// Empty where it is not known (yet): of this node before anybody has called it, and of lost nodes.
    pub ip: Host,
    /// Where clients connect; the TLS port if the bus uses TLS.
    pub port: u16,
    /// Where clients connect without TLS if `port` is for TLS, else 0.
    pub plain_port: u16,
    /// The port of the bus.
    pub bus_port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.ip, self.port, self.bus_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_character_that_ends_a_field() {
        for (text, valid) in [
            ("127.0.0.1", true),
            ("fe80::1%eth0", true),
            ("node-1.example", true),
            ("", true),
            ("a b", false),
            ("a,b", false),
            ("a\nb", false),
            ("a@b", false),
            ("\u{e9}", false),
            ("1234567890123456789012345678901234567890123456", false), // one too long
        ] {
            assert_eq!(Host::parse(text.as_bytes(), IP_BYTES_MAX).is_some(), valid, "{text:?}");
        }
    }
}
