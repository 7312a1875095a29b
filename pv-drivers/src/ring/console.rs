//! The console's ring page.
//!
//! Source: Xen `include/public/io/console.h`.

use core::mem::offset_of;

use xen_abi::io::{XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface};

use super::lane::Lane;
use super::{Consumer, Corrupt, Page, Producer};

/// To the guest.
const INPUT: Lane = Lane {
    data: offset_of!(XenconsInterface, r#in),
    size: XENCONS_IN_SIZE as u32,
    cons: offset_of!(XenconsInterface, in_cons),
    prod: offset_of!(XenconsInterface, in_prod),
};

/// From the guest.
const OUTPUT: Lane = Lane {
    data: offset_of!(XenconsInterface, out),
    size: XENCONS_OUT_SIZE as u32,
    cons: offset_of!(XenconsInterface, out_cons),
    prod: offset_of!(XenconsInterface, out_prod),
};

/// The side that shows the console: what the guest writes comes out here.
#[derive(Debug)]
pub struct ConsoleBackend<P> {
    page: P,
    output: Consumer,
    input: Producer,
}

impl<P: Page> ConsoleBackend<P> {
    /// Takes the ring over as it stands.
    pub fn attach(page: P) -> Self {
        let output = Consumer::attach(OUTPUT, &page);
        let input = Producer::attach(INPUT, &page);
        Self {
            page,
            output,
            input,
        }
    }

    /// Bytes that the guest has written and nobody took.
    ///
    /// # Errors
    /// [`Corrupt`]: the guest made the ring's indices impossible.
    pub fn waiting(&self) -> Result<usize, Corrupt> {
        self.output.waiting(&self.page)
    }

    /// Takes what the guest wrote, as much as fits; returns how many bytes. If any, notify it.
    ///
    /// # Errors
    /// [`Corrupt`]: the guest made the ring's indices impossible; nothing was taken.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.output.take(&self.page, into)
    }

    /// Bytes of input that fit.
    ///
    /// # Errors
    /// [`Corrupt`]: the guest made the ring's indices impossible.
    pub fn room(&self) -> Result<usize, Corrupt> {
        self.input.room(&self.page)
    }

    /// Gives the guest input, as much as fits; returns how many bytes. If any, notify it.
    ///
    /// # Errors
    /// [`Corrupt`]: the guest made the ring's indices impossible; nothing was given.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.input.put(&self.page, from)
    }
}

/// The guest's side.
#[derive(Debug)]
pub struct ConsoleFrontend<P> {
    page: P,
    output: Producer,
    input: Consumer,
}

impl<P: Page> ConsoleFrontend<P> {
    /// Takes the ring over as it stands.
    pub fn attach(page: P) -> Self {
        let output = Producer::attach(OUTPUT, &page);
        let input = Consumer::attach(INPUT, &page);
        Self {
            page,
            output,
            input,
        }
    }

    /// Writes to the console, as much as fits; returns how many bytes. If any, notify the backend.
    ///
    /// # Errors
    /// [`Corrupt`]: the backend made the ring's indices impossible.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.output.put(&self.page, from)
    }

    /// Bytes written that the backend has not taken.
    ///
    /// # Errors
    /// [`Corrupt`]: the backend made the ring's indices impossible.
    pub fn unread(&self) -> Result<usize, Corrupt> {
        Ok(XENCONS_OUT_SIZE - self.output.room(&self.page)?)
    }

    /// Takes input; returns how many bytes. If any, notify the backend.
    ///
    /// # Errors
    /// [`Corrupt`]: the backend made the ring's indices impossible.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.input.take(&self.page, into)
    }
}
