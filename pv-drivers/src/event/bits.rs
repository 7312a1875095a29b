//! The pending and mask bits of all ports, which the hypervisor writes too.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::hypercall::Port;

/// Ports of the two-level interface on x86-64.
pub const PORTS: u32 = 4096;

/// Bits of a word.
const WORD: u32 = 64;

/// The two-level event bits of the shared info page (Xen `include/public/xen.h`).
#[derive(Clone, Copy, Debug)]
pub struct Bits {
    pending: &'static [AtomicU64; 64],
    mask: &'static [AtomicU64; 64],
}

impl Bits {
    /// The arrays `evtchn_pending` and `evtchn_mask`.
    #[must_use]
    pub const fn new(pending: &'static [AtomicU64; 64], mask: &'static [AtomicU64; 64]) -> Self {
        Self { pending, mask }
    }

    /// A port's word of an array, and its bit; none of a port that cannot be.
    fn find(array: &'static [AtomicU64; 64], port: Port) -> Option<(&'static AtomicU64, u64)> {
        let word = array.get((port.0 / WORD) as usize)?;
        Some((word, 1 << (port.0 % WORD)))
    }

    /// Whether an event waits.
    #[must_use]
    pub fn is_pending(self, port: Port) -> bool {
        Self::find(self.pending, port)
            .is_some_and(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    }

    /// Takes the event that waits, if one does. Later ones show again.
    #[must_use]
    pub fn take(self, port: Port) -> bool {
        // A look first: a locked write to a shared line is not worth it for nothing.
        self.is_pending(port)
            && Self::find(self.pending, port)
                .is_some_and(|(word, bit)| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }

    /// Takes all events of the ports that are set in `of`, as one bit each from port 0 on.
    pub fn take_all(self, of: &[AtomicU64]) -> bool {
        let mut any = false;
        for (pending, of) in self.pending.iter().zip(of) {
            let due = pending.load(Ordering::SeqCst) & of.load(Ordering::SeqCst);
            if due != 0 {
                any |= pending.fetch_and(!due, Ordering::SeqCst) & due != 0;
            }
        }
        any
    }

    /// Lets a port's events cause no upcall.
    pub fn mask(self, port: Port) {
        if let Some((word, bit)) = Self::find(self.mask, port) {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Lets a port's events cause upcalls. Of one that waits already none comes.
    pub fn unmask(self, port: Port) {
        if let Some((word, bit)) = Self::find(self.mask, port) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Masks every port.
    pub fn mask_all(self) {
        for word in self.mask {
            word.store(u64::MAX, Ordering::SeqCst);
        }
    }
}
