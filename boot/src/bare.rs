//! First Rust code: finds the boot loader's words and the image's own limits.
#![allow(
    unsafe_code,
    reason = "reads the boot loader's memory and the linker's symbols"
)]

use crate::entry::{MB1_MAGIC, MB2_MAGIC};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use hv_core::mm::layout;
use hv_core::start::boot_info::{BootInfo, Image};
use oxen_boot::{multiboot1, multiboot2};

/// What the first page tables map one to one at the direct map's place, in bytes.
const LOW: u64 = 4 << 30;

/// The boot information's home: too large for a stack, empty in the image.
struct Home(UnsafeCell<MaybeUninit<BootInfo>>);

// SAFETY: only `start` touches it, once, on the only CPU that runs.
unsafe impl Sync for Home {}

static BOOT_INFO: Home = Home(UnsafeCell::new(MaybeUninit::uninit()));

/// Entered from the assembly, once, on the boot CPU.
pub extern "C" fn start(magic: u32, address: u32, load_base: u32) -> ! {
    // SAFETY: this function is entered once, so this is the only reference.
    let info = unsafe { &mut *BOOT_INFO.0.get() }.write(BootInfo::new());
    match magic {
        MB1_MAGIC => multiboot1::read(&FirstTables, address, info),
        MB2_MAGIC => {
            use multiboot1::LowMemory;
            let size = multiboot2::size(FirstTables.bytes(address, multiboot2::FIXED));
            let bytes = FirstTables.bytes(address, size.unwrap_or(0));
            multiboot2::read(bytes, info);
        }
        _ => {}
    }
    info.image = image(load_base.into());
    hv_core::start::main(info)
}

/// Memory below 4 GiB through the first page tables.
struct FirstTables;

impl multiboot1::LowMemory for FirstTables {
    fn bytes(&self, address: u32, len: usize) -> &[u8] {
        let room = (LOW - u64::from(address)).min(len as u64) as usize;
        let start = (layout::DIRECT_MAP_START + u64::from(address)) as *const u8;
        // SAFETY: the first page tables map all of the low 4 GiB there and `room`
        // stays below that; nobody writes memory while this CPU reads what the
        // loader left (any bit pattern is a byte).
        unsafe { core::slice::from_raw_parts(start, room) }
    }
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __ro_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __data_start: u8;
    static __symbols_start: u8;
    static __symbols_end: u8;
}

/// The image's limits, from the linker script.
fn image(load_base: u64) -> Image {
    let start = (&raw const __image_start) as u64;
    let end = (&raw const __image_end) as u64;
    Image {
        machine: load_base..load_base + (end - start),
        virt: start,
        ro: start..(&raw const __ro_end) as u64,
        text: (&raw const __text_start) as u64..(&raw const __text_end) as u64,
        data: (&raw const __data_start) as u64..end,
        symbols: symbols(),
    }
}

/// The section of names, which is filled in after the link.
fn symbols() -> &'static [u8] {
    let start = &raw const __symbols_start;
    let len = (&raw const __symbols_end) as usize - start as usize;
    // SAFETY: the linker script reserves these bytes, in read-only memory.
    unsafe { core::slice::from_raw_parts(start, len) }
}
