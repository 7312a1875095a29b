//! Kernel images of PV guests and the plan of their first address space.
//!
//! From the bytes of a kernel file to everything a domain builder must know: [`file`](mod@file) finds the
//! compressed kernel in a bzImage and unpacks it, [`kernel`] reads the ELF file and its Xen
//! notes, [`plan`] lays out pseudo-physical memory, [`table`] lists the entries of the boot page
//! tables, [`start_info`] fills the page the kernel reads first.
//!
//! All of it is pure: it knows frames by pseudo-physical number only and touches no memory but
//! its arguments. Both builders use it, the hypervisor's for dom0 and the toolstack's for every
//! other domain. Images are untrusted: any bytes give a result or an [`Error`], never a panic,
//! and no allocation exceeds [`file::MEMORY_LIMIT`] bytes.
#![no_std]

extern crate alloc;

mod elf;
pub mod file;
pub mod kernel;
pub mod notes;
pub mod plan;
pub mod start_info;
pub mod table;

pub use file::KernelFile;
pub use kernel::KernelImage;
pub use plan::{Plan, Request};

/// log2 of the page size in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Why an image cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither an ELF file, a bzImage nor a compressed ELF file.
    UnknownFile,
    /// The bzImage's header contradicts the file (or its protocol is older than 2.08).
    BadBzImage,
    /// Compressed in a way this build cannot unpack.
    UnknownCompression,
    /// The compressed kernel is damaged.
    BadCompression,
    /// The buffer is smaller than the unpacked kernel.
    BufferTooSmall,
    /// Not a 64-bit x86 ELF executable.
    NotX86Elf,
    /// A table or segment of the ELF file lies outside the file, or sizes overflow.
    BadElf,
    /// More program or section headers than this build reads.
    TooManyHeaders,
    /// Two segments claim the same memory.
    OverlappingSegments,
    /// There is nothing to load.
    NoSegments,
    /// The image has no Xen notes: it is no PV kernel.
    NoNotes,
    /// A Xen note has an impossible size or value.
    BadNote,
    /// The kernel is written for another interface version.
    WrongXenVersion,
    /// The kernel wants another loader.
    WrongLoader,
    /// The kernel requires a feature that no 64-bit PV guest gets.
    RequiresUnsupportedFeature,
    /// The kernel says that it cannot be dom0.
    NotADom0Kernel,
    /// An address of the image is not canonical, the hypervisor's, or outside the kernel.
    BadAddress,
    /// The domain has too few pages for the kernel and its boot structures.
    TooLittleMemory,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::UnknownFile => "not a kernel file",
            Self::BadBzImage => "bad bzImage header",
            Self::UnknownCompression => "unknown compression",
            Self::BadCompression => "damaged compressed kernel",
            Self::BufferTooSmall => "buffer too small for the unpacked kernel",
            Self::NotX86Elf => "not a 64-bit x86 ELF executable",
            Self::BadElf => "ELF header contradicts the file",
            Self::TooManyHeaders => "too many ELF headers",
            Self::OverlappingSegments => "ELF segments overlap",
            Self::NoSegments => "nothing to load",
            Self::NoNotes => "no Xen notes: not a PV kernel",
            Self::BadNote => "bad Xen note",
            Self::WrongXenVersion => "kernel is for another Xen interface",
            Self::WrongLoader => "kernel wants another loader",
            Self::RequiresUnsupportedFeature => "kernel requires an unsupported feature",
            Self::NotADom0Kernel => "kernel cannot be dom0",
            Self::BadAddress => "bad address in the image",
            Self::TooLittleMemory => "too little memory for the kernel",
        })
    }
}

impl core::error::Error for Error {}
