//! Calls that change a vCPU's own state, and lists of calls.

use crate::row::{answers, row};
use test_guests::hypercall::{address_of, call, call_with, mmuext_op};
use test_guests::memory::{DATA, Page, READ_ONLY};
use test_guests::shared;
use xen_abi::arch_x86::{FLAT_KERNEL_SS, TrapInfo};
use xen_abi::vcpu::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

/// Most entries of a guest's GDT.
const GDT_ENTRIES: u64 = 14 * 512;
/// A descriptor of data for level 3, without its accessed bit.
const DESCRIPTOR: u64 = 0x00cf_f200_0000_ffff;

/// A page full of descriptors, mapped read-only.
fn descriptors() -> Page {
    let page = Page::take();
    for n in 0..512 {
        page.write(n, DESCRIPTOR);
    }
    assert_eq!(page.protect(), 0);
    page
}

fn multicall(op: u64, args: [u64; 6], entries: usize) -> i64 {
    static LIST: Page4 = Page4(core::cell::UnsafeCell::new(
        [MulticallEntry {
            op: 0,
            result: 0,
            args: [0; 6],
        }; 512],
    ));
    // SAFETY: one vCPU, and nobody else has it.
    let list = unsafe { &mut *LIST.0.get() };
    let entries = &mut list[..entries];
    for entry in entries.iter_mut() {
        *entry = MulticallEntry {
            op,
            result: 0,
            args,
        };
    }
    let count = entries.len() as u64;
    let at = entries.as_mut_ptr() as u64;
    call(HYPERVISOR_MULTICALL, [at, count, 0, 0, 0])
}

struct Page4(core::cell::UnsafeCell<[MulticallEntry; 512]>);
// SAFETY: one vCPU.
unsafe impl Sync for Page4 {}

/// A multicall of 512 times the same.
pub fn many(name: &str, op: u64, args: [u64; 6]) {
    answers(name, 0, || multicall(op, args, 512));
}

pub fn rows() {
    state();
    gdt_and_ldt();
    vcpus();
    many("multicall of xen_version", HYPERVISOR_XEN_VERSION, [0; 6]);
}

fn state() {
    let mut table = [TrapInfo::new_zeroed(); 257];
    for (n, entry) in table.iter_mut().take(256).enumerate() {
        // Where it leads does not matter: it is replaced below.
        *entry = test_guests::trap::trap_info(n as u8, 0, 0x1000);
    }
    answers("set_trap_table of 256", 0, || {
        call(
            HYPERVISOR_SET_TRAP_TABLE,
            [address_of(&mut table), 0, 0, 0, 0],
        )
    });
    let args = [address_of(&mut table), 0, 0, 0, 0, 0];
    many(
        "multicall of set_trap_table",
        HYPERVISOR_SET_TRAP_TABLE,
        args,
    );
    test_guests::trap::init();
    answers("stack_switch", 0, || {
        let stack = shared::va();
        call(
            HYPERVISOR_STACK_SWITCH,
            [u64::from(FLAT_KERNEL_SS), stack, 0, 0, 0],
        )
    });
    answers("set_segment_base", 0, || {
        call(HYPERVISOR_SET_SEGMENT_BASE, [0, 0x1000, 0, 0, 0])
    });
    answers("fpu_taskswitch", 0, || {
        call(HYPERVISOR_FPU_TASKSWITCH, [0; 5])
    });
    answers("set_debugreg", 0, || {
        call(HYPERVISOR_SET_DEBUGREG, [7, 0, 0, 0, 0])
    });
    answers("get_debugreg", 0, || call(HYPERVISOR_GET_DEBUGREG, [0; 5]));
    answers("set_timer_op", 0, || call(HYPERVISOR_SET_TIMER_OP, [0; 5]));
    let text = Page::take();
    for n in 0..512 {
        text.write(n, 0x2e2e_2e2e_2e2e_2e2e);
    }
    text.write(511, 0x0a2e_2e2e_2e2e_2e2e);
    answers("console_io of 4096", 0, || {
        call(HYPERVISOR_CONSOLE_IO, [0, 4096, text.va(), 0, 0])
    });
    let mut version = [0_u8; 1024];
    row("xen_version of every kind", || {
        for command in 0..12 {
            call(
                HYPERVISOR_XEN_VERSION,
                [command, address_of(&mut version), 0, 0, 0],
            );
        }
        true
    });
}

fn gdt_and_ldt() {
    let sets = [(); 2].map(|()| {
        let mut frames = [0_u64; 16];
        for frame in &mut frames[..14] {
            *frame = descriptors().mfn();
        }
        frames
    });
    for (mut frames, name) in sets.into_iter().zip(["set_gdt", "set_gdt over another"]) {
        answers(name, 0, || {
            call(
                HYPERVISOR_SET_GDT,
                [address_of(&mut frames), GDT_ENTRIES, 0, 0, 0],
            )
        });
    }
    answers("set_gdt of nothing", 0, || call(HYPERVISOR_SET_GDT, [0; 5]));
    // Both sets are plain pages now, so each call checks all of them.
    let mut frames = sets[0];
    let args = [address_of(&mut frames), GDT_ENTRIES, 0, 0, 0, 0];
    answers("multicall of set_gdt", 0, || {
        let mut list = [MulticallEntry {
            op: HYPERVISOR_SET_GDT,
            result: 0,
            args,
        }; 64];
        for entry in list.iter_mut().skip(1).step_by(2) {
            entry.args = [0; 6];
        }
        call(HYPERVISOR_MULTICALL, [address_of(&mut list), 64, 0, 0, 0])
    });
    call(HYPERVISOR_SET_GDT, [0; 5]);
    answers("update_descriptor", 0, || {
        call(
            HYPERVISOR_UPDATE_DESCRIPTOR,
            [sets[0][0] << 12, DESCRIPTOR, 0, 0, 0],
        )
    });
    ldt();
}

/// Sixteen pages of descriptors side by side; each is looked at when a selector is loaded from it.
fn ldt() {
    let first = descriptors();
    for _ in 1..16 {
        descriptors();
    }
    answers("mmuext set_ldt", 0, || {
        mmuext_op(MMUEXT_SET_LDT, first.va(), 8192)
    });
    row("fault of an LDT page", || {
        for page in 0..16_u64 {
            let selector = (page * 512 * 8) | 7;
            // SAFETY: FS is not used here.
            unsafe { core::arch::asm!("mov fs, {:e}", in(reg) selector) };
        }
        // SAFETY: as above.
        unsafe { core::arch::asm!("mov fs, {:e}", in(reg) 0) };
        true
    });
    answers("mmuext set_ldt over 16 pages", 0, || {
        mmuext_op(MMUEXT_SET_LDT, 0, 0)
    });
    for n in 0..16 {
        let page = Page::of_pfn(first.pfn() + n);
        let _ = (DATA, READ_ONLY);
        page.unprotect();
    }
}

fn vcpus() {
    let area = Page::take();
    let mut runstate = VcpuRegisterRunstateMemoryArea { addr: area.va() };
    answers("vcpu_op register_runstate", 0, || {
        vcpu_op(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut runstate)
    });
    let mut period = VcpuSetPeriodicTimer {
        period_ns: 1_000_000_000,
    };
    answers("vcpu_op set_periodic_timer", 0, || {
        vcpu_op(VCPUOP_SET_PERIODIC_TIMER, 0, &mut period)
    });
    answers("vcpu_op stop_periodic_timer", 0, || {
        vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, 0, &mut period)
    });
}

/// A `VCPUOP_*`.
pub fn vcpu_op<T>(command: u32, vcpu: u64, argument: &mut T) -> i64 {
    call(
        HYPERVISOR_VCPU_OP,
        [u64::from(command), vcpu, address_of(argument), 0, 0],
    )
}

/// One call that takes a command and a structure, in a multicall of 512.
pub fn many_with<T>(name: &str, op: u64, command: u32, argument: &mut T) {
    let args = [u64::from(command), address_of(argument), 0, 0, 0, 0];
    let _ = call_with::<T>;
    many(name, op, args);
}
