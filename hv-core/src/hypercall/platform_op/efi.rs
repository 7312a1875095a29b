//! EFI for dom0: what firmware says of itself, and its runtime services.
//!
//! Source of each errno: what Xen 4.17 answers in each case.

use super::{Call, Error};
use crate::addr::GuestVa;
use crate::arch::efi::firmware::region_of;
use crate::arch::efi::runtime::{self, Name, Status};
use crate::arch::efi::{self, Services};
use crate::arch::machine::efi_runtime;
use crate::fallible::{self, Grow};
use alloc::boxed::Box;
use alloc::vec::Vec;
use xen_abi::platform as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest name of a variable, in characters, its NUL among them. Linux has room for 512.
const MAX_NAME: usize = 1024;
/// Most bytes of a variable's data. Firmware allows 32 KiB to 256 KiB.
const MAX_DATA: u64 = 256 << 10;

/// Answers what dom0 wants to know of the firmware. `info` is the union's content, and the answer.
///
/// # Errors
/// `ENOSYS`: no EFI firmware. `EINVAL`: no such question. `ESRCH`: no such ROM.
/// `ENODATA`: not Apple's. `EFAULT`: the vendor's name cannot be written.
pub(super) fn info(call: &Call<'_>, info: &mut abi::XenpfFirmwareInfo) -> Result<(), Error> {
    let efi = efi::facts().ok_or(Error::NotImplemented)?;
    match info.index {
        abi::XEN_FW_EFI_VERSION => put(&mut info.u, &efi.firmware.revision),
        abi::XEN_FW_EFI_RT_VERSION => {
            let revision = efi.services_revision.ok_or(Error::NotSupported)?;
            put(&mut info.u, &revision)
        }
        abi::XEN_FW_EFI_CONFIG_TABLE => {
            let (addr, count) = efi.firmware.tables;
            let tables = abi::EfiInfoTables {
                addr,
                nent: count as u32,
                _pad: 0,
            };
            put(&mut info.u, &tables)
        }
        abi::XEN_FW_EFI_VENDOR => {
            let mut vendor: abi::EfiInfoVendor = get(&info.u)?;
            vendor.revision = efi.firmware.vendor_revision;
            write_vendor(call, &vendor, &efi.vendor)?;
            put(&mut info.u, &vendor)
        }
        abi::XEN_FW_EFI_MEM_INFO => {
            let mut memory: abi::EfiInfoMemory = get(&info.u)?;
            let region = region_of(efi.map, memory.addr).ok_or(Error::NoDomain)?;
            let range = region.range();
            memory.addr = range.start;
            memory.size = range.end - range.start;
            memory.attr = region.attributes;
            memory.r#type = region.kind;
            put(&mut info.u, &memory)
        }
        abi::XEN_FW_EFI_PCI_ROM => Err(Error::NoDomain),
        abi::XEN_FW_EFI_APPLE_PROPERTIES => Err(Error::NoData),
        _ => Err(Error::Invalid),
    }
}

/// Writes as much of the vendor's name as there is room for.
fn write_vendor(call: &Call<'_>, to: &abi::EfiInfoVendor, name: &[u16]) -> Result<(), Error> {
    let room = to.bufsz as usize / 2;
    if room == 0 {
        return Ok(());
    }
    let count = room.min(name.len());
    let guest = call.guest();
    guest.write_bytes(GuestVa(to.name), name[..count].as_bytes())?;
    if count == room {
        // A name that was cut has an end too.
        let last = GuestVa(to.name).add((room as u64 - 1) * 2);
        guest.write_bytes(last, &[0; 2])?;
    }
    Ok(())
}

/// Calls a runtime service. Answers go back into `op`.
///
/// # Errors
/// `EOPNOTSUPP`: there are none, or none of that version. `EINVAL`: flags out of range, a name
/// without an end. `E2BIG`: more data than any firmware takes. `ENOMEM`; `EFAULT`.
/// `ENOSYS`: no such service, or capsules.
pub(super) fn runtime_call(
    call: &mut Call<'_>,
    op: &mut abi::XenpfEfiRuntimeCall,
) -> Result<(), Error> {
    let services = efi_runtime::services().ok_or(Error::NotSupported)?;
    check_flags(op)?;
    let status = match op.function {
        abi::XEN_EFI_GET_TIME
        | abi::XEN_EFI_SET_TIME
        | abi::XEN_EFI_GET_WAKEUP_TIME
        | abi::XEN_EFI_SET_WAKEUP_TIME => clock(call, op)?,
        abi::XEN_EFI_GET_NEXT_HIGH_MONOTONIC_COUNT => {
            let (status, count) = runtime::get_next_high_monotonic_count(call.state);
            op.misc = count;
            status
        }
        abi::XEN_EFI_GET_VARIABLE => get_variable(call, op)?,
        abi::XEN_EFI_SET_VARIABLE => set_variable(call, op)?,
        abi::XEN_EFI_GET_NEXT_VARIABLE_NAME => next_name(call, op)?,
        abi::XEN_EFI_QUERY_VARIABLE_INFO => variable_info(call, services, op)?,
        _ => return Err(Error::NotImplemented),
    };
    op.status = status.0;
    Ok(())
}

/// Flags that a function does not know are refused.
fn check_flags(op: &abi::XenpfEfiRuntimeCall) -> Result<(), Error> {
    let known = match op.function {
        abi::XEN_EFI_SET_WAKEUP_TIME => {
            abi::XEN_EFI_SET_WAKEUP_TIME_ENABLE | abi::XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY
        }
        // The variable's attributes, which firmware checks.
        abi::XEN_EFI_SET_VARIABLE => u32::MAX,
        abi::XEN_EFI_QUERY_VARIABLE_INFO => abi::XEN_EFI_VARINFO_BOOT_SNAPSHOT,
        _ => 0,
    };
    if op.misc & !known == 0 {
        Ok(())
    } else {
        Err(Error::Invalid)
    }
}

/// Clock and alarm.
fn clock(call: &mut Call<'_>, op: &mut abi::XenpfEfiRuntimeCall) -> Result<Status, Error> {
    Ok(match op.function {
        abi::XEN_EFI_GET_TIME => {
            let (status, time, clock) = runtime::get_time(call.state);
            if !status.is_error() {
                let answer = abi::EfiGetTime {
                    time,
                    resolution: clock.resolution,
                    accuracy: clock.accuracy,
                };
                put(&mut op.u, &answer)?;
                // A byte; what is above it nobody wrote.
                if clock.sets_to_zero & 0xff != 0 {
                    op.misc = abi::XEN_EFI_GET_TIME_SET_CLEARS_NS;
                }
            }
            status
        }
        abi::XEN_EFI_SET_TIME => {
            let time = get(&op.u)?;
            runtime::set_time(call.state, &time)
        }
        abi::XEN_EFI_GET_WAKEUP_TIME => {
            let (status, enabled, pending, time) = runtime::get_wakeup_time(call.state);
            if !status.is_error() {
                put(&mut op.u, &time)?;
                let flag = |on, bit| if on { bit } else { 0 };
                op.misc = flag(enabled, abi::XEN_EFI_GET_WAKEUP_TIME_ENABLED)
                    | flag(pending, abi::XEN_EFI_GET_WAKEUP_TIME_PENDING);
            }
            status
        }
        _ => {
            let on = op.misc & abi::XEN_EFI_SET_WAKEUP_TIME_ENABLE != 0;
            let keeps = op.misc & abi::XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY != 0;
            let time = get(&op.u)?;
            op.misc = 0;
            runtime::set_wakeup_time(call.state, on, (!keeps).then_some(&time))
        }
    })
}

fn get_variable(call: &mut Call<'_>, op: &mut abi::XenpfEfiRuntimeCall) -> Result<Status, Error> {
    let mut variable: abi::EfiVariable = get(&op.u)?;
    let name = read_name(call, variable.name)?;
    let name = Name::new(&name).ok_or(Error::Invalid)?;
    // More room than data can need is as good as that.
    let mut data = zeroes(variable.size.min(MAX_DATA))?;
    let (status, found) = runtime::get_variable(call.state, name, &variable.vendor_guid, &mut data);
    if !status.is_error() {
        let count = data.len().min(found.size as usize);
        call.guest()
            .write_bytes(GuestVa(variable.data), &data[..count])?;
        op.misc = found.attributes;
    }
    variable.size = found.size;
    put(&mut op.u, &variable)?;
    Ok(status)
}

fn set_variable(call: &mut Call<'_>, op: &mut abi::XenpfEfiRuntimeCall) -> Result<Status, Error> {
    let variable: abi::EfiVariable = get(&op.u)?;
    let name = read_name(call, variable.name)?;
    let name = Name::new(&name).ok_or(Error::Invalid)?;
    if variable.size > MAX_DATA {
        return Err(Error::TooBig);
    }
    let mut data = zeroes(variable.size)?;
    call.guest().read_bytes(GuestVa(variable.data), &mut data)?;
    let guid = &variable.vendor_guid;
    Ok(runtime::set_variable(
        call.state, name, guid, op.misc, &mut data,
    ))
}

fn next_name(call: &mut Call<'_>, op: &mut abi::XenpfEfiRuntimeCall) -> Result<Status, Error> {
    let mut next: abi::EfiNextVariableName = get(&op.u)?;
    let room = next.size.min(2 * MAX_NAME as u64);
    let mut name: Box<[u16]> = zeroes(room.div_ceil(2) + 1)?;
    let bytes = &mut name.as_mut_bytes()[..room as usize];
    call.guest().read_bytes(GuestVa(next.name), bytes)?;
    let (status, size) =
        runtime::get_next_variable_name(call.state, room, &mut name, &mut next.vendor_guid);
    if !status.is_error() {
        let count = size.min(room) as usize;
        call.guest()
            .write_bytes(GuestVa(next.name), &name.as_bytes()[..count])?;
    }
    next.size = size;
    put(&mut op.u, &next)?;
    Ok(status)
}

fn variable_info(
    call: &mut Call<'_>,
    services: &Services,
    op: &mut abi::XenpfEfiRuntimeCall,
) -> Result<Status, Error> {
    // Nothing was asked when the hypervisor started.
    if !services.has_version_2() || op.misc & abi::XEN_EFI_VARINFO_BOOT_SNAPSHOT != 0 {
        return Err(Error::NotSupported);
    }
    let mut info: abi::EfiVariableInfo = get(&op.u)?;
    let (status, storage) = runtime::query_variable_info(call.state, info.attr);
    info.max_store_size = storage.most;
    info.remain_store_size = storage.left;
    info.max_size = storage.most_of_one;
    put(&mut op.u, &info)?;
    Ok(status)
}

/// The characters of a name at `at`, its NUL among them.
fn read_name(call: &Call<'_>, at: u64) -> Result<Vec<u16>, Error> {
    let guest = call.guest();
    let mut name = Vec::new();
    name.try_reserve_exact(MAX_NAME)
        .map_err(|_| Error::NoMemory)?;
    while name.len() < MAX_NAME {
        let next: u16 = guest.read(GuestVa(at).add(2 * name.len() as u64))?;
        name.push_reserved(next);
        if next == 0 {
            return Ok(name);
        }
    }
    Err(Error::TooBig)
}

/// So many zeroes.
fn zeroes<T: Default>(count: u64) -> Result<Box<[T]>, Error> {
    Ok(fallible::boxed_slice(count as usize, |_| T::default())?)
}

/// The struct at the start of a union.
fn get<T: FromBytes>(union: &[u64]) -> Result<T, Error> {
    T::read_from_prefix(union.as_bytes())
        .map(|(value, _)| value)
        .map_err(|_| Error::Invalid)
}

/// Puts a struct at the start of a union.
fn put(union: &mut [u64], value: &(impl IntoBytes + Immutable)) -> Result<(), Error> {
    value
        .write_to_prefix(union.as_mut_bytes())
        .map_err(|_| Error::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn flags_that_are_not_known_are_refused() {
        let check = |function, misc| {
            let op = abi::XenpfEfiRuntimeCall {
                function,
                misc,
                ..abi::XenpfEfiRuntimeCall::new_zeroed()
            };
            check_flags(&op)
        };
        for function in 1..=11 {
            assert_eq!(check(function, 0), Ok(()));
        }
        assert_eq!(check(abi::XEN_EFI_GET_TIME, 1), Err(Error::Invalid));
        assert_eq!(check(abi::XEN_EFI_SET_WAKEUP_TIME, 3), Ok(()));
        assert_eq!(check(abi::XEN_EFI_SET_WAKEUP_TIME, 4), Err(Error::Invalid));
        assert_eq!(check(abi::XEN_EFI_SET_VARIABLE, 0x27), Ok(()));
        assert_eq!(check(abi::XEN_EFI_QUERY_VARIABLE_INFO, 1), Ok(()));
        assert_eq!(
            check(abi::XEN_EFI_QUERY_VARIABLE_INFO, 2),
            Err(Error::Invalid)
        );
    }

    #[test]
    fn every_answer_fits_its_union() {
        let mut union = [0; 5];
        let variable = abi::EfiVariable::new_zeroed();
        assert_eq!(put(&mut union, &variable), Ok(()));
        assert_eq!(get::<abi::EfiVariable>(&union), Ok(variable));
        let mut info = abi::XenpfFirmwareInfo::new_zeroed();
        assert_eq!(put(&mut info.u, &abi::EfiInfoMemory::new_zeroed()), Ok(()));
    }
}
