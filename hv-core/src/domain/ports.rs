//! Closing a domain's event channels, for a reset or its death.

use super::{Domain, registry};
use crate::event::Reset;
use crate::mm;

impl Domain {
    /// Closes up to `budget` ports. Again while [`Reset::More`].
    pub fn close_ports(&self, budget: usize) -> Reset {
        self.events.close_some(budget, self, registry::get)
    }

    /// Takes a domain without ports off the FIFO interface and gives back the frames
    /// it had for that.
    pub fn end_fifo(&self) {
        if let Some(fifo) = self.events.end_fifo() {
            for frame in fifo.into_frames() {
                mm::host::get().put_writable(frame.mfn);
            }
        }
    }
}
