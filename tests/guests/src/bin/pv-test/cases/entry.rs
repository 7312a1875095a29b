//! Flags that user mode brings into the hypervisor, by each instruction that enters it.

use super::user::{CODE, User, visit};
use crate::test::Test;
use core::arch::asm;
use test_guests::hypercall::{call, call_with};
use test_guests::shared::{self, rdtsc};
use test_guests::trap::{SYSCALL, register_callback, stub};
use xen_abi::callback::CALLBACKTYPE_SYSENTER;
use xen_abi::physdev::{PHYSDEVOP_SET_IOPL, PhysdevSetIopl};
use xen_abi::xen::*;

/// Flags that user mode may set. Source: Intel SDM vol. 1, 3.4.3.
const STATUS: u64 = 0x8d5;
const TF: u64 = 1 << 8;
const IF: u64 = 1 << 9;
const DF: u64 = 1 << 10;
const NT: u64 = 1 << 14;
const AC: u64 = 1 << 18;
const ID: u64 = 1 << 21;

/// Each flag alone, none, and all.
const SETS: [u64; 8] = [
    0,
    DF,
    NT,
    AC,
    ID,
    STATUS,
    TF,
    DF | NT | AC | ID | STATUS | TF,
];

const SYSENTER: [u8; 2] = [0x0f, 0x34];

/// SYSENTER says nothing of where it came from, but its flags are kept by the CPU.
fn sysenter(t: &mut Test, user_flags: u64, vector: u64) {
    let frame = visit(t, vector, user_flags | IF, 0);
    t.eq(frame.error, 0);
    t.eq(frame.rip, 0);
    t.eq(frame.cs & 0xffff, 3);
    t.eq(frame.rsp, 0);
    t.eq(frame.ss & 0xffff, 0xe02b);
    t.eq(frame.rflags, user_flags | IF | 2);
    t.eq(frame.rax, 0xabcd);
    t.eq(frame.rbx, 0x1234);
}

/// Without a callback it is a #GP. The rounds after a bad one show that nothing stays behind.
pub fn sysenter_flags(t: &mut Test) {
    // Other cases may have left one.
    t.rc(register_callback(CALLBACKTYPE_SYSENTER, 0, 0), 0);
    let user = User::new(t, &SYSENTER);
    for flags in SETS {
        shared::set_upcall_mask(0);
        sysenter(t, flags, 13);
    }
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// With one it is entered. The handler of #UD stands in, which has no error code either.
pub fn sysenter_callback(t: &mut Test) {
    const NO_ERROR_CODE: u8 = 6;
    let user = User::new(t, &SYSENTER);
    t.rc(
        register_callback(CALLBACKTYPE_SYSENTER, 0, stub(NO_ERROR_CODE)),
        0,
    );
    for flags in SETS {
        shared::set_upcall_mask(0);
        sysenter(t, flags, NO_ERROR_CODE.into());
    }
    t.rc(register_callback(CALLBACKTYPE_SYSENTER, 0, 0), 0);
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// With TF the hypervisor takes a few steps, not all of its way.
pub fn sysenter_steps(t: &mut Test) {
    t.rc(register_callback(CALLBACKTYPE_SYSENTER, 0, 0), 0);
    let user = User::new(t, &SYSENTER);
    let mut shortest = |flags: u64| {
        let mut least = u64::MAX;
        for _ in 0..20 {
            shared::set_upcall_mask(0);
            let start = rdtsc();
            visit(t, 13, flags | IF, 0);
            least = least.min(rdtsc() - start);
        }
        least
    };
    let (plain, stepped) = (shortest(0), shortest(TF));
    if stepped > plain * 12 {
        t.eq(stepped, plain * 12);
    }
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// What the other ways in say of the flags.
pub fn flags(t: &mut Test) {
    for (code, vector) in [
        (&[0x0f, 0x05][..], SYSCALL),
        (&[0xcd, 0x80][..], 0x80),
        (&[0xcc][..], 3),
        (&[0x0f, 0x0b][..], 6),
        (&[0xf4][..], 13),
        (&[0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0][..], 14),
    ] {
        let user = User::new(t, code);
        for flags in SETS {
            // With TF the first instruction is the last before #DB, unless it faults.
            if flags & TF != 0 && matches!(vector, SYSCALL | 0x80 | 3) {
                continue;
            }
            shared::set_upcall_mask(0);
            let frame = visit(t, vector, flags | IF, 0);
            t.yes(frame.rip - CODE <= code.len() as u64);
            // RF: set by faults, by the CPU and not by every emulator.
            t.eq(frame.rflags & !(1 << 16), flags | IF | 2);
        }
        user.drop(t);
    }
    shared::set_upcall_mask(0);
}

/// With architectural privilege levels for I/O, frames show the level and `iret` changes it.
pub fn iopl(t: &mut Test) {
    const IOPL: u64 = 3 << 12;
    let assist = |command: u32| {
        let kind = u64::from(VMASST_TYPE_ARCHITECTURAL_IOPL);
        call(HYPERVISOR_VM_ASSIST, [u64::from(command), kind, 0, 0, 0])
    };
    let set = |iopl: u32| {
        let mut argument = PhysdevSetIopl { iopl };
        call_with(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut argument)
    };
    // SAFETY: traps.
    let undefined = || unsafe { asm!("ud2") };
    t.rc(set(1), 0);
    let shown = flags_of(t, undefined) & IOPL;
    t.eq(shown, 0);
    t.rc(assist(VMASST_CMD_ENABLE), 0);
    let shown = flags_of(t, undefined) & IOPL;
    t.eq(shown, 1 << 12);
    // The way back from that trap has taken it.
    let shown = flags_of(t, undefined) & IOPL;
    t.eq(shown, 0);
    // The kernel is in ring 0 then.
    t.no_trap(|| {
        // SAFETY: emulated, without an effect on the mask.
        unsafe { asm!("cli") }
    });
    // cli; syscall
    let user = User::new(t, &[0xfa, 0x0f, 0x05]);
    for (iopl, vector, steps) in [(3, SYSCALL, 3), (2, 13, 0), (0, 13, 0)] {
        let frame = visit(t, vector, iopl << 12 | IF, 0);
        t.eq(frame.rip, CODE + steps);
        t.eq(frame.rflags & IOPL, iopl << 12);
    }
    t.rc(assist(VMASST_CMD_DISABLE), 0);
    t.rc(set(3), 0);
    let frame = visit(t, SYSCALL, IF, 0);
    t.eq(frame.rflags & IOPL, 0);
    t.rc(set(0), 0);
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// Flags in the frame of a #UD.
fn flags_of(t: &mut Test, undefined: impl FnOnce()) -> u64 {
    t.traps(6, undefined).rflags
}
