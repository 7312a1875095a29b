//! States of a guest, and ways into the hypervisor: what the kernel is shown of each.
//!
//! A case prints lines `STATE way, code: digest`. It asks nothing itself; whoever runs the kernel on
//! two hypervisors compares their lines. With the word `frames` on the command line each state has a
//! line of its own, to see where two digests part. Each state ends in the kernel again, so that the
//! next finds out what the last one left behind.

use super::user::{CODE, User};
use crate::test::Test;
use core::arch::{asm, naked_asm};
use test_guests::hypercall::call;
use test_guests::shared::{self, cr2};
use test_guests::trap::{Frame, attempt, register_callback, stub};
use test_guests::{boot, println};
use xen_abi::callback::{CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER};
use xen_abi::xen::*;

/// RFLAGS. Source: Intel SDM vol. 1, 3.4.3.
const FLAGS: [(&str, u64); 11] = [
    ("none", 0x202),
    ("IF clear", 0x002),
    ("TF", 0x302),
    ("DF", 0x602),
    ("IOPL", 0x3202),
    ("NT", 0x4202),
    ("RF", 0x1_0202),
    ("AC", 0x4_0202),
    ("ID", 0x20_0202),
    ("status", 0xad7),
    ("all", 0x25_7fd7),
];

/// User code in 64-bit mode.
const CODES: [(&str, &[u8]); 17] = [
    ("syscall", &[0x0f, 0x05]),
    ("sysenter", &[0x0f, 0x34]),
    ("int80", &[0xcd, 0x80]),
    ("int3", &[0xcc]),
    ("int1", &[0xf1]),
    ("into", &[0xce]),
    ("ud2", &[0x0f, 0x0b]),
    ("hlt", &[0xf4]),
    ("iretq", &[0x48, 0xcf]),
    // xor ecx, ecx; div ecx
    ("div", &[0x31, 0xc9, 0xf7, 0xf1]),
    // mov rax, [0x1000]
    ("absent", &[0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0]),
    // mov rax, 1 << 63; mov rax, [rax]
    (
        "wild",
        &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x8b, 0],
    ),
    // mov rsp, 1 << 63; push rax
    ("wild stack", &[0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50]),
    // mov rax, ss; mov ss, ax; syscall
    ("mov ss, syscall", &[0x8c, 0xd0, 0x8e, 0xd0, 0x0f, 0x05]),
    ("mov ss, int3", &[0x8c, 0xd0, 0x8e, 0xd0, 0xcc]),
    ("mov ss, int80", &[0x8c, 0xd0, 0x8e, 0xd0, 0xcd, 0x80]),
    // mov eax, 0x40000000; forced cpuid; syscall
    (
        "forced cpuid",
        &[
            0xb8, 0, 0, 0, 0x40, 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2, 0x0f, 0x05,
        ],
    ),
];

/// User code in compatibility mode.
const CODES32: [(&str, &[u8]); 7] = [
    ("syscall", &[0x0f, 0x05]),
    ("sysenter", &[0x0f, 0x34]),
    ("int80", &[0xcd, 0x80]),
    ("int3", &[0xcc]),
    // mov eax, 0x7fffffff; inc eax; into
    ("into", &[0xb8, 0xff, 0xff, 0xff, 0x7f, 0x40, 0xce]),
    ("ud2", &[0x0f, 0x0b]),
    // mov eax, [0x1000]
    ("absent", &[0xa1, 0, 0x10, 0, 0]),
];

/// Selectors and addresses to return to: rip, cs, rsp, ss.
const PLACES: [(&str, [u64; 4]); 12] = [
    ("as it is", [CODE, 0xe033, CODE + 4096, 0xe02b]),
    ("cs null", [CODE, 3, CODE + 4096, 0xe02b]),
    ("cs a data segment", [CODE, 0xe02b, CODE + 4096, 0xe02b]),
    ("cs the hypervisor's", [CODE, 0xe00b, CODE + 4096, 0xe02b]),
    ("cs in no LDT", [CODE, 0xf, CODE + 4096, 0xe02b]),
    ("cs beyond the GDT", [CODE, 0xffff, CODE + 4096, 0xe02b]),
    ("ss null", [CODE, 0xe033, CODE + 4096, 3]),
    ("ss a code segment", [CODE, 0xe033, CODE + 4096, 0xe033]),
    ("ss in no LDT", [CODE, 0xe033, CODE + 4096, 0xf]),
    ("ss the TSS", [CODE, 0xe033, CODE + 4096, 0xe043]),
    ("rsp wild", [CODE, 0xe033, 1 << 63, 0xe02b]),
    ("rsp odd", [CODE, 0xe033, CODE + 4093, 0xe02b]),
];

/// Leaves by the iret hypercall for rip, cs, rflags, rsp, ss.
#[unsafe(naked)]
extern "C" fn leave(to: *const [u64; 5]) -> ! {
    naked_asm!(
        "push [rdi + 32]",
        "push [rdi + 24]",
        "push [rdi + 16]",
        "push [rdi + 8]",
        "push [rdi]",
        "push 0",
        "push 0x99",
        "push 0x77",
        "push 0xabcd",
        "xor edi, edi",
        "mov ebx, 0x1234",
        "mov eax, 23",
        "syscall",
        "ud2",
    )
}

/// What a way into the kernel showed of all flags, as one number (64-bit FNV-1a).
struct Digest {
    way: &'static str,
    name: &'static str,
    value: u64,
}

impl Digest {
    fn new(way: &'static str, name: &'static str) -> Self {
        let value = 0xcbf2_9ce4_8422_2325;
        Self { way, name, value }
    }

    /// Adds what happened with `flags`.
    fn add(&mut self, flags: &str, frame: Option<Frame>) {
        let f = frame.unwrap_or_default();
        let address = if f.vector == 14 { cr2() } else { 0 };
        let words = [
            u64::from(frame.is_some()),
            f.vector,
            f.error,
            f.rip,
            f.cs,
            f.rflags,
            f.rsp,
            f.ss,
            f.rax,
            f.rcx,
            f.r11,
            address,
        ];
        for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
            self.value = (self.value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if boot::cmd_line()
            .split(|&b| b == b' ')
            .any(|w| w == b"frames")
        {
            println!("FRAME {}, {}, {flags}: {words:x?}", self.way, self.name);
        }
    }

    fn print(&self) {
        println!("STATE {}, {}: {:016x}", self.way, self.name, self.value);
    }
}

/// Goes to `place` with each of the flags.
fn visit(way: &'static str, name: &'static str, place: [u64; 4]) {
    let mut digest = Digest::new(way, name);
    for (flag, flags) in FLAGS {
        let [rip, cs, rsp, ss] = place;
        let to = [rip, cs, flags, rsp, ss];
        shared::set_upcall_mask(0);
        let frame = attempt(|| leave(&raw const to));
        digest.add(flag, frame);
    }
    shared::set_upcall_mask(0);
    digest.print();
}

fn compat(address: u64, t: &mut Test) {
    for kind in [CALLBACKTYPE_SYSENTER, CALLBACKTYPE_SYSCALL32] {
        t.rc(register_callback(kind, 0, address), 0);
    }
}

/// Each flag, each way from user mode into the kernel.
pub fn user(t: &mut Test) {
    const NO_ERROR_CODE: u8 = 9;
    for (way, callback) in [("user", 0), ("user with callbacks", stub(NO_ERROR_CODE))] {
        compat(callback, t);
        for (name, code) in CODES {
            let user = User::new(t, code);
            visit(way, name, PLACES[0].1);
            user.drop(t);
        }
    }
    compat(0, t);
}

/// The same from compatibility mode.
pub fn compatibility(t: &mut Test) {
    const NO_ERROR_CODE: u8 = 9;
    for (way, callback) in [("32", 0), ("32 with callbacks", stub(NO_ERROR_CODE))] {
        compat(callback, t);
        for (name, code) in CODES32 {
            let user = User::new(t, code);
            visit(way, name, [CODE, 0xe023, CODE + 4096, 0xe02b]);
            user.drop(t);
        }
    }
    compat(0, t);
}

/// Selectors and addresses that a return cannot load.
pub fn places(t: &mut Test) {
    let user = User::new(t, &[0x0f, 0x05]);
    for (name, place) in PLACES {
        visit("return", name, place);
    }
    for rip in [
        1 << 47,
        1 << 63,
        0xffff_7fff_ffff_ffff,
        0xffff_8000_0000_0000,
    ] {
        visit("return", "rip wild", [rip, 0xe033, CODE, 0xe02b]);
    }
    // Kernel stacks that the frame lies on, at a page's edge and not aligned.
    let stack = [(); 4].map(|()| test_guests::memory::Page::take())[3].va() + 4096;
    for below in [0, 1, 8, 15, 4096, 4096 - 8, 4096 - 56, 4096 - 64] {
        t.rc(
            call(HYPERVISOR_STACK_SWITCH, [0xe02b, stack - below, 0, 0, 0]),
            0,
        );
        visit("return", "kernel stack", PLACES[0].1);
    }
    user.drop(t);
}

/// Each flag in the kernel itself.
pub fn kernel(_: &mut Test) {
    macro_rules! ways {
        ($($name:literal: $code:literal),*) => {$(
            let mut digest = Digest::new("kernel", $name);
            for (flag, value) in FLAGS {
                shared::set_upcall_mask(0);
                let frame = attempt(|| {
                    // SAFETY: traps, or comes back; the handler loads flags of its own.
                    unsafe {
                        asm!(
                            "push {}", "popfq", $code, "push 2", "popfq",
                            in(reg) value, out("rax") _, out("rcx") _, out("rdx") _, out("r11") _,
                        );
                    }
                });
                digest.add(flag, frame);
            }
            digest.print();
        )*};
    }
    ways!(
        "int3": "int3", "ud2": "ud2", "int1": ".byte 0xf1", "div": "xor ecx, ecx; div ecx",
        "absent": "mov rax, [0x1000]", "rdmsr": "xor ecx, ecx; rdmsr",
        "hypercall": "mov eax, 63; syscall", "cli": "cli", "nop": "nop"
    );
    shared::set_upcall_mask(0);
}
