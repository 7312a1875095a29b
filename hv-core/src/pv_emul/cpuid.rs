//! What CPUID tells a guest.
//!
//! A [`Policy`] is made once from the host's leaves: features are an allow-list, as a
//! PV guest must not see what it cannot use (superpages, PCID, x2APIC and so on) nor
//! what the hypervisor does not switch between vCPUs. [`Policy::leaf`] then answers
//! for one vCPU.
//!
//! Feature names and positions: Xen `include/public/arch-x86/cpufeatureset.h`;
//! hypervisor leaves: `arch-x86/cpuid.h`; the rest: Intel SDM volume 2, CPUID, and AMD
//! APM volume 3, appendix E.

use super::control::{self, CR4_OSXSAVE};
use super::seam::{CpuidRegs, HostCpuid};
use crate::arch::speculation::Shown;
use crate::arch::speculation::bits::{caps, leaf7_2d, leaf7d};
use crate::arch::xcr0::{XSTATE_AVX, XSTATE_AVX512, Xcr0};

/// Maker of the CPU, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD, or Hygon.
    Amd,
    /// Someone else.
    Other,
}

/// A value with the bits listed set.
const fn bits(list: &[u32]) -> u32 {
    let mut value = 0;
    let mut n = 0;
    while n < list.len() {
        value |= 1 << list[n];
        n += 1;
    }
    value
}

/// Leaf 1 edx: all but VME, PSE, MTRR, PGE, PSE36, PSN, DS, TM, IA64 and PBE.
const ALLOW_1D: u32 = bits(&[
    0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 19, 22, 23, 24, 25, 26, 27, 28,
]);
/// Leaf 1 edx: MTRR, shown to the hardware domain's kernel.
const MTRR: u32 = 1 << 12;
/// Leaf 1 ecx: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES,
/// XSAVE, AVX, F16C, RDRAND.
const ALLOW_1C: u32 = bits(&[0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// Leaf 1 ecx: EIST, shown to the hardware domain's kernel.
const EIST: u32 = 1 << 7;
/// Leaf 1 ecx: XSAVE.
const XSAVE: u32 = 1 << 26;
/// Leaf 1 ecx: OSXSAVE.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 1 ecx: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 ecx bits that need AVX state: FMA, AVX, F16C.
const NEED_AVX_1C: u32 = bits(&[12, 28, 29]);
/// Leaf 7.0 ebx: FSGSBASE, BMI1, HLE, AVX2, FDP-on-exception, BMI2, ERMS, RTM, no FPU
/// selectors, AVX512 F/DQ, RDSEED, ADX, AVX512 IFMA, CLFLUSHOPT, CLWB, AVX512
/// PF/ER/CD, SHA, AVX512 BW/VL.
const ALLOW_7B: u32 = bits(&[
    0, 3, 4, 5, 6, 8, 9, 11, 13, 16, 17, 18, 19, 21, 23, 24, 26, 27, 28, 29, 30, 31,
]);
/// Leaf 7.0 ebx: FSGSBASE.
const FSGSBASE: u32 = 1 << 0;
/// Leaf 7.0 ebx: AVX2.
const NEED_AVX_7B: u32 = 1 << 5;
/// Leaf 7.0 ebx: AVX-512.
const NEED_AVX512_7B: u32 = bits(&[16, 17, 21, 26, 27, 28, 30, 31]);
/// Leaf 7.0 ecx: PREFETCHWT1, VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
/// VPOPCNTDQ, RDPID.
const ALLOW_7C: u32 = bits(&[0, 1, 6, 8, 9, 10, 11, 12, 14, 22]);
/// Leaf 7.0 ecx: VAES, VPCLMULQDQ.
const NEED_AVX_7C: u32 = bits(&[9, 10]);
/// Leaf 7.0 ecx: AVX-512.
const NEED_AVX512_7C: u32 = bits(&[1, 6, 11, 12, 14]);
/// Leaf 7.0 ecx: RDPID.
const RDPID: u32 = 1 << 22;
/// Leaf 7.0 edx: 4VNNIW, 4FMAPS, FSRM, MD_CLEAR, SERIALIZE.
const ALLOW_7D: u32 = bits(&[2, 3, 4, 10, 14]);
/// Leaf 7.0 edx: AVX-512.
const NEED_AVX512_7D: u32 = bits(&[2, 3]);
/// Leaf 7.1 eax: AVX-VNNI, AVX512-BF16, FZRM, FSRS, FSRCS.
const ALLOW_7_1A: u32 = bits(&[4, 5, 10, 11, 12]);
/// Leaf 7.1 eax: AVX-VNNI.
const NEED_AVX_7_1A: u32 = 1 << 4;
/// Leaf 7.1 eax: AVX512-BF16.
const NEED_AVX512_7_1A: u32 = 1 << 5;
/// Leaf d.1 eax: XSAVEOPT, XSAVEC, XGETBV(1). XSAVES is privileged.
const ALLOW_D1A: u32 = bits(&[0, 1, 2]);
/// Leaf 80000001 edx: SYSCALL, NX, MMXEXT, FFXSR, RDTSCP, LM, 3DNOWEXT, 3DNOW.
const ALLOW_E1D: u32 = bits(&[11, 20, 22, 25, 27, 29, 30, 31]);
/// Leaf 80000001 edx: bits AMD repeats from leaf 1.
const COMMON_1D: u32 = 0x0183_f3ff;
/// Leaf 80000001 edx: RDTSCP.
const RDTSCP: u32 = 1 << 27;
/// Leaf 80000001 ecx: LAHF, CMP_LEGACY, ABM, SSE4A, MISALIGNSSE, 3DNOWPREFETCH, XOP,
/// FMA4, TBM.
const ALLOW_E1C: u32 = bits(&[0, 1, 5, 6, 7, 8, 11, 16, 21]);
/// Leaf 80000001 ecx: XOP, FMA4.
const NEED_AVX_E1C: u32 = bits(&[11, 16]);
/// Leaf 80000007 edx: invariant TSC.
const ALLOW_E7D: u32 = 1 << 8;
/// Leaf 80000008 ebx: CLZERO, error pointers always saved, WBNOINVD.
const ALLOW_E8B: u32 = bits(&[0, 2, 9]);
/// Leaf 80000021 eax: LFENCE serialises, null selector clears base.
const ALLOW_E21A: u32 = bits(&[2, 6]);

/// Largest basic leaf shown.
const MAX_BASIC: u32 = 0xd;
/// First hypervisor leaf.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
/// Last hypervisor leaf.
const HYPERVISOR_LAST: u32 = 0x4000_0005;
/// First extended leaf.
const EXTENDED: u32 = 0x8000_0000;
/// Interface version: 4.17. Source: Xen's `XENVER_version`.
const XEN_VERSION: u32 = 4 << 16 | 17;
/// MSR that fills the hypercall page.
const HYPERCALL_MSR: u32 = 0x4000_0000;
/// Above this machine address width Linux would choose version 2 grant tables.
const MAX_ADDRESS_BITS: u32 = 44;

/// Clock facts that CPUID passes on; they match the guest's time area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeFacts {
    /// TSC frequency in kHz.
    pub tsc_khz: u32,
    /// CPU frequency in kHz.
    pub cpu_khz: u32,
    /// Multiplier from TSC ticks to ns (32.32 fraction).
    pub mul: u32,
    /// Shift before the multiplication.
    pub shift: i8,
    /// TSC is invariant and the same on all CPUs.
    pub tsc_safe: bool,
}

/// The vCPU that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Guest-controlled CR4 bits.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Belongs to the hardware domain.
    pub hardware_domain: bool,
    /// Guest kernel rather than guest user.
    pub kernel_mode: bool,
    /// Asked by the forced-emulation prefix.
    pub forced: bool,
}

/// What all guests of this host may see.
#[derive(Clone, Debug)]
pub struct Policy {
    vendor: Vendor,
    max_basic: u32,
    max_extended: u32,
    xcr0: u64,
    time: TimeFacts,
    /// Leaf 1 as any guest sees it (without OSXSAVE).
    leaf1: CpuidRegs,
    leaf7: CpuidRegs,
    leaf7_1a: u32,
    ext1: CpuidRegs,
    host_1: CpuidRegs,
    /// Leaf 80000007 edx and 80000008 ebx: what may be shown of the host's.
    ext7d: u32,
    ext8b: u32,
    /// What is said of speculation, on top of the rest.
    speculation: Shown,
    address_bits: u32,
}

impl Policy {
    /// The policy for a host. Not hot.
    #[must_use]
    pub fn new(host: &impl HostCpuid, time: TimeFacts) -> Self {
        let zero = host.cpuid(0, 0);
        let vendor = vendor(zero);
        let max_extended = match host.cpuid(EXTENDED, 0).eax {
            max if !(EXTENDED..=EXTENDED + 0xffff).contains(&max) => EXTENDED,
            max => max.min(if vendor == Vendor::Amd {
                EXTENDED + 0x21
            } else {
                EXTENDED + 8
            }),
        };
        let leaf = |n: u32, sub: u32| {
            let max = if n < EXTENDED { zero.eax } else { max_extended };
            if n <= max {
                host.cpuid(n, sub)
            } else {
                CpuidRegs::default()
            }
        };
        let host_1 = leaf(1, 0);
        let states = leaf(0xd, 0);
        let xcr0 = if host_1.ecx & XSAVE == 0 {
            0
        } else {
            offered_states(states)
        };
        let no_avx = xcr0 & XSTATE_AVX == 0;
        let no_avx512 = xcr0 & XSTATE_AVX512 == 0;
        let strip = |need_avx: u32, need_avx512: u32| {
            !(if no_avx { need_avx } else { 0 } | if no_avx512 { need_avx512 } else { 0 })
        };

        let mut leaf1 = host_1;
        leaf1.ebx &= 0x00ff_ffff;
        leaf1.ecx &= ALLOW_1C & strip(NEED_AVX_1C, 0);
        if xcr0 == 0 {
            leaf1.ecx &= !XSAVE;
        }
        leaf1.ecx |= HYPERVISOR;
        leaf1.edx &= ALLOW_1D;

        let mut leaf7 = leaf(7, 0);
        leaf7.eax = leaf7.eax.min(1);
        leaf7.ebx &= ALLOW_7B & strip(NEED_AVX_7B, NEED_AVX512_7B);
        leaf7.ecx &= ALLOW_7C & strip(NEED_AVX_7C, NEED_AVX512_7C);
        leaf7.edx &= ALLOW_7D & strip(0, NEED_AVX512_7D);
        let leaf7_1a = if leaf7.eax >= 1 {
            leaf(7, 1).eax & ALLOW_7_1A & strip(NEED_AVX_7_1A, NEED_AVX512_7_1A)
        } else {
            0
        };

        let mut ext1 = leaf(EXTENDED + 1, 0);
        ext1.ecx &= ALLOW_E1C & strip(NEED_AVX_E1C, 0);
        ext1.edx &= ALLOW_E1D;
        if vendor == Vendor::Amd {
            ext1.edx |= leaf1.edx & COMMON_1D;
        }

        let address_bits = match leaf(EXTENDED + 8, 0).eax & 0xff {
            0 => 36,
            n => n,
        };
        Self {
            vendor,
            max_basic: zero.eax.min(MAX_BASIC),
            max_extended,
            xcr0,
            time,
            leaf1,
            leaf7,
            leaf7_1a,
            ext1,
            host_1,
            ext7d: ALLOW_E7D,
            ext8b: ALLOW_E8B,
            speculation: Shown::default(),
            address_bits,
        }
    }

    /// Shows what guests may know of speculation, and the registers that go with it.
    #[must_use]
    pub fn showing(mut self, shown: &Shown) -> Self {
        self.speculation = *shown;
        if self.leaf7.eax > 0 && shown.leaf7_2d != 0 {
            self.leaf7.eax = 2;
        }
        if shown.hide_avx {
            self.xcr0 &= !(XSTATE_AVX | XSTATE_AVX512);
        }
        self.settle();
        self
    }

    /// `SPEC_CTRL` bits that a guest may set; `None`: it does not have the register.
    #[must_use]
    pub const fn spec_ctrl(&self) -> Option<u64> {
        Shown::spec_ctrl(self.speculation.leaf7d, self.speculation.leaf7_2d)
    }

    /// `PRED_CMD` bits that a guest may write; `None`: it does not have the register.
    #[must_use]
    pub const fn pred_cmd(&self) -> Option<u64> {
        let shown = &self.speculation;
        Shown::pred_cmd(shown.leaf7d, shown.ext8b, shown.ext21a)
    }

    /// `ARCH_CAPABILITIES`; `None`: the guest does not have the register.
    #[must_use]
    pub const fn arch_capabilities(&self) -> Option<u64> {
        if self.speculation.leaf7d & leaf7d::ARCH_CAPS == 0 {
            None
        } else {
            Some(self.speculation.caps)
        }
    }

    /// Takes away the features that leaf `leaf`, `subleaf` of a tool's list does not have;
    /// what it has beyond them is not given. Other leaves say nothing of features.
    /// [`Policy::settle`] follows the last one.
    pub fn restrict(&mut self, leaf: u32, subleaf: u32, wanted: CpuidRegs) {
        match (leaf, subleaf) {
            (1, _) => {
                self.leaf1.ecx &= wanted.ecx | HYPERVISOR;
                self.leaf1.edx &= wanted.edx;
            }
            (7, 0) => {
                self.leaf7.eax = self.leaf7.eax.min(wanted.eax);
                self.leaf7.ebx &= wanted.ebx;
                self.leaf7.ecx &= wanted.ecx;
                self.leaf7.edx &= wanted.edx;
                self.speculation.leaf7d &= wanted.edx;
            }
            (7, 1) => self.leaf7_1a &= wanted.eax,
            (7, 2) => self.speculation.leaf7_2d &= wanted.edx,
            (0xd, 0) => self.xcr0 &= u64::from(wanted.edx) << 32 | u64::from(wanted.eax),
            (0x8000_0001, _) => {
                self.ext1.ecx &= wanted.ecx;
                self.ext1.edx &= wanted.edx;
            }
            (0x8000_0007, _) => self.ext7d &= wanted.edx,
            (0x8000_0008, _) => {
                self.ext8b &= wanted.ebx;
                self.speculation.ext8b &= wanted.ebx;
            }
            (0x8000_0021, _) => {
                self.speculation.ext21a &= wanted.eax;
                self.speculation.ext21c &= wanted.ecx;
            }
            _ => {}
        }
    }

    /// Makes what is left agree with itself: no state without XSAVE, no instruction without
    /// its state.
    pub fn settle(&mut self) {
        let avx512 = XSTATE_AVX | XSTATE_AVX512;
        if self.xcr0 & avx512 != avx512 {
            self.xcr0 &= !XSTATE_AVX512;
        }
        if self.leaf1.ecx & XSAVE == 0 || self.xcr0 & 3 != 3 {
            self.xcr0 = 0;
            self.leaf1.ecx &= !XSAVE;
        }
        if self.xcr0 & XSTATE_AVX == 0 {
            self.leaf1.ecx &= !NEED_AVX_1C;
            self.leaf7.ebx &= !NEED_AVX_7B;
            self.leaf7.ecx &= !NEED_AVX_7C;
            self.leaf7_1a &= !NEED_AVX_7_1A;
            self.ext1.ecx &= !NEED_AVX_E1C;
        }
        if self.xcr0 & XSTATE_AVX512 == 0 {
            self.leaf7.ebx &= !NEED_AVX512_7B;
            self.leaf7.ecx &= !NEED_AVX512_7C;
            self.leaf7.edx &= !NEED_AVX512_7D;
            self.leaf7_1a &= !NEED_AVX512_7_1A;
        }
        if self.leaf7.eax == 0 {
            self.leaf7_1a = 0;
        }
        self.settle_speculation();
    }

    /// Without `SPEC_CTRL` there are none of its bits.
    fn settle_speculation(&mut self) {
        let shown = &mut self.speculation;
        if self.leaf7.eax < 2 {
            shown.leaf7_2d = 0;
        }
        if shown.leaf7d & leaf7d::IBRSB == 0 {
            shown.leaf7d &= !(leaf7d::STIBP | leaf7d::SSBD);
            shown.leaf7_2d &= !leaf7_2d::PSFD;
            shown.caps &= !(caps::EIBRS | caps::RRSBA);
        }
        if self.max_extended < EXTENDED + 8 {
            shown.ext8b = 0;
        }
        if self.max_extended < EXTENDED + 0x21 {
            (shown.ext21a, shown.ext21c) = (0, 0);
        }
    }

    /// Maker of the CPU.
    #[must_use]
    pub const fn vendor(&self) -> Vendor {
        self.vendor
    }

    /// XCR0 bits a guest may set; 0 without XSAVE.
    #[must_use]
    pub const fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// CR4 bits a guest may set.
    #[must_use]
    pub const fn cr4(&self) -> u64 {
        control::cr4_allowed(self.leaf7.ebx & FSGSBASE != 0, self.xcr0 != 0)
    }

    /// Whether guests may use TSC_AUX.
    #[must_use]
    pub const fn has_tsc_aux(&self) -> bool {
        self.ext1.edx & RDTSCP != 0 || self.leaf7.ecx & RDPID != 0
    }

    /// Answers CPUID for one vCPU.
    #[must_use]
    pub fn leaf(&self, host: &impl HostCpuid, asker: &Asker, leaf: u32, subleaf: u32) -> CpuidRegs {
        let nothing = CpuidRegs::default();
        match leaf {
            0 => CpuidRegs {
                eax: self.max_basic,
                ..host.cpuid(0, 0)
            },
            HYPERVISOR_LEAF..=HYPERVISOR_LAST => self.hypervisor(leaf, subleaf),
            EXTENDED.. if leaf <= self.max_extended => self.extended(host, leaf),
            1.. if leaf > self.max_basic => nothing,
            1 => self.leaf1(asker),
            2 | 4 => host.cpuid(leaf, subleaf),
            7 => match subleaf {
                0 => CpuidRegs {
                    edx: self.leaf7.edx | self.speculation.leaf7d,
                    ..self.leaf7
                },
                1 => CpuidRegs {
                    eax: self.leaf7_1a,
                    ..nothing
                },
                2 => CpuidRegs {
                    edx: self.speculation.leaf7_2d,
                    ..nothing
                },
                _ => nothing,
            },
            0xd => self.states(host, asker, subleaf),
            // 3 serial number, 5 MWAIT, 6 power, 9 DCA, a PMU, b topology by x2APIC.
            _ => nothing,
        }
    }

    fn leaf1(&self, asker: &Asker) -> CpuidRegs {
        let mut regs = self.leaf1;
        let kernel_asks = asker.forced && asker.kernel_mode;
        // A kernel tests OSXSAVE by forced emulation before it ever sets CR4.OSXSAVE:
        // Xen has always let its own setting show there, and Linux relies on it.
        if regs.ecx & XSAVE != 0 && (asker.cr4 & CR4_OSXSAVE != 0 || kernel_asks) {
            regs.ecx |= OSXSAVE;
        }
        if asker.hardware_domain && asker.kernel_mode {
            regs.edx |= self.host_1.edx & MTRR;
            regs.ecx |= self.host_1.ecx & EIST;
        }
        regs
    }

    /// Leaf d: extended states.
    fn states(&self, host: &impl HostCpuid, asker: &Asker, subleaf: u32) -> CpuidRegs {
        let nothing = CpuidRegs::default();
        match subleaf {
            _ if self.xcr0 == 0 => nothing,
            0 => CpuidRegs {
                eax: self.xcr0 as u32,
                edx: (self.xcr0 >> 32) as u32,
                ebx: area_size(host, asker.xcr0 & self.xcr0),
                ecx: area_size(host, self.xcr0),
            },
            1 => CpuidRegs {
                eax: host.cpuid(0xd, 1).eax & ALLOW_D1A,
                ebx: area_size(host, asker.xcr0 & self.xcr0),
                ..nothing
            },
            2..64 if self.xcr0 >> subleaf & 1 != 0 => CpuidRegs {
                edx: 0,
                ..host.cpuid(0xd, subleaf)
            },
            _ => nothing,
        }
    }

    fn hypervisor(&self, leaf: u32, subleaf: u32) -> CpuidRegs {
        let nothing = CpuidRegs::default();
        let time = &self.time;
        match (leaf - HYPERVISOR_LEAF, subleaf) {
            (0, _) => CpuidRegs {
                eax: HYPERVISOR_LAST,
                ebx: u32::from_le_bytes(*b"XenV"),
                ecx: u32::from_le_bytes(*b"MMXe"),
                edx: u32::from_le_bytes(*b"nVMM"),
            },
            (1, _) => CpuidRegs {
                eax: XEN_VERSION,
                ..nothing
            },
            // One hypercall page, filled through its MSR; MMU_PT_UPDATE_PRESERVE_AD.
            (2, _) => CpuidRegs {
                eax: 1,
                ebx: HYPERCALL_MSR,
                ecx: 1,
                edx: 0,
            },
            (3, 0) => CpuidRegs {
                eax: u32::from(time.tsc_safe) << 1 | u32::from(self.ext1.edx & RDTSCP != 0) << 2,
                ecx: time.tsc_khz,
                ..nothing
            },
            (3, 1) => CpuidRegs {
                ecx: time.mul,
                edx: i32::from(time.shift).cast_unsigned() & 0xff,
                ..nothing
            },
            (3, 2) => CpuidRegs {
                eax: time.cpu_khz,
                ..nothing
            },
            (5, 0) => CpuidRegs {
                ebx: self.address_bits.min(MAX_ADDRESS_BITS),
                ..nothing
            },
            _ => nothing,
        }
    }

    fn extended(&self, host: &impl HostCpuid, leaf: u32) -> CpuidRegs {
        let nothing = CpuidRegs::default();
        match leaf - EXTENDED {
            0 => CpuidRegs {
                eax: self.max_extended,
                ..host.cpuid(leaf, 0)
            },
            1 => self.ext1,
            // 2-4 name; 5 and 6 caches; 19 and 1a TLBs for large pages and FP hints.
            2..=6 | 0x19 | 0x1a => host.cpuid(leaf, 0),
            7 => CpuidRegs {
                edx: host.cpuid(leaf, 0).edx & self.ext7d,
                ..nothing
            },
            8 => {
                let regs = host.cpuid(leaf, 0);
                CpuidRegs {
                    eax: regs.eax & 0xffff,
                    ebx: regs.ebx & self.ext8b | self.speculation.ext8b,
                    ecx: if self.vendor == Vendor::Amd {
                        regs.ecx & 0xf0ff
                    } else {
                        0
                    },
                    edx: 0,
                }
            }
            0x21 => CpuidRegs {
                eax: host.cpuid(leaf, 0).eax & ALLOW_E21A | self.speculation.ext21a,
                ecx: self.speculation.ext21c,
                ..nothing
            },
            _ => nothing,
        }
    }
}

fn vendor(leaf0: CpuidRegs) -> Vendor {
    let mut name = [0; 12];
    for (part, word) in name
        .chunks_exact_mut(4)
        .zip([leaf0.ebx, leaf0.edx, leaf0.ecx])
    {
        part.copy_from_slice(&word.to_le_bytes());
    }
    match &name {
        b"GenuineIntel" => Vendor::Intel,
        b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
        _ => Vendor::Other,
    }
}

/// XCR0 bits to offer, from host leaf d.0; 0 if it lacks even x87 and SSE.
fn offered_states(d0: CpuidRegs) -> u64 {
    let host = u64::from(d0.edx) << 32 | u64::from(d0.eax);
    match Xcr0::largest(host) {
        states if states < Xcr0::X87_SSE => 0,
        states => states.raw(),
    }
}

/// Bytes of a standard-format XSAVE area for `states`.
fn area_size(host: &impl HostCpuid, states: u64) -> u32 {
    (2..63)
        .filter(|n| states >> n & 1 != 0)
        .map(|n| {
            let part = host.cpuid(0xd, n);
            part.ebx.saturating_add(part.eax)
        })
        .fold(512 + 64, u32::max)
}

#[cfg(test)]
mod tests;
