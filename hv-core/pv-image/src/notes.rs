//! Xen's ELF notes and their predecessor, the `__xen_guest` section.
//!
//! Source: Xen `include/public/elfnote.h`.

use crate::Error;
use xen_abi::elfnote;
use xen_abi::features::{XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_SUPERVISOR_MODE_KERNEL};

/// What a kernel says about itself. Addresses are virtual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Entry point.
    pub entry: Option<u64>,
    /// Page to fill with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// Address of PFN 0.
    pub virt_base: Option<u64>,
    /// Subtracted from the segments' physical addresses.
    pub paddr_offset: Option<u64>,
    /// Where the P2M list shall be mapped.
    pub init_p2m: Option<u64>,
    /// The initrd may be left unmapped and given by PFN.
    pub mod_start_pfn: bool,
    /// Understands a cancelled suspend.
    pub suspend_cancel: bool,
    /// Features it can use, one bit per `XENFEAT_*`.
    pub supported_features: Option<u32>,
    /// Features it cannot do without (`!name`), one bit per `XENFEAT_*`.
    pub required_features: u32,
    /// Mask and value that tell a valid page-table entry.
    pub l1_mfn_valid: Option<(u64, u64)>,
    /// The first text that names the interface is not `xen-3.0`.
    wrong_version: bool,
    /// The loader is not `generic`.
    wrong_loader: bool,
}

/// Names in the FEATURES note, by number.
const FEATURE_NAMES: [&str; 12] = [
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "hvm_callback_vector",
    "hvm_safe_pvclock",
    "hvm_pirqs",
    "dom0",
];

impl Notes {
    /// Takes in the notes of one note segment or section; returns how many were Xen's.
    ///
    /// # Errors
    /// [`Error::BadNote`] if one of Xen's notes has an impossible size.
    pub fn add(&mut self, mut data: &[u8]) -> Result<usize, Error> {
        let mut found = 0;
        while let Some((note, rest)) = next_note(data) {
            data = rest;
            if note.name == b"Xen\0" {
                self.add_one(note.kind, note.desc)?;
                found += 1;
            }
        }
        Ok(found)
    }

    fn add_one(&mut self, kind: u32, desc: &[u8]) -> Result<(), Error> {
        match kind {
            elfnote::XEN_ELFNOTE_ENTRY => self.entry = Some(number(desc)?),
            elfnote::XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(number(desc)?),
            elfnote::XEN_ELFNOTE_VIRT_BASE => self.virt_base = Some(number(desc)?),
            elfnote::XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = Some(number(desc)?),
            elfnote::XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(number(desc)?),
            elfnote::XEN_ELFNOTE_MOD_START_PFN => self.mod_start_pfn = number(desc)? != 0,
            elfnote::XEN_ELFNOTE_SUSPEND_CANCEL => self.suspend_cancel = number(desc)? != 0,
            elfnote::XEN_ELFNOTE_SUPPORTED_FEATURES => {
                self.supported_features = Some(number(desc)? as u32);
            }
            elfnote::XEN_ELFNOTE_XEN_VERSION => self.wrong_version = text(desc) != b"xen-3.0",
            elfnote::XEN_ELFNOTE_LOADER => self.wrong_loader = text(desc) != b"generic",
            elfnote::XEN_ELFNOTE_FEATURES => self.add_features(text(desc)),
            elfnote::XEN_ELFNOTE_L1_MFN_VALID => {
                self.l1_mfn_valid = match desc.len() {
                    16 => Some((number(&desc[..8])?, number(&desc[8..])?)),
                    8 => Some((number(&desc[..4])?, number(&desc[4..])?)),
                    _ => return Err(Error::BadNote),
                };
            }
            // Informational, for 32-bit kernels, or for other loaders.
            _ => {}
        }
        Ok(())
    }

    /// `name|!name|...`; unknown names do not matter.
    fn add_features(&mut self, list: &[u8]) {
        for name in list.split(|&b| b == b'|') {
            if let Some(name) = name.strip_prefix(b"!")
                && let Some(bit) = FEATURE_NAMES.iter().position(|n| n.as_bytes() == name)
            {
                self.required_features |= 1 << bit;
            }
        }
    }

    /// Takes in a `__xen_guest` section: `KEY=value,KEY=value`, numbers in C's notation.
    ///
    /// # Errors
    /// [`Error::BadNote`] if a number cannot be read.
    pub fn add_legacy(&mut self, section: &[u8]) -> Result<(), Error> {
        let mut hypercall_page = None;
        for pair in text(section).split(|&b| b == b',') {
            let (key, value) = match pair.iter().position(|&b| b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            match key {
                b"VIRT_BASE" => self.virt_base = Some(legacy_number(value)?),
                b"VIRT_ENTRY" => self.entry = Some(legacy_number(value)?),
                b"ELF_PADDR_OFFSET" => self.paddr_offset = Some(legacy_number(value)?),
                b"HYPERCALL_PAGE" => hypercall_page = Some(legacy_number(value)?),
                b"XEN_VER" => self.wrong_version = value != b"xen-3.0",
                b"LOADER" => self.wrong_loader = value != b"generic",
                b"FEATURES" => self.add_features(value),
                _ => {}
            }
        }
        let base = self.virt_base.unwrap_or(0);
        // Without a statement, old images have physical addresses equal to virtual ones.
        self.paddr_offset.get_or_insert(base);
        if let Some(page) = hypercall_page {
            // A page number relative to the base.
            let address = page
                .checked_mul(crate::PAGE_SIZE)
                .and_then(|offset| base.checked_add(offset));
            self.hypercall_page = Some(address.ok_or(Error::BadNote)?);
        }
        Ok(())
    }

    /// Whether a 64-bit PV domain can run the kernel.
    ///
    /// # Errors
    /// [`Error::WrongXenVersion`], [`Error::WrongLoader`], [`Error::RequiresUnsupportedFeature`].
    pub fn check(&self) -> Result<(), Error> {
        const NEVER: u32 =
            1 << XENFEAT_AUTO_TRANSLATED_PHYSMAP | 1 << XENFEAT_SUPERVISOR_MODE_KERNEL;
        if self.wrong_version {
            return Err(Error::WrongXenVersion);
        }
        if self.wrong_loader {
            return Err(Error::WrongLoader);
        }
        // Others that kernels mark as required, like `!writable_page_tables`, nobody enforces.
        if self.required_features & NEVER != 0 {
            return Err(Error::RequiresUnsupportedFeature);
        }
        Ok(())
    }
}

/// An ELF note.
struct Note<'a> {
    kind: u32,
    /// With its NUL.
    name: &'a [u8],
    desc: &'a [u8],
}

/// The first note, and what follows it.
fn next_note(data: &[u8]) -> Option<(Note<'_>, &[u8])> {
    let (head, rest) = data.split_first_chunk::<12>()?;
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let name_len = word(0) as usize;
    let desc_len = word(4) as usize;
    let (name, rest) = padded(rest, name_len)?;
    let (desc, rest) = padded(rest, desc_len)?;
    let kind = word(8);
    Some((Note { kind, name, desc }, rest))
}

/// `len` bytes, and what follows them and the padding to four bytes.
fn padded(data: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let field = data.get(..len)?;
    let next = len.checked_next_multiple_of(4)?;
    // The last note's padding may be cut off.
    Some((field, data.get(next..).unwrap_or(&[])))
}

/// A note's contents as a number of 1, 2, 4 or 8 bytes.
fn number(desc: &[u8]) -> Result<u64, Error> {
    match desc.len() {
        1 | 2 | 4 | 8 => {
            let mut bytes = [0; 8];
            bytes[..desc.len()].copy_from_slice(desc);
            Ok(u64::from_le_bytes(bytes))
        }
        _ => Err(Error::BadNote),
    }
}

/// Bytes up to the first NUL.
fn text(desc: &[u8]) -> &[u8] {
    desc.split(|&b| b == 0).next().unwrap_or(desc)
}

/// Decimal, or hexadecimal with `0x`.
fn legacy_number(value: &[u8]) -> Result<u64, Error> {
    let value = core::str::from_utf8(value).map_err(|_| Error::BadNote)?;
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number.map_err(|_| Error::BadNote)
}
