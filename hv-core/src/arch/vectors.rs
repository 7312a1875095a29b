//! Interrupt vectors: who uses which.
//!
//! 0 to 31 are the CPU's exceptions, 32 to 47 catch what a masked 8259 may still
//! send. The local APIC serves the higher of two waiting classes (vector / 16) first.

/// Where the pair of 8259s is moved before it is masked (16 vectors).
pub const PIC: u8 = 0x20;
/// First vector for device interrupts.
pub const DEVICE_FIRST: u8 = 0x30;
/// Last vector for device interrupts.
pub const DEVICE_LAST: u8 = 0xdf;
/// This CPU's timer.
pub const TIMER: u8 = 0xf0;
/// Another CPU wants this one to look at its run queue and pending work.
pub const KICK: u8 = 0xf1;
/// Another CPU waits for a TLB flush.
pub const TLB_FLUSH: u8 = 0xf8;
/// The local APIC reports an error.
pub const APIC_ERROR: u8 = 0xfe;
/// The local APIC withdrew an interrupt; takes no EOI.
pub const SPURIOUS: u8 = 0xff;
