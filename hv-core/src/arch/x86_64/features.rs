//! What the CPU can do.
//!
//! Source: Intel SDM vol. 2 (CPUID), AMD APM vol. 3 appendix E.
#![allow(unsafe_code, reason = "reads an MSR whose presence CPUID promises")]

use crate::arch::apic_timer::TimerCpu;
use crate::arch::speculation::{Vendor, model_of};
use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::registers::model_specific::Msr;

/// Who pretends to be the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// QEMU's software emulation.
    Tcg,
    /// KVM.
    Kvm,
    /// Anyone else.
    Other,
}

/// XSAVE's facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xsave {
    /// XCR0 bits there are.
    pub xcr0: u64,
    /// Bytes of a save area for all of them.
    pub area: u32,
    /// XSAVEOPT exists.
    pub xsaveopt: bool,
}

/// The facts the hypervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are feature bits")]
pub struct Features {
    /// Maker.
    pub vendor: Vendor,
    /// Family, extended family included.
    pub family: u32,
    /// Model, extended model included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Revision of the microcode of an Intel CPU with no hypervisor beneath; otherwise, and if
    /// none was loaded, 0.
    pub microcode: u32,
    /// Hypervisor beneath us.
    pub hypervisor: Option<Hypervisor>,
    /// Physical address width in bits.
    pub physical_bits: u32,
    /// No-execute pages.
    pub nx: bool,
    /// 1 GiB pages.
    pub gigabyte_pages: bool,
    /// SMEP.
    pub smep: bool,
    /// SMAP.
    pub smap: bool,
    /// RDFSBASE and its kin.
    pub fsgsbase: bool,
    /// XSAVE.
    pub xsave: Option<Xsave>,
    /// x2APIC mode.
    pub x2apic: bool,
    /// The APIC timer can compare with the TSC. Whether it should: [`Features::timer_cpu`].
    pub tsc_deadline: bool,
    /// TSC neither stops nor changes rate.
    pub invariant_tsc: bool,
    /// RDTSCP.
    pub rdtscp: bool,
    /// CPUID can be made to fault in guests (Intel).
    pub cpuid_faulting: bool,
}

impl Features {
    /// Asks the CPU that runs.
    #[must_use]
    pub fn detect() -> Self {
        let leaf0 = __cpuid(0);
        let vendor = Vendor::of(&vendor_string(leaf0.ebx, leaf0.edx, leaf0.ecx));
        let leaf1 = __cpuid(1);
        let (family, model, stepping) = model_of(leaf1.eax);
        let leaf7 = leaf(leaf0.eax, 7);
        let top = __cpuid(0x8000_0000).eax;
        let ext1 = leaf(top, 0x8000_0001);
        let ext7 = leaf(top, 0x8000_0007);
        let ext8 = leaf(top, 0x8000_0008);
        let hypervisor = (leaf1.ecx >> 31 & 1 != 0).then(hypervisor);
        Self {
            vendor,
            family,
            model,
            stepping,
            microcode: if vendor == Vendor::Intel && hypervisor.is_none() {
                intel_microcode()
            } else {
                0
            },
            hypervisor,
            physical_bits: match ext8.eax & 0xff {
                0 => 36,
                bits => bits.min(52),
            },
            nx: ext1.edx >> 20 & 1 != 0,
            gigabyte_pages: ext1.edx >> 26 & 1 != 0,
            smep: leaf7.ebx >> 7 & 1 != 0,
            smap: leaf7.ebx >> 20 & 1 != 0,
            fsgsbase: leaf7.ebx & 1 != 0,
            xsave: (leaf1.ecx >> 26 & 1 != 0).then(xsave),
            x2apic: leaf1.ecx >> 21 & 1 != 0,
            tsc_deadline: leaf1.ecx >> 24 & 1 != 0,
            invariant_tsc: ext7.edx >> 8 & 1 != 0,
            rdtscp: ext1.edx >> 27 & 1 != 0,
            cpuid_faulting: vendor == Vendor::Intel && has_cpuid_faulting(hypervisor),
        }
    }

    /// What the choice of the timer's mode hangs on.
    #[must_use]
    pub fn timer_cpu(&self) -> TimerCpu {
        TimerCpu {
            tsc_deadline: self.tsc_deadline,
            bare_intel: self.vendor == Vendor::Intel && self.hypervisor.is_none(),
            family: self.family,
            model: self.model,
            stepping: self.stepping,
            microcode: self.microcode,
        }
    }

    /// Whether CR4.SMAP can be set. QEMU before 8.0 reads the stack of a CPL 3 `iretq`
    /// with supervisor rights, so that guests die of SMAP there; `qemu` is its release
    /// as far as it is known. The hypervisor does not dereference guest addresses (it
    /// walks guest tables and reads through the direct map), so SMAP guards only
    /// against its own errors.
    #[must_use]
    pub fn can_use_smap(&self, qemu: Option<(u32, u32)>) -> bool {
        let emulation_is_wrong =
            self.hypervisor == Some(Hypervisor::Tcg) && qemu.is_none_or(|release| release < (8, 0));
        self.smap && !emulation_is_wrong
    }
}

/// CR4 bits that keep the hypervisor from running or reading user pages.
static PROTECTION: AtomicU64 = AtomicU64::new(0);

/// Chooses the protections every CPU turns on (see [`protection`]).
pub fn set_protection(smep: bool, smap: bool) {
    let bits = u64::from(smep) << 20 | u64::from(smap) << 21;
    PROTECTION.store(bits, Ordering::Relaxed);
}

/// The CR4 bits (SMEP, SMAP) chosen for all CPUs.
#[must_use]
pub fn protection() -> u64 {
    PROTECTION.load(Ordering::Relaxed)
}

fn leaf(top: u32, number: u32) -> CpuidResult {
    if top < number {
        CpuidResult {
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
        }
    } else {
        __cpuid_count(number, 0)
    }
}

fn vendor_string(a: u32, b: u32, c: u32) -> [u8; 12] {
    let mut s = [0; 12];
    for (part, word) in s.chunks_exact_mut(4).zip([a, b, c]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    s
}

/// The revision of the loaded microcode: CPUID writes it into an MSR that was cleared before.
/// Source: Intel SDM vol. 3, 10.11.7.1.
pub(super) fn intel_microcode() -> u32 {
    let mut sign_id = Msr::new(0x8b);
    // SAFETY: every Intel CPU with 64-bit mode has `IA32_BIOS_SIGN_ID`; writing it has no effect
    // but this.
    unsafe {
        sign_id.write(0);
        let _ = __cpuid(1);
        (sign_id.read() >> 32) as u32
    }
}

fn hypervisor() -> Hypervisor {
    let r = __cpuid(0x4000_0000);
    match &vendor_string(r.ebx, r.ecx, r.edx) {
        b"TCGTCGTCGTCG" => Hypervisor::Tcg,
        b"KVMKVMKVM\0\0\0" => Hypervisor::Kvm,
        _ => Hypervisor::Other,
    }
}

fn xsave() -> Xsave {
    let main = __cpuid_count(0xd, 0);
    let sub1 = __cpuid_count(0xd, 1);
    Xsave {
        xcr0: u64::from(main.edx) << 32 | u64::from(main.eax),
        area: main.ecx.max(576),
        xsaveopt: sub1.eax & 1 != 0,
    }
}

/// Whether PLATFORM_INFO offers CPUID faulting. Not asked beneath a hypervisor: the
/// MSR may be missing there, and no CPUID bit tells.
fn has_cpuid_faulting(hypervisor: Option<Hypervisor>) -> bool {
    // SAFETY: every Intel CPU with 64-bit mode since Nehalem has PLATFORM_INFO; older
    // ones do not run without a hypervisor on anything this supports (no XSAVE).
    hypervisor.is_none()
        && __cpuid(1).ecx >> 26 & 1 != 0
        && unsafe { Msr::new(0xce).read() } >> 31 & 1 != 0
}
