//! -MOVED and -ASK, read.

use crate::slot::Slot;

/// Where a client is sent with its command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirection<'a> {
    /// With this command only, and after ASKING: the slot is on its way.
    pub asks: bool,
    /// Why it is sent.
    pub slot: Slot,
    /// An address or a host name; empty for "where you found me", `?` if there is none.
    pub host: &'a str,
    /// The port.
    pub port: u16,
}

impl<'a> Redirection<'a> {
    /// What an error says, without its `-` and its end, if it is a redirection.
    pub fn parse(error: &'a str) -> Option<Self> {
        let (word, rest) = error.split_once(' ')?;
        let asks = match word {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let (slot, address) = rest.split_once(' ')?;
        let (host, port) = address.rsplit_once(':')?;
        Some(Self { asks, slot: Slot::new(slot.parse().ok()?)?, host, port: port.parse().ok()? })
    }

    /// The same of a reply as it came.
    pub fn of_reply(reply: &'a [u8]) -> Option<Self> {
        let text = reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")?;
        Self::parse(str::from_utf8(text).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moved_and_ask_with_a_slot_and_a_port_are_redirections() {
        let slot = Slot::new(7).expect("a slot");
        for (reply, expected) in [
            ("-MOVED 7 10.0.0.1:7001\r\n", Some((false, "10.0.0.1", 7001))),
            ("-ASK 7 ::1:7001\r\n", Some((true, "::1", 7001))),
            ("-MOVED 7 :7001\r\n", Some((false, "", 7001))),
            ("-MOVED 7 ?:7001\r\n", Some((false, "?", 7001))),
            ("-MOVED 16384 10.0.0.1:7001\r\n", None),
            ("-MOVED 7 10.0.0.1:70001\r\n", None),
            ("-MOVED 7 10.0.0.1\r\n", None),
            ("-MOVED 7\r\n", None),
            ("-TRYAGAIN 7 10.0.0.1:7001\r\n", None),
            ("+MOVED 7 10.0.0.1:7001\r\n", None),
            ("-MOVED 7 10.0.0.1:7001", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(asks, host, port)| Redirection { asks, slot, host, port });
            assert_eq!(Redirection::of_reply(reply.as_bytes()), expected, "{reply}");
        }
    }
}
