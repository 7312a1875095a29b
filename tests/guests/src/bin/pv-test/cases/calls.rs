//! The hypercall mechanism itself, `multicall` and `xen_version`.

use crate::test::Test;
use core::arch::asm;
use test_guests::hypercall::hypercall_page_va;
use test_guests::hypercall::{address_of, call, call_with, mmuext_op, update_va_mapping};
use test_guests::memory::{ACCESSED, DATA, DIRTY, Page, READ_ONLY, l4};
use test_guests::shared;
use xen_abi::arch_x86::HYPERVISOR_VIRT_START;
use xen_abi::errno::{EFAULT, EINVAL, ENOSYS};
use xen_abi::event_channel::*;
use xen_abi::version::*;
use xen_abi::xen::*;

fn version(command: u32, pointer: u64) -> i64 {
    call(
        HYPERVISOR_XEN_VERSION,
        [u64::from(command), pointer, 0, 0, 0],
    )
}

pub fn unknown(t: &mut Test) {
    for number in [11, 43, 47, 50, 55, 56, 63, 64, 65, 1 << 31, u64::MAX] {
        t.rc(call(number, [0; 5]), -ENOSYS);
    }
}

/// All of rax is the number.
pub fn high_half_of_rax(t: &mut Test) {
    t.rc(call(1 << 32 | HYPERVISOR_XEN_VERSION, [0; 5]), -ENOSYS);
}

pub fn registers(t: &mut Test) {
    let mut registers = [HYPERVISOR_XEN_VERSION, 0xb, 0xb9, 9, 12, 13, 14, 15];
    // SAFETY: asks for the version; the registers the compiler owns are saved around it.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push rdi",
            "mov rax, [rdi]", "mov rbx, [rdi + 8]", "mov rbp, [rdi + 16]", "mov r9, [rdi + 24]",
            "mov r12, [rdi + 32]", "mov r13, [rdi + 40]", "mov r14, [rdi + 48]",
            "mov r15, [rdi + 56]",
            "xor edi, edi", "xor esi, esi",
            "syscall",
            "pop rdi",
            "mov [rdi], rax", "mov [rdi + 8], rbx", "mov [rdi + 16], rbp", "mov [rdi + 24], r9",
            "mov [rdi + 32], r12", "mov [rdi + 40], r13", "mov [rdi + 48], r14",
            "mov [rdi + 56], r15",
            "pop rbp", "pop rbx",
            inout("rdi") registers.as_mut_ptr() => _,
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    t.yes(registers == [u64::from(XEN_VERSION_4_17), 0xb, 0xb9, 9, 12, 13, 14, 15]);
}

/// A call that lets an event in and goes on changes no register that it takes no argument in.
pub fn registers_continued(t: &mut Test) {
    let mut bind = EvtchnBindIpi { vcpu: 0, port: 0 };
    t.rc(
        call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_IPI, &mut bind),
        0,
    );
    shared::set_masked(bind.port, false);
    let mut send = EvtchnSend { port: bind.port };
    let version = MulticallEntry {
        op: HYPERVISOR_XEN_VERSION,
        result: 99,
        args: [0; 6],
    };
    let mut list = [version; 64];
    list[0].op = HYPERVISOR_EVENT_CHANNEL_OP;
    list[0].args[0] = u64::from(EVTCHNOP_SEND);
    list[0].args[1] = address_of(&mut send);
    let mut registers = [HYPERVISOR_MULTICALL, 0xd, 0x10, 8, 9, 0];
    shared::set_upcall_mask(0);
    // SAFETY: the list is this function's; the event's handler preserves all registers.
    unsafe {
        asm!(
            "push rbx",
            "mov rbx, rax",
            "mov rax, [rbx]", "mov rdx, [rbx + 8]", "mov r10, [rbx + 16]",
            "mov r8, [rbx + 24]", "mov r9, [rbx + 32]",
            "syscall",
            "mov [rbx], rax", "mov [rbx + 8], rdx", "mov [rbx + 16], r10",
            "mov [rbx + 24], r8", "mov [rbx + 32], r9",
            "pop rbx",
            inout("rax") registers.as_mut_ptr() => _,
            inout("rdi") list.as_mut_ptr() => _, inout("rsi") 64_u64 => _,
            out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    shared::set_upcall_mask(1);
    t.yes(registers == [0, 0xd, 0x10, 8, 9, 0]);
    t.yes(
        list[1..]
            .iter()
            .all(|entry| entry.result == u64::from(XEN_VERSION_4_17)),
    );
    let mut close = EvtchnClose { port: bind.port };
    t.rc(
        call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, &mut close),
        0,
    );
}

/// Slots are 32 bytes: push rcx; push r11; mov eax, n; syscall; pop r11; pop rcx; ret.
pub fn page(t: &mut Test) {
    let base = hypercall_page_va();
    for slot in [0, 1, 17, 22, 24, 63] {
        // SAFETY: the page is part of this kernel.
        let code = unsafe { ((base + slot * 32) as *const [u8; 14]).read_volatile() };
        let n = slot as u8;
        t.yes(
            code == [
                0x51, 0x41, 0x53, 0xb8, n, 0, 0, 0, 0x0f, 5, 0x41, 0x5b, 0x59, 0xc3,
            ],
        );
    }
    // SAFETY: as above.
    let iret = unsafe { ((base + 23 * 32) as *const [u8; 11]).read_volatile() };
    t.yes(iret == [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 5]);
    let result: i64;
    // SAFETY: calls the stub of `xen_version`.
    unsafe {
        asm!(
            "call {stub}",
            stub = in(reg) base + 17 * 32,
            out("rax") result, inout("rdi") 0 => _, inout("rsi") 0 => _,
            out("rdx") _, out("r8") _, out("r10") _, out("rcx") _, out("r11") _,
        );
    }
    t.rc(result, i64::from(XEN_VERSION_4_17));
}

fn entry(op: u64, args: [u64; 6]) -> MulticallEntry {
    MulticallEntry {
        op,
        result: 0x55,
        args,
    }
}

pub fn multicall(t: &mut Test) {
    let mut calls = [
        entry(HYPERVISOR_XEN_VERSION, [0; 6]),
        entry(63, [0; 6]),
        entry(HYPERVISOR_SCHED_OP, [99, 0, 0, 0, 0, 0]),
        entry(
            HYPERVISOR_XEN_VERSION,
            [u64::from(XENVER_PAGESIZE), 0, 0, 0, 0, 0],
        ),
    ];
    let pointer = address_of(&mut calls);
    t.rc(call(HYPERVISOR_MULTICALL, [pointer, 4, 0, 0, 0]), 0);
    t.rc(calls[0].result as i64, i64::from(XEN_VERSION_4_17));
    t.rc(calls[1].result as i64, -ENOSYS);
    t.rc(calls[2].result as i64, -ENOSYS);
    t.rc(calls[3].result as i64, 4096);
    t.rc(call(HYPERVISOR_MULTICALL, [pointer, 0, 0, 0, 0]), 0);
    t.rc(call(HYPERVISOR_MULTICALL, [0x123, 0, 0, 0, 0]), 0);
}

pub fn multicall_in_multicall(t: &mut Test) {
    let mut inner = [entry(HYPERVISOR_XEN_VERSION, [0; 6])];
    let args = [address_of(&mut inner), 1, 0, 0, 0, 0];
    let mut outer = [entry(HYPERVISOR_MULTICALL, args)];
    let pointer = address_of(&mut outer);
    t.rc(call(HYPERVISOR_MULTICALL, [pointer, 1, 0, 0, 0]), 0);
    t.rc(outer[0].result as i64, -EINVAL);
    t.eq(inner[0].result, 0x55);
}

/// An entry that loads another root, gives up the one before and overwrites it with tables made
/// up: the result goes where the entry is now, and nowhere that those tables name.
pub fn multicall_changes_root(t: &mut Test) {
    let [list, victim, made_up, root] = [(); 4].map(|()| Page::take());
    // The old root: the kernel's own slot and nothing else.
    root.write(511, l4().read(511));
    t.rc(root.protect(), 0);
    // From a root made up down to the page of the list, which they say is `victim`.
    let tables = [made_up, Page::take(), Page::take(), Page::take()];
    let index = |level: u32| (list.va() >> (12 + 9 * (level - 1)) & 511) as usize;
    for (n, table) in tables.iter().enumerate() {
        let next = tables
            .get(n + 1)
            .map_or(victim.machine(), |next| next.machine());
        table.write(index(4 - n as u32), next | DATA | ACCESSED | DIRTY);
    }
    victim.write(1, 0x55);
    let ops = Page::take();
    let op = |n: usize, cmd: u32, arg1: u64, arg2: u64| {
        ops.write(3 * n, cmd.into());
        ops.write(3 * n + 1, arg1);
        ops.write(3 * n + 2, arg2);
    };
    op(0, MMUEXT_NEW_BASEPTR, l4().mfn(), 0);
    op(1, MMUEXT_COPY_PAGE, root.mfn(), made_up.mfn());
    // `op`, `result`, and the arguments.
    let words = [
        HYPERVISOR_MMUEXT_OP,
        0x77,
        ops.va(),
        2,
        0,
        DOMID_SELF.into(),
    ];
    for (n, word) in words.into_iter().enumerate() {
        list.write(n, word);
    }
    t.rc(mmuext_op(MMUEXT_NEW_BASEPTR, root.mfn(), 0), 0);
    let outcome = call(HYPERVISOR_MULTICALL, [list.va(), 1, 0, 0, 0]);
    t.rc(mmuext_op(MMUEXT_NEW_BASEPTR, l4().mfn(), 0), 0);
    t.rc(outcome, 0);
    t.eq(list.read(1), 0);
    t.eq(victim.read(1), 0x55);
    t.rc(root.unprotect(), 0);
}

pub fn multicall_faults(t: &mut Test) {
    let page = Page::take();
    let next = Page::take();
    t.rc(update_va_mapping(next.va(), 0, UVMF_INVLPG), 0);
    // The first entry is whole, the second lies in the unmapped page.
    page.write(504, HYPERVISOR_XEN_VERSION);
    page.write(505, 0x55);
    t.rc(
        call(HYPERVISOR_MULTICALL, [page.va() + 504 * 8, 2, 0, 0, 0]),
        -EFAULT,
    );
    t.rc(
        call(HYPERVISOR_MULTICALL, [HYPERVISOR_VIRT_START, 1, 0, 0, 0]),
        -EFAULT,
    );
    t.rc(call(HYPERVISOR_MULTICALL, [1 << 60, 1, 0, 0, 0]), -EFAULT);
    t.rc(next.unprotect(), 0);
}

pub fn versions(t: &mut Test) {
    t.rc(version(XENVER_VERSION, 0), i64::from(XEN_VERSION_4_17));
    // The pointer does not matter.
    t.rc(
        version(XENVER_VERSION, u64::MAX),
        i64::from(XEN_VERSION_4_17),
    );
    let mut text = [0xffu8; 1024];
    t.rc(version(XENVER_EXTRAVERSION, address_of(&mut text)), 0);
    t.yes(text[0] == b'.' && text[16] == 0xff);
    t.rc(version(XENVER_CAPABILITIES, address_of(&mut text)), 0);
    t.yes(text.starts_with(b"xen-3.0-x86_64 "));
    t.rc(version(XENVER_CHANGESET, address_of(&mut text)), 0);
    t.rc(version(XENVER_COMPILE_INFO, address_of(&mut text)), 0);
    t.rc(version(XENVER_COMMANDLINE, address_of(&mut text)), 0);
    t.rc(version(XENVER_GUEST_HANDLE, address_of(&mut text)), 0);
    t.yes(text[..16] == [0; 16]);
    let mut parameters = XenPlatformParameters { virt_start: 0 };
    t.rc(
        call_with(
            HYPERVISOR_XEN_VERSION,
            XENVER_PLATFORM_PARAMETERS,
            &mut parameters,
        ),
        0,
    );
    t.eq(parameters.virt_start, HYPERVISOR_VIRT_START);
    t.rc(version(XENVER_PAGESIZE, 0), 4096);
    t.rc(version(XENVER_PAGESIZE, 1), -EINVAL);
    t.rc(version(11, 0), -ENOSYS);
    t.rc(version(u32::MAX, 0), -ENOSYS);
}

pub fn features(t: &mut Test) {
    let mut info = XenFeatureInfo {
        submap_idx: 0,
        submap: 0,
    };
    t.rc(
        call_with(HYPERVISOR_XEN_VERSION, XENVER_GET_FEATURES, &mut info),
        0,
    );
    // memory_op_vnode_supported, dom0, gnttab_map_avail_bits, highmem_assist,
    // mmu_pt_update_preserve_ad; pae_pgdir_above_4gb as the vm_assist of that name.
    t.eq(
        info.submap & !(1 << 4) & !(1 << 17),
        1 << 13 | 1 << 11 | 1 << 7 | 1 << 6 | 1 << 5,
    );
    info.submap_idx = 1;
    t.rc(
        call_with(HYPERVISOR_XEN_VERSION, XENVER_GET_FEATURES, &mut info),
        -EINVAL,
    );
    info.submap_idx = u32::MAX;
    t.rc(
        call_with(HYPERVISOR_XEN_VERSION, XENVER_GET_FEATURES, &mut info),
        -EINVAL,
    );
}

/// Where results may not be written.
pub fn bad_buffers(t: &mut Test) {
    let page = Page::take();
    for pointer in [
        0,
        0x1000,
        HYPERVISOR_VIRT_START,
        0xffff_8280_0000_0000,
        0xffff_87ff_ffff_fff8,
        1 << 47,
        u64::MAX,
        u64::MAX - 15,
    ] {
        t.rc(version(XENVER_GET_FEATURES, pointer), -EFAULT);
        t.rc(version(XENVER_EXTRAVERSION, pointer), -EFAULT);
    }
    t.rc(page.protect(), 0);
    t.rc(version(XENVER_EXTRAVERSION, page.va()), -EFAULT);
    t.rc(version(XENVER_EXTRAVERSION, page.va() - 8), -EFAULT);
    t.rc(
        update_va_mapping(page.va(), page.machine() | READ_ONLY | 2, UVMF_INVLPG),
        0,
    );
    t.rc(version(XENVER_EXTRAVERSION, page.va()), 0);
}

pub fn vm_assist(t: &mut Test) {
    let assist = |command: u32, kind: u32| {
        call(
            HYPERVISOR_VM_ASSIST,
            [u64::from(command), u64::from(kind), 0, 0, 0],
        )
    };
    for kind in [0, 1, 2, 3, 4, 5, 32] {
        t.rc(assist(VMASST_CMD_ENABLE, kind), 0);
        t.rc(assist(VMASST_CMD_DISABLE, kind), 0);
        t.rc(assist(2, kind), -ENOSYS);
    }
    for kind in [6, 31, 33, 63, 64, u32::MAX] {
        t.rc(assist(VMASST_CMD_ENABLE, kind), -EINVAL);
    }
}

pub fn console(t: &mut Test) {
    let io = |command: u32, count: u64, pointer: u64| {
        call(
            HYPERVISOR_CONSOLE_IO,
            [u64::from(command), count, pointer, 0, 0],
        )
    };
    t.rc(io(CONSOLEIO_WRITE, 0, 0), 0);
    t.rc(io(CONSOLEIO_WRITE, 5, 0x1000), -EFAULT);
    t.rc(io(CONSOLEIO_WRITE, 5, HYPERVISOR_VIRT_START), -EFAULT);
    let mut text = [0u8; 16];
    t.rc(io(CONSOLEIO_READ, 16, address_of(&mut text)), 0);
    t.rc(io(2, 0, 0), -ENOSYS);
}
