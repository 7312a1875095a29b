//! The page shared with the hypervisor: events and time of the one vCPU.

use crate::boot::start_info;
use crate::hypercall::update_va_mapping;
use crate::memory::{DATA, Page};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::xen::{SharedInfo, UVMF_INVLPG, VcpuInfo, VcpuTimeInfo};

static PAGE: AtomicU64 = AtomicU64::new(0);
/// Where the vCPU's `vcpu_info` is, once it has been moved.
static VCPU_INFO: AtomicU64 = AtomicU64::new(0);

/// Address of the shared info page; maps it at first use.
///
/// # Panics
/// If the hypervisor refuses the mapping.
pub fn va() -> u64 {
    let va = PAGE.load(Ordering::Relaxed);
    if va != 0 {
        return va;
    }
    let page = Page::take();
    let entry = start_info().shared_info | DATA;
    assert_eq!(update_va_mapping(page.va(), entry, UVMF_INVLPG), 0);
    PAGE.store(page.va(), Ordering::Relaxed);
    page.va()
}

/// Address of the vCPU's `vcpu_info`.
pub fn vcpu_info() -> u64 {
    match VCPU_INFO.load(Ordering::Relaxed) {
        0 => va(),
        moved => moved,
    }
}

/// Remembers that `vcpu_info` has been moved.
pub fn set_vcpu_info(address: u64) {
    VCPU_INFO.store(address, Ordering::Relaxed);
}

fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: callers pass addresses of aligned words of the mapped shared structures, which both
    // sides access atomically.
    unsafe { &*(address as *const AtomicU64) }
}

fn byte(address: u64) -> *mut u8 {
    address as *mut u8
}

fn bit_of(array: usize, port: u32) -> (&'static AtomicU64, u64) {
    assert!(port < 4096);
    let address = va() + array as u64 + u64::from(port / 64) * 8;
    (word(address), 1 << (port % 64))
}

/// Whether a port is pending.
pub fn is_pending(port: u32) -> bool {
    let (word, bit) = bit_of(offset_of!(SharedInfo, evtchn_pending), port);
    word.load(Ordering::SeqCst) & bit != 0
}

/// Clears a port's pending bit.
pub fn clear_pending(port: u32) {
    let (word, bit) = bit_of(offset_of!(SharedInfo, evtchn_pending), port);
    word.fetch_and(!bit, Ordering::SeqCst);
}

/// Masks or unmasks a port, without a hypercall.
pub fn set_masked(port: u32, masked: bool) {
    let (word, bit) = bit_of(offset_of!(SharedInfo, evtchn_mask), port);
    if masked {
        word.fetch_or(bit, Ordering::SeqCst);
    } else {
        word.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Whether an upcall is due.
pub fn upcall_pending() -> bool {
    let address = vcpu_info() + offset_of!(VcpuInfo, evtchn_upcall_pending) as u64;
    // SAFETY: the mapped `vcpu_info`.
    unsafe { byte(address).read_volatile() != 0 }
}

/// Clears the flag that an upcall is due, and the selector; returns the selector.
pub fn take_upcall() -> u64 {
    let address = vcpu_info() + offset_of!(VcpuInfo, evtchn_upcall_pending) as u64;
    // SAFETY: the mapped `vcpu_info`.
    unsafe { byte(address).write_volatile(0) };
    word(vcpu_info() + offset_of!(VcpuInfo, evtchn_pending_sel) as u64).swap(0, Ordering::SeqCst)
}

/// The upcall mask.
pub fn upcall_mask() -> u8 {
    let address = vcpu_info() + offset_of!(VcpuInfo, evtchn_upcall_mask) as u64;
    // SAFETY: the mapped `vcpu_info`.
    unsafe { byte(address).read_volatile() }
}

/// Sets the upcall mask.
pub fn set_upcall_mask(mask: u8) {
    let address = vcpu_info() + offset_of!(VcpuInfo, evtchn_upcall_mask) as u64;
    // SAFETY: the mapped `vcpu_info`.
    unsafe { byte(address).write_volatile(mask) };
}

/// Address of the last page fault.
pub fn cr2() -> u64 {
    let address = vcpu_info() + offset_of!(VcpuInfo, arch) as u64;
    word(address).load(Ordering::SeqCst)
}

/// System time in nanoseconds.
pub fn system_time() -> u64 {
    let address = vcpu_info() + offset_of!(VcpuInfo, time) as u64;
    loop {
        // SAFETY: the mapped `vcpu_info`; a torn copy is thrown away below.
        let time = unsafe { (address as *const VcpuTimeInfo).read_volatile() };
        let tsc = rdtsc();
        // SAFETY: as above.
        let version = unsafe { (address as *const u32).read_volatile() };
        if time.version & 1 == 0 && version == time.version {
            let delta = tsc.wrapping_sub(time.tsc_timestamp);
            let shifted = if time.tsc_shift < 0 {
                delta >> time.tsc_shift.unsigned_abs()
            } else {
                delta << time.tsc_shift
            };
            let nanos = (u128::from(shifted) * u128::from(time.tsc_to_system_mul)) >> 32;
            return time.system_time + nanos as u64;
        }
    }
}

/// The time stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
