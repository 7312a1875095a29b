//! What is to be done.

use super::choices::Sequence;
use crate::addr::CpuId;
use heapless::Vec;

/// What entry code does when it comes from a guest: bits of [`Plan::enter`].
pub mod enter {
    /// Makes branch prediction forget (IBPB).
    pub const IBPB: u32 = 1 << 0;
    /// Refills the return stack.
    pub const RETURNS: u32 = 1 << 1;
    /// Loads the hypervisor's `SPEC_CTRL`.
    pub const SPEC_CTRL: u32 = 1 << 2;
    /// Overwrites the branch history, shorter sequence.
    pub const HISTORY_SHORT: u32 = 1 << 3;
    /// Overwrites the branch history, longer sequence.
    pub const HISTORY_LONG: u32 = 1 << 4;
}

/// What entry code does before it goes to a guest: bits of [`Plan::leave`].
pub mod leave {
    /// Clears buffers (`verw`).
    pub const VERW: u32 = 1 << 0;
    /// Loads the guest's `SPEC_CTRL`.
    pub const SPEC_CTRL: u32 = 1 << 1;
    /// Divides, so that the divider keeps nothing (Zen 1).
    pub const DIVIDE: u32 = 1 << 2;
}

/// What a CPU does before it halts: bits of [`Plan::idle`].
pub mod idle {
    /// Clears buffers, half of which the sibling thread then gets.
    pub const VERW: u32 = 1 << 0;
    /// Sets `SPEC_CTRL` to 0 meanwhile, which slows the sibling thread.
    pub const SPEC_CTRL: u32 = 1 << 1;
    /// Refills the return stack, part of which the sibling thread then gets.
    pub const RETURNS: u32 = 1 << 2;
}

/// Whether branch prediction must forget before vCPU `who` runs on CPU `here`, where `last` was the
/// last one; `who` was on `last_cpu` before.
///
/// A vCPU that comes back to a CPU where nobody ran meanwhile finds there what it taught that CPU
/// before it left. Its kernel may have made the prediction forget since, on the other CPU
/// (XSA-479).
#[must_use]
pub fn needs_barrier(
    last: (u64, u16),
    who: (u64, u16),
    last_cpu: Option<CpuId>,
    here: CpuId,
) -> bool {
    last != who || last_cpu != Some(here)
}

/// What happens to `SPEC_CTRL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecCtrl {
    /// There is none.
    Absent,
    /// It is set once and holds for guests too.
    Fixed,
    /// The hypervisor's value is loaded on entry, the guest's on the way out.
    Switched,
}

/// A register that each CPU changes once, when it starts. A CPU that refuses is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub msr: u32,
    /// Bits to clear.
    pub clear: u64,
    /// Bits to set.
    pub set: u64,
    /// What for, as the boot log names it.
    pub what: &'static str,
}

/// What a person should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Sibling threads share the first-level cache (L1TF).
    SiblingsL1tf,
    /// Sibling threads share buffers (MDS).
    SiblingsMds,
    /// Sibling threads share the divider (Zen 1).
    SiblingsDivider,
    /// Returns can be steered (SRSO), and the microcode does not help.
    SrsoMicrocode,
    /// The CPU cannot keep guests from steering indirect branches.
    NoIbrs,
    /// Firmware has locked the mitigation of GDS in the other state.
    GdsLocked,
    /// AVX is hidden, for nothing else keeps registers from leaking (GDS).
    GdsHidesAvx,
}

/// What is done about the CPU's leaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are independent measures"
)]
pub struct Plan {
    /// What happens to `SPEC_CTRL`.
    pub spec_ctrl: SpecCtrl,
    /// Its value while the hypervisor runs.
    pub value: u64,
    /// Bits of it that are set while a guest runs, whatever the guest wants.
    pub guest_value: u64,
    /// Whether guests are offered `SPEC_CTRL`.
    pub offer_spec_ctrl: bool,
    /// What entry code does when it comes from a guest (see [`enter`]).
    pub enter: u32,
    /// The same for dom0, which is trusted more.
    pub enter_dom0: u32,
    /// What entry code does before it goes to a guest (see [`leave`]).
    pub leave: u32,
    /// What a CPU does before it halts (see [`idle`]).
    pub idle: u32,
    /// Branch prediction forgets when another domain's vCPU is loaded.
    pub ibpb_between_domains: bool,
    /// IBPB leaves the return stack as it is, which has to be refilled.
    pub ibpb_keeps_returns: bool,
    /// Guests' tables hold nothing of the hypervisor's memory but what entry code needs.
    pub isolate: bool,
    /// Absent page-table entries of domains other than dom0 are checked.
    pub check_absent: bool,
    /// AVX is not offered.
    pub hide_avx: bool,
    /// Branch history sequence in use, for the log.
    pub sequence: Sequence,
    /// Registers to change once.
    pub changes: Vec<Change, 12>,
    /// What a person should know.
    pub warnings: Vec<Warning, 8>,
}

impl Plan {
    /// What entry code does when it comes from a guest of this domain.
    #[must_use]
    pub const fn enter_from(&self, dom0: bool) -> u32 {
        if dom0 { self.enter_dom0 } else { self.enter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_that_comes_back_from_another_cpu_finds_nothing_it_taught() {
        let (one, two) = ((1, 0), (1, 1));
        let (a, b) = (CpuId(0), CpuId(1));
        assert!(needs_barrier((0, 0), one, None, a));
        assert!(!needs_barrier(one, one, Some(a), a));
        assert!(needs_barrier(two, one, Some(a), a));
        assert!(needs_barrier(one, one, Some(b), a));
    }
}
