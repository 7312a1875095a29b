//! Multiboot 1 information. Source of numbers: Multiboot Specification 0.6.96, 3.3.
//!
//! Unlike Multiboot 2 it is a web of 32-bit physical pointers, so the reader is
//! given a way to look at memory.

use crate::bytes::{or_damaged, text, u32_at, u64_at};
use crate::framebuffer;
use hv_core::addr::MachAddr;
use hv_core::mm::memory_map::{Region, RegionKind};
use hv_core::start::boot_info::{BootInfo, Module, Protocol};

/// Memory below 4 GiB.
pub trait LowMemory {
    /// `len` bytes from `address` on, or fewer where memory (or what is known to be
    /// mapped) ends.
    fn bytes(&self, address: u32, len: usize) -> &[u8];
}

/// Bytes of the information structure, framebuffer included.
const INFO: usize = 116;
/// Longest string looked at, in bytes.
const STRING: usize = 4096;

/// Reads the information at `address` into `info`.
pub fn read(memory: &impl LowMemory, address: u32, info: &mut BootInfo) {
    info.protocol = Protocol::Multiboot1;
    let bytes = memory.bytes(address, INFO);
    let read = read_all(memory, bytes, info);
    let _ = or_damaged(read, info);
    crate::strip_names(info);
}

fn read_all(memory: &impl LowMemory, bytes: &[u8], info: &mut BootInfo) -> Option<()> {
    let flags = u32_at(bytes, 0)?;
    let has = |bit: u32| flags >> bit & 1 != 0;
    if has(2) {
        let line = memory.bytes(u32_at(bytes, 16)?, STRING);
        info.command_line = text(line, &mut info.damaged);
    }
    if has(9) {
        let name = memory.bytes(u32_at(bytes, 64)?, STRING);
        info.loader_name = text(name, &mut info.damaged);
    }
    if has(3) {
        let read = modules(memory, u32_at(bytes, 20)?, u32_at(bytes, 24)?, info);
        let _ = or_damaged(read, info);
    }
    if has(6) {
        let read = memory_map(memory, u32_at(bytes, 44)?, u32_at(bytes, 48)?, info);
        let _ = or_damaged(read, info);
    } else if has(0) {
        // Only the sizes of low and high memory, in KiB.
        for (start, at) in [(0, 4), (0x10_0000, 8)] {
            info.memory_map.push(Region {
                start,
                len: u64::from(u32_at(bytes, at)?) << 10,
                kind: RegionKind::Ram,
            });
        }
    }
    if has(12) {
        info.framebuffer = Some(framebuffer::read(bytes, 88, 110)?);
    }
    Some(())
}

fn modules(memory: &impl LowMemory, count: u32, at: u32, info: &mut BootInfo) -> Option<()> {
    for i in 0..count {
        let entry = memory.bytes(at.checked_add(i.checked_mul(16)?)?, 16);
        let start = u32_at(entry, 0)?;
        let len = u32_at(entry, 4)?.checked_sub(start)?;
        let line = match u32_at(entry, 8)? {
            0 => &[],
            address => memory.bytes(address, STRING),
        };
        let module = Module {
            start: MachAddr::new(start.into()),
            len: len.into(),
            command_line: text(line, &mut info.damaged),
        };
        info.modules.push(module).ok()?;
    }
    Some(())
}

fn memory_map(memory: &impl LowMemory, len: u32, at: u32, info: &mut BootInfo) -> Option<()> {
    let map = memory.bytes(at, len as usize);
    let mut at = 0usize;
    while at < map.len() {
        // The size does not count itself.
        let size = u32_at(map, at)? as usize;
        let entry = map.get(at + 4..(at + 4).checked_add(size)?)?;
        info.memory_map.push(Region {
            start: u64_at(entry, 0)?,
            len: u64_at(entry, 8)?,
            kind: RegionKind::from_e820(u32_at(entry, 16)?),
        });
        at += 4 + size;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Memory from address 0x1000 on.
    struct Image(Vec<u8>);
    const BASE: u32 = 0x1000;

    impl LowMemory for Image {
        fn bytes(&self, address: u32, len: usize) -> &[u8] {
            let Some(at) = address.checked_sub(BASE) else {
                return &[];
            };
            let rest = self.0.get(at as usize..).unwrap_or(&[]);
            &rest[..len.min(rest.len())]
        }
    }

    fn put(image: &mut [u8], at: usize, words: &[u32]) {
        for (i, w) in words.iter().enumerate() {
            image[at + i * 4..at + i * 4 + 4].copy_from_slice(&w.to_le_bytes());
        }
    }

    fn sample() -> Image {
        let mut m = std::vec![0u8; 0x500];
        put(&mut m, 0, &[1 << 2 | 1 << 3 | 1 << 6 | 1 << 9]);
        put(&mut m, 16, &[BASE + 0x100, 2, BASE + 0x200]);
        put(&mut m, 44, &[2 * 24, BASE + 0x300]);
        put(&mut m, 64, &[BASE + 0x180]);
        m[0x100..0x110].copy_from_slice(b"oxen com1=115200");
        m[0x180..0x184].copy_from_slice(b"qemu");
        put(&mut m, 0x200, &[0x80_0000, 0x80_1000, BASE + 0x400, 0]);
        put(&mut m, 0x210, &[0x80_2000, 0x80_2001, 0, 0]);
        put(&mut m, 0x300, &[20, 0, 0, 0x9_fc00, 0, 1]);
        put(&mut m, 0x318, &[20, 0x10_0000, 0, 0x700_0000, 0, 1]);
        m[0x400..0x40e].copy_from_slice(b"vmlinuz root=x");
        Image(m)
    }

    #[test]
    fn reads_what_qemu_writes() {
        let mut info = BootInfo::new();
        read(&sample(), BASE, &mut info);
        assert!(!info.damaged);
        assert_eq!(info.loader_name, "qemu");
        assert_eq!(info.command_line, "com1=115200");
        assert_eq!(info.modules[0].range(), 0x80_0000..0x80_1000);
        assert_eq!(info.modules[0].command_line, "root=x");
        assert_eq!(info.modules[1].command_line, "");
        assert_eq!(info.memory_map.regions().len(), 2);
        assert_eq!(info.memory_map.ram_end(), 0x710_0000);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn wild_pointers_are_survived(at in 0usize..0x4fc, with in any::<[u8; 4]>(), cut in 0usize..0x500) {
            let mut image = sample();
            image.0[at..at + 4].copy_from_slice(&with);
            image.0.truncate(cut);
            read(&image, BASE, &mut BootInfo::new());
        }
    }
}
