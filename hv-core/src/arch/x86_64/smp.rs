//! Starting the other CPUs.
//!
//! A started CPU begins in real mode on a page below 1 MiB. [`start_others`] borrows
//! such a page (its contents come back afterwards), copies a small piece of code
//! there, and starts one CPU at a time: real mode, protected mode, long mode on the
//! host root, then the hook on the stack made for that CPU. The hook runs on its own
//! descriptor tables as soon as it can and then calls [`settle`] and [`report`], which is
//! what the boot CPU waits for.
#![allow(unsafe_code, reason = "copies and runs start-up code")]

use super::clock::tsc;
use super::{apic, clock, cpus};
use crate::addr::{CpuId, Mfn};
use crate::arch::descriptor::{self, Descriptor};
use crate::arch::platform::Platform;
use core::arch::global_asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::registers::control::Cr4;
use x86_64::registers::model_specific::Msr;

/// What the started CPUs need.
pub struct Plan<'a> {
    /// Root to run on: maps the hypervisor, and `page` one to one and executable.
    /// Below 4 GiB.
    pub root: Mfn,
    /// A frame of RAM below 1 MiB. Its contents are put back afterwards.
    pub page: Mfn,
    /// Where the frame can be written.
    pub page_at: NonNull<u8>,
    /// Makes a CPU's stack and says where its top is; `None` leaves the CPU out.
    pub stack_top: &'a mut dyn FnMut(CpuId) -> Option<u64>,
    /// Where a CPU goes on, in long mode, interrupts off, on its stack.
    pub hook: extern "C" fn(CpuId) -> !,
}

// The page: code from its start, and at a fixed offset what the code reads. The first
// two far pointers and the GDT are for the jumps between modes.
const DATA: usize = 0xf00;

#[repr(C)]
struct Data {
    gdt_limit: u16,
    gdt_base: [u16; 2],
    pad: u16,
    /// 0xf08
    jump32: [u16; 4],
    /// 0xf10
    jump64: [u16; 4],
    /// 0xf18
    root: u64,
    /// 0xf20
    efer: u64,
    /// 0xf28
    stack: u64,
    /// 0xf30
    cpu: u64,
    /// 0xf38
    entry: u64,
    /// 0xf40
    gdt: [Descriptor; 4],
}

const _: () = assert!(core::mem::offset_of!(Data, gdt) == 0x40);
const CODE32: u16 = 8;
const CODE64: u16 = 24;

global_asm!(
    ".pushsection .rodata.ap_start, \"a\"",
    ".global oxen_ap_start, oxen_ap_start32, oxen_ap_start64, oxen_ap_start_end",
    ".code16",
    "oxen_ap_start:",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "xorl %ebx, %ebx",
    "movw %cs, %bx",
    "shll $4, %ebx",
    "lgdtl 0xf00",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "ljmpl *0xf08",
    ".code32",
    "oxen_ap_start32:",
    "movw $16, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl $0x20, %eax", // PAE
    "movl %eax, %cr4",
    "movl 0xf18(%ebx), %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "movl 0xf20(%ebx), %eax",
    "xorl %edx, %edx",
    "wrmsr",
    "movl %cr0, %eax",
    "andl $0x9fffffff, %eax", // caches on
    "orl $0x80010001, %eax",  // PG, WP, PE
    "movl %eax, %cr0",
    "ljmpl *0xf10(%ebx)",
    ".code64",
    "oxen_ap_start64:",
    "movl %ebx, %ebx",
    "movq 0xf28(%rbx), %rsp",
    "movq 0xf30(%rbx), %rdi",
    "movq 0xf38(%rbx), %rax",
    "xorl %ebp, %ebp",
    "pushq %rbp",
    "jmpq *%rax",
    "oxen_ap_start_end:",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static oxen_ap_start: u8;
    static oxen_ap_start32: u8;
    static oxen_ap_start64: u8;
    static oxen_ap_start_end: u8;
}

/// CR4 of the boot CPU, for the others.
static CR4: AtomicU64 = AtomicU64::new(0);
/// The hook, as an address.
static HOOK: AtomicU64 = AtomicU64::new(0);

/// How long a CPU may take to report, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// Starts every CPU but this one; returns how many run. CPUs that do not report
/// within ten seconds are left out, with a warning.
///
/// # Safety
/// `plan` is as its fields say; nobody else uses the page meanwhile. [`cpus::init`],
/// [`clock::measure`] and [`apic::init_boot`] have run.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub unsafe fn start_others(plan: &mut Plan<'_>) -> usize {
    if cpus::count() == 1 {
        return 1;
    }
    CR4.store(Cr4::read_raw(), Ordering::Relaxed);
    HOOK.store(plan.hook as *const () as u64, Ordering::Relaxed);
    let mut saved = alloc::boxed::Box::new([0u8; 4096]);
    // SAFETY: the caller lends the page, 4096 bytes.
    unsafe {
        plan.page_at
            .as_ptr()
            .copy_to_nonoverlapping(saved.as_mut_ptr(), 4096);
        copy_code(plan.page_at);
    }
    for n in 1..cpus::count() {
        let cpu = CpuId(n as u16);
        let (Some(stack), Some(apic_id)) = ((plan.stack_top)(cpu), cpus::apic_id(cpu)) else {
            log::warn!("CPU {n}: no memory for its stack");
            continue;
        };
        let data = data_for(plan, cpu, stack);
        // SAFETY: inside the page and aligned; no CPU reads it now.
        unsafe { plan.page_at.add(DATA).cast::<Data>().write_volatile(data) };
        if !start_one(cpu, apic_id, plan.page.raw() as u8) {
            log::error!("CPU {n} (APIC id {apic_id}) does not start");
            // Back to waiting, or it would run on the page once that is gone.
            apic::send_init(apic_id);
        }
    }
    // SAFETY: as above; every CPU that runs has left the page.
    unsafe {
        saved
            .as_ptr()
            .copy_to_nonoverlapping(plan.page_at.as_ptr(), 4096);
    }
    cpus::online().count()
}

/// # Safety
/// `page` is 4096 bytes to write.
unsafe fn copy_code(page: NonNull<u8>) {
    // SAFETY: the symbols delimit the code above, which is shorter than `DATA`.
    unsafe {
        let start = &raw const oxen_ap_start;
        let len = (&raw const oxen_ap_start_end) as usize - start as usize;
        assert!(len <= DATA);
        start.copy_to_nonoverlapping(page.as_ptr(), len);
    }
}

fn data_for(plan: &Plan<'_>, cpu: CpuId, stack: u64) -> Data {
    let base = plan.page.addr().raw() as u32;
    let start = (&raw const oxen_ap_start) as u32;
    let at = |symbol: *const u8| base + (symbol as u32).wrapping_sub(start);
    let far = |offset: u32, selector| [offset as u16, (offset >> 16) as u16, selector, 0];
    let gdt = base + DATA as u32 + core::mem::offset_of!(Data, gdt) as u32;
    Data {
        gdt_limit: size_of_val(&descriptor::START_UP) as u16 - 1,
        gdt_base: [gdt as u16, (gdt >> 16) as u16],
        pad: 0,
        jump32: far(at(&raw const oxen_ap_start32), CODE32),
        jump64: far(at(&raw const oxen_ap_start64), CODE64),
        root: plan.root.addr().raw(),
        // SCE, LME, NXE as here; LMA follows by itself.
        // SAFETY: EFER exists in long mode.
        efer: unsafe { Msr::new(0xc000_0080).read() } & 0x901,
        stack,
        cpu: u64::from(cpu.0),
        entry: arrive as *const () as u64,
        gdt: descriptor::START_UP,
    }
}

/// INIT, then START-UP; once more if nothing happened. Integrated APICs need no pause
/// after INIT to speak of.
fn start_one(cpu: CpuId, apic_id: u32, page: u8) -> bool {
    PING.store(0, Ordering::SeqCst);
    PONG.store(0, Ordering::SeqCst);
    apic::send_init(apic_id);
    clock::delay(10_000);
    apic::send_startup(apic_id, page);
    if wait_for(cpu, 10_000_000) {
        return true;
    }
    apic::send_startup(apic_id, page);
    wait_for(cpu, PATIENCE)
}

fn wait_for(cpu: CpuId, nanos: u64) -> bool {
    let until = tsc().wrapping_add(clock::ticks(nanos));
    while !cpus::is_online(cpu) {
        answer_ping();
        if tsc().wrapping_sub(until).cast_signed() > 0 {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// First Rust code of a started CPU.
extern "C" fn arrive(cpu: u64) -> ! {
    // NX, write protection and memory types first: device registers need them.
    super::init_paging();
    // SAFETY: the same bits as the boot CPU's; paging goes on as it was set up.
    unsafe { Cr4::write_raw(CR4.load(Ordering::Relaxed)) };
    let hook = HOOK.load(Ordering::Relaxed);
    // SAFETY: the address of a function of this type, stored before any start.
    let hook: extern "C" fn(CpuId) -> ! = unsafe { core::mem::transmute(hook as *const ()) };
    hook(CpuId(cpu as u16))
}

/// On `cpu`, which was just started: sets up its local APIC and compares its TSC with the
/// boot CPU's, which waits for [`report`]. Returns by how many ticks they are certainly
/// apart.
pub fn settle(cpu: CpuId, platform: &Platform) -> u64 {
    apic::init_cpu(platform);
    let skew = measure_skew();
    if skew != 0 {
        log::warn!("CPU {}: TSC is {skew} ticks off the boot CPU's", cpu.0);
    }
    skew.unsigned_abs()
}

/// Reports `cpu`, the one that asks, as running. It must be on its own descriptor tables by
/// now, for the start-up page goes away.
pub fn report(cpu: CpuId) {
    cpus::set_online(cpu);
}

static PING: AtomicU64 = AtomicU64::new(0);
static PONG: AtomicU64 = AtomicU64::new(0);
static PONG_TSC: AtomicU64 = AtomicU64::new(0);

/// The boot CPU's half of [`measure_skew`].
fn answer_ping() {
    let ping = PING.load(Ordering::Acquire);
    if ping != PONG.load(Ordering::Relaxed) {
        PONG_TSC.store(tsc(), Ordering::Relaxed);
        PONG.store(ping, Ordering::Release);
    }
}

/// By how many ticks this CPU's TSC is certainly behind (positive) or ahead: the boot
/// CPU's answer should lie between the question and its arrival.
fn measure_skew() -> i64 {
    let mut least = i64::MAX;
    for n in 1..=4 {
        let asked = tsc();
        PING.store(n, Ordering::Release);
        while PONG.load(Ordering::Acquire) != n {
            core::hint::spin_loop();
        }
        let theirs = PONG_TSC.load(Ordering::Relaxed);
        let after = theirs.wrapping_sub(tsc()).cast_signed();
        let before = theirs.wrapping_sub(asked).cast_signed();
        let skew = if before < 0 { before } else { after.max(0) };
        if skew.unsigned_abs() < least.unsigned_abs() {
            least = skew;
        }
    }
    least
}
