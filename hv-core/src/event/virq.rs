//! Numbers of virtual interrupts.

/// A virtual interrupt, below [`Virq::COUNT`].
///
/// Source: Xen `include/public/xen.h`, `VIRQ_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virq(u8);

impl Virq {
    /// How many there are.
    pub const COUNT: usize = xen_abi::xen::NR_VIRQS as usize;
    /// The vCPU's timer.
    pub const TIMER: Self = Self(xen_abi::xen::VIRQ_TIMER as u8);
    /// A request to dump the guest's state.
    pub const DEBUG: Self = Self(xen_abi::xen::VIRQ_DEBUG as u8);
    /// Input on the hypervisor's console.
    pub const CONSOLE: Self = Self(xen_abi::xen::VIRQ_CONSOLE as u8);
    /// A domain shut down or died.
    pub const DOM_EXC: Self = Self(xen_abi::xen::VIRQ_DOM_EXC as u8);
    /// The hypervisor's console ring has new bytes.
    pub const CON_RING: Self = Self(xen_abi::xen::VIRQ_CON_RING as u8);
    /// A physical CPU came or went.
    pub const PCPU_STATE: Self = Self(xen_abi::xen::VIRQ_PCPU_STATE as u8);

    /// Accepts a number a guest wrote.
    #[must_use]
    pub const fn from_guest(raw: u32) -> Option<Self> {
        if (raw as usize) < Self::COUNT {
            Some(Self(raw as u8))
        } else {
            None
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0 as u32
    }

    /// The number as an index.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether a domain has it once (bound on vCPU 0, and movable) and not once a vCPU.
    #[must_use]
    pub const fn is_global(self) -> bool {
        use xen_abi::xen::{VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};
        !matches!(
            self.raw(),
            VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU
        )
    }
}
