//! `mca` (48): machine checks, for dom0. None are logged, so there is never anything to
//! fetch; dom0's driver wants to know the CPUs before it asks.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{CpuId, GuestVa};
use crate::arch::machine;
use xen_abi::mca as abi;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Does what the structure at `args[0]` asks for. Answers go back into it.
///
/// # Errors
/// `EPERM`: caller does not own the hardware. `EFAULT`: structure or list not
/// accessible. `EACCES`: another interface version. `EINVAL`: no such command, or none
/// this host offers.
///
/// Source: Xen `include/public/arch-x86/xen-mca.h`.
pub fn mca(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    if !access::may_hardware(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    let at = GuestVa(args[0]);
    let guest = call.guest();
    let mut op: abi::XenMc = guest.read(at)?;
    if op.interface_version != abi::XEN_MCA_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    match op.cmd {
        abi::XEN_MC_FETCH => {
            let mut request: abi::XenMcFetch = payload(&op)?;
            fetch(&mut request)?;
            answer(&mut op, &request)?;
        }
        abi::XEN_MC_PHYSCPUINFO => {
            let mut info: abi::XenMcPhyscpuinfo = payload(&op)?;
            let there = machine::online_cpus().count() as u32;
            let list = GuestVa(info.info);
            info.ncpus = cpus_to_tell(&info, there)?;
            if list.0 != 0 {
                for (n, cpu) in machine::online_cpus()
                    .iter()
                    .take(info.ncpus as usize)
                    .enumerate()
                {
                    let size = size_of::<abi::McinfoLogicalCpu>() as u64;
                    guest.write(list.add(n as u64 * size), &describe(cpu))?;
                }
            }
            answer(&mut op, &info)?;
        }
        _ => return Err(Error::Invalid),
    }
    guest.write(at, &op)?;
    Ok(Reply::Done(0))
}

fn payload<T: FromBytes>(op: &abi::XenMc) -> Result<T, Error> {
    T::read_from_prefix(op.u.as_bytes())
        .map(|(value, _)| value)
        .map_err(|_| Error::Invalid)
}

fn answer(
    op: &mut abi::XenMc,
    value: &(impl IntoBytes + zerocopy::Immutable),
) -> Result<(), Error> {
    value
        .write_to_prefix(op.u.as_mut_bytes())
        .map_err(|_| Error::Invalid)
}

/// Answers a fetch or an acknowledgement: nothing is there.
fn fetch(fetch: &mut abi::XenMcFetch) -> Result<(), Error> {
    let acknowledges = fetch.flags & abi::XEN_MC_ACK != 0;
    match fetch.flags & (abi::XEN_MC_NONURGENT | abi::XEN_MC_URGENT) {
        abi::XEN_MC_NONURGENT | abi::XEN_MC_URGENT if acknowledges => fetch.flags = 0,
        abi::XEN_MC_NONURGENT | abi::XEN_MC_URGENT if fetch.data != 0 => {
            (fetch.flags, fetch.fetch_id) = (abi::XEN_MC_NODATA, 0);
        }
        _ => return Err(Error::Invalid),
    }
    Ok(())
}

/// How many of the `there` CPUs are told.
fn cpus_to_tell(info: &abi::XenMcPhyscpuinfo, there: u32) -> Result<u32, Error> {
    match (info.info, info.ncpus.cast_signed()) {
        (0, _) => Ok(there),
        (_, ..=0) => Err(Error::Invalid),
        (_, room) => Ok(there.min(room.cast_unsigned())),
    }
}

/// A CPU. All are taken to be of one kind: CPUID is this one's.
fn describe(cpu: CpuId) -> abi::McinfoLogicalCpu {
    let mut info = abi::McinfoLogicalCpu::new_zeroed();
    let [highest, b, c, d] = machine::cpuid(0, 0);
    let [signature, _, ecx, edx] = machine::cpuid(1, 0);
    info.mc_cpunr = cpu.0.into();
    info.mc_chipid = cpu.0.into();
    info.mc_apicid = machine::cpu_ids(cpu).map_or(0, |ids| ids.apic);
    info.mc_clusterid = info.mc_apicid >> 4;
    (info.mc_ncores, info.mc_ncores_active, info.mc_nthreads) = (1, 1, 1);
    info.mc_cpuid_level = highest.cast_signed();
    let (family, model, stepping) = signature_parts(signature);
    (info.mc_family, info.mc_model, info.mc_step) = (family, model, stepping);
    for (to, word) in info.mc_vendorid.chunks_exact_mut(4).zip([b, d, c]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let [_, _, amd_ecx, amd_edx] = machine::cpuid(0x8000_0001, 0);
    // Places in `mc_cpu_caps`: `MC_CAPS_*` of the header.
    (info.mc_cpu_caps[0], info.mc_cpu_caps[1]) = (edx, amd_edx);
    (info.mc_cpu_caps[4], info.mc_cpu_caps[6]) = (ecx, amd_ecx);
    info
}

/// Family, model and stepping of CPUID leaf 1's `eax`.
///
/// Source: Intel SDM volume 2, CPUID.
fn signature_parts(signature: u32) -> (u32, u32, u32) {
    let (family, model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let extended = family == 6 || family == 0xf;
    (
        if family == 0xf {
            family + (signature >> 20 & 0xff)
        } else {
            family
        },
        if extended {
            model | (signature >> 16 & 0xf) << 4
        } else {
            model
        },
        signature & 0xf,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_fetch() {
        let asked = |flags, data| {
            let mut request = abi::XenMcFetch {
                flags,
                _pad0: 0,
                fetch_id: 7,
                data,
            };
            fetch(&mut request).map(|()| (request.flags, request.fetch_id))
        };
        assert_eq!(asked(abi::XEN_MC_URGENT, 1), Ok((abi::XEN_MC_NODATA, 0)));
        assert_eq!(
            asked(abi::XEN_MC_NONURGENT | abi::XEN_MC_ACK, 0),
            Ok((0, 7))
        );
        assert_eq!(asked(abi::XEN_MC_URGENT, 0), Err(Error::Invalid));
        assert_eq!(asked(0, 1), Err(Error::Invalid));
        assert_eq!(asked(3, 1), Err(Error::Invalid));
    }

    #[test]
    fn room_for_cpus() {
        let asked = |ncpus, info| {
            let info = abi::XenMcPhyscpuinfo {
                ncpus,
                _pad0: 0,
                info,
            };
            cpus_to_tell(&info, 4)
        };
        assert_eq!(asked(0, 0), Ok(4));
        assert_eq!(asked(2, 0x1000), Ok(2));
        assert_eq!(asked(9, 0x1000), Ok(4));
        assert_eq!(asked(0, 0x1000), Err(Error::Invalid));
        assert_eq!(asked(u32::MAX, 0x1000), Err(Error::Invalid));
    }

    #[test]
    fn signatures() {
        // Haswell and Zen.
        assert_eq!(signature_parts(0x306c4), (6, 0x3c, 4));
        assert_eq!(signature_parts(0x0080_0f12), (0x17, 1, 2));
    }
}
