//! Kernel images built for the tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod packed;

use xen_abi::elfnote::*;

/// A segment: physical address, contents, bytes in memory.
pub type Load = (u64, Vec<u8>, u64);

/// An ELF64 file with one note segment and these loadable segments.
pub fn elf(notes: &[u8], loads: &[Load]) -> Vec<u8> {
    let count = loads.len() + 1;
    let mut file = vec![0; 64 + 56 * count];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    put16(&mut file, 16, 2);
    put16(&mut file, 18, 62);
    put64(&mut file, 24, 0x1000);
    put64(&mut file, 32, 64);
    put16(&mut file, 54, 56);
    put16(&mut file, 56, count as u16);
    put16(&mut file, 58, 64);
    add_segment(&mut file, 0, 4, 0, notes, notes.len() as u64);
    for (i, (paddr, data, memsz)) in loads.iter().enumerate() {
        add_segment(&mut file, i + 1, 1, *paddr, data, *memsz);
    }
    file
}

fn add_segment(file: &mut Vec<u8>, i: usize, kind: u8, paddr: u64, data: &[u8], memsz: u64) {
    let at = 64 + 56 * i;
    let offset = file.len() as u64;
    file[at] = kind;
    put64(file, at + 8, offset);
    // The virtual address is not to be looked at.
    put64(file, at + 16, 0xdead_0000);
    put64(file, at + 24, paddr);
    put64(file, at + 32, data.len() as u64);
    put64(file, at + 40, memsz);
    file.extend_from_slice(data);
}

pub fn put16(file: &mut [u8], at: usize, value: u16) {
    file[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub fn put64(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// One note called `Xen`.
pub fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&4u32.to_le_bytes());
    bytes.extend_from_slice(&(desc.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(b"Xen\0");
    bytes.extend_from_slice(desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A kernel's statement about itself.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub virt_base: u64,
    pub init_p2m: Option<u64>,
    pub mod_start_pfn: bool,
    pub first_page: u64,
    pub pages: u64,
}

/// Like Debian's kernel, but small.
pub const LINUX: Shape = Shape {
    virt_base: 0xffff_ffff_8000_0000,
    init_p2m: Some(0x80_0000_0000),
    mod_start_pfn: true,
    first_page: 0x1000,
    pages: 0x3a00,
};

impl Shape {
    pub fn notes(&self) -> Vec<u8> {
        let kernel = self.virt_base + (self.first_page << 12);
        let mut notes = note(XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0");
        notes.extend(note(XEN_ELFNOTE_LOADER, b"generic\0"));
        notes.extend(note(XEN_ELFNOTE_VIRT_BASE, &self.virt_base.to_le_bytes()));
        notes.extend(note(XEN_ELFNOTE_ENTRY, &(kernel + 8).to_le_bytes()));
        notes.extend(note(
            XEN_ELFNOTE_FEATURES,
            b"!writable_page_tables|pae_pgdir_above_4gb\0",
        ));
        notes.extend(note(
            XEN_ELFNOTE_SUPPORTED_FEATURES,
            &0x8801u32.to_le_bytes(),
        ));
        if let Some(va) = self.init_p2m {
            notes.extend(note(XEN_ELFNOTE_INIT_P2M, &va.to_le_bytes()));
        }
        if self.mod_start_pfn {
            notes.extend(note(XEN_ELFNOTE_MOD_START_PFN, &1u32.to_le_bytes()));
        }
        notes
    }

    pub fn elf(&self) -> Vec<u8> {
        let load = (self.first_page << 12, vec![0xcc; 64], self.pages << 12);
        elf(&self.notes(), &[load])
    }
}

/// A bzImage around a payload.
pub fn bzimage(packed: &[u8], unpacked_size: u32) -> Vec<u8> {
    let mut file = vec![0; 5 * 512 + 0x40];
    file[0x1f1] = 4;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    put16(&mut file, 0x206, 0x20f);
    file[0x248..0x24c].copy_from_slice(&0x40u32.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
    file.extend_from_slice(packed);
    file.extend_from_slice(&unpacked_size.to_le_bytes());
    file
}
