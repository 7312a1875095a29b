//! What is known of CPUs by their model alone, because no bit says it.
//!
//! Source: Intel's "Affected Processors: Transient Execution Attacks"; AMD's bulletins; the lists
//! in Xen 4.17.7's `spec_ctrl.c` and `cpu/amd.c`. Numbers are models of Intel's family 6.

use super::Facts;
use super::bits::{caps, leaf1c, leaf7_2d, leaf7d};

/// Core, from Nehalem to Broadwell.
const NEHALEM_TO_BROADWELL: &[u32] = &[
    0x1e, 0x1f, 0x1a, 0x2e, 0x25, 0x2c, 0x2f, 0x2a, 0x2d, 0x3a, 0x3e, 0x3c, 0x3f, 0x45, 0x46, 0x3d,
    0x47, 0x4f, 0x56,
];
/// Atom without speculation.
const IN_ORDER: &[u32] = &[0x1c, 0x26, 0x27, 0x35, 0x36];
/// Silvermont and Airmont.
const SILVERMONT: &[u32] = &[0x37, 0x4a, 0x4c, 0x4d, 0x5a];
/// Silvermont's kin in phones and routers.
const SILVERMONT_KIN: &[u32] = &[0x5d, 0x65, 0x6e, 0x75];
/// Goldmont, its server and Goldmont Plus.
const GOLDMONT: &[u32] = &[0x5c, 0x5f, 0x7a];
/// Knights Landing and Mill.
const KNIGHTS: &[u32] = &[0x57, 0x85];
/// Core from Skylake to Rocket Lake, without Cannon Lake: subject to GDS.
const GATHERS: &[u32] = &[
    0x55, 0x6a, 0x6c, 0x7e, 0x8c, 0x8d, 0x8e, 0x9e, 0xa5, 0xa6, 0xa7,
];
/// Atom from Goldmont to Gracemont, and packages with such cores: subject to RFDS. Alder and Raptor
/// Lake (0x97, 0xb7) only where the package says that it is hybrid.
const REGISTER_FILES: &[u32] = &[0x9a, 0xba, 0xbf, 0x5c, 0x5f, 0x7a, 0x86, 0x96, 0x9c, 0xbe];
/// Core with enhanced IBRS before Golden Cove: subject to ITS.
const TARGET_SELECTION: &[u32] = &[
    0x55, 0x8e, 0x9e, 0xa5, 0xa6, 0x6a, 0x6c, 0x7e, 0x8c, 0x8d, 0xa7,
];

/// Subject to L1TF. Models that are not known are.
#[must_use]
pub fn l1tf(f: &Facts) -> bool {
    let safe = [IN_ORDER, SILVERMONT, GOLDMONT, KNIGHTS];
    f.is_core() && !f.says(caps::RDCL_NO) && !safe.iter().any(|list| list.contains(&f.model))
}

/// Subject to Meltdown, as far as Xen isolates for it: all but AMD's and those that say they are not.
#[must_use]
pub fn meltdown(f: &Facts) -> bool {
    !f.is_amd() && !f.says(caps::RDCL_NO)
}

/// How a CPU is subject to MDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mds {
    /// It is not.
    No,
    /// By its store buffers only, which threads do not share.
    StoreBuffers,
    /// By what threads share, too.
    All,
}

/// Whether and how a CPU is subject to MDS. Models that are not known are.
#[must_use]
pub fn mds(f: &Facts) -> Mds {
    if !f.is_core() || f.says(caps::MDS_NO) {
        return Mds::No;
    }
    let last_stepping = match f.model {
        0x55 => 5,
        0x8e => 0xb,
        0x9e => 0xc,
        _ => 0xf,
    };
    let stores = [SILVERMONT, SILVERMONT_KIN, KNIGHTS];
    // Goldmont itself is not on Xen's list, so it counts as not known.
    if IN_ORDER.contains(&f.model) || f.model == 0x7a || f.stepping > last_stepping {
        Mds::No
    } else if stores.iter().any(|list| list.contains(&f.model)) {
        Mds::StoreBuffers
    } else {
        Mds::All
    }
}

/// Register files do not leak (RFDS): said, or known of the model.
#[must_use]
pub fn rfds_no(f: &Facts) -> bool {
    let hybrid = matches!(f.model, 0x97 | 0xb7) && f.leaf7d & leaf7d::HYBRID != 0;
    let known = f.is_core()
        && !f.says(caps::RFDS_CLEAR)
        && !f.virtualised()
        && !hybrid
        && !REGISTER_FILES.contains(&f.model);
    known || f.says(caps::RFDS_NO)
}

/// Subject to GDS.
#[must_use]
pub fn gds(f: &Facts) -> bool {
    if !f.is_core() || f.says(caps::GDS_NO) {
        return false;
    }
    f.says(caps::GDS_CTRL)
        || f.leaf1c & leaf1c::AVX != 0 && (GATHERS.contains(&f.model) || f.virtualised())
}

/// Subject to BHI. Beneath a hypervisor nobody knows what the CPU is.
#[must_use]
pub fn bhi(f: &Facts) -> bool {
    let unknown = f.virtualised() && !f.around.emulated;
    f.is_core() && !f.says(caps::BHI_NO) && (unknown || f.says(caps::EIBRS))
}

/// Not subject to ITS, as guests are told.
#[must_use]
pub fn its_no(f: &Facts) -> bool {
    if f.virtualised() || f.vendor != super::Vendor::Intel {
        return false;
    }
    let possible = f.is_core() && f.says(caps::EIBRS) && f.leaf7_2d & leaf7_2d::BHI_CTRL == 0;
    !possible || !TARGET_SELECTION.contains(&f.model)
}

/// The return stack keeps whole addresses, so that SMEP stops what a guest puts there. Silvermont's
/// keeps 32 bits.
#[must_use]
pub fn returns_are_whole(f: &Facts) -> bool {
    let narrow = [SILVERMONT, SILVERMONT_KIN];
    !(f.is_core() && narrow.iter().any(|list| list.contains(&f.model)))
}

/// Returns may be predicted by other means than the return stack, where no bit says so: Broadwell
/// with old microcode, Skylake and its kin.
#[must_use]
pub fn alternate_returns(f: &Facts) -> bool {
    if !f.is_core() || f.says(caps::EIBRS) {
        return false;
    }
    if f.says(caps::RSBA) || f.leaf7d & leaf7d::ARCH_CAPS != 0 {
        return f.says(caps::RSBA);
    }
    let fixed = match (f.model, f.stepping) {
        (0x3d, _) => 0x2a,
        (0x47, _) => 0x1d,
        (0x4f, _) => 0xb00_0021,
        (0x56, 2) => 0x15,
        (0x56, 3) => 0x700_0012,
        (0x56, 4) => 0xf00_0011,
        (0x56, 5) => 0xe00_0009,
        (0x56, _) => u32::MAX,
        (0x17 | 0x1d, _) => 0,
        _ if NEHALEM_TO_BROADWELL.contains(&f.model) => 0,
        _ => {
            let safe = [IN_ORDER, SILVERMONT, KNIGHTS];
            let atom = safe.iter().any(|list| list.contains(&f.model));
            return !(atom || matches!(f.model, 0x5c | 0x5f));
        }
    };
    f.microcode < fixed
}

/// First microcode revision of a Zen 2 that does not leak registers (Zenbleed); `None` if the CPU
/// never did.
#[must_use]
pub fn zenbleed(f: &Facts) -> Option<u32> {
    if f.family != 0x17 || !f.is_amd() || f.virtualised() {
        return None;
    }
    match f.model {
        0x30..=0x3f => Some(0x0830_107a),
        0x60..=0x67 => Some(0x0860_010b),
        0x68..=0x6f => Some(0x0860_8105),
        0x70..=0x7f => Some(0x0870_1032),
        0xa0..=0xaf => Some(0x08a0_0008),
        _ if f.is_zen1() => None,
        _ => Some(u32::MAX),
    }
}

/// First microcode revision of a Zen 3 or 4 whose `verw` clears what TSA leaks; `None` if none is
/// known for the CPU.
#[must_use]
pub fn tsa_microcode(f: &Facts) -> Option<u32> {
    const REVISIONS: &[u32] = &[
        0x0a00_11d7,
        0x0a00_123b,
        0x0a00_820d,
        0x0a10_114c,
        0x0a10_124c,
        0x0a10_8109,
        0x0a20_102e,
        0x0a20_1211,
        0x0a40_4108,
        0x0a50_0012,
        0x0a60_120a,
        0x0a70_4108,
        0x0a70_5208,
        0x0a70_8008,
        0x0a70_c008,
        0x0aa0_0216,
    ];
    let same = |revision: &&u32| **revision >> 8 == f.microcode >> 8;
    REVISIONS.iter().find(same).copied()
}
