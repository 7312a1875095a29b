//! MSRs a PV kernel may read or write.
//!
//! Whatever is not listed gets #GP: kernels probe with an exception handler in place.
//! Numbers: Intel SDM volume 4, AMD APM volume 2 appendix A; behaviour: Xen 4.17.

use super::cpuid::{Policy, Vendor};
use super::execute::CpuView;
use super::seam::{Base, GuestFrames, HostMsrs, Processor};
use crate::addr::{GuestVa, MachAddr};
use crate::arch::speculation::bits::EFER_AIBRSE;
use crate::arch::speculation::bits::msr::{ARCH_CAPABILITIES, PRED_CMD, SPEC_CTRL};

const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const FEATURE_CONTROL: u32 = 0x3a;
const UCODE_REV: u32 = 0x8b;
const PLATFORM_INFO: u32 = 0xce;
const MISC_FEATURES_ENABLES: u32 = 0x140;
const MCG_CAP: u32 = 0x179;
/// Machine checks as the Pentium reported them: with banks there is nothing in them.
const P5_MC_ADDR: u32 = 0;
const P5_MC_TYPE: u32 = 1;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
const PERF_STATUS: u32 = 0x198;
const PERF_CTL: u32 = 0x199;
const THERM_STATUS: u32 = 0x19c;
const MISC_ENABLE: u32 = 0x1a0;
const PAT: u32 = 0x277;
const MC0_CTL: u32 = 0x400;
const HYPERCALL_PAGE: u32 = 0x4000_0000;
const EFER: u32 = 0xc000_0080;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
const K7_PERF_FIRST: u32 = 0xc001_0000;
const K7_PERF_LAST: u32 = 0xc001_0007;
const SYSCFG: u32 = 0xc001_0010;
const HWCR: u32 = 0xc001_0015;
const TOP_MEM: u32 = 0xc001_001a;
const TOP_MEM2: u32 = 0xc001_001d;
const NB_CFG: u32 = 0xc001_001f;
const PSTATE_FIRST: u32 = 0xc001_0061;
const PSTATE_LAST: u32 = 0xc001_006b;
const DE_CFG: u32 = 0xc001_1029;

/// Machine-check banks shown.
const MC_BANKS: u32 = 2;
/// MCG_CAP: [`MC_BANKS`] banks, CMCI and software error recovery (bits 10, 11, 24).
const MCG_CAP_VALUE: u64 = 0x100_0c00 | MC_BANKS as u64;
/// EFER.SVME.
const EFER_SVME: u64 = 1 << 12;
/// MISC_ENABLE bits hidden: performance monitoring, MONITOR.
const MISC_ENABLE_HIDDEN: u64 = 1 << 7 | 1 << 18;
/// MISC_ENABLE bits shown: no BTS, no PEBS, xTPR messages off.
const MISC_ENABLE_SHOWN: u64 = 1 << 11 | 1 << 12 | 1 << 23;
/// APIC_BASE: enabled, at the architectural address.
const APIC_BASE_VALUE: u64 = 0xfee0_0800;
/// APIC_BASE: boot processor.
const APIC_BASE_BSP: u64 = 1 << 8;
/// DE_CFG: LFENCE serialises.
const DE_CFG_VALUE: u64 = 2;

/// The access is the guest's #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Reads `msr` for a guest kernel.
///
/// # Errors
/// [`Refused`] if the guest has no such MSR.
pub fn read(
    m: &(impl HostMsrs + Processor),
    policy: &Policy,
    cpu: &CpuView<'_>,
    msr: u32,
) -> Result<u64, Refused> {
    Ok(match msr {
        FS_BASE => m.base(Base::Fs),
        GS_BASE => m.base(Base::Gs),
        KERNEL_GS_BASE => m.base(Base::InactiveGs),
        TSC_AUX if policy.has_tsc_aux() => (*cpu.tsc_aux).into(),
        TSC => m.tsc(),
        EFER => m.read_msr(EFER).ok_or(Refused)? & !(EFER_SVME | EFER_AIBRSE),
        SPEC_CTRL if policy.spec_ctrl().is_some() => *cpu.spec_ctrl,
        ARCH_CAPABILITIES => policy.arch_capabilities().ok_or(Refused)?,
        PAT => crate::arch::PAT,
        APIC_BASE => APIC_BASE_VALUE | if cpu.boot_vcpu { APIC_BASE_BSP } else { 0 },
        P5_MC_ADDR | P5_MC_TYPE | HYPERCALL_PAGE | MCG_STATUS => 0,
        MCG_CAP => MCG_CAP_VALUE,
        MCG_CTL => u64::MAX,
        MC0_CTL.. if is_bank(msr) => match msr & 3 {
            0 => u64::MAX,
            _ => 0,
        },
        _ => match policy.vendor() {
            Vendor::Intel => read_intel(m, msr)?,
            Vendor::Amd => read_amd(m, cpu, msr)?,
            Vendor::Other => return Err(Refused),
        },
    })
}

/// Writes `msr` for a guest kernel.
///
/// # Errors
/// [`Refused`] if the guest has no such MSR or may not write this.
pub fn write(
    m: &mut (impl HostMsrs + Processor + GuestFrames),
    policy: &Policy,
    cpu: &mut CpuView<'_>,
    msr: u32,
    value: u64,
) -> Result<(), Refused> {
    let accepted = match msr {
        FS_BASE => return set_base(m, Base::Fs, value),
        GS_BASE => return set_base(m, Base::Gs, value),
        KERNEL_GS_BASE => return set_base(m, Base::InactiveGs, value),
        TSC_AUX if policy.has_tsc_aux() => {
            let value = u32::try_from(value).map_err(|_| Refused)?;
            *cpu.tsc_aux = value;
            m.load_tsc_aux(value);
            true
        }
        SPEC_CTRL => {
            let allowed = policy.spec_ctrl().ok_or(Refused)?;
            if value & !allowed != 0 {
                return Err(Refused);
            }
            *cpu.spec_ctrl = value;
            m.load_spec_ctrl(value);
            true
        }
        PRED_CMD => {
            let allowed = policy.pred_cmd().ok_or(Refused)?;
            if value & !allowed != 0 {
                return Err(Refused);
            }
            if value != 0 {
                m.command_prediction(value);
            }
            true
        }
        HYPERCALL_PAGE => {
            // Low bits are the index of the page, of which there is one.
            let frame = MachAddr::from_guest(value & !0xfff).ok_or(Refused)?.frame();
            value & 0xfff == 0 && m.fill_hypercall_page(frame).is_ok()
        }
        EFER | PAT => read(m, policy, cpu, msr) == Ok(value),
        P5_MC_ADDR | P5_MC_TYPE | TSC | MCG_STATUS | MCG_CTL => true,
        MC0_CTL.. if is_bank(msr) => true,
        _ => match policy.vendor() {
            Vendor::Intel => match msr {
                UCODE_REV | MISC_FEATURES_ENABLES => value == 0,
                MISC_ENABLE | PERF_CTL => true,
                _ => false,
            },
            Vendor::Amd => matches!(
                msr,
                HWCR | NB_CFG
                    | DE_CFG
                    | K7_PERF_FIRST..=K7_PERF_LAST
                    | PSTATE_FIRST..=PSTATE_LAST
            ),
            Vendor::Other => false,
        },
    };
    if accepted { Ok(()) } else { Err(Refused) }
}

const fn is_bank(msr: u32) -> bool {
    msr >= MC0_CTL && msr < MC0_CTL + 4 * MC_BANKS
}

fn set_base(m: &mut impl Processor, which: Base, value: u64) -> Result<(), Refused> {
    if !GuestVa(value).is_canonical() {
        return Err(Refused);
    }
    m.set_base(which, value);
    Ok(())
}

fn read_intel(m: &impl HostMsrs, msr: u32) -> Result<u64, Refused> {
    Ok(match msr {
        UCODE_REV => m.read_msr(msr).ok_or(Refused)?,
        MISC_ENABLE => m.read_msr(msr).ok_or(Refused)? & !MISC_ENABLE_HIDDEN | MISC_ENABLE_SHOWN,
        FEATURE_CONTROL => 1,
        PLATFORM_INFO | MISC_FEATURES_ENABLES | PERF_STATUS | PERF_CTL | THERM_STATUS => 0,
        _ => return Err(Refused),
    })
}

fn read_amd(m: &impl HostMsrs, cpu: &CpuView<'_>, msr: u32) -> Result<u64, Refused> {
    Ok(match msr {
        UCODE_REV => m.read_msr(msr).ok_or(Refused)?,
        HWCR | NB_CFG | K7_PERF_FIRST..=K7_PERF_LAST | PSTATE_FIRST..=PSTATE_LAST => 0,
        DE_CFG => DE_CFG_VALUE,
        SYSCFG | TOP_MEM | TOP_MEM2 if cpu.hardware_domain => m.read_msr(msr).ok_or(Refused)?,
        _ => return Err(Refused),
    })
}
