//! The CPU, and the seams through which the rest reaches it.
//!
//! `machine` is the real CPU on bare metal and a stand-in on the host, with the
//! same functions; pure rooms take the traits below instead, so that a test can
//! bring its own.

pub mod apic_timer;
pub mod clock;
pub mod config_access;
pub mod descriptor;
pub mod efi;
pub mod fpu;
pub mod index;
pub mod interrupt;
pub mod leftovers;
pub mod msi;
pub mod platform;
pub mod regs;
pub mod shootdown;
pub mod smbios;
pub mod speculation;
pub mod symbols;
pub mod topology;
pub mod vectors;
pub mod xcr0;

#[cfg(target_os = "none")]
pub mod x86_64;
#[cfg(target_os = "none")]
pub use x86_64 as machine;

#[cfg(not(target_os = "none"))]
pub mod fake;
#[cfg(not(target_os = "none"))]
pub use fake as machine;

/// The page attribute table of every CPU: write back, write through, uncached minus,
/// uncached, write combining, write protected, uncached, uncached. Guests of Xen's PV
/// interface count on it. Source of the encoding: Intel SDM volume 3, 11.12.2.
pub const PAT: u64 = 0x0000_0501_0007_0406;

use crate::addr::{CpuMask, GuestVa, Mfn};
use core::sync::atomic::AtomicU64;

/// A CPU's numbers and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuIds {
    /// Local APIC id.
    pub apic: u32,
    /// ACPI processor id.
    pub acpi: u32,
    /// Whether it runs.
    pub online: bool,
}

/// Sees the contents of machine frames that are RAM.
///
/// The caller has made sure that the frame is RAM (it has a frame-table entry).
pub trait FrameMem {
    /// The frame as 512 words (a page table, say). Guests and hardware may write
    /// the same words at the same time, hence atomics.
    fn words(&self, mfn: Mfn) -> &[AtomicU64; 512];

    /// First byte of the frame, for bulk copies. Valid for 4096 bytes.
    fn bytes(&self, mfn: Mfn) -> *mut u8;

    /// Writes back and drops every cached line of the frame, on all CPUs: what is read
    /// afterwards is what is in memory.
    fn flush_cache(&self, _mfn: Mfn) {}

    /// Where the page of `va` under `root` is, if this CPU has kept that since its last
    /// TLB flush (see [`crate::mm::translations`]); writable, if `write`.
    #[inline]
    fn kept(&self, _root: Mfn, _va: GuestVa, _write: bool) -> Option<*mut u8> {
        None
    }

    /// Keeps where the page of `va` under `root` is.
    #[inline]
    fn keep(&self, _root: Mfn, _va: GuestVa, _writable: bool, _page: *mut u8) {}

    /// All bits set in any of the words `16 * group` to `16 * group + 15`.
    ///
    /// # Panics
    /// If there is no such group in a frame.
    #[inline]
    fn gather(&self, mfn: Mfn, group: usize) -> u64 {
        self.words(mfn)[group * 16..group * 16 + 16]
            .iter()
            .fold(0, |all, word| {
                all | word.load(core::sync::atomic::Ordering::Relaxed)
            })
    }
}

/// When a frame last lost a kind of access that a TLB may still remember.
/// Compared with each CPU's last flush; see [`Tlb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FlushStamp(pub u32);

/// Flushes translation caches, here and on other CPUs.
///
/// All calls are synchronous: on return no CPU holds the stale entries.
pub trait Tlb {
    /// The stamp to note on a frame whose access is being reduced now.
    fn now(&self) -> FlushStamp;

    /// Makes sure that no CPU in `cpus` holds an entry that was stale at `stamp`.
    /// CPUs that flushed since are left alone.
    fn flush_since(&self, stamp: FlushStamp, cpus: &CpuMask);

    /// Flushes everything of guests on `cpus`.
    fn flush(&self, cpus: &CpuMask);

    /// Flushes one page on `cpus`, under every root.
    fn flush_page(&self, va: GuestVa, cpus: &CpuMask);
}

/// A device's registers of one byte each.
pub trait ByteRegs {
    /// Reads register `reg`.
    fn read(&self, reg: u16) -> u8;

    /// Writes register `reg`.
    fn write(&self, reg: u16, value: u8);
}

/// A screen's memory, which is only written: reading it may be very slow.
pub trait ScreenMem {
    /// Bytes it has.
    fn size(&self) -> usize;

    /// Writes `bytes` from byte `at` on.
    ///
    /// # Panics
    /// If they do not all fit.
    fn write(&self, at: usize, bytes: &[u8]);

    /// Sees to it that what was written is shown.
    fn settle(&self);
}
