//! What guests are told of speculation, and which of its registers they have.
//!
//! A PV guest on Xen 4.17 sees what Xen's `cpufeatureset.h` marks with `A`; what the hypervisor
//! knows without the CPU saying so is told too. `SPEC_CTRL` is offered on Intel's CPUs only.

use super::bits::{
    caps, ext8b, ext21a, ext21c, leaf7_2d, leaf7d, mcu_opt, msr, pred_cmd, spec_ctrl,
};
use super::decide::tsa;
use super::models;
use super::{Facts, Plan};

/// Bits that guests see. Each word has those of speculation only; they come on top of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
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
    /// `ARCH_CAPABILITIES`.
    pub caps: u64,
    /// Whether AVX is hidden.
    pub hide_avx: bool,
}

impl Shown {
    /// What guests see under this plan.
    #[must_use]
    pub fn new(f: &Facts, plan: &Plan) -> Self {
        let offered = |bits: u32| if plan.offer_spec_ctrl { bits } else { 0 };
        let (verw_clear, tsa_sq_no) = tsa(f);
        let known = |known: bool, bit: u32| if known { bit } else { 0 };
        let reduced = plan.changes.iter().any(|change| change.msr == msr::BP_CFG);
        let sbpb = f.ext21a & ext21a::SBPB != 0 || f.around.sbpb;
        Self {
            leaf7d: offered(leaf7d::IBRSB | leaf7d::STIBP | f.leaf7d & leaf7d::SSBD)
                | f.leaf7d & (leaf7d::MD_CLEAR | leaf7d::ARCH_CAPS),
            leaf7_2d: offered(f.leaf7_2d & leaf7_2d::PSFD) | f.leaf7_2d & leaf7_2d::MCDT_NO,
            ext8b: known(f.has_ibpb(), ext8b::IBPB)
                | known(f.is_amd() && f.btc_no(), ext8b::BTC_NO)
                | f.ext8b & (ext8b::SSB_NO | ext8b::IBPB_RET),
            ext21a: known(verw_clear, ext21a::VERW_CLEAR)
                | known(sbpb, ext21a::SBPB)
                | known(f.ibpb_brtype(), ext21a::IBPB_BRTYPE)
                | known(f.is_amd() && f.srso_no(), ext21a::SRSO_NO)
                // A PV guest's kernel is user mode to the CPU, so the bit is true only with this.
                | known(reduced, f.ext21a & ext21a::SRSO_US_NO),
            ext21c: f.ext21c & (ext21c::TSA_SQ_NO | ext21c::TSA_L1_NO)
                | known(
                    f.is_amd() && tsa_sq_no,
                    ext21c::TSA_SQ_NO | known(f.ext21c == 0, ext21c::TSA_L1_NO),
                ),
            caps: shown_caps(f, plan),
            hide_avx: plan.hide_avx,
        }
    }

    /// `SPEC_CTRL` bits that a guest may set, as its CPUID shows them; `None`: it has none.
    #[must_use]
    pub const fn spec_ctrl(leaf7d: u32, leaf7_2d: u32) -> Option<u64> {
        if leaf7d & leaf7d::IBRSB == 0 {
            return None;
        }
        let mut bits = spec_ctrl::IBRS | spec_ctrl::STIBP;
        if leaf7d & leaf7d::SSBD != 0 {
            bits |= spec_ctrl::SSBD;
        }
        if leaf7_2d & leaf7_2d::PSFD != 0 {
            bits |= spec_ctrl::PSFD;
        }
        Some(bits)
    }

    /// `PRED_CMD` bits that a guest may write; `None`: it has none.
    #[must_use]
    pub const fn pred_cmd(leaf7d: u32, ext8b: u32, ext21a: u32) -> Option<u64> {
        if leaf7d & leaf7d::IBRSB == 0 && ext8b & ext8b::IBPB == 0 {
            return None;
        }
        if ext21a & ext21a::SBPB == 0 {
            Some(pred_cmd::IBPB)
        } else {
            Some(pred_cmd::IBPB | pred_cmd::SBPB)
        }
    }
}

/// `ARCH_CAPABILITIES` as guests see it; 0 where the CPU has none.
fn shown_caps(f: &Facts, plan: &Plan) -> u64 {
    const PASSED: u64 = caps::RDCL_NO
        | caps::SSB_NO
        | caps::MDS_NO
        | caps::PSCHANGE_MC_NO
        | caps::TAA_NO
        | caps::SBDR_SSDP_NO
        | caps::FBSDP_NO
        | caps::PSDP_NO
        | caps::FB_CLEAR
        | caps::BHI_NO
        | caps::PBRSB_NO
        | caps::GDS_NO
        | caps::RFDS_NO
        | caps::RFDS_CLEAR;
    if f.leaf7d & leaf7d::ARCH_CAPS == 0 {
        return 0;
    }
    let mut shown = f.caps & PASSED;
    if plan.offer_spec_ctrl {
        shown |= f.caps & caps::EIBRS;
    }
    if f.says(caps::EIBRS | caps::RSBA | caps::RRSBA) || models::alternate_returns(f) {
        let eibrs = shown & caps::EIBRS != 0;
        shown |= if eibrs { caps::RRSBA } else { caps::RSBA };
    }
    let known = |bit: u64, yes: bool| if yes { bit } else { 0 };
    shown
        | known(caps::GDS_NO, f.is_core() && gathers_are_safe(f, plan))
        | known(caps::RFDS_NO, models::rfds_no(f))
        | known(caps::ITS_NO, models::its_no(f))
}

/// GDS: not subject to it, or mitigated.
fn gathers_are_safe(f: &Facts, plan: &Plan) -> bool {
    if !models::gds(f) {
        return true;
    }
    let last = plan
        .changes
        .iter()
        .rfind(|change| (change.clear | change.set) & mcu_opt::GDS_MIT_DIS != 0);
    let is_on = last.map_or(f.mcu_opt & mcu_opt::GDS_MIT_DIS == 0, |change| {
        change.set & mcu_opt::GDS_MIT_DIS == 0
    });
    f.says(caps::GDS_CTRL) && is_on
}
