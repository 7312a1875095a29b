//! Rings of requests and responses: what split drivers use.
//!
//! One page: a head of four indices, then a power-of-two array of slots, each of which holds a
//! request and later a response. The frontend puts requests; the backend takes them and puts
//! responses, at most one for each request, in any order of its own.
//!
//! Nobody is woken more than needed: `req_event` and `rsp_event` say at which index the other side
//! wants a notification. Who is about to sleep *arms* the ring, which sets its mark and looks once
//! more; who *pushes* publishes its index and then reads the mark. Each puts a full fence between
//! its write and its read, so at least one of the two sees the other's write, and no wake-up is
//! lost. (The test `a_wake_up_is_never_lost` tries all orders.)
//!
//! Source: Xen `include/public/io/ring.h`.

use core::fmt;
use core::mem::offset_of;

use xen_abi::io::SringHeader;

mod back;
mod front;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use back::BackRing;
pub use front::FrontRing;

const REQ_PROD: usize = offset_of!(SringHeader, req_prod);
const REQ_EVENT: usize = offset_of!(SringHeader, req_event);
const RSP_PROD: usize = offset_of!(SringHeader, rsp_prod);
const RSP_EVENT: usize = offset_of!(SringHeader, rsp_event);

/// Bytes of the page.
const PAGE: usize = 4096;

/// The ring has no slot left for that: an error of the caller, not of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full")
    }
}

impl core::error::Error for Full {}

/// Bytes of a slot.
const fn slot_bytes<Req, Rsp>() -> usize {
    let (request, response) = (size_of::<Req>(), size_of::<Rsp>());
    if request > response {
        request
    } else {
        response
    }
}

/// Slots of a page: as many as fit, rounded down to a power of two.
const fn slots<Req, Rsp>() -> u32 {
    let fit = (PAGE - size_of::<SringHeader>()) / slot_bytes::<Req, Rsp>();
    1 << fit.ilog2()
}

/// Where the slot of an index lies.
const fn slot<Req, Rsp>(index: u32) -> usize {
    let slot = index & (slots::<Req, Rsp>() - 1);
    size_of::<SringHeader>() + slot as usize * slot_bytes::<Req, Rsp>()
}

/// Whether a peer that wants to be woken at `event` is, by an index that went from `old` to `new`.
const fn wakes(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}
