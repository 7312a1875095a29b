//! I/O ports.
#![allow(unsafe_code, reason = "the instructions themselves")]

use x86_64::instructions::port::Port;

macro_rules! port_access {
    ($read:ident, $write:ident, $t:ty, $bits:literal) => {
        #[doc = concat!("Reads ", $bits, " bits from a port.")]
        ///
        /// # Safety
        /// Reading this port does nothing that breaks the hypervisor.
        #[must_use]
        #[inline]
        pub unsafe fn $read(port: u16) -> $t {
            // SAFETY: the caller vouches for the port.
            unsafe { Port::new(port).read() }
        }

        #[doc = concat!("Writes ", $bits, " bits to a port.")]
        ///
        /// # Safety
        /// Writing this value to this port does nothing that breaks the hypervisor.
        #[inline]
        pub unsafe fn $write(port: u16, value: $t) {
            // SAFETY: the caller vouches for the port and the value.
            unsafe { Port::new(port).write(value) }
        }
    };
}

port_access!(read8, write8, u8, "8");
port_access!(read16, write16, u16, "16");
port_access!(read32, write32, u32, "32");

/// Reads `bytes` (1, 2 or 4) at `port` on behalf of a domain that may.
#[must_use]
pub fn port_in(port: u16, bytes: u8) -> u32 {
    // SAFETY: the caller checked the domain's right to the port; the hypervisor's own
    // devices are not among those.
    unsafe {
        match bytes {
            1 => read8(port).into(),
            2 => read16(port).into(),
            _ => read32(port),
        }
    }
}

/// Writes the low `bytes` (1, 2 or 4) of `value` to `port` on behalf of a domain that
/// may.
pub fn port_out(port: u16, bytes: u8, value: u32) {
    // SAFETY: as for [`port_in`].
    unsafe {
        match bytes {
            1 => write8(port, value as u8),
            2 => write16(port, value as u16),
            _ => write32(port, value),
        }
    }
}
