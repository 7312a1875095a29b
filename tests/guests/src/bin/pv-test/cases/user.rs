//! User mode.

use crate::test::Test;
use core::arch::naked_asm;
use test_guests::hypercall::{call, mmuext_op};
use test_guests::memory::*;
use test_guests::shared;
use test_guests::trap::{Frame, SYSCALL, attempt};
use xen_abi::arch_x86::VGCF_IN_SYSCALL;
use xen_abi::xen::*;

/// Where the user's page is.
pub const CODE: u64 = 0x40_0000;
/// Top of the user's stack, in the same page.
const STACK: u64 = CODE + 4096;

/// A user address space of one page with this code.
pub struct User {
    tables: [Page; 4],
    page: Page,
}

impl User {
    pub fn new(t: &mut Test, code: &[u8]) -> Self {
        let [l4, l3, l2, l1] = [(); 4].map(|()| Page::take());
        let page = Page::take();
        page.put(code);
        l4.write(0, l3.machine() | TABLE);
        l3.write(0, l2.machine() | TABLE);
        l2.write(2, l1.machine() | TABLE);
        l1.write(0, page.machine() | DATA);
        let tables = [l4, l3, l2, l1];
        for table in tables {
            t.rc(table.protect(), 0);
        }
        t.rc(mmuext_op(MMUEXT_PIN_L4_TABLE, l4.mfn(), 0), 0);
        t.rc(mmuext_op(MMUEXT_NEW_USER_BASEPTR, l4.mfn(), 0), 0);
        // Four pages of kernel stack for what comes from user mode.
        let stack = [(); 4].map(|()| Page::take())[3].va() + 4096;
        t.rc(call(HYPERVISOR_STACK_SWITCH, [0xe02b, stack, 0, 0, 0]), 0);
        Self { tables, page }
    }

    pub fn drop(self, t: &mut Test) {
        t.rc(mmuext_op(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
        t.rc(mmuext_op(MMUEXT_UNPIN_TABLE, self.tables[0].mfn(), 0), 0);
        for table in self.tables {
            t.rc(table.unprotect(), 0);
        }
    }
}

/// Leaves for user mode by the iret hypercall: rip, rsp, rflags, and the hypercall's own flags.
/// rbx is 0x1234, rax 0xabcd.
#[unsafe(naked)]
extern "C" fn leave(rip: u64, rsp: u64, rflags: u64, flags: u64) -> ! {
    naked_asm!(
        "push {ss}",
        "push rsi",
        "push rdx",
        "push {cs}",
        "push rdi",
        "push rcx",
        "push 0x99",
        "push 0x77",
        "push 0xabcd",
        "mov ebx, 0x1234",
        "mov eax, 23",
        "syscall",
        "ud2",
        ss = const 0xe02b,
        cs = const 0xe033,
    )
}

/// Runs the user's code until it comes back; the frame it comes back with.
pub fn visit(t: &mut Test, vector: u64, rflags: u64, flags: u64) -> Frame {
    match attempt(|| leave(CODE, STACK, rflags, flags)) {
        Some(frame) => {
            t.eq(frame.vector, vector);
            frame
        }
        None => {
            t.yes(false);
            Frame::default()
        }
    }
}

pub fn syscall(t: &mut Test) {
    shared::set_upcall_mask(0);
    // syscall
    let user = User::new(t, &[0x0f, 0x05]);
    for flags in [0, VGCF_IN_SYSCALL] {
        let frame = visit(t, SYSCALL, 0x202, flags);
        t.eq(frame.rip, CODE + 2);
        t.eq(frame.rcx, CODE + 2);
        t.eq(frame.rsp, STACK);
        t.eq(frame.rax, 0xabcd);
        t.eq(frame.rbx, 0x1234);
        t.eq(frame.cs, 0xe033);
        t.eq(frame.ss & 0xffff, 0xe02b);
        t.eq(frame.rflags & 0x202, 0x202);
        t.eq(frame.r11, frame.rflags);
    }
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// Flags of user mode in the frame and after it.
pub fn flags(t: &mut Test) {
    // pushfq; pop rdx; std; syscall
    let user = User::new(t, &[0x9c, 0x5a, 0xfd, 0x0f, 0x05]);
    let frame = visit(t, SYSCALL, 0x3203, 0);
    t.eq(frame.rdx & 0x3201, 0x201);
    t.eq(frame.rflags & 0x401, 0x401);
    // Events masked in user mode: not possible, IF decides for the kernel alone.
    let frame = visit(t, SYSCALL, 0x002, 0);
    t.eq(frame.rdx & 0x200, 0x200);
    t.eq(frame.cs >> 32, 1);
    t.eq(frame.rflags & 0x200, 0);
    user.drop(t);
    shared::set_upcall_mask(0);
}

/// A hypercall's number means nothing from user mode.
pub fn no_hypercalls(t: &mut Test) {
    // mov eax, 17; xor edi, edi; syscall
    let user = User::new(t, &[0xb8, 17, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);
    let frame = visit(t, SYSCALL, 0x202, 0);
    t.eq(frame.rax, 17);
    user.drop(t);
}

pub fn page_fault(t: &mut Test) {
    // mov rax, [0x1000]
    let user = User::new(t, &[0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0]);
    let frame = visit(t, 14, 0x202, 0);
    t.eq(frame.error, 4);
    t.eq(shared::cr2(), 0x1000);
    t.eq(frame.cs & 0xffff, 0xe033);
    t.eq(frame.rip, CODE);
    t.eq(frame.rcx, 0x99);
    t.eq(frame.r11, 0x77);
    user.drop(t);
}

/// The kernel's memory is out of reach, and so is the hypervisor's.
pub fn isolation(t: &mut Test) {
    // mov rax, -0x7ff00000; mov rax, [rax]
    let user = User::new(t, &[0x48, 0xc7, 0xc0, 0, 0, 0x10, 0x80, 0x48, 0x8b, 0x00]);
    let frame = visit(t, 14, 0x202, 0);
    t.eq(frame.error, 4);
    t.eq(shared::cr2(), 0xffff_ffff_8010_0000);
    user.drop(t);
    // movabs rax, 0xffff828000000000; mov rax, [rax]
    let code = [
        0x48, 0xb8, 0, 0, 0, 0, 0x80, 0x82, 0xff, 0xff, 0x48, 0x8b, 0x00,
    ];
    let user = User::new(t, &code);
    let frame = visit(t, 14, 0x202, 0);
    t.eq(frame.error & !1, 4);
    t.eq(shared::cr2(), 0xffff_8280_0000_0000);
    user.drop(t);
}

/// Privileged instructions, breakpoints, invalid ones.
pub fn exceptions(t: &mut Test) {
    for (code, vector, rip) in [
        (&[0xf4][..], 13, CODE),
        (&[0xcc][..], 3, CODE + 1),
        (&[0x0f, 0x0b][..], 6, CODE),
        (&[0xfa][..], 13, CODE),
        (&[0x0f, 0x20, 0xc0][..], 13, CODE),
        (&[0x0f, 0x32][..], 13, CODE),
        (&[0xe4, 0x80][..], 13, CODE),
        (&[0xcd, 0x80][..], 0x80, CODE + 2),
    ] {
        let user = User::new(t, code);
        let frame = visit(t, vector, 0x202, 0);
        t.eq(frame.rip, rip);
        t.eq(frame.cs & 3, 3);
        user.drop(t);
    }
}

/// CPUID with the prefix works for user mode too.
pub fn cpuid(t: &mut Test) {
    // mov eax, 0x40000000; forced cpuid; syscall
    let code = [
        0xb8, 0, 0, 0, 0x40, 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2, 0x0f, 0x05,
    ];
    let user = User::new(t, &code);
    let frame = visit(t, SYSCALL, 0x202, 0);
    t.eq(frame.rbx, 0x566e_6558);
    user.drop(t);
}

/// The machine-to-physical table is there, unless `m2p_strict` says otherwise.
pub fn m2p(t: &mut Test) {
    // movabs rax, 0xffff800000000000; mov rax, [rax]; syscall
    let code = [
        0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0x48, 0x8b, 0x00, 0x0f, 0x05,
    ];
    let user = User::new(t, &code);
    visit(t, SYSCALL, 0x202, 0);
    user.drop(t);
}

/// A user page's own entry: the kernel sees the same memory.
pub fn shared_page(t: &mut Test) {
    // mov qword ptr [rip + 0x100], 0x55; syscall
    let code = [0x48, 0xc7, 0x05, 0, 1, 0, 0, 0x55, 0, 0, 0, 0x0f, 0x05];
    let user = User::new(t, &code);
    visit(t, SYSCALL, 0x202, 0);
    // Address of the store: 11 + 0x100, not aligned.
    t.eq(user.page.read(33) >> 24 & 0xff, 0x55);
    user.drop(t);
}
