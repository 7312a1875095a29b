//! CPUID leaves as the toolstack reads them: for one domain (`domctl`) and for the host
//! (`sysctl`).

use super::{Call, Error};
use crate::addr::GuestVa;
use crate::domain::cpuid::{HostCpu, policy};
use crate::pv_emul::cpuid::Asker;
use alloc::vec::Vec;
use xen_abi::domctl::XenCpuidLeaf;

/// Subleaf of a leaf that has none. Source: Xen `include/public/arch-x86/xen.h`,
/// `XEN_CPUID_NO_SUBLEAF`.
const NO_SUBLEAF: u32 = u32::MAX;
/// More leaves than any list has. Source: Xen's own lists have about 120.
pub const MOST_LEAVES: u32 = 1024;

/// Where the caller wants them, and how many it has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Address of leaves (0: how many are there?) and their number.
    pub leaves: (u64, u32),
    /// The same of model-specific registers.
    pub msrs: (u64, u32),
}

/// Writes the leaves a guest gets; how many leaves and registers there are.
///
/// # Errors
/// `ENOBUFS`: too little room. `EFAULT`. `ENOMEM`.
pub fn write(call: &Call<'_>, room: &Room) -> Result<(u32, u32), Error> {
    let leaves = leaves()?;
    let count = leaves.len() as u32;
    let (at, most) = room.leaves;
    if at != 0 {
        if most < count {
            return Err(Error::NoBuffer);
        }
        for (n, leaf) in leaves.iter().enumerate() {
            let at = GuestVa(at).add((n * size_of::<XenCpuidLeaf>()) as u64);
            call.guest().write(at, leaf)?;
        }
    }
    // No register differs from what every guest sees, so none is listed.
    Ok((count, 0))
}

/// All leaves with something to say, ascending.
fn leaves() -> Result<Vec<XenCpuidLeaf>, Error> {
    /// Leaves with subleaves, and how many of those are looked at.
    const SUBLEAVES: &[(u32, u32)] = &[(4, 8), (7, 2), (0xd, 63)];
    let asker = Asker {
        cr4: 0,
        xcr0: 3,
        hardware_domain: false,
        kernel_mode: true,
        forced: true,
    };
    let mut all = Vec::new();
    let mut add = |leaf: u32, subleaf: u32| {
        let asked = if subleaf == NO_SUBLEAF { 0 } else { subleaf };
        let regs = policy().leaf(&HostCpu, &asker, leaf, asked);
        let (a, b, c, d) = (regs.eax, regs.ebx, regs.ecx, regs.edx);
        if subleaf != NO_SUBLEAF && subleaf != 0 && (a | b | c | d) == 0 {
            return Ok(());
        }
        all.try_reserve(1).map_err(|_| Error::NoMemory)?;
        all.push(XenCpuidLeaf {
            leaf,
            subleaf,
            a,
            b,
            c,
            d,
        });
        Ok::<(), Error>(())
    };
    let last = |base: u32| policy().leaf(&HostCpu, &asker, base, 0).eax;
    for leaf in 0..=last(0).min(0x1f) {
        match SUBLEAVES.iter().find(|(l, _)| *l == leaf) {
            Some((_, count)) => (0..*count).try_for_each(|n| add(leaf, n))?,
            None => add(leaf, NO_SUBLEAF)?,
        }
    }
    const EXTENDED: u32 = 0x8000_0000;
    for leaf in EXTENDED..=last(EXTENDED).clamp(EXTENDED, EXTENDED + 0x21) {
        add(leaf, NO_SUBLEAF)?;
    }
    Ok(all)
}

/// The words of a feature set, in the order of Xen's `cpufeatureset.h`.
pub fn features() -> [u32; 16] {
    let asker = Asker {
        cr4: 0,
        xcr0: 3,
        hardware_domain: false,
        kernel_mode: true,
        forced: true,
    };
    let leaf = |leaf, subleaf| policy().leaf(&HostCpu, &asker, leaf, subleaf);
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
