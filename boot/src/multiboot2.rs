//! Multiboot 2 information. Source of numbers: Multiboot Specification 2.0, 3.6.

use crate::bytes::{or_damaged, text, u32_at, u64_at};
use crate::framebuffer;
use hv_core::addr::MachAddr;
use hv_core::arch::efi::firmware;
use hv_core::mm::memory_map::{Region, RegionKind};
use hv_core::start::boot_info::{BootInfo, Efi, Module, Protocol, Rsdp};

/// Bytes of the fixed part: total size and a reserved word.
pub const FIXED: usize = 8;

/// Largest information believed, in bytes (GRUB's is a few KiB).
pub const MAX_SIZE: usize = 1 << 20;

/// The size that the information states, in bytes, from its fixed part.
#[must_use]
pub fn size(fixed: &[u8]) -> Option<usize> {
    let size = u32_at(fixed, 0)? as usize;
    (FIXED..=MAX_SIZE).contains(&size).then_some(size)
}

/// Reads all tags into `info`.
pub fn read(bytes: &[u8], info: &mut BootInfo) {
    info.protocol = Protocol::Multiboot2;
    let mut at = FIXED;
    loop {
        let (Some(kind), Some(size)) = (u32_at(bytes, at), u32_at(bytes, at + 4)) else {
            // No end tag.
            info.damaged = true;
            break;
        };
        if kind == 0 {
            break;
        }
        let size = size as usize;
        let Some(tag) = bytes
            .get(at..at.saturating_add(size))
            .filter(|t| t.len() >= 8)
        else {
            info.damaged = true;
            break;
        };
        let read = read_tag(kind, tag, info);
        let _ = or_damaged(read, info);
        at += size.next_multiple_of(8);
    }
    keep_runtime_memory(info);
    crate::strip_names(info);
}

/// One tag; `None` if it is too short or makes no sense.
fn read_tag(kind: u32, tag: &[u8], info: &mut BootInfo) -> Option<()> {
    match kind {
        1 => info.command_line = text(tag.get(8..)?, &mut info.damaged),
        2 => info.loader_name = text(tag.get(8..)?, &mut info.damaged),
        3 => module(tag, info)?,
        6 => memory_map(tag, info)?,
        8 => info.framebuffer = Some(framebuffer::read(tag, 8, 32)?),
        12 => {
            info.efi = Some(Efi {
                system_table: u64_at(tag, 8)?,
            });
        }
        // The old pointer only if there is no new one.
        14 if info.rsdp.is_none() => info.rsdp = Some(rsdp(tag, 20)?),
        17 => efi_map(tag, info)?,
        15 => info.rsdp = Some(rsdp(tag, 36)?),
        _ => {}
    }
    Some(())
}

fn module(tag: &[u8], info: &mut BootInfo) -> Option<()> {
    let start = u32_at(tag, 8)?;
    let len = u32_at(tag, 12)?.checked_sub(start)?;
    let module = Module {
        start: MachAddr::new(start.into()),
        len: len.into(),
        command_line: text(tag.get(16..)?, &mut info.damaged),
    };
    info.modules.push(module).ok()
}

fn memory_map(tag: &[u8], info: &mut BootInfo) -> Option<()> {
    let entry = u32_at(tag, 8)? as usize;
    if entry < 24 {
        return None;
    }
    for e in tag.get(16..)?.chunks_exact(entry) {
        info.memory_map.push(Region {
            start: u64_at(e, 0)?,
            len: u64_at(e, 8)?,
            kind: RegionKind::from_e820(u32_at(e, 16)?),
        });
    }
    Some(())
}

/// EFI's memory map. Loaders pass it only when boot services have ended.
fn efi_map(tag: &[u8], info: &mut BootInfo) -> Option<()> {
    let descriptor = u32_at(tag, 8)? as usize;
    if descriptor < firmware::DESCRIPTOR {
        return None;
    }
    for bytes in tag.get(16..)?.chunks_exact(descriptor) {
        if info.efi_map.push(firmware::Region::read(bytes)?).is_err() {
            // What runtime services use is not all known: they cannot be called.
            info.efi_map.clear();
            return None;
        }
    }
    Some(())
}

/// What EFI's runtime services use is nobody's RAM, whatever the other map says.
fn keep_runtime_memory(info: &mut BootInfo) {
    let ram = info.memory_map.ram();
    for region in info.efi_map.iter().filter(|region| region.is_runtime()) {
        let range = region.range();
        if ram
            .iter()
            .any(|ram| ram.start < range.end && range.start < ram.end)
        {
            info.memory_map.push(Region {
                start: range.start,
                len: range.end - range.start,
                kind: RegionKind::Reserved,
            });
        }
    }
}

fn rsdp(tag: &[u8], len: usize) -> Option<Rsdp> {
    let table = tag.get(8..8 + len)?;
    if !table.starts_with(b"RSD PTR ") {
        return None;
    }
    let mut bytes = [0; 36];
    bytes.get_mut(..len)?.copy_from_slice(table);
    Some(Rsdp {
        bytes,
        len: len as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_core::start::boot_info::FramebufferKind;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Builds information from tags.
    fn build(tags: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut out = std::vec![0u8; 8];
        for (kind, body) in tags {
            out.extend(kind.to_le_bytes());
            out.extend((body.len() as u32 + 8).to_le_bytes());
            out.extend(body);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out.extend([0, 0, 0, 0, 8, 0, 0, 0]);
        let len = out.len() as u32;
        out[..4].copy_from_slice(&len.to_le_bytes());
        out
    }

    fn sample() -> Vec<u8> {
        let mut module = Vec::new();
        module.extend(0x100_0000u32.to_le_bytes());
        module.extend(0x100_2345u32.to_le_bytes());
        module.extend(b"console=hvc0\0");
        let mut map = Vec::new();
        map.extend(24u32.to_le_bytes());
        map.extend(0u32.to_le_bytes());
        for (start, len, kind) in [(0u64, 0x9_fc00u64, 1u32), (0x10_0000, 0x700_0000, 1)] {
            map.extend(start.to_le_bytes());
            map.extend(len.to_le_bytes());
            map.extend(kind.to_le_bytes());
            map.extend([0; 4]);
        }
        let mut fb = Vec::new();
        fb.extend(0xfd00_0000u64.to_le_bytes());
        fb.extend(4096u32.to_le_bytes());
        fb.extend(1024u32.to_le_bytes());
        fb.extend(768u32.to_le_bytes());
        fb.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
        let mut rsdp = Vec::from(*b"RSD PTR ");
        rsdp.extend([0; 7]);
        rsdp.push(2);
        rsdp.extend(0x1234u32.to_le_bytes());
        rsdp.extend(36u32.to_le_bytes());
        rsdp.extend(0x7ff_0000u64.to_le_bytes());
        rsdp.extend([0; 4]);
        build(&[
            (1, b"placeholder dom0_mem=512M\0".to_vec()),
            (2, b"GRUB 2.06\0".to_vec()),
            (3, module),
            (6, map),
            (8, fb),
            (12, 0x7e00_0018u64.to_le_bytes().to_vec()),
            (15, rsdp),
        ])
    }

    #[test]
    fn reads_what_grub_writes() {
        let bytes = sample();
        assert_eq!(size(&bytes), Some(bytes.len()));
        let mut info = BootInfo::new();
        read(&bytes, &mut info);
        assert!(!info.damaged);
        assert_eq!(info.command_line, "placeholder dom0_mem=512M");
        assert_eq!(info.modules.len(), 1);
        assert_eq!(info.modules[0].range(), 0x100_0000..0x100_2345);
        assert_eq!(info.modules[0].command_line, "console=hvc0");
        assert_eq!(info.memory_map.regions().len(), 2);
        let fb = info.framebuffer.unwrap();
        assert_eq!((fb.width, fb.height, fb.bits), (1024, 768, 32));
        assert_eq!(fb.kind, FramebufferKind::Rgb([(16, 8), (8, 8), (0, 8)]));
        assert_eq!(info.efi.unwrap().system_table, 0x7e00_0018);
        assert_eq!(info.rsdp.unwrap().root_table(), (0x7ff_0000, true));
    }

    #[test]
    fn memory_of_runtime_services_is_kept_from_ram() {
        let mut ram = Vec::new();
        for word in [24u64, 0x10_0000, 0x700_0000, 1] {
            ram.extend(word.to_le_bytes());
        }
        let mut map = Vec::from(48u32.to_le_bytes());
        map.extend(1u32.to_le_bytes());
        for (kind, start, pages, attributes) in [
            (5u64, 0x40_0000u64, 16u64, 1 << 63 | 0xf),
            (7, 0x50_0000, 16, 0xf),
        ] {
            for word in [kind, start, 0, pages, attributes, 0] {
                map.extend(word.to_le_bytes());
            }
        }
        let mut info = BootInfo::new();
        read(&build(&[(6, ram.clone()), (17, map.clone())]), &mut info);
        assert!(!info.damaged);
        assert_eq!(info.efi_map.len(), 2);
        let ram_left = info.memory_map.ram();
        assert!(!ram_left.contains(&(0x40_0000..0x40_1000)));
        assert!(ram_left.contains(&(0x41_0000..0x60_0000)));
        // A descriptor that is too short.
        map[0] = 32;
        let mut info = BootInfo::new();
        read(&build(&[(6, ram), (17, map)]), &mut info);
        assert!(info.damaged && info.efi_map.is_empty());
    }

    #[test]
    fn every_truncation_is_noticed_and_harmless() {
        let bytes = sample();
        for len in (FIXED..bytes.len() - 8).step_by(if cfg!(miri) { 37 } else { 1 }) {
            let mut info = BootInfo::new();
            read(&bytes[..len], &mut info);
            assert!(info.damaged, "cut at {len}");
        }
    }

    #[test]
    fn a_tag_of_no_size_does_not_loop() {
        let mut bytes = std::vec![0u8; 8];
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let mut info = BootInfo::new();
        read(&bytes, &mut info);
        assert!(info.damaged);
    }

    #[test]
    fn long_lines_and_many_modules_are_cut() {
        let mut module = std::vec![0u8; 8];
        module.extend(std::vec![b'x'; 5000]);
        let tags: Vec<_> = (0..20).map(|_| (3, module.clone())).collect();
        let mut info = BootInfo::new();
        read(&build(&tags), &mut info);
        assert!(info.damaged);
        assert_eq!(info.modules.len(), 8);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn any_bytes_are_survived(at in 0usize..400, with in any::<[u8; 4]>(), noise in any::<Vec<u8>>()) {
            let mut bytes = sample();
            let at = at % (bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&with);
            read(&bytes, &mut BootInfo::new());
            read(&noise, &mut BootInfo::new());
        }
    }
}
