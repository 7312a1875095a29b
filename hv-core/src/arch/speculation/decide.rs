//! From facts and choices to a plan.

use super::Facts;
use super::bits::{
    EFER_AIBRSE, LFENCE_SERIALISES, NO_BRANCH_PREDICTION, SPEC_REDUCE, TSX_OFF, ZENBLEED, caps,
    ext8b, ext21a, ext21c, leaf1c, leaf7_2d, leaf7b, leaf7d, mcu_opt, msr, spec_ctrl,
};
use super::choices::{Choices, Sequence};
use super::models::{self, Mds};
use super::plan::{Change, Plan, SpecCtrl, Warning, enter, idle, leave};
use heapless::Vec;

/// Decides.
#[must_use]
pub fn decide(f: &Facts, c: &Choices) -> Plan {
    let mut plan = Plan {
        spec_ctrl: SpecCtrl::Absent,
        value: 0,
        guest_value: 0,
        offer_spec_ctrl: false,
        enter: 0,
        enter_dom0: 0,
        leave: 0,
        idle: 0,
        ibpb_between_domains: false,
        ibpb_keeps_returns: false,
        isolate: isolate(f, c),
        check_absent: c.l1tf.unwrap_or(models::l1tf(f)),
        hide_avx: false,
        sequence: Sequence::Nothing,
        changes: Vec::new(),
        warnings: Vec::new(),
    };
    branches(f, c, &mut plan);
    history(f, c, &mut plan);
    returns(f, c, &mut plan);
    barriers(f, c, &mut plan);
    switching(f, c, &mut plan);
    buffers(f, c, &mut plan);
    gather(f, c, &mut plan);
    amd(f, c, &mut plan);
    warn(f, c, &mut plan);
    plan
}

impl Plan {
    fn change(&mut self, msr: u32, clear: u64, set: u64, what: &'static str) {
        let change = Change {
            msr,
            clear,
            set,
            what,
        };
        self.changes.push(change).expect("room for every change");
    }

    fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning).expect("room for every warning");
    }
}

/// Tables are planted alike for every domain, so one that asks is enough.
fn isolate(f: &Facts, c: &Choices) -> bool {
    let leaks = models::meltdown(f);
    c.xpti_dom0.unwrap_or(leaks) || c.xpti_domu.unwrap_or(leaks)
}

/// The hypervisor's value of `SPEC_CTRL`: IBRS, STIBP, SSBD, PSFD.
fn branches(f: &Facts, c: &Choices, plan: &mut Plan) {
    let exists = f.has_spec_ctrl();
    let ibrs = exists && c.ibrs.unwrap_or(true);
    let automatic = ibrs && f.ext21a & ext21a::AUTO_IBRS != 0;
    if automatic {
        plan.change(msr::EFER, 0, EFER_AIBRSE, "automatic IBRS");
    } else if ibrs {
        plan.value |= spec_ctrl::IBRS;
    }
    // IBRS implies STIBP. AMD needs it against branch type confusion; on Intel without IBRS it
    // costs more than it is worth.
    let stibp = c.stibp.unwrap_or(ibrs || f.ext8b & ext8b::STIBP != 0);
    if stibp && f.has_stibp() {
        plan.value |= spec_ctrl::STIBP;
    }
    let ssbd = c.ssbd == Some(true) && f.has_ssbd();
    if ssbd {
        plan.value |= spec_ctrl::SSBD;
    }
    let psfd = f.ext8b & ext8b::PSFD != 0 || f.leaf7_2d & leaf7_2d::PSFD != 0;
    if psfd && c.psfd.unwrap_or(ssbd) {
        plan.value |= spec_ctrl::PSFD;
    }
}

/// Branch history injection: hardware's switch where there is one, else a sequence of branches.
fn history(f: &Facts, c: &Choices, plan: &mut Plan) {
    let leaks = models::bhi(f);
    let switch = f.leaf7_2d & leaf7_2d::BHI_CTRL != 0 && c.bhi_dis_s.unwrap_or(leaks);
    if switch {
        plan.value |= spec_ctrl::BHI_DIS_S;
    }
    plan.sequence = c.bhb_seq.unwrap_or(if leaks && !switch {
        Sequence::Short
    } else {
        Sequence::Nothing
    });
    let bit = match plan.sequence {
        Sequence::Nothing => 0,
        Sequence::Short => enter::HISTORY_SHORT,
        Sequence::Long => enter::HISTORY_LONG,
    };
    if c.bhb_entry.unwrap_or(leaks) {
        plan.enter |= bit;
    }
    if c.bhb_entry_dom0 == Some(true) {
        plan.enter_dom0 |= bit;
    }
}

/// Return addresses that a guest left in the return stack: SMEP stops them, if whole ones are kept.
fn returns(f: &Facts, c: &Choices, plan: &mut Plan) {
    let refill = c
        .rsb
        .unwrap_or(!f.around.smep || !models::returns_are_whole(f));
    if refill {
        plan.enter |= enter::RETURNS;
        plan.enter_dom0 |= enter::RETURNS;
    } else if c.rsb.is_none() && f.is_zen1_or_2() && f.around.smt {
        // A thread that halts leaves its part of the stack to its sibling.
        plan.idle |= idle::RETURNS;
    }
}

/// IBPB: on entry against branch type confusion and SRSO (AMD), else between domains.
fn barriers(f: &Facts, c: &Choices, plan: &mut Plan) {
    if !f.has_ibpb() {
        return;
    }
    let mut needed = false;
    if f.is_amd() {
        plan.ibpb_keeps_returns = f.ext8b & ext8b::IBPB_RET == 0;
        let overflows = !f.srso_no() && f.ext21a & ext21a::SRSO_US_NO == 0;
        needed = !f.btc_no() || overflows && f.ibpb_brtype();
    }
    if c.ibpb_entry.unwrap_or(needed) {
        plan.enter |= enter::IBPB;
    }
    if c.ibpb_entry_dom0 == Some(true) {
        plan.enter_dom0 |= enter::IBPB;
    }
    plan.ibpb_between_domains = c.ibpb.unwrap_or(true);
}

const fn spec_reduce(c: &Choices) -> bool {
    !matches!(c.bp_spec_reduce, Some(false))
}

/// Whether `SPEC_CTRL` changes at each entry, and what guests get of it.
fn switching(f: &Facts, c: &Choices, plan: &mut Plan) {
    if !f.has_spec_ctrl() {
        return;
    }
    let virtualise = c.msr_sc.unwrap_or(true);
    let intel = f.leaf7d & leaf7d::IBRSB != 0;
    plan.offer_spec_ctrl = intel && virtualise;
    // AMD: IBRS that is not to be left on has to be written by more privileged code.
    let rewrite = plan.value & spec_ctrl::IBRS != 0 && f.ext8b & ext8b::IBRS_ALWAYS == 0;
    let switched = if intel { virtualise } else { rewrite };
    if !switched {
        plan.spec_ctrl = SpecCtrl::Fixed;
        plan.guest_value = plan.value;
        return;
    }
    plan.spec_ctrl = SpecCtrl::Switched;
    plan.enter |= enter::SPEC_CTRL;
    plan.enter_dom0 |= enter::SPEC_CTRL;
    plan.leave |= leave::SPEC_CTRL;
    plan.guest_value = if intel {
        // A guest's sibling may be another domain. Where STIBP costs little it is not left to guests.
        let cheap = f.says(caps::EIBRS) && f.around.smt || c.stibp == Some(true);
        plan.value & if cheap { spec_ctrl::STIBP } else { 0 }
    } else {
        plan.value & !spec_ctrl::IBRS
    };
    // IBRS by microcode slows the sibling thread down, also while this one halts.
    if intel && !f.says(caps::EIBRS) && f.around.smt && plan.value != 0 {
        plan.idle |= idle::SPEC_CTRL;
    }
}

/// `verw` does something, and it is worth it (Xen: "useful MD_CLEAR").
fn md_clear(f: &Facts) -> bool {
    f.leaf7d & leaf7d::MD_CLEAR != 0 && models::mds(f) != Mds::No
}

/// Buffers that leak: MDS, TAA, MMIO stale data, RFDS (Intel), TSA (AMD).
fn buffers(f: &Facts, c: &Choices, plan: &mut Plan) {
    let (verw_clear, tsa_sq_no) = tsa(f);
    let mmio = c.unpriv_mmio == Some(true) && f.says(caps::FB_CLEAR);
    let clear = c
        .verw
        .unwrap_or(md_clear(f) || f.says(caps::RFDS_CLEAR) || verw_clear);
    // A domain may be given a device, so what helps only those that have one is done for all.
    if clear || mmio {
        plan.leave |= leave::VERW;
    }
    let halves = clear && (md_clear(f) || verw_clear && !tsa_sq_no) || mmio;
    if halves && f.around.smt {
        plan.idle |= idle::VERW;
    }
    transactions(f, c, plan);
    random_numbers(f, c, plan);
}

/// Whether `verw` clears what TSA leaks, and whether the store queue does not leak.
pub(super) fn tsa(f: &Facts) -> (bool, bool) {
    let said = f.ext21a & ext21a::VERW_CLEAR != 0;
    let sq_no = f.ext21c & ext21c::TSA_SQ_NO != 0;
    let known = sq_no || f.ext21c & ext21c::TSA_L1_NO != 0;
    if !f.is_amd() || f.family == 0x18 || f.virtualised() || known {
        return (said, sq_no);
    }
    if f.family != 0x19 {
        return (said, true);
    }
    let fixed = models::tsa_microcode(f).is_some_and(|first| f.microcode >= first);
    (said || fixed, false)
}

/// TAA: where buffers would have to be cleared for transactions alone, there are none.
fn transactions(f: &Facts, c: &Choices, plan: &mut Plan) {
    if !f.says(caps::TSX_CTRL) {
        return;
    }
    let leaks = f.says(caps::MDS_NO) && !f.says(caps::TAA_NO);
    let on = c.tsx.unwrap_or(!leaks);
    let (clear, set) = if on { (TSX_OFF, 0) } else { (0, TSX_OFF) };
    plan.change(
        msr::TSX_CTRL,
        clear,
        set,
        if on {
            "transactions on"
        } else {
            "transactions off (TAA)"
        },
    );
}

/// SRBDS: the random number generator's results are protected, unless nobody could sample them.
fn random_numbers(f: &Facts, c: &Choices, plan: &mut Plan) {
    if f.leaf7d & leaf7d::SRBDS_CTRL == 0 {
        return;
    }
    let off = plan
        .changes
        .iter()
        .any(|change| change.msr == msr::TSX_CTRL && change.set != 0);
    let no_tsx = f.leaf7b & leaf7b::HLE == 0 && !f.says(caps::TSX_CTRL) || off;
    let relaxed =
        c.unpriv_mmio != Some(true) && f.says(caps::MDS_NO) && !f.says(caps::TAA_NO) && no_tsx;
    let bit = mcu_opt::RNGDS_MITG_DIS;
    if c.srb_lock.unwrap_or(!relaxed) {
        plan.change(
            msr::MCU_OPT_CTRL,
            bit,
            0,
            "random numbers protected (SRBDS)",
        );
    } else {
        plan.change(
            msr::MCU_OPT_CTRL,
            0,
            bit,
            "random numbers not protected (SRBDS)",
        );
    }
}

/// GDS: microcode's switch; without it no AVX, which is what gathers with.
fn gather(f: &Facts, c: &Choices, plan: &mut Plan) {
    let leaks = models::gds(f);
    let wanted = c.gds_mit.unwrap_or(leaks);
    let bit = mcu_opt::GDS_MIT_DIS;
    if f.is_core() && f.says(caps::GDS_CTRL) && !f.says(caps::GDS_NO) {
        let is_on = f.mcu_opt & bit == 0;
        if f.mcu_opt & mcu_opt::GDS_MIT_LOCK != 0 {
            if c.gds_mit.is_some_and(|wanted| wanted != is_on) {
                plan.warn(Warning::GdsLocked);
            }
        } else if wanted {
            plan.change(msr::MCU_OPT_CTRL, bit, 0, "gathers mitigated (GDS)");
        } else {
            plan.change(msr::MCU_OPT_CTRL, 0, bit, "gathers not mitigated (GDS)");
        }
        return;
    }
    // Beneath a hypervisor the model says nothing: AVX is hidden there only if asked for.
    let sure = c.gds_mit == Some(true) || !f.virtualised();
    if leaks && wanted && sure && f.leaf1c & leaf1c::AVX != 0 {
        plan.hide_avx = true;
        plan.warn(Warning::GdsHidesAvx);
    }
}

/// What only AMD's CPUs need.
fn amd(f: &Facts, c: &Choices, plan: &mut Plan) {
    // Xen goes by the model alone. An emulator's divider keeps nothing.
    let divider = f.is_zen1() && !f.around.emulated;
    if c.div_scrub.unwrap_or(divider) {
        plan.leave |= leave::DIVIDE;
    }
    if !f.is_amd() {
        return;
    }
    if f.ext21a & ext21a::LFENCE == 0 && f.family != 0xf && f.family != 0x11 {
        plan.change(msr::DE_CFG, 0, LFENCE_SERIALISES, "lfence waits");
    }
    if let Some(fixed) = models::zenbleed(f) {
        if f.microcode < fixed {
            plan.change(msr::DE_CFG, 0, ZENBLEED, "moves not eliminated (Zenbleed)");
        } else {
            plan.change(msr::DE_CFG, ZENBLEED, 0, "Zenbleed mended by microcode");
        }
    }
    let zen2 = f.family == 0x17 && f.ext8b & ext8b::STIBP != 0 && !f.virtualised();
    if zen2 && c.ibpb_entry != Some(false) {
        plan.change(
            msr::DE_CFG2,
            0,
            NO_BRANCH_PREDICTION,
            "no prediction of what is no branch",
        );
    }
    if f.ext21a & ext21a::SRSO_MSR_FIX != 0 && spec_reduce(c) {
        plan.change(
            msr::BP_CFG,
            0,
            SPEC_REDUCE,
            "returns speculated less (SRSO)",
        );
    }
    ssbd(f, c, plan);
}

/// SSBD where `SPEC_CTRL` has it not: a hypervisor's register, or a bit of the load-store unit.
/// Source: AMD, "Speculative Store Bypass Disable".
fn ssbd(f: &Facts, c: &Choices, plan: &mut Plan) {
    if f.ext8b & (ext8b::SSB_NO | ext8b::SSBD) != 0 {
        return;
    }
    let on = c.ssbd == Some(true);
    let what = if on { "SSBD on" } else { "SSBD off" };
    let (msr, bit) = if f.ext8b & ext8b::VIRT_SSBD != 0 {
        (msr::VIRT_SPEC_CTRL, spec_ctrl::SSBD)
    } else {
        let bit = match f.family {
            0x15 => 54,
            0x16 => 33,
            0x17 | 0x18 => 10,
            _ => return,
        };
        (msr::LS_CFG, 1 << bit)
    };
    let (clear, set) = if on { (0, bit) } else { (bit, 0) };
    plan.change(msr, clear, set, what);
}

/// What a person should know.
fn warn(f: &Facts, c: &Choices, plan: &mut Plan) {
    let siblings = f.around.smt && c.smt.is_none();
    if siblings && models::l1tf(f) {
        plan.warn(Warning::SiblingsL1tf);
    }
    if siblings && models::mds(f) == Mds::All {
        plan.warn(Warning::SiblingsMds);
    }
    if siblings && f.is_zen1() && !f.virtualised() {
        plan.warn(Warning::SiblingsDivider);
    }
    if f.is_amd() && f.family == 0x19 && !f.virtualised() && !f.around.sbpb {
        plan.warn(Warning::SrsoMicrocode);
    }
    if !f.has_spec_ctrl() && c.ibrs != Some(false) && !f.around.emulated {
        plan.warn(Warning::NoIbrs);
    }
}

#[cfg(test)]
mod tests;
