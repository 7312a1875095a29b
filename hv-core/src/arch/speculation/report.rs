//! What the boot log says: what the CPU has, and what is on.

use super::bits::{caps, ext8b, ext21a, ext21c, leaf7_2d, leaf7d, spec_ctrl};
use super::choices::Sequence;
use super::plan::{SpecCtrl, Warning, enter, idle, leave};
use super::{Facts, Plan};
use core::fmt;

/// Hands every line of the report to `line`.
pub fn report(f: &Facts, plan: &Plan, line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    line(format_args!("speculation:"));
    let immune = Words(|w| hints(f, w));
    line(format_args!("  the CPU says:{immune}"));
    let has = Words(|w| controls(f, w));
    line(format_args!("  the CPU offers:{has}"));
    let inside = Words(|w| inside(f, plan, w));
    line(format_args!("  in the hypervisor:{inside}"));
    line(format_args!(
        "  entries from domains:{}",
        entries(plan.enter)
    ));
    line(format_args!(
        "  entries from dom0:{}",
        entries(plan.enter_dom0)
    ));
    let exits = Words(|w| exits(plan, w));
    line(format_args!("  before a guest runs:{exits}"));
    let halts = Words(|w| halts(plan, w));
    line(format_args!("  before a CPU halts:{halts}"));
    let on = |on: bool| if on { "on" } else { "off" };
    line(format_args!(
        "  branch prediction barrier between domains (IBPB): {}",
        on(plan.ibpb_between_domains)
    ));
    line(format_args!(
        "  page-table isolation (xpti): {}",
        on(plan.isolate)
    ));
    line(format_args!(
        "  absent page-table entries checked (L1TF): {}",
        on(plan.check_absent)
    ));
    let once = Words(|w| {
        for change in &plan.changes {
            w(true, change.what);
        }
    });
    line(format_args!("  registers set once:{once}"));
    line(format_args!(
        "  guests get: SPEC_CTRL {}, IBPB {}",
        if plan.offer_spec_ctrl { "yes" } else { "no" },
        if f.has_ibpb() { "yes" } else { "no" },
    ));
}

impl Warning {
    /// The warning as a sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SiblingsL1tf => {
                "L1TF: sibling threads share the first-level cache, and may run different domains; \
                 boot with smt=off, or with smt=on to accept that"
            }
            Self::SiblingsMds => {
                "MDS: sibling threads share buffers, and may run different domains; \
                 boot with smt=off, or with smt=on to accept that"
            }
            Self::SiblingsDivider => {
                "divider leak (XSA-439): sibling threads share the divider; \
                 boot with smt=off, or with smt=on to accept that"
            }
            Self::SrsoMicrocode => {
                "SRSO: this microcode has no barrier that helps; update the firmware"
            }
            Self::NoIbrs => {
                "no IBRS: this CPU cannot keep guests from steering the hypervisor's indirect \
                 branches; update the firmware, or run only domains that trust each other"
            }
            Self::GdsLocked => "GDS: firmware has locked the mitigation; gds-mit= is not used",
            Self::GdsHidesAvx => {
                "GDS: this microcode has no mitigation, so AVX is hidden from guests \
                 (spec-ctrl=gds-mit=no shows it)"
            }
        }
    }
}

/// Lists words: each is handed over with whether it applies.
type Lister<'a> = &'a mut dyn FnMut(bool, &'static str);

/// Shows a list: a comma between words, `none` for an empty one.
struct Words<F: Fn(Lister<'_>)>(F);

impl<F: Fn(Lister<'_>)> fmt::Display for Words<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut result, mut any) = (Ok(()), false);
        (self.0)(&mut |applies, word| {
            if applies {
                let comma = if any { "," } else { "" };
                result = result.and_then(|()| write!(out, "{comma} {word}"));
                any = true;
            }
        });
        result?;
        if any {
            Ok(())
        } else {
            out.write_str(" nothing")
        }
    }
}

fn hints(f: &Facts, w: Lister<'_>) {
    let named = [
        (caps::RDCL_NO, "RDCL_NO"),
        (caps::EIBRS, "EIBRS"),
        (caps::RSBA, "RSBA"),
        (caps::RRSBA, "RRSBA"),
        (caps::SKIP_L1DFL, "SKIP_L1DFL"),
        (caps::SSB_NO, "SSB_NO"),
        (caps::MDS_NO, "MDS_NO"),
        (caps::TAA_NO, "TAA_NO"),
        (caps::SBDR_SSDP_NO, "SBDR_SSDP_NO"),
        (caps::FBSDP_NO, "FBSDP_NO"),
        (caps::PSDP_NO, "PSDP_NO"),
        (caps::FB_CLEAR, "FB_CLEAR"),
        (caps::BHI_NO, "BHI_NO"),
        (caps::PBRSB_NO, "PBRSB_NO"),
        (caps::GDS_NO, "GDS_NO"),
        (caps::RFDS_NO, "RFDS_NO"),
    ];
    for (bit, name) in named {
        w(f.says(bit), name);
    }
    let named = [
        (ext8b::SSB_NO, "SSB_NO"),
        (ext8b::IBRS_ALWAYS, "IBRS_ALWAYS"),
        (ext8b::STIBP_ALWAYS, "STIBP_ALWAYS"),
        (ext8b::IBRS_FAST, "IBRS_FAST"),
        (ext8b::IBRS_SAME_MODE, "IBRS_SAME_MODE"),
        (ext8b::BTC_NO, "BTC_NO"),
        (ext8b::IBPB_RET, "IBPB_RET"),
    ];
    for (bit, name) in named {
        w(f.ext8b & bit != 0, name);
    }
    w(f.ext21a & ext21a::IBPB_BRTYPE != 0, "IBPB_BRTYPE");
    w(f.ext21a & ext21a::SRSO_NO != 0, "SRSO_NO");
    w(f.ext21a & ext21a::SRSO_US_NO != 0, "SRSO_US_NO");
    w(f.ext21c & ext21c::TSA_SQ_NO != 0, "TSA_SQ_NO");
    w(f.ext21c & ext21c::TSA_L1_NO != 0, "TSA_L1_NO");
}

fn controls(f: &Facts, w: Lister<'_>) {
    w(f.has_ibpb(), "IBPB");
    w(f.has_spec_ctrl(), "IBRS");
    w(f.ext21a & ext21a::AUTO_IBRS != 0, "AUTO_IBRS");
    w(f.has_stibp(), "STIBP");
    w(f.has_ssbd(), "SSBD");
    w(f.ext8b & ext8b::VIRT_SSBD != 0, "VIRT_SSBD");
    let psfd = f.ext8b & ext8b::PSFD != 0 || f.leaf7_2d & leaf7_2d::PSFD != 0;
    w(psfd, "PSFD");
    w(f.leaf7_2d & leaf7_2d::BHI_CTRL != 0, "BHI_CTRL");
    w(f.leaf7d & leaf7d::L1D_FLUSH != 0, "L1D_FLUSH");
    w(f.leaf7d & leaf7d::MD_CLEAR != 0, "MD_CLEAR");
    w(f.leaf7d & leaf7d::SRBDS_CTRL != 0, "SRBDS_CTRL");
    w(f.says(caps::TSX_CTRL), "TSX_CTRL");
    w(f.says(caps::GDS_CTRL), "GDS_CTRL");
    w(f.says(caps::RFDS_CLEAR), "RFDS_CLEAR");
    w(f.ext21a & ext21a::SBPB != 0, "SBPB");
    w(f.ext21a & ext21a::SRSO_MSR_FIX != 0, "SRSO_MSR_FIX");
    w(f.ext21a & ext21a::VERW_CLEAR != 0, "VERW_CLEAR");
}

fn inside(f: &Facts, plan: &Plan, w: Lister<'_>) {
    let auto = plan.changes.iter().any(|c| c.what == "automatic IBRS");
    w(auto, "automatic IBRS");
    let ibrs = plan.value & spec_ctrl::IBRS != 0;
    w(ibrs && f.says(caps::EIBRS), "enhanced IBRS");
    w(ibrs && !f.says(caps::EIBRS), "IBRS");
    w(plan.value & spec_ctrl::STIBP != 0, "STIBP");
    w(plan.value & spec_ctrl::SSBD != 0, "SSBD");
    w(plan.value & spec_ctrl::PSFD != 0, "PSFD");
    w(plan.value & spec_ctrl::BHI_DIS_S != 0, "BHI_DIS_S");
    w(
        plan.spec_ctrl == SpecCtrl::Fixed,
        "SPEC_CTRL the same for guests",
    );
    w(f.around.smep, "SMEP");
}

fn entries(bits: u32) -> impl fmt::Display {
    Words(move |w: Lister<'_>| {
        w(bits & enter::IBPB != 0, "IBPB");
        w(bits & enter::RETURNS != 0, "return stack refilled");
        w(bits & enter::SPEC_CTRL != 0, "SPEC_CTRL loaded");
        w(bits & enter::HISTORY_SHORT != 0, "branch history cleared");
        w(
            bits & enter::HISTORY_LONG != 0,
            "branch history cleared (long)",
        );
    })
}

fn exits(plan: &Plan, w: Lister<'_>) {
    w(plan.leave & leave::SPEC_CTRL != 0, "SPEC_CTRL loaded");
    w(plan.leave & leave::VERW != 0, "buffers cleared (VERW)");
    w(plan.leave & leave::DIVIDE != 0, "divider cleared");
    let unused = plan.sequence != Sequence::Nothing
        && (plan.enter | plan.enter_dom0) & (enter::HISTORY_SHORT | enter::HISTORY_LONG) == 0;
    w(unused, "(branch history sequence chosen, but not used)");
}

fn halts(plan: &Plan, w: Lister<'_>) {
    w(plan.idle & idle::VERW != 0, "buffers cleared (VERW)");
    w(plan.idle & idle::SPEC_CTRL != 0, "SPEC_CTRL off");
    w(plan.idle & idle::RETURNS != 0, "return stack refilled");
}
