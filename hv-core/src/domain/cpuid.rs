//! What the guests of this host see of CPUID.

use crate::arch::machine;
use crate::pv_emul::cpuid::{Policy, TimeFacts};
use crate::pv_emul::seam::{CpuidRegs, HostCpuid};
use crate::sync::Once;

/// The host's CPUID.
#[derive(Clone, Copy, Debug)]
pub struct HostCpu;

impl HostCpuid for HostCpu {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidRegs {
        let [eax, ebx, ecx, edx] = machine::cpuid(leaf, subleaf);
        CpuidRegs { eax, ebx, ecx, edx }
    }
}

static POLICY: Once<Policy> = Once::new();

/// What guests of this host see of CPUID.
pub fn policy() -> &'static Policy {
    POLICY.call_once(|| {
        let scale = crate::time::tsc_scale();
        let khz = crate::time::tsc_khz();
        Policy::new(
            &HostCpu,
            TimeFacts {
                tsc_khz: khz,
                cpu_khz: khz,
                mul: scale.mul_frac,
                shift: scale.shift,
                tsc_safe: crate::time::tsc_is_invariant(),
            },
        )
    })
}
