use super::*;
use crate::arch::speculation::{Shown, Surroundings, Vendor};
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec as List;
use std::{format, vec};

/// The table: names, facts, Xen's decision.
fn cpus() -> List<(&'static str, Facts, &'static str)> {
    let rows = include_str!("cpus.txt").lines();
    rows.filter(|row| !row.starts_with('#')).map(cpu).collect()
}

fn cpu(row: &'static str) -> (&'static str, Facts, &'static str) {
    let [name, model, words, around, xen] = row.split(" | ").collect::<List<_>>()[..] else {
        panic!("{row}")
    };
    let (vendor, model) = model.split_once(' ').unwrap();
    let numbers = |text: &str| -> List<u64> {
        let hex = |n| u64::from_str_radix(n, 16).unwrap();
        text.split(' ').map(hex).collect()
    };
    let small = |text: &str| -> List<u32> { numbers(text).iter().map(|n| *n as u32).collect() };
    let [family, model, stepping, microcode] = small(model)[..] else {
        panic!("{row}")
    };
    let wide = numbers(words);
    let [leaf1c, leaf7b, leaf7d, leaf7_2d, ext8b, ext21a, ext21c, ..] = small(words)[..] else {
        panic!("{row}")
    };
    let around = small(around);
    let facts = Facts {
        vendor: match vendor {
            "Intel" => Vendor::Intel,
            "Amd" => Vendor::Amd,
            _ => Vendor::Other,
        },
        family,
        model,
        stepping,
        microcode,
        leaf1c,
        leaf7b,
        leaf7d,
        leaf7_2d,
        ext8b,
        ext21a,
        ext21c,
        caps: wide[7],
        mcu_opt: wide[8],
        around: Surroundings {
            smt: around[0] != 0,
            smep: around[1] != 0,
            sbpb: around[2] != 0,
            emulated: false,
        },
    };
    (name, facts, xen)
}

fn find(name: &str) -> Facts {
    let all = cpus();
    all.iter().find(|cpu| cpu.0 == name).expect(name).1
}

/// A plan in the words of the table.
fn words(f: &Facts, plan: &Plan) -> BTreeSet<String> {
    let has = |bits: u32, bit: u32| bits & bit != 0;
    let last = |msr: u32, bit: u64| {
        let touches = |c: &&Change| c.msr == msr && (c.set | c.clear) & bit != 0;
        plan.changes.iter().rfind(touches).map(|c| c.set & bit != 0)
    };
    let warned = |warning| plan.warnings.contains(&warning);
    let gds_off = last(msr::MCU_OPT_CTRL, mcu_opt::GDS_MIT_DIS)
        .unwrap_or(f.mcu_opt & mcu_opt::GDS_MIT_DIS != 0);
    let mut words = vec![format!("value={:x}", plan.value)];
    let mut word = |applies: bool, word: &str| {
        if applies {
            words.push(word.to_string());
        }
    };
    word(plan.spec_ctrl == SpecCtrl::Switched, "msr-pv");
    word(has(plan.enter, enter::RETURNS), "rsb");
    word(has(plan.enter, enter::IBPB), "ibpb-entry");
    word(plan.ibpb_keeps_returns, "no-ret");
    word(plan.ibpb_between_domains, "ibpb");
    word(has(plan.enter, enter::HISTORY_SHORT), "bhb");
    word(has(plan.leave, leave::VERW), "verw");
    word(has(plan.idle, idle::VERW), "verw-idle");
    word(has(plan.idle, idle::SPEC_CTRL), "msr-idle");
    word(has(plan.idle, idle::RETURNS), "rsb-idle");
    word(has(plan.leave, leave::DIVIDE), "div");
    word(plan.isolate, "xpti");
    word(plan.check_absent, "l1tf");
    let tsx = last(msr::TSX_CTRL, TSX_OFF);
    word(tsx == Some(true), "tsx-off");
    word(tsx == Some(false), "tsx-on");
    let rng = last(msr::MCU_OPT_CTRL, mcu_opt::RNGDS_MITG_DIS);
    word(rng == Some(true), "rng-off");
    word(rng == Some(false), "rng-on");
    word(f.says(caps::GDS_CTRL) && gds_off, "gds-off");
    word(f.says(caps::GDS_CTRL) && !gds_off, "gds-on");
    word(plan.hide_avx, "no-avx");
    word(warned(Warning::SiblingsL1tf), "warn-l1tf");
    word(warned(Warning::SiblingsMds), "warn-mds");
    word(warned(Warning::SiblingsDivider), "warn-divider");
    let shown = Shown::new(f, plan);
    word(shown.caps & caps::GDS_NO != 0, "GDS_NO");
    word(shown.caps & caps::RFDS_NO != 0, "RFDS_NO");
    word(shown.caps & caps::ITS_NO != 0, "ITS_NO");
    word(shown.caps & caps::RSBA != 0, "RSBA");
    word(shown.caps & caps::RRSBA != 0, "RRSBA");
    word(has(shown.ext21a, ext21a::IBPB_BRTYPE), "IBPB_BRTYPE");
    word(has(shown.ext21a, ext21a::SRSO_NO), "SRSO_NO");
    word(has(shown.ext21a, ext21a::VERW_CLEAR), "VERW_CLEAR");
    word(has(shown.ext21c, ext21c::TSA_SQ_NO), "TSA_SQ_NO");
    word(has(shown.ext21c, ext21c::TSA_L1_NO), "TSA_L1_NO");
    words.into_iter().collect()
}

/// What Oxen has beyond Xen's decision for this CPU, and what it leaves out, on purpose.
fn differences(f: &Facts) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut more, mut less) = (List::new(), List::new());
    // Xen 4.17 does not know automatic IBRS; with it the bit of SPEC_CTRL is not needed.
    if f.ext21a & ext21a::AUTO_IBRS != 0 {
        more.push("value=2");
        less.push("value=3");
    } else if f.is_amd() && f.ext8b & ext8b::IBRS != 0 && f.ext8b & ext8b::IBRS_ALWAYS == 0 {
        // Xen leaves IBRS on for guests; it is to be written after each entry.
        more.push("msr-pv");
    }
    // Xen hides AVX whenever it runs on another hypervisor that does not speak of GDS.
    if f.virtualised() && f.is_core() && f.caps & (caps::GDS_NO | caps::GDS_CTRL) == 0 {
        less.push("no-avx");
    }
    let set = |words: List<&str>| words.into_iter().map(String::from).collect();
    (set(more), set(less))
}

#[test]
fn decides_as_xen_does() {
    let cpus = cpus();
    assert!(cpus.len() >= 50);
    for (name, facts, xen) in cpus {
        let plan = decide(&facts, &Choices::default());
        let mut expected: BTreeSet<String> = xen.split(' ').map(String::from).collect();
        let (more, less) = differences(&facts);
        for word in &less {
            assert!(expected.remove(word), "{name}: Xen does not have {word}");
        }
        expected.extend(more);
        assert_eq!(words(&facts, &plan), expected, "{name}");
    }
}

#[test]
fn what_is_turned_off_is_off() {
    let mut off = Choices::default();
    off.turn_all_off();
    for (name, facts, _) in cpus() {
        let plan = decide(&facts, &off);
        let all = (
            plan.value,
            plan.enter,
            plan.enter_dom0,
            plan.leave,
            plan.idle,
        );
        assert_eq!(all, (0, 0, 0, 0, 0), "{name}");
        assert!(!plan.isolate && !plan.check_absent && !plan.ibpb_between_domains);
        assert!(!plan.hide_avx && !plan.offer_spec_ctrl, "{name}");
    }
}

#[test]
fn choices_overrule_the_cpu() {
    let haswell = find("haswell-ep");
    let with = |change: fn(&mut Choices)| {
        let mut choices = Choices::default();
        change(&mut choices);
        decide(&haswell, &choices)
    };
    assert_eq!(with(|c| c.ibrs = Some(false)).value, 0);
    assert_eq!(with(|c| c.ssbd = Some(true)).value, 7);
    assert_eq!(with(|c| c.stibp = Some(false)).value, 1);
    assert_eq!(with(|c| c.msr_sc = Some(false)).spec_ctrl, SpecCtrl::Fixed);
    assert!(!with(|c| c.msr_sc = Some(false)).offer_spec_ctrl);
    assert!(with(|c| c.rsb = Some(true)).enter & enter::RETURNS != 0);
    let both = enter::IBPB | enter::SPEC_CTRL;
    assert_eq!(with(|c| c.ibpb_entry = Some(true)).enter, both);
    assert_eq!(
        with(|c| c.ibpb_entry = Some(true)).enter_dom0,
        enter::SPEC_CTRL
    );
    assert_eq!(with(|c| c.verw = Some(false)).leave, leave::SPEC_CTRL);
    assert!(with(|c| c.xpti_domu = Some(false)).isolate);
    let neither = |c: &mut Choices| (c.xpti_dom0, c.xpti_domu) = (Some(false), Some(false));
    assert!(!with(neither).isolate);
    assert!(with(|c| c.smt = Some(true)).warnings.is_empty());
    // A sequence that was asked for is used where it was asked for.
    let long = |c: &mut Choices| {
        (c.bhb_seq, c.bhb_entry) = (Some(Sequence::Long), Some(true));
    };
    assert!(with(long).enter & enter::HISTORY_LONG != 0);
}

#[test]
fn xpti_can_be_had_everywhere() {
    let choices = Choices {
        xpti_dom0: Some(true),
        xpti_domu: Some(true),
        ..Choices::default()
    };
    assert!(cpus().iter().all(|cpu| decide(&cpu.1, &choices).isolate));
}

#[test]
fn registers_that_are_set_once() {
    let what = |name: &str| -> List<&'static str> {
        let plan = decide(&find(name), &Choices::default());
        plan.changes.iter().map(|change| change.what).collect()
    };
    assert!(what("zen2-zenbleed").contains(&"moves not eliminated (Zenbleed)"));
    assert!(what("zen2-fixed").contains(&"Zenbleed mended by microcode"));
    assert!(what("zen2-fixed").contains(&"no prediction of what is no branch"));
    assert_eq!(what("zen1"), ["lfence waits", "SSBD off"]);
    assert!(what("zen5-turin").contains(&"returns speculated less (SRSO)"));
    assert!(what("zen4-genoa").contains(&"automatic IBRS"));
    assert!(what("haswell-ep").is_empty());
    let mut virtual_zen1 = find("virtual-zen2");
    virtual_zen1.ext8b = ext8b::VIRT_SSBD;
    let plan = decide(
        &virtual_zen1,
        &Choices {
            ssbd: Some(true),
            ..Choices::default()
        },
    );
    let change = plan
        .changes
        .iter()
        .find(|c| c.msr == msr::VIRT_SPEC_CTRL)
        .unwrap();
    assert_eq!((change.set, change.clear), (spec_ctrl::SSBD, 0));
    // No register is changed in two ways.
    for (name, facts, _) in cpus() {
        let changes = decide(&facts, &Choices::default()).changes;
        for (n, a) in changes.iter().enumerate() {
            let again = changes[n + 1..].iter().filter(|b| a.msr == b.msr);
            for b in again {
                assert_eq!(
                    (a.set | a.clear) & (b.set | b.clear),
                    0,
                    "{name}: {}",
                    a.what
                );
            }
        }
    }
}

#[test]
fn an_emulator_costs_nothing_on_entry() {
    for name in ["virtual-skylake-no-bits", "zen1-no-smt"] {
        let mut facts = find(name);
        facts.leaf1c |= leaf1c::HYPERVISOR;
        facts.ext8b = 0;
        facts.around.emulated = true;
        let plan = decide(&facts, &Choices::default());
        assert_eq!((plan.enter, plan.leave, plan.idle), (0, 0, 0), "{name}");
        assert!(plan.warnings.is_empty());
    }
}

#[test]
fn siblings_do_not_steer_guests_where_that_is_cheap() {
    let plan = decide(&find("icelake-sp"), &Choices::default());
    assert_eq!(plan.guest_value, spec_ctrl::STIBP);
    assert_eq!(
        decide(&find("haswell-ep"), &Choices::default()).guest_value,
        0
    );
    let zen2 = decide(&find("zen2-fixed"), &Choices::default());
    assert_eq!(zen2.guest_value, spec_ctrl::STIBP);
}

#[test]
fn guests_of_intel_have_spec_ctrl_and_amd_s_do_not() {
    let shown = |name: &str| {
        let facts = find(name);
        Shown::new(&facts, &decide(&facts, &Choices::default()))
    };
    let haswell = shown("haswell-ep");
    assert_eq!(Shown::spec_ctrl(haswell.leaf7d, haswell.leaf7_2d), Some(7));
    let pred = Shown::pred_cmd(haswell.leaf7d, haswell.ext8b, haswell.ext21a);
    assert_eq!(pred, Some(1));
    let tiger = shown("tigerlake");
    assert_eq!(Shown::spec_ctrl(tiger.leaf7d, tiger.leaf7_2d), Some(0x87));
    let zen4 = shown("zen4-genoa");
    assert_eq!(Shown::spec_ctrl(zen4.leaf7d, zen4.leaf7_2d), None);
    assert_eq!(
        Shown::pred_cmd(zen4.leaf7d, zen4.ext8b, zen4.ext21a),
        Some(0x81)
    );
    assert_eq!(shown("jaguar").ext8b & ext8b::IBPB, 0);
    // The boundary of user and supervisor mode is not where a PV guest's is.
    assert_eq!(shown("zen5-no-msr-fix").ext21a & ext21a::SRSO_US_NO, 0);
    assert_ne!(shown("zen5-turin").ext21a & ext21a::SRSO_US_NO, 0);
}

#[test]
fn the_log_says_it_in_words() {
    let text = |name: &str| {
        let facts = find(name);
        let mut text = String::new();
        let plan = decide(&facts, &Choices::default());
        crate::arch::speculation::report(&facts, &plan, &mut |line| {
            text += &format!("{line}\n");
        });
        text
    };
    let icelake = text("icelake-sp");
    assert!(
        icelake.contains("in the hypervisor: enhanced IBRS, STIBP, SMEP\n"),
        "{icelake}"
    );
    assert!(icelake.contains("entries from domains: SPEC_CTRL loaded, branch history cleared\n"));
    assert!(icelake.contains("page-table isolation (xpti): off\n"));
    assert!(text("jaguar").contains("before a guest runs: nothing\n"));
    let all = [
        Warning::NoIbrs,
        Warning::SrsoMicrocode,
        Warning::GdsLocked,
        Warning::GdsHidesAvx,
    ];
    assert!(all.iter().all(|warning| !warning.text().is_empty()));
}

#[test]
fn facts_come_from_the_leaves() {
    let cpuid = |leaf: u32, sub: u32| match (leaf, sub) {
        (0, _) => [7, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        (1, _) => [0x0005_0657, 0, leaf1c::AVX, 0],
        (7, 0) => [2, leaf7b::RTM, 0, leaf7d::IBRSB | leaf7d::ARCH_CAPS],
        (7, 2) => [0, 0, 0, leaf7_2d::BHI_CTRL],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        // Past the end Intel repeats the last basic leaf.
        _ => [u32::MAX; 4],
    };
    let rdmsr = |msr: u32| (msr == msr::ARCH_CAPABILITIES).then_some(caps::RDCL_NO);
    let facts = Facts::read(
        |leaf, sub| {
            if leaf == 0x8000_0008 {
                [0; 4]
            } else {
                cpuid(leaf, sub)
            }
        },
        rdmsr,
        0x0500_3605,
        Surroundings::default(),
    );
    let model = (facts.family, facts.model, facts.stepping);
    assert_eq!((facts.vendor, model), (Vendor::Intel, (6, 0x55, 7)));
    assert_eq!(
        (facts.leaf7_2d, facts.caps),
        (leaf7_2d::BHI_CTRL, caps::RDCL_NO)
    );
    assert_eq!((facts.ext8b, facts.ext21a, facts.ext21c), (0, 0, 0));
    assert!(!facts.virtualised() && facts.is_core());
}
