//! `platform_op` (7): the host, for dom0.

mod efi;

use super::{Call, Error, HypercallResult, Reply, audit};
use crate::access;
use crate::addr::{CpuId, GuestVa, Nanos};
use crate::arch::machine;
use crate::domain::wallclock;
use crate::power::{self, End};
use crate::time::pvclock::WallClock;
use xen_abi::platform as abi;
use xen_abi::xen::HYPERVISOR_PLATFORM_OP;
use zerocopy::{FromBytes, IntoBytes};

/// ACPI sleep state S5: off.
const SOFT_OFF: u32 = 5;

/// Does what the structure at `args[0]` asks for. Answers go back into it.
///
/// # Errors
/// `EFAULT`: structure not accessible. `EACCES`: another interface version. `EPERM`:
/// caller does not own the hardware. `EINVAL`: values out of range. `ESRCH`: firmware
/// has no such information. `EOPNOTSUPP`: a sleep state other than S5. `ENOSYS`: no
/// such command, or none this host offers. EFI: see [`efi`].
///
/// Source: Xen `include/public/platform.h`.
pub fn platform_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let at = GuestVa(args[0]);
    let mut op: abi::XenPlatformOp = call.guest().read(at)?;
    if op.interface_version != abi::XENPF_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    let cmd = op.cmd;
    let result = run(call, at, &mut op);
    let command = audit::Command {
        hypercall: HYPERVISOR_PLATFORM_OP,
        command: cmd,
        target: None,
        question: matches!(cmd, abi::XENPF_FIRMWARE_INFO | abi::XENPF_GET_CPUINFO),
    };
    audit::command(call, &command, &result);
    result
}

/// Does what `op`, which is at `at`, asks for.
fn run(call: &mut Call<'_>, at: GuestVa, op: &mut abi::XenPlatformOp) -> HypercallResult {
    if !access::may_hardware(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    match op.cmd {
        abi::XENPF_SETTIME32 => set_time(from_settime32(&payload(op)?)?),
        abi::XENPF_SETTIME64 => set_time(from_settime64(&payload(op)?)?),
        abi::XENPF_FIRMWARE_INFO => {
            let mut info: abi::XenpfFirmwareInfo = payload(op)?;
            if info.r#type == abi::XEN_FW_EFI_INFO {
                efi::info(call, &mut info)?;
            } else {
                firmware_info(&mut info)?;
            }
            answer(op, &info)?;
            call.guest().write(at, &*op)?;
        }
        abi::XENPF_EFI_RUNTIME_CALL => {
            let mut runtime: abi::XenpfEfiRuntimeCall = payload(op)?;
            efi::runtime_call(call, &mut runtime)?;
            answer(op, &runtime)?;
            call.guest().write(at, &*op)?;
        }
        abi::XENPF_ENTER_ACPI_SLEEP => enter_sleep(&payload(op)?)?,
        abi::XENPF_GET_CPUINFO => {
            let mut info: abi::XenpfPcpuinfo = payload(op)?;
            cpu_info(&mut info);
            answer(op, &info)?;
            call.guest().write(at, &*op)?;
        }
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

/// The command's own structure, out of the union.
fn payload<T: FromBytes>(op: &abi::XenPlatformOp) -> Result<T, Error> {
    T::read_from_prefix(op.u.as_bytes())
        .map(|(value, _)| value)
        .map_err(|_| Error::Invalid)
}

/// Puts a structure back into the union.
fn answer(
    op: &mut abi::XenPlatformOp,
    value: &(impl IntoBytes + zerocopy::Immutable),
) -> Result<(), Error> {
    value
        .write_to_prefix(op.u.as_mut_bytes())
        .map_err(|_| Error::Invalid)
}

fn from_settime32(t: &abi::XenpfSettime32) -> Result<WallClock, Error> {
    WallClock::from_date(t.secs.into(), t.nsecs, Nanos(t.system_time)).ok_or(Error::Invalid)
}

fn from_settime64(t: &abi::XenpfSettime64) -> Result<WallClock, Error> {
    if t.mbz != 0 {
        return Err(Error::Invalid);
    }
    WallClock::from_date(t.secs, t.nsecs, Nanos(t.system_time)).ok_or(Error::Invalid)
}

fn set_time(clock: WallClock) {
    wallclock::set(clock);
}

/// What the BIOS left in memory for the operating system. Nothing was kept but the
/// keyboard's state, and of that nothing is known.
fn firmware_info(info: &mut abi::XenpfFirmwareInfo) -> Result<(), Error> {
    match info.r#type {
        abi::XEN_FW_KBD_SHIFT_FLAGS => {
            info.u[0] &= !0xff;
            Ok(())
        }
        // No disk, signature or monitor of that index.
        abi::XEN_FW_DISK_INFO | abi::XEN_FW_DISK_MBR_SIGNATURE | abi::XEN_FW_VBEDDC_INFO => {
            Err(Error::NoDomain)
        }
        _ => Err(Error::Invalid),
    }
}

fn enter_sleep(sleep: &abi::XenpfEnterAcpiSleep) -> Result<(), Error> {
    if sleep.sleep_state != SOFT_OFF || sleep.flags & abi::XENPF_ACPI_SLEEP_EXTENDED != 0 {
        return Err(Error::NotSupported);
    }
    log::info!("dom0 turns the machine off");
    power::end(End::Sleep {
        pm1a: sleep.val_a,
        pm1b: sleep.val_b,
    });
    match power::awaited() {
        Some(_) => Ok(()),
        // Still here: the firmware did not comply.
        None => Err(Error::NoDevice),
    }
}

fn cpu_info(info: &mut abi::XenpfPcpuinfo) {
    let count = machine::cpu_count() as u32;
    info.max_present = count.saturating_sub(1);
    let cpu = (info.xen_cpuid < count).then_some(CpuId(info.xen_cpuid as u16));
    let ids = cpu.and_then(machine::cpu_ids);
    (info.flags, info.apic_id, info.acpi_id) = match ids {
        Some(ids) => {
            let online = if ids.online {
                abi::XEN_PCPU_FLAGS_ONLINE
            } else {
                0
            };
            (online, ids.apic, ids.acpi)
        }
        None => (abi::XEN_PCPU_FLAGS_INVALID, 0, 0),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn dates() {
        let t = abi::XenpfSettime64 {
            secs: 1_700_000_000,
            nsecs: 5,
            mbz: 0,
            system_time: 1_000_000_000,
        };
        let clock = from_settime64(&t).expect("valid");
        assert_eq!((clock.seconds, clock.nanos), (1_699_999_999, 5));
        let bad = abi::XenpfSettime64 { mbz: 1, ..t };
        assert_eq!(from_settime64(&bad), Err(Error::Invalid));
        let negative = abi::XenpfSettime64 { secs: 0, ..t };
        assert_eq!(from_settime64(&negative), Err(Error::Invalid));
    }

    #[test]
    fn firmware() {
        let mut info = abi::XenpfFirmwareInfo::new_zeroed();
        for (kind, result) in [
            (0, Err(Error::Invalid)),
            (1, Err(Error::NoDomain)),
            (2, Err(Error::NoDomain)),
            (3, Err(Error::NoDomain)),
            (5, Ok(())),
            (6, Err(Error::Invalid)),
        ] {
            info.r#type = kind;
            assert_eq!(firmware_info(&mut info), result, "{kind}");
        }
    }

    #[test]
    fn only_soft_off() {
        let mut sleep = abi::XenpfEnterAcpiSleep::new_zeroed();
        sleep.sleep_state = 3;
        assert_eq!(enter_sleep(&sleep), Err(Error::NotSupported));
        sleep.sleep_state = 5;
        assert_eq!(enter_sleep(&sleep), Err(Error::NoDevice));
    }

    #[test]
    fn unions_hold_their_members() {
        let mut op = abi::XenPlatformOp::new_zeroed();
        let info = abi::XenpfPcpuinfo {
            xen_cpuid: 1,
            max_present: 2,
            flags: 3,
            apic_id: 4,
            acpi_id: 5,
        };
        answer(&mut op, &info).expect("fits");
        assert_eq!(payload::<abi::XenpfPcpuinfo>(&op), Ok(info));
    }

    #[test]
    fn cpus() {
        let mut info = abi::XenpfPcpuinfo::new_zeroed();
        info.xen_cpuid = u32::MAX;
        cpu_info(&mut info);
        assert_eq!(info.flags, abi::XEN_PCPU_FLAGS_INVALID);
    }
}
