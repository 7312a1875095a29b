//! Entry point, ELF notes and the start info.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::xen::{SIF_INITDOMAIN, StartInfo};

use super::vcpu::STACK_SIZE;

/// Virtual address of PFN 0.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

// Xen passes the start info in rsi and a stack of one page, too small for Rust code.
// Notes: Xen `include/public/elfnote.h`.
global_asm!(
    r#"
    .macro xen_note kind, value:vararg
    .align 4
    .long 2f - 1f, 4f - 3f, \kind
1:  .asciz "Xen"
2:  .align 4
3:  \value
4:  .align 4
    .endm

    .section .note.Xen, "a", @note
    xen_note 1, .quad pv_start
    xen_note 3, .quad {virt_base}
    xen_note 4, .quad 0
    xen_note 5, .asciz "xen-3.0"
    xen_note 6, .asciz "pv-drivers"
    xen_note 8, .asciz "generic"
    xen_note 10, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    xen_note 14, .long 1
    xen_note 16, .long 1
    xen_note 17, .long 0x801

    .section .bss.stack, "aw", @nobits
    .balign {stack}
    .fill {stack}, 1, 0
stack_end:

    .text
    .globl pv_start
pv_start:
    cld
    rdtsc
    mov [rip + {first_tsc}], eax
    mov [rip + {first_tsc} + 4], edx
    mov [rip + {start_info}], rsi
    mov [rip + {first_rsp}], rsp
    lea rsp, [rip + stack_end]
    xor ebp, ebp
    call {enter}
    ud2
    "#,
    virt_base = const VIRT_BASE,
    stack = const STACK_SIZE,
    start_info = sym START_INFO,
    first_rsp = sym FIRST_RSP,
    first_tsc = sym FIRST_TSC,
    enter = sym enter,
);

static START_INFO: AtomicU64 = AtomicU64::new(0);
static FIRST_RSP: AtomicU64 = AtomicU64::new(0);
static FIRST_TSC: AtomicU64 = AtomicU64::new(0);

unsafe extern "Rust" {
    /// The guest proper; `entry!` defines it.
    fn pv_guest_main() -> !;
}

/// A copy of the start info: the toolstack writes the page again when the guest is restored.
struct Kept(UnsafeCell<MaybeUninit<StartInfo>>);

// SAFETY: written once, before there is a second vCPU.
unsafe impl Sync for Kept {}

static KEPT: Kept = Kept(UnsafeCell::new(MaybeUninit::uninit()));

extern "C" fn enter() -> ! {
    // SAFETY: the loader put the page there, it stays mapped, and nobody looks at the copy yet.
    unsafe {
        let page = START_INFO.load(Ordering::Relaxed) as *const StartInfo;
        (*KEPT.0.get()).write(page.read_volatile());
    }
    // SAFETY: `entry!` defines it with this signature.
    unsafe { pv_guest_main() }
}

/// The start info as it was at entry. For what changes when the guest is restored see [`links`].
pub fn start_info() -> &'static StartInfo {
    // SAFETY: written by `enter`, and by nobody since.
    unsafe { (*KEPT.0.get()).assume_init_ref() }
}

/// A ring of the toolstack's: its page and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Machine frame; 0: none.
    pub mfn: u64,
    /// Event channel; 0: none.
    pub port: u32,
}

/// What the start info page says that is another one's in each domain that the guest becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// The store's ring.
    pub store: Link,
    /// The console's ring.
    pub console: Link,
}

/// A double word of the start info page.
fn field(offset: usize) -> *mut u64 {
    (start_info_va() + offset as u64) as *mut u64
}

/// What the start info page says now.
pub fn links() -> Links {
    // SAFETY: aligned words of the page, which stays mapped; the toolstack writes it only while no
    // vCPU runs.
    let (double, word) = unsafe {
        (
            |offset| field(offset).read_volatile(),
            |offset| field(offset).cast::<u32>().read_volatile(),
        )
    };
    Links {
        shared_info: double(offset_of!(StartInfo, shared_info)),
        store: Link {
            mfn: double(offset_of!(StartInfo, store_mfn)),
            port: word(offset_of!(StartInfo, store_evtchn)),
        },
        console: Link {
            mfn: double(offset_of!(StartInfo, console_mfn)),
            port: word(offset_of!(StartInfo, console_evtchn)),
        },
    }
}

/// Writes where the store's and the console's pages are: as frames, or, for a toolstack that moves
/// the guest, as PFNs.
pub(super) fn set_ring_pages(store: u64, console: u64) {
    // SAFETY: as in `links`; nobody holds a reference to the page.
    unsafe {
        field(offset_of!(StartInfo, store_mfn)).write_volatile(store);
        field(offset_of!(StartInfo, console_mfn)).write_volatile(console);
    }
}

/// Address of the start info page, as given in rsi.
pub fn start_info_va() -> u64 {
    START_INFO.load(Ordering::Relaxed)
}

/// Stack pointer at entry.
pub fn first_rsp() -> u64 {
    FIRST_RSP.load(Ordering::Relaxed)
}

/// The time stamp counter at entry.
pub fn first_tsc() -> u64 {
    FIRST_TSC.load(Ordering::Relaxed)
}

/// The command line, up to its NUL.
pub fn cmd_line() -> &'static [u8] {
    let line = &start_info().cmd_line;
    line.split(|&b| b == 0).next().unwrap_or(line)
}

/// The value behind `name=` among the command line's words.
pub fn option(name: &str) -> Option<&'static str> {
    let words = cmd_line().split(|&byte| byte == b' ');
    let value = |word: &'static [u8]| word.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    core::str::from_utf8(words.filter_map(value).next()?).ok()
}

/// Whether this is the domain that the hypervisor itself started, and that has its emergency
/// console.
pub fn is_initial_domain() -> bool {
    start_info().flags & SIF_INITDOMAIN != 0
}
