//! The FIFO interface of event channels. Ends with a reset, back to two levels.

use crate::test::Test;
use core::sync::atomic::{AtomicU64, Ordering};
use test_guests::hypercall::{call_with, mmuext_op};
use test_guests::memory::{Page, l4};
use test_guests::shared;
use xen_abi::errno::*;
use xen_abi::event_channel::*;
use xen_abi::xen::*;

fn op<T>(command: u32, argument: &mut T) -> i64 {
    call_with(HYPERVISOR_EVENT_CHANNEL_OP, command, argument)
}

fn init(control_gfn: u64, offset: u32, vcpu: u32) -> (i64, u8) {
    let mut argument = EvtchnInitControl {
        control_gfn,
        offset,
        vcpu,
        link_bits: 0,
        _pad: [0; 7],
    };
    (op(EVTCHNOP_INIT_CONTROL, &mut argument), argument.link_bits)
}

fn expand(array_gfn: u64) -> i64 {
    op(EVTCHNOP_EXPAND_ARRAY, &mut EvtchnExpandArray { array_gfn })
}

fn set_priority(port: u32, priority: u32) -> i64 {
    op(
        EVTCHNOP_SET_PRIORITY,
        &mut EvtchnSetPriority { port, priority },
    )
}

fn ipi() -> u32 {
    let mut argument = EvtchnBindIpi { vcpu: 0, port: 0 };
    op(EVTCHNOP_BIND_IPI, &mut argument);
    argument.port
}

fn send(port: u32) -> i64 {
    op(EVTCHNOP_SEND, &mut EvtchnSend { port })
}

fn unmask(port: u32) -> i64 {
    op(EVTCHNOP_UNMASK, &mut EvtchnUnmask { port })
}

fn close(port: u32) -> i64 {
    op(EVTCHNOP_CLOSE, &mut EvtchnClose { port })
}

fn reset() -> i64 {
    op(EVTCHNOP_RESET, &mut EvtchnReset { dom: DOMID_SELF })
}

const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

/// 32-bit word `index` of a page.
fn word(page: Page, index: u32) -> u32 {
    (page.read(index as usize / 2) >> (32 * (index % 2))) as u32
}

fn set_word(page: Page, index: u32, value: u32) {
    let shift = 32 * (index % 2);
    let kept = page.read(index as usize / 2) & !(0xffff_ffff << shift);
    page.write(index as usize / 2, kept | u64::from(value) << shift);
}

/// Word of queue head `priority` in a control block at the start of its page.
fn head(priority: u32) -> u32 {
    2 + priority
}

/// Control block and first page of the array, the same for all cases: Xen keeps a
/// frame of a control block until the reset.
fn pages() -> (Page, Page) {
    static PFNS: AtomicU64 = AtomicU64::new(0);
    let first = match PFNS.load(Ordering::Relaxed) {
        0 => {
            let first = Page::take().pfn();
            PFNS.store(first, Ordering::Relaxed);
            Page::take();
            first
        }
        pfn => pfn,
    };
    let pages = (Page::of_pfn(first), Page::of_pfn(first + 1));
    for index in 0..512 {
        pages.0.write(index, 0);
        pages.1.write(index, 0);
    }
    pages
}

pub fn arguments(t: &mut Test) {
    shared::set_upcall_mask(1);
    let (control, array) = pages();
    let port = ipi();
    t.rc(expand(array.mfn()), -EOPNOTSUPP);
    t.rc(set_priority(port, 0), -ENOSYS);
    t.rc(set_priority(200_000, 0), -EINVAL);
    t.rc(init(control.mfn(), 0, 1).0, -ENOENT);
    t.rc(init(control.mfn(), 0, u32::MAX).0, -ENOENT);
    for offset in [4, 4095, 4096 - 64, 4096, 0xffff_fff8] {
        t.rc(init(control.mfn(), offset, 0).0, -EINVAL);
    }
    t.rc(init(0xf_ffff_ffff, 0, 0).0, -EINVAL);
    t.rc(init(u64::MAX, 0, 0).0, -EINVAL);
    t.rc(init(l4().mfn(), 0, 0).0, -EINVAL);
    // None of these switched the domain.
    t.rc(expand(array.mfn()), -EOPNOTSUPP);
    let (rc, bits) = init(control.mfn(), 4096 - 72, 0);
    t.rc(rc, 0);
    t.eq(bits, 17);
    t.rc(init(control.mfn(), 0, 0).0, -EINVAL);
    t.rc(expand(0xf_ffff_ffff), -EINVAL);
    t.rc(expand(l4().mfn()), -EINVAL);
    t.rc(expand(array.mfn()), 0);
    t.rc(set_priority(port, 15), 0);
    t.rc(set_priority(port, 16), -EINVAL);
    t.rc(set_priority(200_000, 0), -EINVAL);
    // Both frames are in use as writable ones.
    t.rc(control.protect(), 0);
    t.rc(mmuext_op(MMUEXT_PIN_L1_TABLE, control.mfn(), 0), -EINVAL);
    t.rc(control.unprotect(), 0);
    t.rc(reset(), 0);
    t.rc(expand(array.mfn()), -EOPNOTSUPP);
    t.rc(control.protect(), 0);
    t.rc(mmuext_op(MMUEXT_PIN_L1_TABLE, control.mfn(), 0), 0);
    t.rc(mmuext_op(MMUEXT_UNPIN_TABLE, control.mfn(), 0), 0);
    t.rc(control.unprotect(), 0);
}

pub fn queues(t: &mut Test) {
    shared::set_upcall_mask(1);
    shared::take_upcall();
    let (control, array) = pages();
    t.rc(init(control.mfn(), 0, 0).0, 0);
    t.rc(expand(array.mfn()), 0);
    let (a, b, c) = (ipi(), ipi(), ipi());
    t.rc(set_priority(c, 0), 0);
    // The first of a queue.
    t.rc(send(a), 0);
    t.eq(word(array, a), PENDING | LINKED);
    t.eq(word(control, head(7)), a);
    t.eq(word(control, 0), 1 << 7);
    t.yes(shared::upcall_pending());
    // The second is linked behind it.
    t.rc(send(b), 0);
    t.eq(word(array, a), PENDING | LINKED | b);
    t.eq(word(array, b), PENDING | LINKED);
    t.eq(word(control, head(7)), a);
    // Again: nothing changes.
    t.rc(send(a), 0);
    t.eq(word(array, a), PENDING | LINKED | b);
    // Another priority.
    t.rc(send(c), 0);
    t.eq(word(control, head(0)), c);
    t.eq(word(control, 0), 1 << 7 | 1);
    // Taken off: the queue is empty, so the next is its head.
    set_word(array, a, 0);
    set_word(array, b, 0);
    set_word(control, 0, 0);
    t.rc(send(b), 0);
    t.eq(word(control, head(7)), b);
    t.eq(word(array, a), 0);
    t.eq(word(control, 0), 1 << 7);
    // Masked: pending but not queued, until it is unmasked.
    set_word(array, a, MASKED);
    t.rc(send(a), 0);
    t.eq(word(array, a), PENDING | MASKED);
    t.eq(word(array, b), PENDING | LINKED);
    t.rc(unmask(a), 0);
    t.eq(word(array, a), PENDING | LINKED);
    t.eq(word(array, b), PENDING | LINKED | a);
    // A port still in a queue is not given out again.
    t.rc(close(a), 0);
    t.eq(word(array, a), LINKED);
    t.yes(ipi() != a);
    set_word(array, a, 0);
    t.eq(ipi(), a);
    t.rc(reset(), 0);
    shared::take_upcall();
}

/// Words that make no sense hurt nobody.
pub fn scribbles(t: &mut Test) {
    shared::set_upcall_mask(1);
    let (control, array) = pages();
    t.rc(init(control.mfn(), 0, 0).0, 0);
    t.rc(expand(array.mfn()), 0);
    let ports = [ipi(), ipi(), ipi(), ipi()];
    for value in [u32::MAX, 0x1ffff, LINKED, LINKED | 0x1ffff, MASKED, 0] {
        for port in ports {
            t.rc(send(port), 0);
            set_word(array, port, value);
            set_word(control, head(7), value);
            t.rc(unmask(port), 0);
            t.rc(send(port), 0);
        }
    }
    t.rc(reset(), 0);
    shared::take_upcall();
}

/// What is raised before its word exists is raised again when it does.
pub fn early(t: &mut Test) {
    shared::set_upcall_mask(1);
    let (control, array) = pages();
    t.rc(init(control.mfn(), 0, 0).0, 0);
    let port = ipi();
    t.rc(send(port), 0);
    t.eq(word(control, 0), 0);
    t.rc(expand(array.mfn()), 0);
    t.eq(word(array, port), PENDING | LINKED);
    t.eq(word(control, head(7)), port);
    t.rc(reset(), 0);
    shared::take_upcall();
}
