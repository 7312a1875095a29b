//! `spec-ctrl=`, `xpti=` and `pv-l1tf=`.

use super::boolean;
use crate::arch::speculation::{Choices, Sequence};

/// What a part like `name`, `no-name` or `name=no` says of a thing that has these names.
pub(super) fn flag(part: &str, names: &[&str]) -> Option<bool> {
    let (name, value) = part.split_once('=').unwrap_or((part, "yes"));
    let (name, on) = name
        .strip_prefix("no-")
        .map_or((name, true), |name| (name, false));
    let said = boolean(value)? == on;
    names.contains(&name).then_some(said)
}

/// `spec-ctrl=`: a list. Source: Xen's `parse_spec_ctrl`, 4.17.7. Whatever has no effect on PV
/// guests, or none here, is accepted.
pub(super) fn spec_ctrl(value: &str, choices: &mut Choices) -> Option<()> {
    let mut all_known = Some(());
    for part in value.split(',') {
        match (boolean(part), flag(part, &["xen"])) {
            (Some(false), _) => choices.turn_all_off(),
            (None, Some(false)) => choices.turn_off(),
            // As in Xen there is no word for "everything on".
            (Some(true), _) => {}
            (None, _) => all_known = all_known.and(one(part, choices)),
        }
    }
    all_known
}

/// One part of `spec-ctrl=`. `None`: it makes no sense.
fn one(part: &str, c: &mut Choices) -> Option<()> {
    if let Some(sequence) = part.strip_prefix("bhb-seq=") {
        c.bhb_seq = Some(match sequence {
            "none" => Sequence::Nothing,
            // A transaction that aborts does the same on the same CPUs.
            "short" | "tsx" => Sequence::Short,
            "long" => Sequence::Long,
            _ => return None,
        });
        return Some(());
    }
    if let Some(on) = flag(part, &["pv"]) {
        (c.msr_sc, c.rsb, c.verw) = (Some(on), Some(on), Some(on));
        (c.ibpb_entry, c.bhb_entry) = (Some(on), Some(on));
        return Some(());
    }
    if for_guests(part, c) || for_all(part, c) {
        return Some(());
    }
    // HVM guests do not exist here, and these are always, or never, so.
    let other = [
        "hvm",
        "eager-fpu",
        "l1d-flush",
        "branch-harden",
        "lock-harden",
    ];
    let known = flag(part, &other).is_some() || part.starts_with("bti-thunk=");
    known.then_some(())
}

/// Parts that Xen has for PV and HVM guests apart: `name`, `name=pv` and so on.
fn for_guests(part: &str, c: &mut Choices) -> bool {
    let name = part.strip_prefix("no-").unwrap_or(part);
    let name = name.split('=').next().unwrap_or(name);
    let (mine, dom0) = match name {
        "msr-sc" => (&mut c.msr_sc, None),
        "rsb" => (&mut c.rsb, None),
        "verw" | "md-clear" => (&mut c.verw, None),
        "ibpb-entry" => (&mut c.ibpb_entry, Some(&mut c.ibpb_entry_dom0)),
        "bhb-entry" => (&mut c.bhb_entry, Some(&mut c.bhb_entry_dom0)),
        _ => return false,
    };
    if let Some(on) = flag(part, &[name]) {
        *mine = Some(on);
        if let Some(dom0) = dom0 {
            *dom0 = Some(on);
        }
        return true;
    }
    match part.split_once('=').map(|(_, kind)| kind) {
        Some("pv") => *mine = Some(true),
        Some("no-pv") => *mine = Some(false),
        Some("hvm" | "no-hvm") => {}
        _ => return false,
    }
    true
}

fn for_all(part: &str, c: &mut Choices) -> bool {
    let switches = [
        ("ibrs", &mut c.ibrs),
        ("stibp", &mut c.stibp),
        ("ssbd", &mut c.ssbd),
        ("psfd", &mut c.psfd),
        ("bhi-dis-s", &mut c.bhi_dis_s),
        ("ibpb", &mut c.ibpb),
        ("srb-lock", &mut c.srb_lock),
        ("unpriv-mmio", &mut c.unpriv_mmio),
        ("gds-mit", &mut c.gds_mit),
        ("div-scrub", &mut c.div_scrub),
        ("bp-spec-reduce", &mut c.bp_spec_reduce),
    ];
    for (name, choice) in switches {
        if let Some(on) = flag(part, &[name]) {
            *choice = Some(on);
            return true;
        }
    }
    false
}

/// `xpti=<bool>` or a list of `dom0=<bool>`, `domu=<bool>`, `default`; nothing means yes.
pub(super) fn xpti(value: &str, c: &mut Choices) -> Option<()> {
    for part in value.split(',') {
        match (boolean(part), flag(part, &["dom0"]), flag(part, &["domu"])) {
            (Some(on), ..) => (c.xpti_dom0, c.xpti_domu) = (Some(on), Some(on)),
            (_, Some(on), _) => c.xpti_dom0 = Some(on),
            (_, _, Some(on)) => c.xpti_domu = Some(on),
            _ if part == "default" => (c.xpti_dom0, c.xpti_domu) = (None, None),
            _ if value.is_empty() => (c.xpti_dom0, c.xpti_domu) = (Some(true), Some(true)),
            _ => return None,
        }
    }
    Some(())
}

/// `pv-l1tf=<bool>` or a list of `dom0=<bool>`, `domu=<bool>`. dom0 may read all memory anyway.
pub(super) fn l1tf(value: &str, c: &mut Choices) -> Option<()> {
    for part in value.split(',') {
        match (boolean(part), flag(part, &["domu"]), flag(part, &["dom0"])) {
            (Some(on), ..) | (None, Some(on), _) => c.l1tf = Some(on),
            (None, None, Some(_)) => {}
            _ if value.is_empty() => c.l1tf = Some(true),
            (None, None, None) => return None,
        }
    }
    Some(())
}
