//! What the CPU says of itself.

use super::bits::{caps, ext8b, ext21a, leaf1c, leaf7d, msr};

/// Who made the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD, and Hygon, whose CPUs are family 18h.
    Amd,
    /// Anyone else.
    Other,
}

impl Vendor {
    /// The vendor of CPUID's string.
    #[must_use]
    pub fn of(name: &[u8; 12]) -> Self {
        match name {
            b"GenuineIntel" => Self::Intel,
            b"AuthenticAMD" | b"HygonGenuine" => Self::Amd,
            _ => Self::Other,
        }
    }
}

/// Family, model and stepping of leaf 1 eax, extended parts included.
/// Source: Intel SDM volume 2, CPUID, figure 3-6.
#[must_use]
pub const fn model_of(eax: u32) -> (u32, u32, u32) {
    let base = eax >> 8 & 0xf;
    let family = if base == 0xf {
        base + (eax >> 20 & 0xff)
    } else {
        base
    };
    let low = eax >> 4 & 0xf;
    let model = if base == 6 || base == 0xf {
        (eax >> 16 & 0xf) << 4 | low
    } else {
        low
    };
    (family, model, eax & 0xf)
}

/// What CPUID does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Cores run several threads each.
    pub smt: bool,
    /// The hypervisor runs with SMEP.
    pub smep: bool,
    /// `PRED_CMD.SBPB` can be written (asked of AMD's family 19h only).
    pub sbpb: bool,
    /// An emulator that runs one instruction at a time (QEMU's TCG).
    pub emulated: bool,
}

/// Everything the decisions rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Maker.
    pub vendor: Vendor,
    /// Family, extended part included.
    pub family: u32,
    /// Model, extended part included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Microcode revision; 0 if not known.
    pub microcode: u32,
    /// Leaf 1 ecx.
    pub leaf1c: u32,
    /// Leaf 7.0 ebx.
    pub leaf7b: u32,
    /// Leaf 7.0 edx.
    pub leaf7d: u32,
    /// Leaf 7.2 edx.
    pub leaf7_2d: u32,
    /// Leaf 80000008 ebx.
    pub ext8b: u32,
    /// Leaf 80000021 eax.
    pub ext21a: u32,
    /// Leaf 80000021 ecx.
    pub ext21c: u32,
    /// `ARCH_CAPABILITIES`; 0 if there is none.
    pub caps: u64,
    /// `MCU_OPT_CTRL`; 0 if there is none.
    pub mcu_opt: u64,
    /// What CPUID does not say.
    pub around: Surroundings,
}

impl Facts {
    /// Asks the CPU. `cpuid` takes leaf and subleaf and answers `eax ebx ecx edx`; `rdmsr` answers
    /// `None` where the CPU faults; `microcode` is the revision in use.
    pub fn read(
        cpuid: impl Fn(u32, u32) -> [u32; 4],
        rdmsr: impl Fn(u32) -> Option<u64>,
        microcode: u32,
        around: Surroundings,
    ) -> Self {
        let zero = cpuid(0, 0);
        let top = cpuid(0x8000_0000, 0)[0];
        let leaf = |n: u32, sub: u32| {
            let last = if n < 0x8000_0000 { zero[0] } else { top };
            if n <= last { cpuid(n, sub) } else { [0; 4] }
        };
        let mut name = [0; 12];
        for (part, word) in name.chunks_exact_mut(4).zip([zero[1], zero[3], zero[2]]) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let one = leaf(1, 0);
        let (family, model, stepping) = model_of(one[0]);
        let seven = leaf(7, 0);
        let seven2 = if seven[0] >= 2 { leaf(7, 2) } else { [0; 4] };
        let more = leaf(0x8000_0021, 0);
        let mut facts = Self {
            vendor: Vendor::of(&name),
            family,
            model,
            stepping,
            microcode,
            leaf1c: one[2],
            leaf7b: seven[1],
            leaf7d: seven[3],
            leaf7_2d: seven2[3],
            ext8b: leaf(0x8000_0008, 0)[1],
            ext21a: more[0],
            ext21c: more[2],
            caps: 0,
            mcu_opt: 0,
            around,
        };
        if facts.leaf7d & leaf7d::ARCH_CAPS != 0 {
            facts.caps = rdmsr(msr::ARCH_CAPABILITIES).unwrap_or(0);
        }
        if facts.caps & caps::GDS_CTRL != 0 || facts.leaf7d & leaf7d::SRBDS_CTRL != 0 {
            facts.mcu_opt = rdmsr(msr::MCU_OPT_CTRL).unwrap_or(0);
        }
        facts
    }

    /// Whether a hypervisor is beneath, so that the model may be another than it says.
    #[must_use]
    pub const fn virtualised(&self) -> bool {
        self.leaf1c & leaf1c::HYPERVISOR != 0
    }

    /// AMD or Hygon.
    #[must_use]
    pub fn is_amd(&self) -> bool {
        self.vendor == Vendor::Amd
    }

    /// Intel's family 6, the only one of Intel's with most of these leaks.
    #[must_use]
    pub fn is_core(&self) -> bool {
        self.vendor == Vendor::Intel && self.family == 6
    }

    /// Zen, Zen+ and Zen 2 (Hygon's too): family 17h and 18h.
    #[must_use]
    pub fn is_zen1_or_2(&self) -> bool {
        self.is_amd() && matches!(self.family, 0x17 | 0x18)
    }

    /// Zen and Zen+, by what their successor has.
    #[must_use]
    pub fn is_zen1(&self) -> bool {
        self.is_zen1_or_2() && self.ext8b & ext8b::STIBP == 0
    }

    /// Whether `ARCH_CAPABILITIES` has this bit.
    #[must_use]
    pub const fn says(&self, bit: u64) -> bool {
        self.caps & bit != 0
    }

    /// `SPEC_CTRL` exists.
    #[must_use]
    pub const fn has_spec_ctrl(&self) -> bool {
        self.leaf7d & leaf7d::IBRSB != 0 || self.ext8b & ext8b::IBRS != 0
    }

    /// `PRED_CMD.IBPB` exists.
    #[must_use]
    pub const fn has_ibpb(&self) -> bool {
        self.leaf7d & leaf7d::IBRSB != 0 || self.ext8b & ext8b::IBPB != 0
    }

    /// `SPEC_CTRL.STIBP` exists.
    #[must_use]
    pub const fn has_stibp(&self) -> bool {
        self.leaf7d & leaf7d::STIBP != 0 || self.ext8b & ext8b::STIBP != 0
    }

    /// `SPEC_CTRL.SSBD` exists.
    #[must_use]
    pub const fn has_ssbd(&self) -> bool {
        self.leaf7d & leaf7d::SSBD != 0 || self.ext8b & ext8b::SSBD != 0
    }

    /// No branch type confusion. Zen 3 had none before there was a bit to say so.
    #[must_use]
    pub fn btc_no(&self) -> bool {
        let zen3 = self.is_amd() && self.family == 0x19 && !self.virtualised();
        zen3 || self.ext8b & ext8b::BTC_NO != 0
    }

    /// The return stack does not overflow. On Zen 1 and 2 it cannot with one thread a core.
    #[must_use]
    pub fn srso_no(&self) -> bool {
        let one_thread = self.is_zen1_or_2() && !self.virtualised() && !self.around.smt;
        one_thread || self.ext21a & ext21a::SRSO_NO != 0
    }

    /// IBPB forgets types of branches too: said, or known of Zen 1 and 2, or shown by newer
    /// microcode of Zen 3 and 4.
    #[must_use]
    pub fn ibpb_brtype(&self) -> bool {
        let known = self.is_amd()
            && !self.virtualised()
            && match self.family {
                0x19 => self.around.sbpb,
                family => family < 0x19 && self.ext8b & ext8b::IBPB != 0,
            };
        known || self.ext21a & ext21a::IBPB_BRTYPE != 0
    }
}
