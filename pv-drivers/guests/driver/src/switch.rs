//! A switch: frames go to the port where their receiver was heard last, or to all others.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use pv_drivers::net::backend::Network;
use pv_drivers::net::{Integrity, Offload, Received};

/// Frames that wait at a port at most; more are lost, as on any cable.
pub const MOST_WAITING: usize = 256;

/// Addresses that are known at most. Frames for others go to every port.
pub const MOST_ADDRESSES: usize = 1024;

/// Address of a card.
type Mac = [u8; 6];

/// A port's number, never used again.
type Number = u64;

/// Frames for the card at a port.
type Waiting = VecDeque<(Vec<u8>, Received)>;

/// What all ports share.
#[derive(Debug, Default)]
struct Table {
    ports: BTreeMap<Number, Waiting>,
    heard: BTreeMap<Mac, Number>,
    next: Number,
}

/// The switch. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Switch(Rc<RefCell<Table>>);

/// One of its ports, until it is dropped.
#[derive(Debug)]
pub struct Port {
    switch: Switch,
    number: Number,
}

impl Switch {
    /// Another port.
    #[must_use]
    pub fn port(&self) -> Port {
        let mut table = self.0.borrow_mut();
        let number = table.next;
        table.next += 1;
        table.ports.insert(number, Waiting::new());
        Port {
            switch: self.clone(),
            number,
        }
    }
}

impl Table {
    fn forward(&mut self, from: Number, frame: &[u8], received: Received) {
        let (Some(receiver), Some(sender)) = (address(frame, 0), address(frame, 6)) else {
            return;
        };
        if !is_group(sender)
            && (self.heard.len() < MOST_ADDRESSES || self.heard.contains_key(&sender))
        {
            self.heard.insert(sender, from);
        }
        let one = self.heard.get(&receiver).copied();
        for (&number, waiting) in &mut self.ports {
            let wanted = number != from && one.is_none_or(|one| one == number);
            if wanted && waiting.len() < MOST_WAITING {
                waiting.push_back((frame.into(), received));
            }
        }
    }
}

fn address(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// Whether it is the address of several cards.
const fn is_group(address: Mac) -> bool {
    address[0] & 1 != 0
}

impl Network for Port {
    fn transmit(&mut self, frame: &[u8], offload: Offload) {
        let integrity = if offload.checksum {
            Integrity::Blank
        } else {
            Integrity::Unknown
        };
        let received = Received {
            integrity,
            segment: None,
        };
        let mut table = self.switch.0.borrow_mut();
        table.forward(self.number, frame, received);
    }

    fn next(&mut self, frame: &mut Vec<u8>) -> Option<Received> {
        let mut table = self.switch.0.borrow_mut();
        let (bytes, received) = table.ports.get_mut(&self.number)?.pop_front()?;
        *frame = bytes;
        Some(received)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut table = self.switch.0.borrow_mut();
        table.ports.remove(&self.number);
        table.heard.retain(|_, number| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, from: u8, payload: u8) -> Vec<u8> {
        let group = if to == 0xff {
            [0xff; 6]
        } else {
            [2, 0, 0, 0, 0, to]
        };
        let mut frame = group.to_vec();
        frame.extend([2, 0, 0, 0, 0, from, 8, 0, payload]);
        frame
    }

    fn send(port: &mut Port, to: u8, from: u8, payload: u8) {
        port.transmit(&frame(to, from, payload), Offload::default());
    }

    fn take(port: &mut Port) -> Option<u8> {
        let mut frame = Vec::new();
        port.next(&mut frame).map(|_| frame[14])
    }

    #[test]
    fn a_frame_goes_to_all_until_its_receiver_was_heard() {
        let switch = Switch::default();
        let [mut a, mut b, mut c] = [(); 3].map(|()| switch.port());
        send(&mut a, 0xff, 1, 10);
        send(&mut a, 2, 1, 11);
        for other in [&mut b, &mut c] {
            assert_eq!((take(other), take(other)), (Some(10), Some(11)));
        }
        send(&mut b, 1, 2, 12);
        send(&mut a, 2, 1, 13);
        assert_eq!((take(&mut a), take(&mut b)), (Some(12), Some(13)));
        assert_eq!(take(&mut c), None);
        // A card that moves is found where it is.
        send(&mut c, 0xff, 2, 14);
        while take(&mut a).is_some() || take(&mut b).is_some() {}
        send(&mut a, 2, 1, 15);
        assert_eq!((take(&mut b), take(&mut c)), (None, Some(15)));
    }

    #[test]
    fn a_port_that_has_gone_is_forgotten() {
        let switch = Switch::default();
        let [mut a, mut b, c] = [(); 3].map(|()| switch.port());
        let mut c = c;
        send(&mut c, 0xff, 3, 1);
        drop(c);
        while take(&mut a).is_some() || take(&mut b).is_some() {}
        send(&mut a, 3, 1, 2);
        assert_eq!(take(&mut b), Some(2));
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let switch = Switch::default();
        let (mut a, mut b) = (switch.port(), switch.port());
        for n in 0..10 * MOST_ADDRESSES {
            let mut frame = frame(0xff, 0, 0);
            frame[6..8].copy_from_slice(&[2, 0]);
            frame[8..12].copy_from_slice(&(n as u32).to_ne_bytes());
            a.transmit(&frame, Offload::default());
        }
        assert_eq!(switch.0.borrow().heard.len(), MOST_ADDRESSES);
        let mut count = 0;
        while take(&mut b).is_some() {
            count += 1;
        }
        assert_eq!(count, MOST_WAITING);
        // Shorter than two addresses.
        a.transmit(&[0xff; 11], Offload::default());
        assert_eq!(take(&mut b), None);
    }
}
