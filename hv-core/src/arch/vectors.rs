//! Interrupt vectors: what each one means.
//!
//! This table is the only place that gives a vector its meaning. The IDT opens the gates that
//! [`guests_may_raise`] names, and a device line can have a [`DeviceVector`] and nothing else, so
//! no device can send a vector that means something else to the guest that happens to run.
//!
//! The local APIC serves the higher of two waiting classes (vector / 16) first.

/// Where the pair of 8259s is moved before it is masked (16 vectors).
pub const PIC: u8 = 0x20;
/// The guests' own `int 0x80`, whose gate is open to them. Source: Xen's `LEGACY_SYSCALL_VECTOR`.
pub const GUEST_SYSCALL: u8 = 0x80;
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

/// Breakpoint exception, raised by `int3`.
const BREAKPOINT: u8 = 3;
/// Overflow exception, raised by `into`.
const OVERFLOW: u8 = 4;

/// What a vector means when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An exception of the CPU's. Source: Intel SDM vol. 3, 6.3.1: 0 to 31 are reserved for them.
    Exception,
    /// What a masked 8259 may still send.
    Pic,
    /// A device's interrupt.
    Device(DeviceVector),
    /// A guest's system call: only its `int` instruction may raise it.
    GuestCall,
    /// The hypervisor's own: the local APIC's sources and other CPUs.
    System,
}

/// The meaning of `vector`.
#[must_use]
#[inline]
pub const fn meaning(vector: u8) -> Meaning {
    match vector {
        0..=0x1f => Meaning::Exception,
        PIC..=0x2f => Meaning::Pic,
        GUEST_SYSCALL => Meaning::GuestCall,
        DeviceVector::FIRST..=DeviceVector::LAST => Meaning::Device(DeviceVector(vector)),
        0xe0..=0xff => Meaning::System,
    }
}

/// Whether a guest's `int` instruction reaches the handler of `vector`. With every other vector
/// the instruction is a #GP.
#[must_use]
pub const fn guests_may_raise(vector: u8) -> bool {
    matches!(vector, BREAKPOINT | OVERFLOW) || matches!(meaning(vector), Meaning::GuestCall)
}

/// A vector that a device line may have. There is none whose gate is open to guests, nor one that
/// is an exception's, the 8259s' or the hypervisor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceVector(u8);

impl DeviceVector {
    const FIRST: u8 = 0x30;
    const LAST: u8 = 0xdf;
    /// How many there are: all between the 8259s' and the hypervisor's, but the guests' one.
    pub const COUNT: usize = (Self::LAST - Self::FIRST) as usize;

    /// `vector`, if devices may have it.
    #[must_use]
    #[inline]
    pub const fn new(vector: u8) -> Option<Self> {
        match meaning(vector) {
            Meaning::Device(vector) => Some(vector),
            _ => None,
        }
    }

    /// All of them, lowest first.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (Self::FIRST..=Self::LAST).filter_map(Self::new)
    }

    /// The one `n` after this, if devices may have all from this to that.
    #[must_use]
    pub fn after(self, n: u8) -> Option<Self> {
        let end = self.0.checked_add(n)?;
        (self.0..=end)
            .all(|v| Self::new(v).is_some())
            .then_some(Self(end))
    }

    /// Its number, as a controller is told it.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_device_vector_means_nothing_else() {
        let devices: Vec<u8> = DeviceVector::all().map(DeviceVector::number).collect();
        assert_eq!(devices.len(), DeviceVector::COUNT);
        for vector in 0..=255 {
            let is_device = devices.contains(&vector);
            assert_eq!(
                DeviceVector::new(vector).is_some(),
                is_device,
                "{vector:#x}"
            );
            let others = [TIMER, KICK, TLB_FLUSH, APIC_ERROR, SPURIOUS, GUEST_SYSCALL];
            let other =
                vector < 32 || (PIC..PIC + 16).contains(&vector) || others.contains(&vector);
            assert!(!(is_device && other), "{vector:#x} has two meanings");
            assert!(
                !(is_device && guests_may_raise(vector)),
                "a device with vector {vector:#x} would act as the guest that runs"
            );
        }
    }

    #[test]
    fn guests_raise_three_vectors() {
        let open: Vec<u8> = (0..=255).filter(|v| guests_may_raise(*v)).collect();
        assert_eq!(open, [3, 4, 0x80]);
    }

    #[test]
    fn a_run_of_device_vectors_has_no_hole() {
        let at = |v| DeviceVector::new(v).unwrap();
        assert_eq!(at(0x78).after(7), Some(at(0x7f)));
        assert_eq!(at(0x78).after(8), None);
        assert_eq!(at(0x78).after(9), None);
        assert_eq!(at(0xdf).after(1), None);
        assert_eq!(at(0xdf).after(255), None);
    }
}
