//! EFI runtime services as functions.
//!
//! Each takes the state of the vCPU that runs, whose extended state the services would spoil.
//! Source: UEFI Specification 2.10, 8.2 to 8.5.
#![allow(unsafe_code, reason = "hands buffers to firmware")]

use super::Service;
use crate::arch::machine::efi_runtime;
use crate::domain::VcpuState;
use xen_abi::platform::{XenpfEfiGuid as Guid, XenpfEfiTime as Time};
use zerocopy::FromZeros;

/// What a service answers: errors have the highest bit set. Source: appendix D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u64);

impl Status {
    /// Whether the service did what it was asked for.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >> 63 != 0
    }
}

/// A variable's name: UTF-16, with a NUL at its end.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(&'a [u16]);

impl<'a> Name<'a> {
    /// The characters of `text` up to its first NUL; `None` without one.
    #[must_use]
    pub fn new(text: &'a [u16]) -> Option<Self> {
        let end = text.iter().position(|c| *c == 0)?;
        Some(Self(&text[..=end]))
    }
}

/// What a clock can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClockCapabilities {
    /// Ticks a second.
    pub resolution: u32,
    /// Error, in parts of 10^12.
    pub accuracy: u32,
    /// Not 0: setting the time clears what is below a second.
    pub sets_to_zero: u32,
}

/// A variable's attributes and its size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Attributes.
    pub attributes: u32,
    /// Bytes of data: those there are, also when there was not enough room.
    pub size: u64,
}

/// Room for variables, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// For all of them.
    pub most: u64,
    /// What is left.
    pub left: u64,
    /// For one.
    pub most_of_one: u64,
}

fn to<T>(target: &mut T) -> u64 {
    core::ptr::from_mut(target) as u64
}

fn from<T: ?Sized>(source: &T) -> u64 {
    core::ptr::from_ref(source).cast::<u8>() as u64
}

/// Address of the bytes; 0 if there are none.
fn bytes(data: &mut [u8]) -> u64 {
    if data.is_empty() {
        0
    } else {
        data.as_mut_ptr() as u64
    }
}

/// Reads the clock.
pub fn get_time(state: &mut VcpuState) -> (Status, Time, ClockCapabilities) {
    let mut time = Time::new_zeroed();
    let mut capabilities = ClockCapabilities::default();
    let args = [to(&mut time), to(&mut capabilities), 0, 0, 0];
    // SAFETY: the service writes a time and capabilities (whose last member is one byte).
    let status = unsafe { efi_runtime::call(state, Service::GetTime, &args) };
    (Status(status), time, capabilities)
}

/// Sets the clock.
pub fn set_time(state: &mut VcpuState, time: &Time) -> Status {
    let args = [from(time), 0, 0, 0, 0];
    // SAFETY: the service reads a time.
    Status(unsafe { efi_runtime::call(state, Service::SetTime, &args) })
}

/// Reads the alarm: whether it is on, whether it has gone off, its time.
pub fn get_wakeup_time(state: &mut VcpuState) -> (Status, bool, bool, Time) {
    let (mut enabled, mut pending) = (0u8, 0u8);
    let mut time = Time::new_zeroed();
    let args = [to(&mut enabled), to(&mut pending), to(&mut time), 0, 0];
    // SAFETY: the service writes two bytes and a time.
    let status = unsafe { efi_runtime::call(state, Service::GetWakeupTime, &args) };
    (Status(status), enabled != 0, pending != 0, time)
}

/// Turns the alarm on or off; without a time that stays.
pub fn set_wakeup_time(state: &mut VcpuState, on: bool, time: Option<&Time>) -> Status {
    let args = [u64::from(on), time.map_or(0, from), 0, 0, 0];
    // SAFETY: the service reads a time, if there is one.
    Status(unsafe { efi_runtime::call(state, Service::SetWakeupTime, &args) })
}

/// The upper half of the next number of the counter that never goes back.
pub fn get_next_high_monotonic_count(state: &mut VcpuState) -> (Status, u32) {
    let mut count = 0u32;
    let args = [to(&mut count), 0, 0, 0, 0];
    // SAFETY: the service writes 32 bits.
    let status = unsafe { efi_runtime::call(state, Service::GetNextHighMonotonicCount, &args) };
    (Status(status), count)
}

/// Reads a variable into `data`.
pub fn get_variable(
    state: &mut VcpuState,
    name: Name<'_>,
    vendor: &Guid,
    data: &mut [u8],
) -> (Status, Found) {
    let mut found = Found {
        attributes: 0,
        size: data.len() as u64,
    };
    let args = [
        from(name.0),
        from(vendor),
        to(&mut found.attributes),
        to(&mut found.size),
        bytes(data),
    ];
    // SAFETY: the service reads the name to its NUL and the vendor, writes the attributes, reads
    // and writes the size, and writes at most as many bytes of data as the size said.
    let status = unsafe { efi_runtime::call(state, Service::GetVariable, &args) };
    (Status(status), found)
}

/// Sets a variable; without data it goes.
pub fn set_variable(
    state: &mut VcpuState,
    name: Name<'_>,
    vendor: &Guid,
    attributes: u32,
    data: &mut [u8],
) -> Status {
    let args = [
        from(name.0),
        from(vendor),
        attributes.into(),
        data.len() as u64,
        bytes(data),
    ];
    // SAFETY: the service reads the name to its NUL, the vendor and the data.
    Status(unsafe { efi_runtime::call(state, Service::SetVariable, &args) })
}

/// Replaces a variable's name and vendor by those of the next one. The service is told of `size`
/// bytes of room, and answers how many the name has.
///
/// # Panics
/// If `name` has not that many bytes and another character.
pub fn get_next_variable_name(
    state: &mut VcpuState,
    size: u64,
    name: &mut [u16],
    vendor: &mut Guid,
) -> (Status, u64) {
    assert!(size + 2 <= size_of_val(name) as u64);
    // A name without a NUL ends behind its room.
    *name.last_mut().expect("at least one character") = 0;
    let mut size = size;
    let args = [to(&mut size), name.as_mut_ptr() as u64, to(vendor), 0, 0];
    // SAFETY: the service reads the name to a NUL, of which there is one, and the vendor, and
    // writes the size, at most as many bytes of name as it said, and the vendor.
    let status = unsafe { efi_runtime::call(state, Service::GetNextVariableName, &args) };
    (Status(status), size)
}

/// How much room there is for variables with these attributes.
pub fn query_variable_info(state: &mut VcpuState, attributes: u32) -> (Status, Storage) {
    let mut storage = Storage::default();
    let args = [
        attributes.into(),
        to(&mut storage.most),
        to(&mut storage.left),
        to(&mut storage.most_of_one),
        0,
    ];
    // SAFETY: the service writes three words.
    let status = unsafe { efi_runtime::call(state, Service::QueryVariableInfo, &args) };
    (Status(status), storage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_first_nul() {
        assert_eq!(Name::new(&[65, 0, 66, 0]).map(|n| n.0), Some(&[65, 0][..]));
        assert!(Name::new(&[65, 66]).is_none());
        assert!(Name::new(&[]).is_none());
    }

    #[test]
    fn errors_have_the_highest_bit() {
        assert!(Status(1 << 63 | 5).is_error());
        assert!(!Status(0).is_error());
    }
}
