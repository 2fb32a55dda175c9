//! Lanes: the only way from one core to another.
//!
//! One bounded single-producer single-consumer ring for each ordered pair of cores ([`ring`]), with
//! an overflow queue at its sending end ([`lane`]), and one doorbell for each core ([`doorbell`]).
//! Nothing else is shared: no lock, no shared mutable state.
//!
//! Promise: a message is delivered once, in the order of its lane, and wakes a sleeping receiver.

mod doorbell;
mod lane;
#[cfg(all(test, loom))]
mod model;
pub mod ring;
mod sync;

use std::sync::Arc;

pub use doorbell::Doorbell;
pub use lane::LaneSender;
pub use ring::Receiver;

/// What one core holds of the mesh; places are core numbers. There is a lane from a core to itself
/// too, so that a sender need not ask whether the receiver is someone else.
pub struct Ports<T> {
    /// The lanes from this core.
    pub to: Vec<LaneSender<T>>,
    /// The lanes to this core.
    pub from: Vec<Receiver<T>>,
    /// Everybody's doorbells, one's own included.
    pub doorbells: Vec<Arc<Doorbell>>,
}

impl<T: Send> Ports<T> {
    /// Whether any lane to this core holds a message.
    pub fn has_incoming(&self) -> bool {
        self.from.iter().any(|lane| !lane.is_empty())
    }

    /// Whether any lane from this core overflowed.
    pub fn is_congested(&self) -> bool {
        self.to.iter().any(LaneSender::is_congested)
    }

    /// End of a turn: moves overflow into the rings and calls `ring` with each core that got
    /// messages while it sleeps.
    pub fn flush(&mut self, mut ring: impl FnMut(usize)) {
        for (core, lane) in self.to.iter_mut().enumerate() {
            lane.flush();
            if lane.take_pushed() && self.doorbells[core].needs_ring() {
                ring(core);
            }
        }
    }
}

/// A lane of `capacity` messages for every ordered pair of the cores that own these doorbells.
pub fn mesh<T: Send>(doorbells: &[Arc<Doorbell>], capacity: usize) -> Vec<Ports<T>> {
    let mut ports: Vec<Ports<T>> = doorbells
        .iter()
        .map(|_| Ports { to: Vec::new(), from: Vec::new(), doorbells: doorbells.to_vec() })
        .collect();
    // Sender by sender, so that `from` of every receiver fills up in the order of core numbers.
    for sender in 0..ports.len() {
        for receiver in 0..ports.len() {
            let (into, out) = ring::channel(capacity);
            ports[sender].to.push(LaneSender::new(into));
            ports[receiver].from.push(out);
        }
    }
    ports
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Any file will do as a bell that is never rung.
    fn doorbells(count: usize) -> Vec<Arc<Doorbell>> {
        let bell = || Doorbell::new(std::fs::File::open("/dev/null").unwrap().into());
        (0..count).map(|_| Arc::new(bell())).collect()
    }

    #[test]
    fn a_mesh_leads_from_every_core_to_every_core() {
        let mut ports = mesh::<(usize, usize)>(&doorbells(3), 8);
        for (sender, port) in ports.iter_mut().enumerate() {
            for (receiver, lane) in port.to.iter_mut().enumerate() {
                lane.send((sender, receiver));
            }
        }
        for (receiver, port) in ports.iter_mut().enumerate() {
            assert!(port.has_incoming());
            for (sender, lane) in port.from.iter_mut().enumerate() {
                assert_eq!(lane.pop(), Some((sender, receiver)));
            }
            assert!(!port.has_incoming());
        }
    }

    #[test]
    fn flush_rings_sleepers_that_got_messages_once() {
        let mut ports = mesh::<u8>(&doorbells(3), 8);
        ports[1].doorbells[1].prepare_sleep();
        ports[2].doorbells[2].prepare_sleep();
        let mut rung = Vec::new();
        ports[0].to[0].send(0); // awake
        ports[0].to[1].send(1); // asleep
        ports[0].flush(|core| rung.push(core)); // core 2 sleeps and got nothing
        ports[0].to[1].send(1);
        ports[0].flush(|core| rung.push(core)); // rung already
        assert_eq!(rung, [1]);
    }
}
