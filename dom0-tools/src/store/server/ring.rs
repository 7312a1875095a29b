//! One domain's ring, as the server uses it.

use pv_drivers::ring::{Corrupt, RingFault, XenstoreServer};

use super::super::journal::RingState;
use super::super::wire::{Assembler, Message};
use crate::sys::{Port, SharedPages};

/// A ring. What is read from it stays in it until [`Ring::publish`].
#[derive(Debug)]
pub(super) struct Ring {
    shared: XenstoreServer<SharedPages>,
    /// Dom0's end of the event channel.
    pub port: Port,
    assembler: Assembler,
    /// Bytes of the ring that the assembler has, and the client does not know it yet.
    taken: usize,
    /// The assembler is not as the journal knows it.
    answered: bool,
    /// It may have something for us.
    pub active: bool,
    /// It begins anew at the next [`Ring::publish`].
    reset: bool,
    /// It is served no more.
    pub fault: bool,
}

/// Why a ring cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Index,
    Message,
}

impl From<Corrupt> for Bad {
    fn from(_: Corrupt) -> Self {
        Self::Index
    }
}

impl Ring {
    /// Takes a ring over as it stands.
    pub fn attach(page: SharedPages, port: Port) -> Self {
        Self::new(XenstoreServer::attach(page), port)
    }

    /// Takes a ring over from the server before.
    pub fn attach_at(page: SharedPages, port: Port, state: &RingState) -> Self {
        let mut ring = Self::new(XenstoreServer::attach_at(page, state.consumed), port);
        ring.assembler.push(&state.rest);
        ring
    }

    fn new(shared: XenstoreServer<SharedPages>, port: Port) -> Self {
        shared.announce();
        Self {
            shared,
            port,
            assembler: Assembler::default(),
            taken: 0,
            answered: false,
            active: true,
            reset: false,
            fault: false,
        }
    }

    /// The next request, if it is whole.
    pub fn next(&mut self) -> Result<Option<Message>, Bad> {
        if let Some(message) = self.assembler.next().map_err(|_| Bad::Message)? {
            self.answered = true;
            return Ok(Some(message));
        }
        // All that is in the ring was taken in this round.
        if self.taken != 0 {
            return Ok(None);
        }
        let mut bytes = [0; 1024];
        self.taken = self.shared.peek(&mut bytes)?;
        if self.taken == 0 {
            self.active = false;
            return Ok(None);
        }
        self.answered = true;
        self.assembler.push(&bytes[..self.taken]);
        self.assembler.next().map_err(|_| Bad::Message)
    }

    /// As [`Ring::state`], if this round took anything.
    pub fn news(&self) -> Option<RingState> {
        (self.answered && !self.reset && !self.fault).then(|| self.state())
    }

    /// Where it will stand after [`Ring::publish`].
    pub fn state(&self) -> RingState {
        let (consumed, given) = self.shared.indices();
        RingState {
            consumed: consumed.wrapping_add(self.taken as u32),
            rest: self.assembler.rest().to_vec(),
            given,
        }
    }

    /// Lets the client know what was taken, or that the ring begins anew; says whether there is
    /// anything to know.
    pub fn publish(&mut self) -> bool {
        self.answered = false;
        if self.reset {
            self.reset = false;
            self.taken = 0;
            self.assembler = Assembler::default();
            self.shared.reset();
            return true;
        }
        let taken = std::mem::take(&mut self.taken);
        self.shared.advance(taken);
        taken != 0
    }

    /// Gives bytes; returns how many fit.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize, Bad> {
        Ok(self.shared.put(bytes)?)
    }

    /// Begins anew at the next [`Ring::publish`].
    pub fn begin_anew(&mut self) {
        self.assembler = Assembler::default();
        (self.reset, self.fault, self.active) = (true, false, true);
    }

    /// Whether the client asks to begin anew.
    pub fn wants_reset(&self) -> bool {
        self.shared.wants_reset()
    }

    /// Serves it no more, and says why.
    pub fn refuse(&mut self, bad: Bad) {
        self.shared.refuse(match bad {
            Bad::Index => RingFault::Index,
            Bad::Message => RingFault::Protocol,
        });
        (self.fault, self.active, self.taken) = (true, false, 0);
    }
}
