//! CPUID leaves as the toolstack reads them: for one domain (`domctl`) and for the host
//! (`sysctl`).

use super::{Call, Error};
use crate::addr::GuestVa;
use crate::domain::cpuid::{HostCpu, policy};
use crate::fallible::Grow;
use crate::pv_emul::cpuid::{Asker, Policy};
use crate::pv_emul::seam::CpuidRegs;
use alloc::vec::Vec;
use xen_abi::domctl::XenCpuidLeaf;

/// Subleaf of a leaf that has none. Source: Xen `include/public/arch-x86/xen.h`,
/// `XEN_CPUID_NO_SUBLEAF`.
const NO_SUBLEAF: u32 = u32::MAX;
/// More leaves than any list has. Source: Xen's own lists have about 120.
pub const MOST_LEAVES: u32 = 1024;
/// What is answered to who asks for sizes. Tools write lists of their own into buffers of
/// this size, so it is the most that Xen's have, not what is in ours. Source: Xen 4.17,
/// `CPUID_MAX_SERIALISED_LEAVES` (rounded up) and `MSR_MAX_SERIALISED_ENTRIES`.
const SIZES: (u32, u32) = (128, 2);

/// Where the caller wants them, and how many it has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Address of leaves (0: how many are there?) and their number.
    pub leaves: (u64, u32),
    /// The same of model-specific registers.
    pub msrs: (u64, u32),
}

/// Writes the leaves a guest with `policy` gets; how many leaves and registers that are, or may be where
/// there is no room for any.
///
/// # Errors
/// `ENOBUFS`: too little room. `EFAULT`. `ENOMEM`.
pub fn write(call: &Call<'_>, policy: &Policy, room: &Room) -> Result<(u32, u32), Error> {
    let (at, most) = room.leaves;
    let mut count = SIZES.0;
    if at != 0 {
        let leaves = leaves(policy)?;
        count = leaves.len() as u32;
        if most < count {
            return Err(Error::NoBuffer);
        }
        for (n, leaf) in leaves.iter().enumerate() {
            let at = GuestVa(at).add((n * size_of::<XenCpuidLeaf>()) as u64);
            call.guest().write(at, leaf)?;
        }
    }
    // No register differs from what every guest sees, so none is listed.
    let registers = if room.msrs.0 == 0 { SIZES.1 } else { 0 };
    Ok((count, registers))
}

/// How a guest asks.
const ASKER: Asker = Asker {
    cr4: 0,
    xcr0: 3,
    hardware_domain: false,
    kernel_mode: true,
    forced: true,
};

fn ask(policy: &Policy, leaf: u32, subleaf: u32) -> CpuidRegs {
    policy.leaf(&HostCpu, &ASKER, leaf, subleaf)
}

/// The leaves that Xen's tools know, ascending. They write what they read into a buffer of
/// just this length, so the list ends where theirs does.
///
/// Source: Xen 4.17, `x86_cpuid_copy_to_buffer`.
fn leaves(policy: &Policy) -> Result<Vec<XenCpuidLeaf>, Error> {
    const LAST_BASIC: u32 = 0xd;
    const HYPERVISOR: [u32; 2] = [0x4000_0000, 0x4000_0100];
    const EXTENDED: u32 = 0x8000_0000;
    const LAST_EXTENDED: u32 = EXTENDED + 0x21;
    let ask = |leaf, subleaf| ask(policy, leaf, subleaf);
    let mut all = Vec::new();
    for leaf in 0..=ask(0, 0).eax.min(LAST_BASIC) {
        match leaf {
            // Up to the first that is of type 0.
            4 => add_until(&mut all, policy, leaf, 6, |r| r.eax & 0x1f == 0)?,
            0xb => add_until(&mut all, policy, leaf, 2, |r| r.ecx >> 8 & 0xff == 0)?,
            7 => (0..=ask(7, 0).eax.min(2)).try_for_each(|n| add(&mut all, leaf, n, ask(7, n)))?,
            0xd => add_states(&mut all, policy)?,
            _ => add(&mut all, leaf, NO_SUBLEAF, ask(leaf, 0))?,
        }
    }
    for leaf in HYPERVISOR {
        // Tools may limit how many there are; this one is no limit.
        add(&mut all, leaf, NO_SUBLEAF, CpuidRegs::default())?;
    }
    let last = ask(EXTENDED, 0).eax.clamp(EXTENDED, LAST_EXTENDED);
    for leaf in EXTENDED..=last {
        add(&mut all, leaf, NO_SUBLEAF, ask(leaf, 0))?;
    }
    Ok(all)
}

fn add(all: &mut Vec<XenCpuidLeaf>, leaf: u32, subleaf: u32, regs: CpuidRegs) -> Result<(), Error> {
    all.try_push(XenCpuidLeaf {
        leaf,
        subleaf,
        a: regs.eax,
        b: regs.ebx,
        c: regs.ecx,
        d: regs.edx,
    })?;
    Ok(())
}

/// Adds up to `most` subleaves, up to and with the first that is the `last`.
fn add_until(
    all: &mut Vec<XenCpuidLeaf>,
    policy: &Policy,
    leaf: u32,
    most: u32,
    last: impl Fn(&CpuidRegs) -> bool,
) -> Result<(), Error> {
    for n in 0..most {
        let regs = ask(policy, leaf, n);
        add(all, leaf, n, regs)?;
        if last(&regs) {
            break;
        }
    }
    Ok(())
}

/// Adds the leaf of extended states: two of all, and one for each state there is.
fn add_states(all: &mut Vec<XenCpuidLeaf>, policy: &Policy) -> Result<(), Error> {
    let ask = |leaf, subleaf| ask(policy, leaf, subleaf);
    let [all_of_them, more] = [0, 1].map(|n| ask(0xd, n));
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let states = wide(all_of_them.eax, all_of_them.edx) | wide(more.ecx, more.edx);
    add(all, 0xd, 0, all_of_them)?;
    add(all, 0xd, 1, more)?;
    for n in (2..63).filter(|n| states >> n & 1 != 0) {
        add(all, 0xd, n, ask(0xd, n))?;
    }
    Ok(())
}

/// The words of a feature set, in the order of Xen's `cpufeatureset.h`.
pub fn features() -> [u32; 16] {
    let leaf = |leaf, subleaf| ask(policy(), leaf, subleaf);
    let (one, seven, seven1) = (leaf(1, 0), leaf(7, 0), leaf(7, 1));
    let (e1, e7, e8) = (
        leaf(0x8000_0001, 0),
        leaf(0x8000_0007, 0),
        leaf(0x8000_0008, 0),
    );
    [
        one.edx,
        one.ecx,
        e1.edx,
        e1.ecx,
        leaf(0xd, 1).eax,
        seven.ebx,
        seven.ecx,
        e7.edx,
        e8.ebx,
        seven.edx,
        seven1.eax,
        leaf(0x8000_0021, 0).eax,
        seven1.ebx,
        leaf(7, 2).edx,
        seven1.ecx,
        seven1.edx,
    ]
}
