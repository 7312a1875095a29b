//! Exceptions and interrupts: to us, to the guest, or to pv_emul.
