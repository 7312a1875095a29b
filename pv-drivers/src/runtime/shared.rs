//! The page shared with the hypervisor: events and time.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use xen_abi::vcpu::{VCPUOP_REGISTER_VCPU_INFO, VcpuRegisterVcpuInfo};
use xen_abi::xen::{
    ArchSharedInfo, HYPERVISOR_VCPU_OP, SharedInfo, UVMF_INVLPG, VcpuInfo, VcpuTimeInfo,
    XEN_LEGACY_MAX_VCPUS,
};

use super::boot::{links, start_info};
use super::mmu::{self, DATA, update_va_mapping};
use crate::event::Bits;
use crate::hypercall::{Errno, raw};

/// An address for the page: its own frame is lost.
#[repr(C, align(4096))]
struct Hole(UnsafeCell<[u8; 4096]>);

// SAFETY: reached by atomic and volatile accesses only.
unsafe impl Sync for Hole {}

static HOLE: Hole = Hole(UnsafeCell::new([0; 4096]));
static PAGE: AtomicU64 = AtomicU64::new(0);
/// Where vCPU 0's `vcpu_info` is, once it has been moved.
static VCPU_INFO: AtomicU64 = AtomicU64::new(0);

/// Maps the page, masks every port, and says where the P2M list is.
pub(super) fn init() {
    bits().mask_all();
    set_upcall_mask(1);
    publish_p2m();
}

/// Tells the toolstack, which reads it when it saves the guest, where the P2M list is: at one
/// address, by the tables of vCPU 0. No tree leads to it.
fn publish_p2m() {
    let arch = va() + offset_of!(SharedInfo, arch) as u64;
    let set = |offset: usize, value: u64| word(arch + offset as u64).store(value, Ordering::SeqCst);
    set(offset_of!(ArchSharedInfo, max_pfn), start_info().nr_pages);
    set(
        offset_of!(ArchSharedInfo, pfn_to_mfn_frame_list_list),
        u64::MAX,
    );
    set(offset_of!(ArchSharedInfo, p2m_vaddr), start_info().mfn_list);
    set(offset_of!(ArchSharedInfo, p2m_generation), 0);
    let root = mmu::mfn(start_info().pt_base) << 12;
    set(offset_of!(ArchSharedInfo, p2m_cr3), root);
}

/// Takes the page away, which is not the guest's to take along. Until [`map_again`] there are no
/// events and no time.
pub(super) fn unmap() -> Result<(), Errno> {
    // SAFETY: nobody uses the page now, as the caller sees to.
    unsafe { update_va_mapping(va(), 0, UVMF_INVLPG) }
}

/// Maps the page of the domain that the guest now is, at the same address.
///
/// # Panics
/// If the hypervisor refuses.
pub(super) fn map_again() {
    map();
}

/// The page is another domain's: what the guest has said there it says again.
pub(super) fn renew() {
    init();
    let moved = VCPU_INFO.load(Ordering::Relaxed);
    if moved != 0 {
        let mut info = VcpuRegisterVcpuInfo {
            mfn: mmu::mfn(moved & !0xfff),
            offset: (moved & 0xfff) as u32,
            rsvd: 0,
        };
        let command = u64::from(VCPUOP_REGISTER_VCPU_INFO);
        let arguments = [command, 0, &raw mut info as u64, 0, 0];
        // SAFETY: the place was registered before, and is used for nothing else.
        let refused = unsafe { raw(HYPERVISOR_VCPU_OP, arguments) };
        assert_eq!(refused, 0);
    }
}

/// Maps the page at its address.
///
/// # Panics
/// If the hypervisor refuses the mapping.
fn map() -> u64 {
    let va = HOLE.0.get() as u64;
    let entry = links().shared_info | DATA;
    // SAFETY: the hole is used for nothing else.
    let mapped = unsafe { update_va_mapping(va, entry, UVMF_INVLPG) };
    assert_eq!(mapped, Ok(()));
    PAGE.store(va, Ordering::Release);
    va
}

/// Address of the shared info page; maps it at first use.
///
/// # Panics
/// If the hypervisor refuses the mapping.
pub fn va() -> u64 {
    match PAGE.load(Ordering::Acquire) {
        0 => map(),
        va => va,
    }
}

/// The event bits.
pub fn bits() -> Bits {
    let words = |offset: usize| {
        // SAFETY: 64 aligned words of the mapped page, which both sides access atomically.
        unsafe { &*((va() + offset as u64) as *const [AtomicU64; 64]) }
    };
    Bits::new(
        words(offset_of!(SharedInfo, evtchn_pending)),
        words(offset_of!(SharedInfo, evtchn_mask)),
    )
}

/// Address of the `vcpu_info` of a vCPU.
///
/// # Panics
/// If the page has none for it.
pub fn vcpu_info(vcpu: u32) -> u64 {
    assert!((vcpu as usize) < XEN_LEGACY_MAX_VCPUS);
    match VCPU_INFO.load(Ordering::Relaxed) {
        moved if vcpu == 0 && moved != 0 => moved,
        _ => va() + u64::from(vcpu) * size_of::<VcpuInfo>() as u64,
    }
}

/// Remembers that vCPU 0's `vcpu_info` has been moved.
pub fn set_vcpu_info(address: u64) {
    VCPU_INFO.store(address, Ordering::Relaxed);
}

fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: callers pass addresses of aligned words of the mapped shared structures, which both
    // sides access atomically.
    unsafe { &*(address as *const AtomicU64) }
}

fn byte(address: u64) -> &'static AtomicU8 {
    // SAFETY: as for `word`.
    unsafe { &*(address as *const AtomicU8) }
}

fn pending(vcpu: u32) -> &'static AtomicU8 {
    byte(vcpu_info(vcpu) + offset_of!(VcpuInfo, evtchn_upcall_pending) as u64)
}

fn mask() -> &'static AtomicU8 {
    byte(vcpu_info(0) + offset_of!(VcpuInfo, evtchn_upcall_mask) as u64)
}

/// Whether an upcall is due on vCPU 0.
pub fn upcall_pending() -> bool {
    pending(0).load(Ordering::SeqCst) != 0
}

/// Clears a vCPU's flag that an upcall is due, and the selector; returns the selector.
pub fn take_upcall(vcpu: u32) -> u64 {
    pending(vcpu).store(0, Ordering::SeqCst);
    let selector = vcpu_info(vcpu) + offset_of!(VcpuInfo, evtchn_pending_sel) as u64;
    word(selector).swap(0, Ordering::SeqCst)
}

/// The upcall mask of vCPU 0.
pub fn upcall_mask() -> u8 {
    mask().load(Ordering::SeqCst)
}

/// Sets the upcall mask of vCPU 0.
pub fn set_upcall_mask(value: u8) {
    mask().store(value, Ordering::SeqCst);
}

/// Address of vCPU 0's last page fault.
pub fn cr2() -> u64 {
    word(vcpu_info(0) + offset_of!(VcpuInfo, arch) as u64).load(Ordering::SeqCst)
}

/// A vCPU's time record, whole.
pub fn time(vcpu: u32) -> VcpuTimeInfo {
    let address = vcpu_info(vcpu) + offset_of!(VcpuInfo, time) as u64;
    loop {
        // SAFETY: the mapped `vcpu_info`; a torn copy is thrown away below.
        let time = unsafe { (address as *const VcpuTimeInfo).read_volatile() };
        // SAFETY: as above.
        let version = unsafe { (address as *const u32).read_volatile() };
        if time.version & 1 == 0 && version == time.version {
            return time;
        }
    }
}

/// Unix time at system time 0: seconds and nanoseconds.
pub fn wall_clock() -> (u64, u32) {
    let field = |offset: usize| {
        // SAFETY: words of the mapped page; a torn pair is thrown away below.
        unsafe { ((va() + offset as u64) as *const u32).read_volatile() }
    };
    loop {
        let version = field(offset_of!(SharedInfo, wc_version));
        let low = field(offset_of!(SharedInfo, wc_sec));
        let high = field(offset_of!(SharedInfo, wc_sec_hi));
        let nanoseconds = field(offset_of!(SharedInfo, wc_nsec));
        if version & 1 == 0 && version == field(offset_of!(SharedInfo, wc_version)) {
            return (u64::from(high) << 32 | u64::from(low), nanoseconds);
        }
    }
}
