//! The hypervisor's address space: what lies where in L4 slots 256 to 271.
//!
//! Xen's PV interface keeps these slots (`0xffff_8000_0000_0000` up to
//! `0xffff_8800_0000_0000`) from guests, under every root. They are the same under
//! every root, and their L4 entries never change after boot.
//!
//! | slot | from | what | access |
//! |---|---|---|---|
//! | 256 | `0xffff_8000_0000_0000` | machine-to-physical table, for guests | R, user |
//! | 257 | `0xffff_8080_0000_0000` | the same, for us | RW |
//! | 258 | `0xffff_8100_0000_0000` | spare | |
//! | 259 | `0xffff_8180_0000_0000` | per-CPU areas | RW |
//! | 260 | `0xffff_8200_0000_0000` | frame table | RW |
//! | 261 | `0xffff_8280_0000_0000` | the image, at its link address | R / RX / RW |
//! | 262 | `0xffff_8300_0000_0000` | device registers and other late mappings | RW |
//! | 263 | `0xffff_8380_0000_0000` | spare | |
//! | 264-271 | `0xffff_8400_0000_0000` | direct map of memory | RW |
//!
//! Nothing is both writable and executable; only the image's code is executable.
//! The direct map holds RAM and ACPI's memory, never device registers, and maps the
//! image's constants and code read only.

use crate::addr::MachAddr;

/// First L4 slot of the hypervisor. Source: Xen `include/public/arch-x86/xen-x86_64.h`.
pub const FIRST_SLOT: usize = 256;
/// Number of L4 slots of the hypervisor. Source: as above.
pub const SLOTS: usize = 16;

/// Machine-to-physical table: a `u64` a frame, readable by guests.
/// Source: Xen `include/public/arch-x86/xen-x86_64.h`, `MACH2PHYS_VIRT_START`.
pub const M2P_START: u64 = slot(256);
/// Where the guests' table ends. Source: as above, `MACH2PHYS_VIRT_END`.
pub const M2P_END: u64 = 0xffff_8040_0000_0000;
/// Our own, writable mapping of the machine-to-physical table.
pub const M2P_RW_START: u64 = slot(257);

/// Per-CPU areas.
pub const PERCPU_START: u64 = slot(259);
/// End of that room. What is in it: `arch::x86_64::cpu_area`.
pub const PERCPU_END: u64 = slot(260);

/// Frame table.
pub const FRAME_TABLE_START: u64 = slot(260);
/// End of the frame table's room.
pub const FRAME_TABLE_END: u64 = slot(261);

/// The image: link address = this + link-time physical address.
pub const IMAGE_BASE: u64 = slot(261);

/// Device registers, handed out by `host_map::map_device`.
pub const VMAP_START: u64 = slot(262);
/// End of that room.
pub const VMAP_END: u64 = slot(263);

/// Direct map: virtual address = this + machine address.
pub const DIRECT_MAP_START: u64 = slot(264);
/// End of the direct map's room: 4 TiB.
pub const DIRECT_MAP_END: u64 = slot(272);
/// Machine addresses from here on have no direct mapping, in bytes.
pub const DIRECT_MAP_SIZE: u64 = DIRECT_MAP_END - DIRECT_MAP_START;

/// First address of L4 slot `n` in the upper half.
const fn slot(n: u64) -> u64 {
    0xffff_0000_0000_0000 | n << 39
}

/// Where the direct map shows a machine address (which must be memory).
#[must_use]
#[inline]
pub const fn direct_map(addr: MachAddr) -> u64 {
    DIRECT_MAP_START + addr.raw()
}

const _: () = {
    assert!(M2P_START == crate::addr::HYPERVISOR_START);
    assert!(DIRECT_MAP_END == crate::addr::HYPERVISOR_END);
    assert!(IMAGE_BASE == 0xffff_8280_0000_0000);
    assert!(DIRECT_MAP_START == 0xffff_8400_0000_0000);
    assert!(PERCPU_START == 0xffff_8180_0000_0000);
};
