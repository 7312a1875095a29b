//! The cases, by subject.

mod boot;
mod calls;
mod fifo;
mod mmu;
mod pin;

use crate::test::Case;

const fn case(name: &'static str, run: fn(&mut crate::test::Test)) -> Case {
    Case { name, run }
}

/// Every case, in order.
pub const ALL: &[Case] = &[
    case("boot-state", boot::state),
    case("call-unknown", calls::unknown),
    case("call-high-half-of-rax", calls::high_half_of_rax),
    case("call-registers", calls::registers),
    case("call-page", calls::page),
    case("call-bad-buffers", calls::bad_buffers),
    case("multicall", calls::multicall),
    case("multicall-in-multicall", calls::multicall_in_multicall),
    case("multicall-faults", calls::multicall_faults),
    case("version", calls::versions),
    case("version-features", calls::features),
    case("vm-assist", calls::vm_assist),
    case("console", calls::console),
    case("mmu-kinds", mmu::kinds),
    case("mmu-preserve-ad", mmu::preserve_ad),
    case("mmu-adjusted-bits", mmu::adjusted_bits),
    case("mmu-l1-flags", mmu::l1_flags),
    case("mmu-upper-flags", mmu::upper_flags),
    case("mmu-large-pages", mmu::large_pages),
    case("mmu-reserved-slots", mmu::reserved_slots),
    case("mmu-writable-table", mmu::writable_table),
    case("mmu-wrong-level", mmu::wrong_level),
    case("mmu-shared-table", mmu::shared_table),
    case("mmu-linear-table", mmu::linear_table),
    case("mmu-frames-of-others", mmu::frames_of_others),
    case("mmu-device-memory", mmu::device_memory),
    case("mmu-foreign-domains", mmu::foreign_domains),
    case("mmu-bad-tables", mmu::bad_tables),
    case("mmu-done-count", mmu::done_count),
    case("mmu-m2p-update", mmu::m2p_update),
    case("mmu-m2p-access", mmu::m2p_access),
    case("mmu-update-va", mmu::update_va),
    case("mmu-remap", mmu::remap),
    case("mmu-no-execute", mmu::no_execute),
    case("pin-once", pin::once),
    case("pin-as-another-level", pin::as_another_level),
    case("pin-bad-contents", pin::bad_contents),
    case("pin-partial-failure", pin::partial_failure),
    case("pin-unpin-while-used", pin::unpin_while_used),
    case("pin-mapped-by-a-table", pin::mapped_by_a_table),
    case("pin-l4-garbage", pin::l4_garbage),
    case("pin-bad-frames", pin::bad_frames),
    case("pin-fast-path-flags", pin::fast_path_flags),
    case("mmuext-base-pointer", pin::base_pointer),
    case("mmuext-user-base-pointer", pin::user_base_pointer),
    case("mmuext-commands", pin::commands),
    case("mmuext-clear-and-copy", pin::clear_and_copy),
    case("mmuext-ldt", pin::ldt),
    case("mmuext-done-count", pin::done_count),
    case("fifo-arguments", fifo::arguments),
    case("fifo-queues", fifo::queues),
    case("fifo-scribbles", fifo::scribbles),
    case("fifo-early", fifo::early),
];
