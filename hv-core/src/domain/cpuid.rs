//! What the guests of this host see of CPUID.

use super::Domain;
use crate::arch::machine;
use crate::fallible;
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

impl Domain {
    /// What the domain sees of CPUID: what every guest does, less what tools took away
    /// before it first ran.
    #[inline]
    pub fn cpu_policy(&self) -> &Policy {
        match self.cpuid.get() {
            Some(Some(own)) => own,
            _ => policy(),
        }
    }

    /// What it will see once it runs.
    #[must_use]
    pub fn planned_cpu_policy(&self) -> Policy {
        let account = self.life.account.lock();
        let planned = account.cpu_policy.as_deref();
        planned.unwrap_or_else(|| self.cpu_policy()).clone()
    }

    /// Lets `change` take features away, before the domain first runs.
    ///
    /// # Errors
    /// [`CannotRestrict`].
    pub fn restrict_cpu(&self, change: impl FnOnce(&mut Policy)) -> Result<(), CannotRestrict> {
        let mut planned = self.planned_cpu_policy();
        change(&mut planned);
        planned.settle();
        let planned = fallible::boxed(planned).map_err(|_| CannotRestrict::NoMemory)?;
        let mut account = self.life.account.lock();
        if self.cpuid.get().is_some() {
            return Err(CannotRestrict::HasRun);
        }
        account.cpu_policy = Some(planned);
        Ok(())
    }
}

/// Why a domain keeps its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotRestrict {
    /// It has run: what it has seen stays so.
    HasRun,
    /// There is no memory for a policy of its own.
    NoMemory,
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
        .showing(&machine::speculation::shown())
    })
}
