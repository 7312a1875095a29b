//! Whether every CPU of the host is set up alike. (On a host of one there is little to ask.)

use super::control::{domctl, sysctl};
use crate::test::Test;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use test_guests::hypercall::call;
use test_guests::trap;
use xen_abi::domctl::*;
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::sysctl::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

/// Lets this vCPU run on the CPUs in `mask` only; it does so when this returns.
fn run_on(mask: u64) -> i64 {
    let bits = AtomicU64::new(mask);
    let mut op = XenDomctlVcpuaffinity::new_zeroed();
    op.flags = XEN_VCPUAFFINITY_HARD;
    op.cpumap_hard.bitmap = bits.as_ptr() as u64;
    op.cpumap_hard.nr_bits = 64;
    let rc = domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut 0, &mut op);
    call(HYPERVISOR_SCHED_OP, [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]);
    rc
}

/// Says whether the FPU's state is loaded.
const CR0_TS: u64 = 1 << 3;

/// What a guest can see of a CPU's set-up without asking the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct View {
    /// CR0 without TS, from an instruction that user mode may execute.
    cr0: u64,
    /// XCR0, if there is XGETBV.
    xcr0: u64,
    /// The exception of a word across its boundary with EFLAGS.AC set; 0: none (QEMU).
    misaligned: u64,
}

impl View {
    fn here() -> Self {
        let cr0: u64;
        // SAFETY: reads a register.
        unsafe { asm!("smsw {}", out(reg) cr0, options(nomem, nostack, preserves_flags)) };
        let mut xcr0 = 0;
        if core::arch::x86_64::__cpuid(1).ecx >> 27 & 1 != 0 {
            let (low, high): (u64, u64);
            // SAFETY: OSXSAVE says that the instruction exists.
            unsafe {
                asm!("xgetbv", in("ecx") 0, out("rax") low, out("rdx") high, options(nomem, nostack));
            }
            xcr0 = high << 32 | low;
        }
        let words = [0u64; 2];
        let misaligned = trap::attempt(|| {
            // SAFETY: reads inside `words`; the flags are as before afterwards, for an exception
            // gives up the whole closure.
            unsafe {
                asm!(
                    "pushfq",
                    "or qword ptr [rsp], 0x40000",
                    "popfq",
                    "mov {0}, [{0} + 1]",
                    "pushfq",
                    "and qword ptr [rsp], ~0x40000",
                    "popfq",
                    inout(reg) words.as_ptr() => _,
                );
            }
        });
        Self {
            cr0: cr0 & !CR0_TS,
            xcr0,
            misaligned: misaligned.map_or(0, |frame| frame.vector),
        }
    }
}

pub fn alike(t: &mut Test) {
    let mut info = XenSysctlPhysinfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_PHYSINFO, &mut info), 0);
    t.rc(run_on(1), 0);
    let first = View::here();
    for cpu in 1..info.nr_cpus.min(64) {
        t.rc(run_on(1 << cpu), 0);
        let other = View::here();
        t.eq(other.cr0, first.cr0);
        t.eq(other.xcr0, first.xcr0);
        t.eq(other.misaligned, first.misaligned);
    }
    t.rc(run_on(!0), 0);
}
