//! Page tables as full as they can be.

use crate::calls::many;
use crate::row::{answers, row};
use test_guests::hypercall::{address_of, call, mmu_update, mmuext_op, update_va_mapping};
use test_guests::memory::{DATA, Page, TABLE, USER, l4};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext};
use xen_abi::vcpu::VCPUOP_INITIALISE;
use xen_abi::xen::*;
use zerocopy::FromZeros;

/// L1 tables, all below one L2 table.
const L1_TABLES: usize = 512;

/// An address space with 512 full L1 tables, which nobody uses.
pub struct Tree {
    l4: Page,
    l3: Page,
    l2: Page,
    l1: [Page; L1_TABLES],
    /// What all the entries map.
    target: Page,
}

impl Tree {
    /// Fills it.
    pub fn new() -> Self {
        let [l4, l3, l2, target] = [(); 4].map(|()| Page::take());
        let l1 = [(); L1_TABLES].map(|()| Page::take());
        for table in &l1 {
            for n in 0..512 {
                table.write(n, target.machine() | DATA);
            }
            assert_eq!(table.protect(), 0);
        }
        for (n, table) in l1.iter().enumerate() {
            l2.write(n, table.machine() | TABLE | USER);
        }
        l3.write(0, l2.machine() | TABLE | USER);
        l4.write(0, l3.machine() | TABLE | USER);
        // This kernel, to which one can change over.
        let own = test_guests::memory::l4();
        for n in 256..512 {
            if !(256..272).contains(&n) {
                l4.write(n, own.read(n));
            }
        }
        for table in [l2, l3, l4] {
            assert_eq!(table.protect(), 0);
        }
        Self {
            l4,
            l3,
            l2,
            l1,
            target,
        }
    }

    /// Its root.
    pub fn root(&self) -> u64 {
        self.l4.mfn()
    }
}

pub fn rows(tree: &Tree) {
    pins(tree);
    roots(tree);
    entries(tree);
    lists(tree);
    initialise(tree);
}

fn pins(tree: &Tree) {
    let levels = [
        (
            "mmuext pin and unpin of a full L1 table",
            MMUEXT_PIN_L1_TABLE,
            tree.l1[0],
        ),
        (
            "mmuext pin and unpin of an L2 table of full tables",
            MMUEXT_PIN_L2_TABLE,
            tree.l2,
        ),
        (
            "mmuext pin and unpin of an L3 table above it",
            MMUEXT_PIN_L3_TABLE,
            tree.l3,
        ),
        (
            "mmuext pin and unpin of an L4 table above it",
            MMUEXT_PIN_L4_TABLE,
            tree.l4,
        ),
    ];
    for (name, command, table) in levels {
        row(name, || {
            mmuext_op(command, table.mfn(), 0) == 0
                && mmuext_op(MMUEXT_UNPIN_TABLE, table.mfn(), 0) == 0
        });
    }
}

fn roots(tree: &Tree) {
    row("mmuext new_baseptr and back", || {
        mmuext_op(MMUEXT_NEW_BASEPTR, tree.root(), 0) == 0
            && mmuext_op(MMUEXT_NEW_BASEPTR, l4().mfn(), 0) == 0
    });
    row("mmuext new_user_baseptr and back", || {
        mmuext_op(MMUEXT_NEW_USER_BASEPTR, tree.root(), 0) == 0
            && mmuext_op(MMUEXT_NEW_USER_BASEPTR, 0, 0) == 0
    });
    row("write of CR3 and back", || {
        for root in [tree.root(), l4().mfn()] {
            // SAFETY: this kernel is mapped by both.
            unsafe { core::arch::asm!("mov cr3, {}", in(reg) root << 12) };
        }
        true
    });
}

fn entries(tree: &Tree) {
    // An L4 entry of ours that the tree is hung below, and taken from again.
    let slot = l4().machine() + 8 * 8;
    row("mmu_update of an L4 entry, set and cleared", || {
        mmu_update(slot, tree.l3.machine() | TABLE | USER) == 0 && mmu_update(slot, 0) == 0
    });
    row("update_va_mapping", || {
        update_va_mapping(tree.target.va(), tree.target.machine() | DATA, UVMF_INVLPG) == 0
    });
    let mut op = MmuextOp {
        cmd: MMUEXT_TLB_FLUSH_ALL,
        _pad: 0,
        arg1: 0,
        arg2: 0,
    };
    answers("mmuext tlb_flush_all", 0, || {
        call(
            HYPERVISOR_MMUEXT_OP,
            [address_of(&mut op), 1, 0, u64::from(DOMID_SELF), 0],
        )
    });
    row("mmuext flush_cache", || {
        mmuext_op(MMUEXT_FLUSH_CACHE, 0, 0) == 0
    });
}

static UPDATES: Updates = Updates(core::cell::UnsafeCell::new(
    [MmuUpdate { ptr: 0, val: 0 }; 1024],
));
struct Updates(core::cell::UnsafeCell<[MmuUpdate; 1024]>);
// SAFETY: one vCPU.
unsafe impl Sync for Updates {}

fn lists(tree: &Tree) {
    let own = u64::from(DOMID_SELF);
    // SAFETY: one vCPU; taken once.
    let updates = unsafe { &mut *UPDATES.0.get() };
    let list = |updates: &mut [MmuUpdate]| {
        let count = updates.len() as u64;
        call(
            HYPERVISOR_MMU_UPDATE,
            [updates.as_mut_ptr() as u64, count, 0, own, 0],
        )
    };
    // An empty L2 table of ours in use, filled with full L1 tables and emptied.
    let (l3, l2) = (Page::take(), Page::take());
    l3.write(0, l2.machine() | TABLE | USER);
    l2.protect();
    l3.protect();
    let slot = l4().machine() + 8 * 8;
    assert_eq!(mmu_update(slot, l3.machine() | TABLE | USER), 0);
    for (n, table) in tree.l1.iter().enumerate() {
        let ptr = l2.machine() + n as u64 * 8;
        updates[n] = MmuUpdate {
            ptr,
            val: table.machine() | TABLE | USER,
        };
        updates[512 + n] = MmuUpdate { ptr, val: 0 };
    }
    answers("mmu_update of 512 L2 entries, set and cleared", 0, || {
        list(updates)
    });
    let args = [updates.as_mut_ptr() as u64, 31, 0, own, 0, 0];
    many(
        "multicall of mmu_update of 31 L2 entries",
        HYPERVISOR_MMU_UPDATE,
        args,
    );
    list(&mut updates[512..]);
    let mut pair = [updates[0], updates[512]];
    answers(
        "multicall of mmu_update, an L2 entry set and cleared",
        0,
        || {
            let args = [address_of(&mut pair), 2, 0, own, 0, 0];
            let mut calls = [MulticallEntry {
                op: HYPERVISOR_MMU_UPDATE,
                result: 0,
                args,
            }; 64];
            call(HYPERVISOR_MULTICALL, [address_of(&mut calls), 64, 0, 0, 0])
        },
    );
    assert_eq!(mmu_update(slot, 0), 0);
    let ptr = tree.l1[0].machine();
    mmuext_op(MMUEXT_PIN_L1_TABLE, tree.l1[0].mfn(), 0);
    for (n, update) in updates.iter_mut().enumerate() {
        *update = MmuUpdate {
            ptr: ptr + (n as u64 % 512) * 8,
            val: if n < 512 {
                0
            } else {
                tree.target.machine() | DATA
            },
        };
    }
    answers("mmu_update of 1024 L1 entries", 0, || list(updates));
    mmuext_op(MMUEXT_UNPIN_TABLE, tree.l1[0].mfn(), 0);
    extended(tree, own);
}

fn extended(tree: &Tree, own: u64) {
    let spare = Page::take();
    let op = |cmd, arg1, arg2| MmuextOp {
        cmd,
        _pad: 0,
        arg1,
        arg2,
    };
    let run = |ops: &mut [MmuextOp]| {
        let count = ops.len() as u64;
        call(
            HYPERVISOR_MMUEXT_OP,
            [ops.as_mut_ptr() as u64, count, 0, own, 0],
        )
    };
    let mut ops = [op(MMUEXT_CLEAR_PAGE, spare.mfn(), 0); 256];
    answers("mmuext clear_page of 256", 0, || run(&mut ops));
    ops.fill(op(MMUEXT_COPY_PAGE, spare.mfn(), tree.target.mfn()));
    answers("mmuext copy_page of 256", 0, || run(&mut ops));
    let args = [address_of(&mut ops), 31, 0, own, 0, 0];
    many(
        "multicall of mmuext copy_page of 31",
        HYPERVISOR_MMUEXT_OP,
        args,
    );
    ops.fill(op(MMUEXT_INVLPG_ALL, spare.va(), 0));
    answers("mmuext invlpg_all of 256", 0, || run(&mut ops));
    for (n, op) in ops.iter_mut().enumerate() {
        op.cmd = if n % 2 == 0 {
            MMUEXT_PIN_L1_TABLE
        } else {
            MMUEXT_UNPIN_TABLE
        };
        op.arg1 = tree.l1[0].mfn();
    }
    answers(
        "mmuext pin and unpin of a full L1 table, 128 times",
        0,
        || run(&mut ops),
    );
    let args = [address_of(&mut ops), 30, 0, own, 0, 0];
    many(
        "multicall of mmuext pin and unpin of 15 full L1 tables",
        HYPERVISOR_MMUEXT_OP,
        args,
    );
}

/// Another vCPU's first state, on the full tables.
fn initialise(tree: &Tree) {
    static CONTEXT: Context = Context(core::cell::UnsafeCell::new([0; 646]));
    // SAFETY: one vCPU; plain data of that size.
    let context = unsafe { &mut *CONTEXT.0.get().cast::<VcpuGuestContext>() };
    context.zero();
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rflags = 0x200;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.ctrlreg[3] = tree.l4.machine();
    context.ctrlreg[1] = tree.l4.machine();
    answers("vcpu_op initialise on full tables", 0, || {
        crate::calls::vcpu_op(VCPUOP_INITIALISE, 1, context)
    });
    // A bad one: what was validated is taken apart again.
    context.user_regs.rip = 1 << 50;
    context.event_callback_eip = 1 << 50;
    row("vcpu_op initialise refused", || {
        crate::calls::vcpu_op(VCPUOP_INITIALISE, 2, context) < 0
    });
}

struct Context(core::cell::UnsafeCell<[u64; 646]>);
// SAFETY: one vCPU.
unsafe impl Sync for Context {}
