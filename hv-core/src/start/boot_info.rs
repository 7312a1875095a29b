//! What the boot loader handed over, in no loader's words.

use crate::addr::MachAddr;
use crate::arch::efi::Region;
use crate::arch::efi::firmware::MAX_REGIONS;
pub use crate::console::screen::{Framebuffer, FramebufferKind};
use crate::mm::memory_map::MemoryMap;
use core::ops::Range;
use heapless::{String, Vec};

/// Longest command line of ours, in bytes. Source: Xen's `MAX_CMDLINE_SIZE` is 2048.
pub const COMMAND_LINE: usize = 2048;
/// Longest command line of a module: what fits the PV `start_info`, in bytes.
/// Source: Xen `include/public/xen.h`, `MAX_GUEST_CMDLINE`.
pub const MODULE_COMMAND_LINE: usize = 1024;
/// Most modules kept.
pub const MAX_MODULES: usize = 8;

/// Everything known at `start::main`.
#[derive(Debug, Default)]
pub struct BootInfo {
    /// Who loaded us, by what protocol.
    pub protocol: Protocol,
    /// The loader's name and version, or empty.
    pub loader_name: String<64>,
    /// Our command line, without the image's name.
    pub command_line: String<COMMAND_LINE>,
    /// Firmware's memory map.
    pub memory_map: MemoryMap,
    /// Modules, in the loader's order: kernel, initial RAM disk, ...
    pub modules: Vec<Module, MAX_MODULES>,
    /// The ACPI root pointer, if the loader passed it.
    pub rsdp: Option<Rsdp>,
    /// The screen as the loader left it.
    pub framebuffer: Option<Framebuffer>,
    /// Present if EFI firmware runs below.
    pub efi: Option<Efi>,
    /// Firmware's memory map as EFI has it; empty if it is not known, or firmware's boot
    /// services still run.
    pub efi_map: Vec<Region, MAX_REGIONS>,
    /// Where this hypervisor itself lies.
    pub image: Image,
    /// Something was cut to fit, or ignored because it made no sense.
    pub damaged: bool,
}

impl BootInfo {
    /// Nothing known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            protocol: Protocol::Unknown,
            loader_name: String::new(),
            command_line: String::new(),
            memory_map: MemoryMap::new(),
            modules: Vec::new(),
            rsdp: None,
            framebuffer: None,
            efi: None,
            efi_map: Vec::new(),
            image: Image::NONE,
            damaged: false,
        }
    }

    /// Machine address of our copy of the ACPI root pointer. (The original need not be
    /// anywhere that a search finds: under EFI it is not.)
    #[must_use]
    pub fn rsdp_address(&self) -> Option<MachAddr> {
        let copy = self.rsdp.as_ref()?.bytes.as_ptr() as u64;
        let offset = copy.checked_sub(self.image.virt)?;
        let addr = self.image.machine.start.checked_add(offset)?;
        self.image
            .machine
            .contains(&addr)
            .then(|| MachAddr::new(addr))
    }
}

/// Boot protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Not entered by a loader (a test).
    #[default]
    Unknown,
    /// Multiboot 0.6.96.
    Multiboot1,
    /// Multiboot 2.0.
    Multiboot2,
}

/// A file the loader put into memory.
#[derive(Clone, Debug)]
pub struct Module {
    /// First byte.
    pub start: MachAddr,
    /// Length in bytes.
    pub len: u64,
    /// The words after its name.
    pub command_line: String<MODULE_COMMAND_LINE>,
}

impl Module {
    /// Its machine addresses.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start.raw()..self.start.raw() + self.len
    }
}

/// A copy of ACPI's root system description pointer. The loader's copy need not be
/// at the address firmware has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsdp {
    /// The table: 20 bytes (revision 0) or 36.
    pub bytes: [u8; 36],
    /// How many of them count.
    pub len: u8,
}

impl Rsdp {
    /// Machine address of the XSDT, or of the RSDT for ACPI 1.0; and which.
    /// Source: ACPI 6.4, table 5-3.
    #[must_use]
    pub fn root_table(&self) -> (u64, bool) {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| self.bytes[at + i]));
        let xsdt = u64::from(word(24)) | u64::from(word(28)) << 32;
        if self.len >= 36 && self.bytes[15] >= 2 && xsdt != 0 {
            (xsdt, true)
        } else {
            (u64::from(word(16)), false)
        }
    }
}

/// What EFI firmware left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efi {
    /// Machine address of the 64-bit system table.
    pub system_table: u64,
}

/// The hypervisor's own image. Virtual ranges are page aligned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Machine addresses from the first byte to the end of `.bss`.
    pub machine: Range<u64>,
    /// Virtual address of the first byte.
    pub virt: u64,
    /// Constants: read only.
    pub ro: Range<u64>,
    /// Code: read and execute.
    pub text: Range<u64>,
    /// Data and `.bss`: read and write.
    pub data: Range<u64>,
    /// The section of names (see [`crate::arch::symbols`]).
    pub symbols: &'static [u8],
}

impl Image {
    /// No image (host tests).
    pub const NONE: Self = Self {
        machine: 0..0,
        virt: 0,
        ro: 0..0,
        text: 0..0,
        data: 0..0,
        symbols: &[],
    };
}
