//! Exceptions as a PV kernel gets them, and the way back.

use crate::test::Test;
use core::arch::{asm, naked_asm};
use test_guests::hypercall::{address_of, call};
use test_guests::memory::{PRESENT, Page};
use test_guests::shared::{cr2, set_upcall_mask, upcall_mask};
use test_guests::trap::{self, Frame, stub, trap_info};
use xen_abi::arch_x86::{HYPERVISOR_VIRT_START, TI_IF};
use xen_abi::callback::*;
use xen_abi::errno::*;
use xen_abi::xen::*;

const FLAT_CS: u64 = 0xe033;
const FLAT_SS: u64 = 0xe02b;

/// `ud2`, far down a stack whose alignment the caller chooses.
#[unsafe(naked)]
extern "C" fn ud2_with_rsp(rsp: u64) {
    naked_asm!("mov rsp, rdi", "ud2")
}

/// The frame of an exception in the kernel.
pub fn frame(t: &mut Test) {
    set_upcall_mask(0);
    let mut flags: u64 = 0;
    let frame = t.traps(6, || {
        // SAFETY: flags are read, then `ud2` traps as wanted.
        unsafe { asm!("pushfq", "pop {}", "mov rbx, 0x1234", "ud2", out(reg) flags, out("r12") _) }
    });
    t.eq(flags & 0x3000, 0);
    t.eq(frame.rbx, 0x1234);
    t.eq(frame.error, 0);
    // The kernel's privilege level is 0 in the frame; the mask is in bits 32 to 39.
    t.eq(frame.cs, FLAT_CS & !3);
    t.eq(frame.ss & 0xffff, FLAT_SS & !3 | frame.ss & 3);
    t.eq(frame.rflags & 0x200, 0x200);
    t.eq(frame.rflags & 0x3000, 0);
    set_upcall_mask(1);
    let frame = t.traps(6, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("ud2") }
    });
    t.eq(frame.cs, FLAT_CS & !3 | 1 << 32);
    t.eq(frame.rflags & 0x200, 0);
    set_upcall_mask(0);
}

/// The stack is aligned before the frame is pushed; the old pointer is in the frame.
pub fn alignment(t: &mut Test) {
    let stack = [Page::take(), Page::take()];
    for offset in 0..16 {
        let rsp = stack[1].va() + 2048 + offset;
        FRAME_AT.store(0, core::sync::atomic::Ordering::Relaxed);
        trap::set_hook(Some(note_frame_address));
        let frame = t.traps(6, || ud2_with_rsp(rsp));
        trap::set_hook(None);
        t.eq(frame.rsp, rsp);
        let ss_end =
            FRAME_AT.load(core::sync::atomic::Ordering::Relaxed) + size_of::<Frame>() as u64;
        t.eq(ss_end, rsp & !15);
    }
}

static FRAME_AT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

fn note_frame_address(frame: &mut Frame) -> bool {
    FRAME_AT.store(
        &raw const *frame as u64,
        core::sync::atomic::Ordering::Relaxed,
    );
    false
}

/// Error codes and addresses of page faults in the kernel: never the user bit.
pub fn page_faults(t: &mut Test) {
    let read = |address: u64| {
        // SAFETY: a fault is what is asked for.
        unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _) }
    };
    for (address, error) in [
        (0, 0),
        (0x7fff_ffff_f000, 0),
        (0xffff_8880_0000_0000, 0),
        (0xffff_8280_0000_0000, 0),
        (0xffff_87ff_ffff_f000, 0),
    ] {
        let frame = t.traps(14, || read(address));
        t.eq(frame.error & !1, error);
        t.eq(cr2(), address);
    }
    let frame = t.traps(14, || {
        // SAFETY: as above.
        unsafe { asm!("mov [{0}], {0}", in(reg) 0x1000u64) }
    });
    t.eq(frame.error, 2);
    t.eq(cr2(), 0x1000);
    // Not canonical: #GP, and cr2 stays.
    let frame = t.traps(13, || read(1 << 60));
    t.eq(frame.error, 0);
    t.eq(cr2(), 0x1000);
    // Fetching an instruction.
    let frame = t.traps(14, || {
        // SAFETY: as above.
        unsafe { asm!("call {}", in(reg) 0x2000u64) }
    });
    t.eq(frame.error & !0x10, 0);
    t.eq(frame.rip, 0x2000);
}

/// Exceptions that return where they came from.
pub fn breakpoint(t: &mut Test) {
    fn hook(frame: &mut Frame) -> bool {
        frame.rax = frame.vector;
        frame.vector == 3
    }
    trap::set_hook(Some(hook));
    let vector: u64;
    let (mut one, mut two) = (1u64, 2u64);
    // SAFETY: the hook returns behind the instruction and changes rax only.
    unsafe {
        asm!("int3", out("rax") vector, inout("rcx") one, inout("r11") two);
    }
    trap::set_hook(None);
    t.eq(vector, 3);
    // rcx and r11 survive.
    t.yes((one, two) == (1, 2));
    let frame = t.traps(3, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("int3") }
    });
    t.eq(frame.error, 0);
}

/// Single steps.
pub fn trap_flag(t: &mut Test) {
    let frame = t.traps(1, || {
        // SAFETY: traps as wanted, with the flag cleared on the way.
        unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop") }
    });
    t.eq(frame.rflags & 0x100, 0x100);
    let dr6 = call(HYPERVISOR_GET_DEBUGREG, [6, 0, 0, 0, 0]);
    t.eq(dr6 & 0x4000, 0x4000);
    t.rc(call(HYPERVISOR_SET_DEBUGREG, [6, 0, 0, 0, 0]), 0);
}

pub fn divide(t: &mut Test) {
    let frame = t.traps(0, || {
        // SAFETY: traps as wanted.
        unsafe {
            asm!("xor edx, edx", "div {}", in(reg) 0u64, inout("rax") 1u64 => _, out("rdx") _);
        }
    });
    t.eq(frame.error, 0);
}

/// Whether a handler masks events depends on its flag.
pub fn mask_on_entry(t: &mut Test) {
    static MASK: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(9);
    fn hook(_: &mut Frame) -> bool {
        MASK.store(
            u64::from(upcall_mask()),
            core::sync::atomic::Ordering::Relaxed,
        );
        true
    }
    trap::set_hook(Some(hook));
    for (flags, mask) in [(TI_IF | 3, 1), (3, 0)] {
        let mut table = [trap_info(3, flags, stub(3)), trap_info(0, 0, 0)];
        t.rc(
            call(
                HYPERVISOR_SET_TRAP_TABLE,
                [address_of(&mut table), 0, 0, 0, 0],
            ),
            0,
        );
        set_upcall_mask(0);
        // SAFETY: the hook returns at once.
        unsafe { asm!("int3") }
        t.eq(MASK.load(core::sync::atomic::Ordering::Relaxed), mask);
        // The frame's IF gives the mask back.
        t.eq(upcall_mask(), 0);
    }
    trap::set_hook(None);
    trap::init();
}

/// What the iret hypercall makes of flags.
pub fn iret_flags(t: &mut Test) {
    fn hook(frame: &mut Frame) -> bool {
        frame.rflags = frame.rax;
        true
    }
    trap::set_hook(Some(hook));
    // IOPL, VM, NT, AC, ID, DF, carry; IF decides about the mask.
    for (given, flags, mask) in [
        (0x202u64, 0x202u64, 0),
        (0x002, 0x202, 1),
        (0x3202, 0x202, 0),
        (0x2_0202, 0x202, 0),
        (0x4_0203, 0x4_0203, 0),
        (0x20_0202, 0x20_0202, 0),
    ] {
        set_upcall_mask(0);
        let got: u64;
        // SAFETY: the hook returns behind the instruction with other flags.
        unsafe {
            asm!("int3", "pushfq", "pop rax", "push 2", "popfq", inout("rax") given => got);
        }
        t.eq(got & !0x1_0000, flags);
        t.eq(u64::from(upcall_mask()), mask);
    }
    trap::set_hook(None);
    set_upcall_mask(0);
}

/// A selector that cannot be: the iret hypercall faults in the guest.
pub fn iret_bad_selector(t: &mut Test) {
    fn hook(frame: &mut Frame) -> bool {
        if frame.vector == 3 {
            frame.cs = 0x7ff0;
        }
        frame.vector == 3
    }
    trap::set_hook(Some(hook));
    let frame = t.traps(13, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("int3") }
    });
    t.eq(frame.error, 0x7ff0);
    trap::set_hook(None);
}

pub fn table(t: &mut Test) {
    let set = |pointer: u64| call(HYPERVISOR_SET_TRAP_TABLE, [pointer, 0, 0, 0, 0]);
    t.rc(set(0x1000), -EFAULT);
    t.rc(set(HYPERVISOR_VIRT_START), -EFAULT);
    // A handler outside the guest's addresses.
    for address in [1 << 60, 1 << 47, u64::MAX >> 1] {
        let mut table = [trap_info(9, 0, address), trap_info(0, 0, 0)];
        t.rc(set(address_of(&mut table)), -EINVAL);
    }
    let mut empty = [trap_info(0, 0, 0)];
    t.rc(set(address_of(&mut empty)), 0);
    // Partial tables leave the rest alone.
    let mut one = [trap_info(9, 0, stub(9)), trap_info(0, 0, 0)];
    t.rc(set(address_of(&mut one)), 0);
    t.traps(6, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("ud2") }
    });
}

pub fn callbacks(t: &mut Test) {
    let register = |kind: u16, address: u64| trap::register_callback(kind, 0, address);
    for kind in [CALLBACKTYPE_SYSENTER, CALLBACKTYPE_SYSCALL32] {
        t.rc(register(kind, stub(6)), 0);
    }
    t.rc(register(CALLBACKTYPE_SYSENTER_DEPRECATED, stub(6)), -ENOSYS);
    t.rc(register(8, stub(6)), -ENOSYS);
    t.rc(register(u16::MAX, stub(6)), -ENOSYS);
    for kind in [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_SYSCALL,
        CALLBACKTYPE_SYSENTER,
    ] {
        t.rc(register(kind, 1 << 60), -EINVAL);
    }
    let operation = |command: u32, pointer: u64| {
        call(
            HYPERVISOR_CALLBACK_OP,
            [u64::from(command), pointer, 0, 0, 0],
        )
    };
    let mut unregister = CallbackUnregister {
        r#type: CALLBACKTYPE_EVENT,
        _unused: 0,
    };
    let pointer = address_of(&mut unregister);
    for (kind, rc) in [
        (CALLBACKTYPE_EVENT, -EINVAL),
        (CALLBACKTYPE_NMI, 0),
        (9, -ENOSYS),
    ] {
        let mut unregister = CallbackUnregister {
            r#type: kind,
            _unused: 0,
        };
        t.rc(
            operation(CALLBACKOP_UNREGISTER, address_of(&mut unregister)),
            rc,
        );
    }
    t.rc(operation(2, pointer), -ENOSYS);
    t.rc(operation(CALLBACKOP_REGISTER, 0x1000), -EFAULT);
    trap::init();
}

/// Stale translations: a fault that is none any more.
pub fn spurious(t: &mut Test) {
    let page = Page::take();
    t.rc(page.protect(), 0);
    page.read(0);
    // Writable again without a flush.
    let entry = page.machine() | test_guests::memory::DATA;
    t.rc(
        test_guests::hypercall::update_va_mapping(page.va(), entry, UVMF_NONE),
        0,
    );
    t.no_trap(|| page.write(0, PRESENT));
    t.eq(page.read(0), PRESENT);
}
